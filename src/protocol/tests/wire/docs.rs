//! `docs/protocol.md` against the table of methods.
//! Owns the form of that page; `UPDATE_GOLDEN=1` writes it.
//! Never says more than the table, the golden files and the schema do.

use std::fmt::Write;
use std::path::Path;

use mainstay_protocol::methods::METHODS;
use mainstay_protocol::{AccessLevel, MAX_LINE_BYTES, PROTOCOL, schema};
use serde_json::Value;

use crate::golden;

const HEAD: &str = "\
# The protocol

JSON-RPC 2.0, one JSON object a line, over the control socket (users and programs) or the module
socket (modules, with the token from `MAINSTAY_TOKEN`). The first call is `hello`. Unknown fields are
ignored, values of a newer mainstay (a state, an event kind) are to be shown as they are.

";

#[test]
fn the_page_of_the_protocol_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let text = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/protocol.md is not what the table says; UPDATE_GOLDEN=1 writes it"
    );
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    let document = schema();
    write!(
        out,
        "Protocol {PROTOCOL}; a line has at most {MAX_LINE_BYTES} bytes. Printed from the table in \
         `src/protocol/methods.rs` (`UPDATE_GOLDEN=1 cargo test -p mainstay-protocol`); every type \
         is in [protocol.schema.json](protocol.schema.json).\n\n"
    )
    .expect("a text grows");
    for level in AccessLevel::ALL {
        writeln!(out, "## {}\n", heading(*level)).expect("a text grows");
        for info in METHODS.iter().filter(|info| info.level == *level) {
            let row = &document["methods"][info.name];
            writeln!(
                out,
                "### `{}`\n\n{} *{}; result: {}.*\n\n```json\n{}\n```\n",
                info.name,
                info.summary(),
                info.effect.as_str(),
                type_name(&row["result"]),
                call(info.name, info.example),
            )
            .expect("a text grows");
        }
    }
    out
}

fn heading(level: AccessLevel) -> String {
    match level {
        AccessLevel::Module => "Every connection, and a module's own".to_owned(),
        other => format!("Level {other}"),
    }
}

/// The name of a type in the schema.
fn type_name(schema: &Value) -> String {
    let named = |schema: &Value| {
        schema["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next().map(str::to_owned))
    };
    match (named(schema), named(&schema["items"])) {
        (Some(name), _) => format!("`{name}`"),
        (None, Some(name)) => format!("a list of `{name}`"),
        (None, None) => "any value".to_owned(),
    }
}

fn call(method: &str, example: &str) -> String {
    let params = golden::sorted(&serde_json::from_str(example).expect("an example is JSON"));
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}
