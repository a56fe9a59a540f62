//! One JSON schema document for the whole protocol, generated from the types themselves.
//! Owns the table that pairs each method with its parameters and its result.
//! Never checks a message at run time: reading it into its type does.

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::config::{ConfigGetParams, ConfigValues};
use crate::method::{self as m, Nothing, level_of, name};
use crate::rpc::{Reply, Request};
use crate::{Event, MAX_LINE_BYTES, ModuleView, PROTOCOL, SystemView};

type Describe = fn(&mut SchemaGenerator) -> Schema;

/// Method, parameters, result.
type Row = (&'static str, Describe, Describe);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What clients and modules ask mainstay.
const METHODS: &[Row] = &[
    (name::HELLO, of::<m::Hello>, of::<m::Welcome>),
    (name::SYSTEM_STATUS, of::<Nothing>, of::<SystemView>),
    (name::SYSTEM_STOP, of::<m::StopParams>, of::<Nothing>),
    (
        name::MODULE_LIST,
        of::<m::PageParams>,
        of::<Vec<ModuleView>>,
    ),
    (name::MODULE_GET, of::<m::ModuleParams>, of::<ModuleView>),
    (
        name::MODULE_START,
        of::<m::ChangeParams>,
        of::<m::ChangeResult>,
    ),
    (
        name::MODULE_STOP,
        of::<m::ChangeParams>,
        of::<m::ChangeResult>,
    ),
    (
        name::MODULE_RESTART,
        of::<m::ChangeParams>,
        of::<m::ChangeResult>,
    ),
    (
        name::EVENTS_LIST,
        of::<m::EventsParams>,
        of::<m::EventsResult>,
    ),
    (
        name::EVENTS_SUBSCRIBE,
        of::<m::EventsParams>,
        of::<m::Subscribed>,
    ),
    (name::LOGS_READ, of::<m::LogsParams>, of::<m::LogLines>),
    (name::WHY, of::<m::ModuleParams>, of::<m::Why>),
    (name::GRAPH, of::<m::PageParams>, of::<m::Graph>),
    (name::CONFIG_GET, of::<ConfigGetParams>, of::<ConfigValues>),
    (name::MODULE_READY, of::<Nothing>, of::<Nothing>),
    (name::MODULE_STATUS, of::<m::StatusParams>, of::<Nothing>),
    (name::MODULE_HEALTH, of::<m::HealthReport>, of::<Nothing>),
    (
        name::BUS_PUBLISH,
        of::<m::PublishParams>,
        of::<m::Published>,
    ),
    (
        name::BUS_SUBSCRIBE,
        of::<m::BusSubscribeParams>,
        of::<Nothing>,
    ),
    (name::BUS_CALL, of::<m::BusCallParams>, of::<Value>),
];

/// What mainstay asks a module, on the module's own connection.
const TOWARDS_MODULES: &[Row] = &[
    (name::HEALTH_CHECK, of::<Nothing>, of::<m::HealthReport>),
    (name::CALL, of::<m::CallParams>, of::<Value>),
];

/// Notifications: towards whom, method, parameters.
const NOTIFICATIONS: &[(&str, &str, Describe)] = &[
    ("client", name::EVENT, of::<Event>),
    ("client", name::LOG, of::<m::LogLines>),
    ("module", name::EVENT, of::<m::BusEvent>),
];

/// The schema of the protocol: the shape of a line, every method's parameters and result,
/// every notification, and one definition for each type they use.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let line = json!([of::<Request>(&mut generator), of::<Reply>(&mut generator)]);
    let methods = rows(&mut generator, METHODS);
    let towards_modules = rows(&mut generator, TOWARDS_MODULES);
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

fn rows(generator: &mut SchemaGenerator, rows: &[Row]) -> Value {
    let described = rows.iter().map(|(method, params, result)| {
        let mut row = Map::new();
        if let Some(level) = level_of(method) {
            row.insert("level".to_owned(), json!(level));
        }
        row.insert("params".to_owned(), json!(params(generator)));
        row.insert("result".to_owned(), json!(result(generator)));
        ((*method).to_owned(), Value::Object(row))
    });
    Value::Object(described.collect())
}
