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

JSON-RPC 2.0, one JSON object a line, over a local socket (on Windows a named pipe). The first call
is `hello`. Unknown fields are ignored, values of a newer mainstay (a state, an event kind) are to be
shown as they are. There are clients for Rust (`src/client`, `modules/sdk`),
[Python](../clients/python/README.md) and [Node](../clients/typescript/README.md).

A conversation of a user interface, from its first line to its subscription; `<` is what mainstay
sends:

```
> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"client\":\"window 1\",\"protocol\":1}}
< {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"server\":\"mainstay 0.1.0\",\"protocol\":1,\"level\":\"admin\"}}
> {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"events.subscribe\",\"params\":{\"since\":811}}
< {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"seq\":812}}
< {\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":812,\"kind\":\"module.ready\",…}}
```

## The two sockets

| | control socket | module socket |
|---|---|---|
| for | users, user interfaces, scripts | the modules themselves |
| where | `control.sock` in `mainstay.runtime_dir`; without that key `$XDG_RUNTIME_DIR/mainstay/NAME/`, `/run/mainstay/NAME/` for root, or `mainstay-UID/NAME/` in the temporary folder | `MAINSTAY_SOCKET` |
| who | the user at the other end, as the kernel says; levels by `[ipc]` | whoever has the token of a run that is current |
| sends by itself | `event` and `log`, when they are subscribed to | `event` of the bus, and the requests below |

After a lost connection a client connects again and subscribes with `since`: the number of the last
event that it has. A refusal has a text for people in `error.message` and a word for programs in
`error.data.code`.

## The environment of a module

| variable | what |
|---|---|
| `MAINSTAY_MODULE`, `MAINSTAY_GENERATION` | its name; the number of this run, which grows with each start |
| `MAINSTAY_SOCKET`, `MAINSTAY_TOKEN` | where it connects, and what it shows in `hello` |
| `MAINSTAY_SETTINGS` | a JSON file with its table `settings` |
| `MAINSTAY_FEATURES`, `MAINSTAY_DEGRADED` | the features that are on, and those that degrading has switched off; names with commas between |
| `MAINSTAY_FEATURES_FILE` | with `reload_signal` or `reload_command`: a JSON file with each feature and whether it is on now; it is told when they change |
| `NOTIFY_SOCKET` | datagrams of sd_notify: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `RELOADING=1`, `STOPPING=1`, `EXTEND_TIMEOUT_USEC=…`, `MAINPID=…` |
| `WATCHDOG_USEC` | within which time it has to send `WATCHDOG=1` |
| `LISTEN_FDS`, `LISTEN_FDNAMES` | its sockets, from descriptor 3 on |

mainstay asks a module that is connected: `health.check`, `config.prepare` and then `config.commit`
or `config.abort`, `feature.set`, `load.reduce`, and `call` for another module. A module answers what
it does not know with `unknown_method`. Their parameters are in the schema under `towards_modules`.

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
