//! A task as the machine sees it, with a holder that says nothing.
//! Owns what must be reported however many events wait. Never starts a process.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::os::handshake::{HolderHandshake, TakeoverState};
use crate::os::transport::HolderEndpoint;

/// An application with one task, and a holder that does not answer.
fn embedded() -> (EmbeddedOs, mpsc::Receiver<OsEvent>, UnixStream) {
    let (ours, silent) = UnixStream::pair().expect("a pair");
    let wire = HolderHandshake::new(HolderEndpoint::from(OwnedFd::from(ours)));
    let (held, facts) = HolderClient::start(wire, &TakeoverState::default()).expect("a wire");
    let work: TaskFn = Arc::new(|_| Box::pin(async { Ok(()) }));
    let os = EmbeddedOs::new(held, [("it".to_owned(), work, Map::new())]);
    (os, facts, silent)
}

#[tokio::test]
async fn a_stop_keeps_its_budget_inside_an_application() {
    let (os, _facts, _silent) = embedded();
    assert_eq!(os.stop_time_left(), None);
    os.stopping(Duration::from_secs(20));
    os.stopping(Duration::from_secs(60));
    let left = os.stop_time_left().expect("a stop began");
    assert!(left <= Duration::from_secs(20), "{left:?}");
}

#[tokio::test]
async fn that_a_task_was_heard_is_told_however_many_facts_wait() {
    let (direct, mut facts, _silent) = embedded();
    while direct.facts.try_send(OsEvent::ReloadRequested).is_ok() {}
    direct.drain_notify(&Instance::new("it", 1), 1);
    let heard = async {
        while let Some(fact) = facts.recv().await {
            if let OsEvent::Process(ProcessEvent {
                generation: 1,
                what: ProcessEventKind::NotifyDrained,
                ..
            }) = fact
            {
                return;
            }
        }
        panic!("the end of all facts");
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
    assert!(heard.is_ok(), "it was not told");
}
