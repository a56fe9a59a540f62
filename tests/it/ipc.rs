//! The socket under bad input: each gets a clear refusal or a defined end, and nobody else suffers.
//! Owns the tests of the wire itself. Never uses a client library where the bytes matter.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mainstay_protocol::method::{PLANNED_METHODS, name};
use mainstay_protocol::{ErrorCode, MAX_LINE_BYTES, ModuleState};
use serde_json::{Value, json};

use crate::daemon::{Daemon, misbehave};
use crate::raw::{Raw, code, request};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

/// The daemon answers others as if nothing had happened.
fn is_well(daemon: &Daemon) {
    assert_eq!(daemon.client().modules().expect("an answer").len(), 2);
    let printed = daemon.printed();
    assert!(!printed.contains("panicked"), "{printed}");
}

#[test]
fn hello_comes_first_and_in_a_known_protocol() {
    let daemon = Daemon::start(&one());
    let mut early = Raw::open(&daemon.socket());
    early.send(&request(5, name::SYSTEM_STATUS, json!({})));
    let reply = early.reply();
    assert_eq!(
        (code(&reply), &reply["id"]),
        (ErrorCode::HelloRequired, &json!(5))
    );
    assert_eq!(early.reply(), Value::Null, "and the connection ends");
    for protocol in [0, 2, 4_000_000_000_u32] {
        let mut other = Raw::open(&daemon.socket());
        let params = json!({ "client": "x", "protocol": protocol });
        other.send(&request(1, name::HELLO, params));
        assert_eq!(code(&other.reply()), ErrorCode::UnsupportedProtocol);
    }
    let mut shapeless = Raw::open(&daemon.socket());
    shapeless.send(&request(1, name::HELLO, json!({ "client": 7 })));
    assert_eq!(code(&shapeless.reply()), ErrorCode::InvalidParams);
    is_well(&daemon);
}

#[test]
fn lines_that_are_no_requests_are_refused_and_the_next_is_answered() {
    let daemon = Daemon::start(&one());
    let mut raw = Raw::welcomed(&daemon.socket());
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let deep_params = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"graph\",\"params\":{}{}}}\n",
        "{\"a\":".repeat(50_000),
        "1".to_owned() + &"}".repeat(50_000)
    );
    for (line, expected) in [
        ("nonsense\n", ErrorCode::ParseError),
        ("{\"jsonrpc\":\"2.0\"\n", ErrorCode::ParseError),
        ("\u{0}\u{1}\u{2}\n", ErrorCode::ParseError),
        (deep.as_str(), ErrorCode::ParseError),
        (deep_params.as_str(), ErrorCode::ParseError),
        ("42\n", ErrorCode::InvalidRequest),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1}\n",
            ErrorCode::InvalidRequest,
        ),
        (
            "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"graph\"}\n",
            ErrorCode::InvalidRequest,
        ),
    ] {
        raw.write(line.as_bytes());
        let reply = raw.reply();
        // A list of lists is refused where the nesting or where the shape is noticed first.
        let either = [expected, ErrorCode::InvalidRequest];
        assert!(either.contains(&code(&reply)), "{line:.60}: {reply}");
        assert_eq!(reply["id"], Value::Null);
    }
    raw.write(b"\xff\xfe\n   \n\n");
    assert_eq!(
        code(&raw.reply()),
        ErrorCode::ParseError,
        "and empty lines are no lines"
    );
    assert!(raw.call(name::SYSTEM_STATUS, json!({}))["result"].is_object());
    is_well(&daemon);
}

#[test]
fn a_line_that_is_too_long_is_told_so_and_ends_the_connection() {
    let daemon = Daemon::start(&one());
    let giant = vec![b'x'; MAX_LINE_BYTES + 64 * 1024];
    let mut raw = Raw::welcomed(&daemon.socket());
    raw.write(&giant);
    assert_eq!(code(&raw.reply()), ErrorCode::TooLong);
    assert_eq!(raw.reply(), Value::Null);
    let mut unknown = Raw::open(&daemon.socket());
    unknown.write(&giant);
    assert_eq!(
        code(&unknown.reply()),
        ErrorCode::TooLong,
        "before hello too"
    );
    is_well(&daemon);
}

#[test]
fn half_a_frame_is_no_frame() {
    let daemon = Daemon::start(&one());
    let mut raw = Raw::welcomed(&daemon.socket());
    let stop = request(9, name::MODULE_STOP, json!({ "module": "one" })).to_string();
    raw.write(stop.as_bytes());
    raw.stream
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    assert_eq!(raw.drain(), 0, "no answer, only the end");
    assert_eq!(daemon.module("one").state, ModuleState::Running);
    is_well(&daemon);
}

