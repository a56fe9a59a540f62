//! The SDK against a mainstay that is played by the test.
//! Owns the fake server: a listener in a temporary folder, one line read or written at a time.
//! Never waits without a deadline.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mainstay_sdk::{CallError, ConfigChange, ErrorCode, HealthReport, Module, ModuleEnvironment};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(20);

struct Server {
    folder: tempfile::TempDir,
    listener: Option<UnixListener>,
}

struct Session {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let listener = Some(UnixListener::bind(folder.path().join("s")).unwrap());
        Server { folder, listener }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn surroundings(&self) -> ModuleEnvironment {
        ModuleEnvironment {
            socket: Some(self.path()),
            token: Some("let me in".to_owned()),
            module: Some("storage".to_owned()),
            generation: Some(3),
            ..ModuleEnvironment::default()
        }
    }

    fn gone(&mut self) {
        self.listener = None;
        std::fs::remove_file(self.path()).unwrap();
    }

    fn back(&mut self) {
        self.listener = Some(UnixListener::bind(self.path()).unwrap());
    }

    /// Takes the next connection and answers its hello.
    fn welcome(&self) -> Session {
        let stream = self.listener.as_ref().unwrap().accept().unwrap().0;
        stream.set_read_timeout(Some(LONG)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut session = Session { stream, reader };
        let hello = session.next();
        assert_eq!(hello["method"], "hello");
        assert_eq!(hello["params"]["token"], "let me in");
        assert_eq!(hello["params"]["protocol"], 1);
        session.answer(
            &hello,
            json!({"server": "fake", "protocol": 1, "level": "module", "module": "storage"}),
        );
        session
    }
}

impl Session {
    fn next(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "it hung up");
        serde_json::from_str(&line).unwrap()
    }

    fn send(&mut self, value: &Value) {
        writeln!(self.stream, "{value}").unwrap();
    }

    fn answer(&mut self, request: &Value, result: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
    }

    fn ask(&mut self, id: u64, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    fn expect(&mut self, method: &str) -> Value {
        let request = self.next();
        assert_eq!(request["method"], method, "{request}");
        request
    }

    /// Reads publishes until the wanted one; returns the numbers, confirming each.
    fn numbers_until(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let request = self.next();
            numbers.push(self.number(&request));
        }
        numbers
    }

    /// The number that is published, confirmed.
    fn number(&mut self, request: &Value) -> u64 {
        assert_eq!(request["method"], "bus.publish", "{request}");
        self.answer(request, json!({"delivered": 0, "dropped": 0}));
        request["params"]["payload"].as_u64().unwrap()
    }
}

fn event(subject: &str, payload: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "event", "params": {"subject": subject,
        "from": "data-capture", "at": "2026-11-20T12:00:00.000Z", "payload": payload}})
}

#[test]
fn ready_status_and_health_go_over_the_connection() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    assert_eq!(module.generation(), Some(3));
    let mut session = server.welcome();
    eventually("the connection", || module.is_connected());
    module.ready();
    session.expect("module.ready");
    module.status("two\nlines");
    assert_eq!(
        session.expect("module.status")["params"]["text"],
        "two lines"
    );
    module.health(|| HealthReport::degraded("thirsty").metric("queue_depth", 2.0));
    session.ask(7, "health.check", json!({}));
    let reply = session.next();
    assert_eq!(reply["id"], 7);
    assert_eq!(
        reply["result"],
        json!({"status": "degraded", "metrics": {"queue_depth": 2.0}, "issues": ["thirsty"]})
    );
}

#[test]
fn events_reach_the_listeners_whose_subject_matches() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let (all, every) = channel();
    let (one, only) = channel();
    module.subscribe(&["samples.*"], move |event| {
        all.send(event.clone()).unwrap()
    });
    module.subscribe(&["samples.cpu", "samples.*"], move |event| {
        if event.subject == "samples.cpu" {
            one.send(event.clone()).unwrap();
        }
    });
    let mut session = server.welcome();
    let request = session.expect("bus.subscribe");
    assert_eq!(request["params"]["subjects"][0], "samples.*");
    session.send(&event("samples.memory", json!(1)));
    session.send(&event("other.memory", json!(2)));
    session.send(&event("samples.cpu", json!(3)));
    let payloads: Vec<Value> = (0..2)
        .map(|_| every.recv_timeout(LONG).unwrap().payload)
        .collect();
    assert_eq!(payloads, [json!(1), json!(3)]);
    let event = only.recv_timeout(LONG).unwrap();
    assert_eq!((event.payload, event.lag), (json!(3), 0));
}

