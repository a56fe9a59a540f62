//! The blocking client: replies, refusals, deadlines, following, and every way to fail.
//! Owns its scripts.
//! Never waits without a deadline.

use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

use mainstay_client::protocol::method::{
    ChangeParams, Hello, LogLines, LogsParams, StopParams, name,
};
use mainstay_client::protocol::{ErrorCode, MAX_LINE_BYTES, PROTOCOL};
use mainstay_client::{Error, blocking::Client};
use serde_json::{Value, json};

use crate::fake::Fake;

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_socket_nobody_listens_on_is_not_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    for _ in ["no socket", "a socket left behind"] {
        match Client::connect(&path) {
            Err(Error::NotRunning { path: said }) => assert_eq!(said, path),
            other => panic!("{:?}", other.err()),
        }
        drop(UnixListener::bind(&path));
    }
}

#[test]
fn other_failures_to_connect_say_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = folder.path().join("x".repeat(200));
    assert!(matches!(
        Client::connect(long),
        Err(Error::PathTooLong { .. })
    ));
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let Err(error) = Client::connect(file.join("control.sock")) else {
        panic!("not a folder")
    };
    assert!(
        error.to_string().starts_with("cannot connect to "),
        "{error}"
    );
}

#[test]
fn a_listener_that_accepts_nobody_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let address = socket2::SockAddr::unix(&path).expect("short");
    let kind = (socket2::Domain::UNIX, socket2::Type::STREAM);
    let listener = socket2::Socket::new(kind.0, kind.1, None).expect("a socket");
    listener.bind(&address).expect("bound");
    listener.listen(1).expect("listens");
    let hello = Hello {
        client: "test".to_owned(),
        protocol: PROTOCOL,
        token: None,
    };
    let connect = || {
        Client::connect_as(&path, &hello, SHORT)
            .map(|_| ())
            .expect_err("nobody")
    };
    // The queue takes a few, which say hello in vain; connections nobody accepted stay in it.
    let mut said = (0..20).map(|_| connect());
    assert!(
        matches!(said.next(), Some(Error::Timeout { .. })),
        "the first is queued"
    );
    assert!(
        said.any(|error| matches!(error, Error::NotAccepting { .. })),
        "the queue fills"
    );
}

