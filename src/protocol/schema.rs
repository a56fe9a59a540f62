//! One JSON schema document for the whole protocol, generated from the types themselves.
//! Owns what is not in the table of methods: calls to modules, and notifications.
//! Never checks a message at run time: reading it into its type does.

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::config_change as g;
use crate::method::{self as m, Empty, name};
use crate::methods::{METHODS, MethodInfo};
use crate::rpc::{Response, RpcRequest};
use crate::{Event, MAX_LINE_BYTES, PROTOCOL};

type Describe = fn(&mut SchemaGenerator) -> Schema;

/// Method, parameters, result.
type Row = (&'static str, Describe, Describe);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What mainstay asks a module, on the module's own connection.
const TOWARDS_MODULES: &[Row] = &[
    (name::HEALTH_CHECK, of::<Empty>, of::<m::HealthReportParams>),
    (name::CALL, of::<m::CallParams>, of::<Value>),
    (name::FEATURE_SET, of::<m::FeatureParams>, of::<m::Handled>),
    (name::LOAD_REDUCE, of::<m::LoadParams>, of::<m::Handled>),
    (
        name::CONFIG_PREPARE,
        of::<g::SettingsParams>,
        of::<g::SettingsAnswer>,
    ),
    (name::CONFIG_COMMIT, of::<Empty>, of::<Empty>),
    (name::CONFIG_ABORT, of::<Empty>, of::<Empty>),
];

/// Notifications: towards whom, method, parameters.
const NOTIFICATIONS: &[(&str, &str, Describe)] = &[
    ("client", name::EVENT, of::<Event>),
    ("client", name::LOG, of::<m::LogLines>),
    ("client", name::BUS_EVENT, of::<m::BusEvent>),
    ("module", name::EVENT, of::<m::BusEvent>),
];

/// The schema of the protocol: the shape of a line, every method's parameters and result,
/// every notification, and one definition for each type they use.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let line = json!([
        of::<RpcRequest>(&mut generator),
        of::<Response>(&mut generator)
    ]);
    let methods: Map<String, Value> = METHODS
        .iter()
        .map(|info| (info.name.to_owned(), method(&mut generator, info)))
        .collect();
    let towards_modules: Map<String, Value> = TOWARDS_MODULES
        .iter()
        .map(|(name, params, result)| {
            let row = json!({ "params": params(&mut generator), "result": result(&mut generator) });
            ((*name).to_owned(), row)
        })
        .collect();
    let notifications: Vec<Value> = NOTIFICATIONS
        .iter()
        .map(|(towards, method, params)| {
            json!({ "towards": towards, "method": method, "params": params(&mut generator) })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mainstay protocol",
        "description": "JSON-RPC 2.0, one JSON object a line. Unknown fields are ignored.",
        "protocol": PROTOCOL,
        "max_line_bytes": MAX_LINE_BYTES,
        "anyOf": line,
        "methods": methods,
        "towards_modules": towards_modules,
        "notifications": notifications,
        "$defs": generator.take_definitions(true),
    })
}

fn method(generator: &mut SchemaGenerator, info: &MethodInfo) -> Value {
    json!({
        "description": info.summary(),
        "level": info.level,
        "effect": info.effect.as_str(),
        "params": (info.params)(generator),
        "result": (info.result)(generator),
    })
}