#[test]
fn a_slow_listener_loses_the_oldest_and_learns_how_many() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let (go, wait): (_, Receiver<()>) = channel();
    let (tell, told) = channel();
    module.subscribe(&["n.*"], move |event| {
        tell.send((event.payload.as_u64().unwrap(), event.lag))
            .unwrap();
        let _ = wait.recv_timeout(LONG);
    });
    let mut session = server.welcome();
    session.expect("bus.subscribe");
    session.send(&event("n.x", json!(0)));
    assert_eq!(told.recv_timeout(LONG).unwrap(), (0, 0));
    for number in 1..=1100 {
        session.send(&event("n.x", json!(number)));
    }
    // The answer proves that the reader has taken everything before it.
    session.ask(1, "health.check", json!({}));
    while session.next()["id"] != 1 {}
    drop(go);
    assert_eq!(told.recv_timeout(LONG).unwrap(), (77, 76));
    assert_eq!(told.recv_timeout(LONG).unwrap(), (78, 0));
}

#[test]
fn a_slow_call_does_not_delay_a_health_check() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    module.serve("slow", move |call| {
        let _ = wait.lock().unwrap().recv_timeout(LONG);
        Ok(json!({"for": call.from, "got": call.params}))
    });
    module.serve("bad", |_| Err("no such table".to_owned()));
    module.serve("worse", |_| panic!("on purpose"));
    let mut session = server.welcome();
    let call = |method: &str| json!({"from": "ui", "method": method, "params": [1]});
    session.ask(1, "call", call("slow"));
    session.ask(2, "health.check", json!({}));
    let reply = session.next();
    assert_eq!(
        (reply["id"].clone(), reply["result"]["status"].clone()),
        (json!(2), json!("healthy"))
    );
    drop(go);
    assert_eq!(session.next()["result"], json!({"for": "ui", "got": [1]}));
    for (id, method, code) in [
        (3, "bad", "module_error"),
        (4, "worse", "module_error"),
        (5, "none", "unknown_method"),
    ] {
        session.ask(id, "call", call(method));
        let reply = session.next();
        assert_eq!(reply["error"]["data"]["code"], code, "{reply}");
    }
    session.ask(6, "state.save", json!({}));
    assert_eq!(session.next()["error"]["data"]["code"], "unknown_method");
}

#[test]
fn load_and_features_reach_their_closures() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let (tell, told) = channel();
    let also = tell.clone();
    module.on_reduce_load(move |factor| tell.send(json!(factor)).unwrap());
    let mut session = server.welcome();
    session.ask(1, "load.reduce", json!({"factor": 0.5}));
    assert_eq!(session.next()["result"]["handled"], true);
    session.ask(
        2,
        "feature.set",
        json!({"name": "thumbnails", "value": false}),
    );
    assert_eq!(session.next()["result"]["handled"], false);
    module.on_feature(move |name, value| also.send(json!([name, value])).unwrap());
    session.ask(
        3,
        "feature.set",
        json!({"name": "thumbnails", "value": true}),
    );
    assert_eq!(session.next()["result"]["handled"], true);
    session.ask(4, "load.reduce", json!({"factor": "half"}));
    assert_eq!(session.next()["error"]["data"]["code"], "invalid_params");
    assert_eq!(told.recv_timeout(LONG).unwrap(), json!(0.5));
    assert_eq!(
        told.recv_timeout(LONG).unwrap(),
        json!(["thumbnails", true])
    );
}

