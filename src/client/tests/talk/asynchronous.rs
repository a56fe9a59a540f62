//! The async client: what it shares with the blocking one works on tokio too.
//! Owns its scripts.
//! Never waits without a deadline.

use std::sync::mpsc;
use std::time::Duration;

use mainstay_client::protocol::ErrorCode;
use mainstay_client::protocol::method::{EventsParams, LogLines, name};
use mainstay_client::{Error, asynchronous::Client};
use serde_json::{Value, json};

use crate::fake::Fake;

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_socket_nobody_listens_on_is_not_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let connected = Client::connect(folder.path().join("control.sock")).await;
    assert!(matches!(connected, Err(Error::NotRunning { .. })));
}

#[tokio::test]
async fn calls_are_answered_refused_or_late() {
    let (go, gone) = mpsc::sync_channel(1);
    let fake = Fake::plays(move |peer| {
        let asked = peer.heard().expect("asked");
        assert_eq!(asked.method, name::MODULE_LIST);
        peer.answer(asked, json!([]));
        let asked = peer.heard().expect("asked");
        peer.refuse(asked, ErrorCode::UnknownModule);
        let late = peer.heard().expect("asked");
        gone.recv_timeout(LONG).expect("the client gave up");
        peer.answer(late, 1);
        let asked = peer.heard().expect("asked");
        peer.answer(asked, 2);
    });
    let mut client = Client::connect(fake.socket()).await.expect("connected");
    assert!(client.modules().await.expect("listed").is_empty());
    match client.module("storge").await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.data.code, ErrorCode::UnknownModule),
        other => panic!("{other:?}"),
    }
    let late = client.call_within::<Value>("graph", json!({}), SHORT).await;
    assert!(matches!(late, Err(Error::Timeout { .. })));
    go.send(()).expect("the script waits");
    assert_eq!(
        client
            .call::<u64>("graph", json!({}))
            .await
            .expect("answered"),
        2
    );
    fake.ends();
}

#[tokio::test]
async fn a_subscription_survives_a_dropped_wait_and_ends_with_the_connection() {
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let fake = Fake::plays(move |peer| {
        let asked = peer.heard().expect("asked");
        assert_eq!(
            asked.params,
            json!({"since": 4, "kinds": ["module.exited"]})
        );
        peer.answer(asked, json!({"seq": 7}));
        assert!(gone.recv_timeout(LONG).is_err(), "let go");
        let event = json!({"seq": 8, "at": "2026-11-20T12:00:00.000Z", "kind": "module.exited"});
        let line = json!({"jsonrpc": "2.0", "method": "event", "params": event});
        peer.log("of another kind");
        peer.say(format!("{line}\n").as_bytes());
    });
    let client = Client::connect(fake.socket()).await.expect("connected");
    let params = EventsParams {
        since: Some(4),
        kinds: vec!["module.exited".parse().expect("a kind")],
        ..EventsParams::default()
    };
    let (subscribed, mut events) = client.subscribe(&params).await.expect("subscribed");
    assert_eq!(subscribed.seq, 7);
    assert!(
        tokio::time::timeout(SHORT, events.next()).await.is_err(),
        "nothing yet"
    );
    drop(go);
    let event = tokio::time::timeout(LONG, events.next())
        .await
        .expect("in time");
    assert_eq!(event.expect("open").expect("an event").seq, 8);
    assert!(matches!(
        events.next().await,
        Some(Err(Error::Closed { .. }))
    ));
    assert!(events.next().await.is_none());
    fake.ends();
}

#[tokio::test]
async fn following_logs_takes_what_was_kept() {
    let fake = Fake::plays(|peer| {
        let asked = peer.heard().expect("asked");
        peer.log("kept");
        peer.answer(asked, json!({}));
    });
    let mut client = Client::connect(fake.socket()).await.expect("connected");
    client
        .call::<Value>("graph", json!({}))
        .await
        .expect("answered");
    let kept = client
        .follow::<LogLines>()
        .next()
        .await
        .expect("open")
        .expect("kept");
    assert_eq!(kept.lines, ["kept"]);
    fake.ends();
}
