//! A task as the machine sees it, with a holder that says nothing.
//! Owns what must be told however many facts wait. Never starts a process.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::os::handshake::HolderHandshake;
use crate::os::transport::HolderEndpoint;

#[tokio::test]
async fn that_a_task_was_heard_is_told_however_many_facts_wait() {
    let (ours, _silent) = UnixStream::pair().expect("a pair");
    let wire = HolderHandshake::new(HolderEndpoint::from(OwnedFd::from(ours)));
    let (held, mut facts) = HolderClient::start(wire, &[]).expect("a wire");
    let work: TaskFn = Arc::new(|_| Box::pin(async { Ok(()) }));
    let direct = EmbeddedOs::new(held, [("it".to_owned(), work, Map::new())]);
    while direct.facts.try_send(OsEvent::ReloadRequested).is_ok() {}
    direct.drain_notify("it", 1);
    let heard = async {
        while let Some(fact) = facts.recv().await {
            if let OsEvent::NotifyDrained { generation: 1, .. } = fact {
                return;
            }
        }
        panic!("the end of all facts");
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
    assert!(heard.is_ok(), "it was not told");
}