#[test]
fn calls_are_answered_refused_timed_out_or_cut_off() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let mut session = server.welcome();
    let ask = |timeout| {
        let module = module.clone();
        std::thread::spawn(move || module.call("analysis", "scores", json!({"n": 1}), timeout))
    };
    let asking = ask(LONG);
    let request = session.expect("bus.call");
    assert_eq!(request["params"]["module"], "analysis");
    assert_eq!(request["params"]["timeout_ms"], 20_000);
    session.answer(&request, json!([1, 2]));
    assert_eq!(asking.join().unwrap(), Ok(json!([1, 2])));

    let asking = ask(LONG);
    let request = session.expect("bus.call");
    session.send(&json!({"jsonrpc": "2.0", "id": request["id"], "error":
        {"code": -32015, "message": "cannot call", "data": {"code": "unavailable"}}}));
    let refused = asking.join().unwrap().unwrap_err();
    assert!(
        matches!(refused, CallError::Refused(ref why) if why.data.code == ErrorCode::Unavailable)
    );

    let asking = ask(LONG);
    let request = session.expect("bus.call");
    session.answer(&request, Value::Null);
    assert_eq!(asking.join().unwrap(), Ok(Value::Null));

    let asking = ask(Duration::from_millis(50));
    session.expect("bus.call");
    let late = asking.join().unwrap().unwrap_err();
    assert!(matches!(late, CallError::TimedOut { .. }), "{late}");

    let asking = ask(LONG);
    session.expect("bus.call");
    drop(session);
    let cut = asking.join().unwrap().unwrap_err();
    assert!(matches!(cut, CallError::Disconnected { .. }), "{cut}");
}

#[test]
fn a_restart_of_mainstay_is_invisible() {
    let mut server = Server::start();
    let module = Module::connect_with(server.surroundings());
    module.subscribe(&["samples.*"], |_| ());
    module.ready();
    module.status("well");
    let mut session = server.welcome();
    for method in ["bus.subscribe", "module.ready", "module.status"] {
        let request = session.expect(method);
        session.answer(&request, json!({}));
    }
    module.publish("n", 1).unwrap();
    let unconfirmed = session.expect("bus.publish");
    assert_eq!(unconfirmed["params"], json!({"subject": "n", "payload": 1}));
    server.gone();
    drop(session);
    eventually("the loss", || !module.is_connected());
    for number in 2..=1100 {
        module.publish("n", number).unwrap();
    }
    module.status("still well");
    let waiting = {
        let module = module.clone();
        std::thread::spawn(move || module.call("analysis", "scores", json!({}), LONG))
    };
    assert_eq!(module.dropped(), 76);

    server.back();
    let mut session = server.welcome();
    assert_eq!(
        session.expect("bus.subscribe")["params"]["subjects"],
        json!(["samples.*"])
    );
    session.expect("module.ready");
    assert_eq!(
        session.expect("module.status")["params"]["text"],
        "still well"
    );
    // The thread that calls may come to it late: the call has no place among the rest.
    let (mut numbers, mut called) = (Vec::new(), false);
    while numbers.last() != Some(&1100) || !called {
        let request = session.next();
        if request["method"] == "bus.call" {
            session.answer(&request, json!("kept"));
            called = true;
        } else {
            numbers.push(session.number(&request));
        }
    }
    assert_eq!(waiting.join().unwrap(), Ok(json!("kept")));
    assert_eq!(numbers, (77..=1100).collect::<Vec<u64>>());
    assert!(module.flush(LONG));
    assert_eq!(module.dropped(), 76);
}

#[test]
fn what_was_not_confirmed_is_sent_again_in_order() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let mut session = server.welcome();
    for number in 1..=3 {
        module.publish("n", number).unwrap();
    }
    let first = session.expect("bus.publish");
    session.answer(&first, json!({"delivered": 1, "dropped": 0}));
    session.expect("bus.publish");
    session.expect("bus.publish");
    assert!(!module.flush(Duration::from_millis(20)));
    drop(session);
    let mut session = server.welcome();
    let numbers = session.numbers_until(3);
    // The confirmation of the first may have been lost with the connection.
    assert!(numbers == [2, 3] || numbers == [1, 2, 3], "{numbers:?}");
    assert_eq!(module.dropped(), 0);
}