#[test]
fn typed_calls_ask_what_their_name_says() {
    let fake = Fake::plays(|peer| {
        let asked = peer.heard().expect("asked");
        assert_eq!(asked.method, name::WHY);
        assert_eq!(asked.params, json!({"module": "storage"}));
        let why = json!({"module": "storage", "state": "failed", "chain": [], "next": null});
        peer.answer(asked, why);
        let asked = peer.heard().expect("asked");
        assert_eq!(asked.method, name::SYSTEM_STOP);
        assert_eq!(asked.params, json!({"timeout_ms": 5}));
        peer.answer(asked, json!({}));
        let asked = peer.heard().expect("asked");
        assert_eq!(asked.method, name::MODULE_RESTART);
        assert_eq!(asked.params, json!({"module": "storage", "wait": true}));
        peer.refuse(asked, ErrorCode::ShuttingDown);
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    assert_eq!(client.welcome().server, "mainstay test");
    assert_eq!(client.why("storage").expect("said").module, "storage");
    client
        .stop_system(&StopParams {
            timeout_ms: Some(5),
        })
        .expect("noted");
    let params = ChangeParams {
        module: "storage".to_owned(),
        dry_run: false,
        wait: true,
    };
    match client.restart(&params) {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.data.code, ErrorCode::ShuttingDown),
        other => panic!("{other:?}"),
    }
    fake.ends();
}

fn hello() -> Hello {
    Hello {
        client: "a test".to_owned(),
        protocol: PROTOCOL,
        token: None,
    }
}

#[test]
fn calls_that_are_sent_with_hello_are_answered_once_they_are_made() {
    let graph = json!({"modules": [], "edges": []});
    let sent = graph.clone();
    let fake = Fake::accepts(move |peer| {
        let calls = [(); 3].map(|()| peer.heard().expect("before hello is answered"));
        let [hello, first, second] = calls;
        peer.welcome(hello, PROTOCOL);
        assert_eq!(
            (&*first.method, &*second.method),
            (name::GRAPH, name::MODULE_LIST)
        );
        assert_eq!((&first.params, &second.params), (&json!({}), &json!({})));
        peer.answer(first, sent);
        peer.answer(second, "of a call that is not made");
        let other = peer.heard().expect("another call");
        assert_eq!(other.method, name::MODULE_GET);
        peer.refuse(other, ErrorCode::UnknownModule);
        let again = peer.heard().expect("what was passed over is called again");
        assert_eq!(again.method, name::MODULE_LIST);
        peer.answer(again, json!([]));
    });
    let ahead = [name::GRAPH, name::MODULE_LIST];
    let client = Client::connect_calling(fake.socket(), &hello(), LONG, &ahead);
    let mut client = client.expect("connected");
    assert_eq!(json!(client.graph().expect("said")), graph);
    assert!(matches!(client.module("web"), Err(Error::Refused(_))));
    assert_eq!(client.modules().expect("said"), []);
    drop(client);
    fake.ends();
}

#[test]
fn a_call_that_was_sent_with_hello_is_sent_again_after_its_reply_was_passed_over() {
    let fake = Fake::accepts(|peer| {
        let [hello, first] = [(); 2].map(|()| peer.heard().expect("before hello is answered"));
        peer.welcome(hello, PROTOCOL);
        peer.answer(first, json!([]));
        peer.log("a line");
        let again = peer.heard().expect("called again");
        assert_eq!(again.method, name::MODULE_LIST);
        peer.answer(again, json!([]));
    });
    let ahead = [name::MODULE_LIST];
    let client = Client::connect_calling(fake.socket(), &hello(), LONG, &ahead);
    let mut client = client.expect("connected");
    let line: Option<LogLines> = client.notification(Some(LONG)).expect("told");
    assert_eq!(line.expect("a line").lines, ["a line"]);
    assert_eq!(client.modules().expect("said"), []);
    drop(client);
    fake.ends();
}

#[test]
fn another_protocol_is_not_spoken() {
    let fake = Fake::greets(PROTOCOL + 1, |_| {});
    match Client::connect(fake.socket()) {
        Err(Error::OtherProtocol { theirs, .. }) => assert_eq!(theirs, PROTOCOL + 1),
        other => panic!("{:?}", other.err()),
    }
    fake.ends();
}

#[test]
fn a_call_that_timed_out_does_not_spoil_the_next() {
    let (go, gone) = mpsc::sync_channel(1);
    let fake = Fake::plays(move |peer| {
        let first = peer.heard().expect("asked");
        gone.recv_timeout(LONG).expect("the client gave up");
        peer.answer(first, "late");
        let second = peer.heard().expect("asked");
        peer.answer(second, "in time");
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    match client.call_within::<Value>("graph", json!({}), SHORT) {
        Err(Error::Timeout { method, after }) => assert_eq!((&*method, after), ("graph", SHORT)),
        other => panic!("{other:?}"),
    }
    go.send(()).expect("the script waits");
    let answer: String = client.call("graph", json!({})).expect("answered");
    assert_eq!(answer, "in time");
    fake.ends();
}

#[test]
fn notifications_between_call_and_reply_are_kept_and_followed() {
    let fake = Fake::plays(|peer| {
        let asked = peer.heard().expect("asked");
        assert_eq!(
            asked.params,
            json!({"module": "storage", "lines": 1, "follow": true})
        );
        peer.log("before the reply");
        peer.answer(asked, json!({"module": "storage", "lines": ["old"]}));
        peer.log("after it");
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    let params = LogsParams {
        module: "storage".to_owned(),
        lines: Some(1),
        follow: true,
        ..LogsParams::default()
    };
    assert_eq!(client.logs(&params).expect("read").lines, ["old"]);
    let mut following = client.follow::<LogLines>();
    for text in ["before the reply", "after it"] {
        let lines = following.next_within(LONG).expect("fine").expect("in time");
        assert_eq!(lines.lines, [text]);
    }
    assert!(matches!(following.next(), Some(Err(Error::Closed { .. }))));
    assert!(following.next().is_none(), "it ends after the first error");
    fake.ends();
}

#[test]
fn a_quiet_subscription_waits_as_long_as_it_is_told() {
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let fake = Fake::plays(move |_| assert!(gone.recv_timeout(LONG).is_err()));
    let mut following = Client::connect(fake.socket())
        .expect("connected")
        .follow::<LogLines>();
    assert!(following.next_within(SHORT).expect("open").is_none());
    drop(go);
    fake.ends();
}

#[test]
fn a_server_that_leaves_or_talks_nonsense_is_an_error() {
    let fake = Fake::plays(|peer| {
        peer.heard();
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    assert!(matches!(client.status(), Err(Error::Closed { .. })));
    fake.ends();

    let fake = Fake::plays(|peer| {
        peer.heard();
        peer.say(b"nonsense\n");
        peer.heard();
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    assert!(matches!(client.status(), Err(Error::Malformed { .. })));
    drop(client);
    fake.ends();

    let fake = Fake::plays(|peer| {
        peer.heard();
        peer.say(&vec![b'x'; MAX_LINE_BYTES + 2]);
        peer.heard();
    });
    let mut client = Client::connect(fake.socket()).expect("connected");
    assert!(matches!(client.status(), Err(Error::TooLong)));
    drop(client);
    fake.ends();
}
