//! The schema against its exported copy, the golden messages against the schema.
//! Owns the proof that nothing is missing: methods, notifications, fields.
//! Never writes outside `docs` and `golden`, and only when asked.

use std::collections::BTreeSet;
use std::path::Path;

use mainstay_protocol::methods::METHODS;
use mainstay_protocol::{method, schema};
use serde_json::{Value, json};

use crate::conform::Conform;
use crate::examples::{self, Example};
use crate::{golden, refusals as refused};

#[test]
fn the_exported_schema_is_the_one_the_types_make() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.schema.json");
    golden::check(&docs, &schema());
}

#[test]
fn every_message_is_what_its_golden_file_and_the_schema_say() {
    let document = schema();
    let mut conform = Conform::new(&document);
    calls(&mut conform, &document, "methods", examples::methods());
    calls(
        &mut conform,
        &document,
        "towards_modules",
        examples::towards_modules(),
    );
    notifications(&mut conform, &document);
    refusals(&mut conform, &document);
    let unseen: Vec<String> = fields(&document)
        .difference(&conform.seen)
        .cloned()
        .collect();
    assert!(unseen.is_empty(), "no example carries {unseen:?}");
}

fn calls(conform: &mut Conform<'_>, document: &Value, table: &str, examples: Vec<Example>) {
    let mut named = BTreeSet::new();
    for Example {
        method,
        request,
        reply,
    } in examples
    {
        let value = json!({ "request": request, "reply": reply });
        let kept = golden::check(&golden::folder().join(format!("{method}.json")), &value);
        let row = &document[table][method];
        conform.check(method, &document["anyOf"][0], &kept["request"]);
        conform.check(method, &document["anyOf"][1], &kept["reply"]);
        conform.check(method, &row["params"], &kept["request"]["params"]);
        conform.check(method, &row["result"], &kept["reply"]["result"]);
        named.insert(method.to_owned());
    }
    let listed: BTreeSet<String> = document[table]
        .as_object()
        .expect("a table")
        .keys()
        .cloned()
        .collect();
    assert_eq!(named, listed);
}

fn notifications(conform: &mut Conform<'_>, document: &Value) {
    let examples = examples::notifications();
    let rows = document["notifications"].as_array().expect("a list");
    assert_eq!(examples.len(), rows.len());
    for ((towards, request), row) in examples.into_iter().zip(rows) {
        assert_eq!(
            (&json!(towards), &json!(request.method)),
            (&row["towards"], &row["method"])
        );
        let file = format!("{}-to-{towards}.json", request.method);
        let kept = golden::check(&golden::folder().join(&file), &json!(request));
        conform.check(&file, &document["anyOf"][0], &kept);
        conform.check(&file, &row["params"], &kept["params"]);
    }
}

fn refusals(conform: &mut Conform<'_>, document: &Value) {
    for reply in refused::examples() {
        conform.check("refusal", &document["anyOf"][1], &json!(reply));
    }
}

/// Every field of every definition.
fn fields(document: &Value) -> BTreeSet<String> {
    let definitions = document["$defs"].as_object().expect("definitions");
    let named = |(name, definition): (&String, &Value)| -> Vec<String> {
        let fields = definition["properties"].as_object().into_iter().flatten();
        fields.map(|(field, _)| format!("{name}.{field}")).collect()
    };
    definitions.iter().flat_map(named).collect()
}

#[test]
fn every_method_of_the_table_is_in_the_schema() {
    let document = schema();
    let listed = document["methods"].as_object().expect("a table");
    assert_eq!(listed.len(), METHODS.len());
    let mut conform = Conform::new(&document);
    for info in METHODS {
        let row = &listed[info.name];
        assert_eq!(row["level"], json!(info.level), "{}", info.name);
        let params = serde_json::from_str(info.example).expect(info.name);
        conform.check(info.name, &row["params"], &params);
    }
}

#[test]
fn methods_that_are_not_built_yet_are_not_in_the_schema() {
    let document = schema();
    for name in method::PLANNED_METHODS {
        assert!(document["methods"].get(name).is_none(), "{name}");
    }
}