#[test]
fn a_mainstay_that_is_away_or_deaf_blocks_nobody() {
    let mut server = Server::start();
    server.gone();
    let module = Module::connect_with(server.surroundings());
    for number in 0..5000 {
        module.publish("n", number).unwrap();
    }
    assert_eq!(module.dropped(), 5000 - 1024);
    assert!(!module.flush(Duration::from_millis(20)));
    let away = module.call("a", "b", json!({}), Duration::from_millis(50));
    assert!(matches!(away, Err(CallError::NotConnected { .. })));
    eventually("a reason", || module.problem().is_some());
    server.back();
    let session = server.welcome();
    eventually("the connection", || module.is_connected());
    let large = "x".repeat(100_000);
    for _ in 0..300 {
        module.publish("n", &large).unwrap();
    }
    drop(module);
    drop(session);
    let too_long = Module::connect_with(server.surroundings());
    let error = too_long.publish("n", "x".repeat(1024 * 1024)).unwrap_err();
    assert!(error.to_string().contains("cannot send n"), "{error}");
}

#[test]
fn a_refused_hello_is_tried_again_and_told() {
    let server = Server::start();
    let module = Module::connect_with(server.surroundings());
    let stream = server.listener.as_ref().unwrap().accept().unwrap().0;
    let mut session = Session {
        reader: BufReader::new(stream.try_clone().unwrap()),
        stream,
    };
    let hello = session.expect("hello");
    session.send(&json!({"jsonrpc": "2.0", "id": hello["id"], "error":
        {"code": -32007, "message": "cannot let you in", "data": {"code": "invalid_token"}}}));
    drop(session);
    eventually("the reason", || {
        module
            .problem()
            .is_some_and(|text| text.contains("let you in"))
    });
    server.welcome();
}

#[test]
fn outside_mainstay_everything_is_a_no_op() {
    let module = Module::connect_with(ModuleEnvironment::default());
    module.ready();
    module.status("alone");
    module.health(HealthReport::healthy);
    module.subscribe(&["*"], |_| ());
    module.serve("x", |_| Ok(json!(1)));
    module.publish("n", 1).unwrap();
    assert!(module.flush(Duration::ZERO));
    assert!(!module.is_connected());
    assert_eq!(module.dropped(), 0);
    assert!(matches!(
        module.call("a", "b", 1, LONG),
        Err(CallError::NotSupervised { .. })
    ));
    assert_eq!(module.settings::<Value>().unwrap(), json!({}));
    assert_eq!(module.problem(), None);
}

#[test]
fn settings_come_from_the_named_file() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Settings {
        keep_days: u32,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.json");
    std::fs::write(&path, r#"{"keep_days": 7}"#).unwrap();
    let module = Module::connect_with(ModuleEnvironment {
        settings: Some(path.clone()),
        ..ModuleEnvironment::default()
    });
    assert_eq!(
        module.settings::<Settings>().unwrap(),
        Settings { keep_days: 7 }
    );
    let (tell, told) = channel();
    module
        .on_config(move |settings| {
            let tell = tell.clone();
            Ok(ConfigChange::apply(move || tell.send(settings).unwrap()))
        })
        .unwrap();
    assert_eq!(told.try_recv().unwrap(), json!({"keep_days": 7}));
    std::fs::write(&path, r#"{"keep_days": "long"}"#).unwrap();
    let error = module.settings::<Settings>().unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read the module's settings"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = module.settings::<Settings>().unwrap_err().to_string();
    assert!(error.contains("settings.json"), "{error}");
}

#[test]
fn the_watchdog_is_fed_while_health_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let module = Module::connect_with(ModuleEnvironment {
        notify_socket: Some(path.into()),
        watchdog: Some(Duration::from_millis(40)),
        ..ModuleEnvironment::default()
    });
    let next = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    let (asked, seen) = channel();
    let (go, wait) = channel::<()>();
    module.health(move || {
        asked.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
        HealthReport::healthy()
    });
    seen.recv_timeout(LONG).unwrap();
    module.ready();
    while next() != "READY=1" {}
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut bytes = [0; 64];
    assert!(
        socket.recv(&mut bytes).is_err(),
        "fed although health hangs"
    );
    drop(go);
    socket.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(next(), "WATCHDOG=1");
}