#[test]
fn unknown_methods_and_wrong_parameters_are_told_apart() {
    let daemon = Daemon::start(&one());
    let mut raw = Raw::welcomed(&daemon.socket());
    for method in PLANNED_METHODS {
        let reply = raw.call(method, json!({}));
        assert_eq!(code(&reply), ErrorCode::NotAvailableYet, "{method}");
    }
    let long = "x".repeat(10_000);
    for method in ["module.explode", "", &long] {
        let reply = raw.call(method, json!({}));
        assert_eq!(code(&reply), ErrorCode::UnknownMethod, "{method:.20}");
        assert!(
            reply.to_string().len() < 1000,
            "what was sent is not sent back whole"
        );
    }
    for (method, params) in [
        (name::MODULE_GET, json!({})),
        (name::MODULE_GET, json!({ "module": 5 })),
        (name::MODULE_GET, json!("one")),
        (name::MODULE_STOP, json!({ "module": "one", "wait": "yes" })),
        (name::SYSTEM_STOP, json!({ "timeout_ms": -1 })),
        (name::EVENTS_LIST, json!({ "kinds": ["module.slept"] })),
        (name::EVENTS_SUBSCRIBE, json!({ "since": "yesterday" })),
        (name::LOGS_READ, json!({ "module": "one", "lines": -5 })),
        (name::WHY, json!([])),
    ] {
        let reply = raw.call(method, params.clone());
        assert_eq!(
            code(&reply),
            ErrorCode::InvalidParams,
            "{method} {params}: {reply}"
        );
    }
    for method in [
        name::MODULE_GET,
        name::MODULE_RESTART,
        name::WHY,
        name::LOGS_READ,
    ] {
        let reply = raw.call(method, json!({ "module": "oen" }));
        assert_eq!(code(&reply), ErrorCode::UnknownModule, "{method}");
        let text = reply["error"]["message"].as_str().expect("a sentence");
        assert!(text.contains("did you mean one?"), "{text}");
    }
    assert_eq!(
        code(&raw.call(name::MODULE_READY, json!({}))),
        ErrorCode::NotPermitted
    );
    is_well(&daemon);
}

#[test]
fn of_1000_connections_those_over_the_limit_are_told_and_the_others_are_served() {
    let daemon = Daemon::start(&one());
    let mut all: Vec<Raw> = Vec::new();
    for _ in 0..1000 {
        all.push(Raw::greeting(&daemon.socket(), None));
    }
    let (mut served, mut refused) = (Vec::new(), 0);
    for mut raw in all {
        let reply = raw.reply();
        if reply["result"].is_object() {
            served.push(raw);
        } else {
            assert_eq!(code(&reply), ErrorCode::TooManyConnections);
            refused += 1;
        }
    }
    assert_eq!((served.len(), refused), (256, 744), "of one user");
    for raw in &mut served {
        assert!(raw.call(name::MODULE_LIST, json!({}))["result"].is_array());
    }
    drop(served);
    is_well(&daemon);
}

/// Resident memory in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

#[test]
fn a_client_that_never_reads_is_dropped_and_costs_little() {
    let daemon = Daemon::start(&one());
    let runtime = daemon.status().pid;
    let before = resident(runtime);
    // Some read requests each, as many as the sockets take, and nobody reads an answer.
    let mut deaf: Vec<UnixStream> = Vec::new();
    let line = format!("{}\n", request(1, name::MODULE_LIST, json!({})));
    for _ in 0..20 {
        let raw = Raw::welcomed(&daemon.socket());
        raw.stream.set_nonblocking(true).expect("open");
        deaf.push(raw.stream);
    }
    let dropped = RefCell::new(BTreeSet::new());
    daemon.wait("all of them to be dropped", || {
        for (index, mut stream) in deaf.iter().enumerate() {
            match stream.write(line.as_bytes()) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => drop(dropped.borrow_mut().insert(index)),
            }
        }
        // Meanwhile others are served at once.
        let asked = Instant::now();
        daemon.status();
        assert!(asked.elapsed() < Duration::from_secs(2), "others wait");
        (dropped.borrow().len() == deaf.len()).then_some(())
    });
    let grown = resident(runtime).saturating_sub(before);
    assert!(
        grown < 64 * 1024 * 1024,
        "{grown} bytes for clients that read nothing"
    );
    is_well(&daemon);
}

#[test]
fn a_list_too_long_for_a_line_is_read_in_parts() {
    let words = "of many words ".repeat(20);
    let mut modules = "[module.first]\ncommand = [\"true\"]\nstart = \"lazy\"\n".to_owned();
    for number in 1..2000 {
        modules += &format!(
            "[module.lazy-{number}]\ncommand = [\"true\"]\nstart = \"lazy\"\n\
             wants = [\"first\"]\ndescription = \"{words}\"\n"
        );
    }
    let daemon = Daemon::start(&modules);
    let mut client = daemon.client();
    let all = client.modules().expect("all of them");
    assert_eq!(all.len(), 2001, "with the event bus");
    let mut names: Vec<&str> = all.iter().map(|view| view.module.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2001, "each once");
    let graph = client.graph().expect("all of it");
    assert_eq!((graph.modules.len(), graph.edges.len()), (2001, 1999));

    let mut raw = Raw::welcomed(&daemon.socket());
    let refused = raw.call(name::MODULE_LIST, json!({}));
    assert_eq!(refused["error"]["data"]["code"], "too_long");
    let two = raw.call(name::MODULE_LIST, json!({ "limit": 2 }));
    assert_eq!(two["result"].as_array().expect("a list").len(), 2);
    let after = two["result"][0]["module"].clone();
    let next = raw.call(name::MODULE_LIST, json!({ "after": after, "limit": 1 }));
    assert_eq!(next["result"][0]["module"], two["result"][1]["module"]);
    let last = all.last().expect("many").module.clone();
    let end = raw.call(name::MODULE_LIST, json!({ "after": last }));
    assert_eq!(end["result"], json!([]));
    let unknown = raw.call(name::GRAPH, json!({ "after": "nobody" }));
    assert_eq!(unknown["error"]["data"]["code"], "unknown_module");
    let status = daemon.cli(&["status", "--all", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status.as_array().expect("a list").len(), 2001);
    assert_eq!(daemon.stop(), Some(0));
}
