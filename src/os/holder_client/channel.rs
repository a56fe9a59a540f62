//! The two tasks of the channel: requests out, messages in, to one holder after the other.
//! Owns nothing beyond the two ends.
//! Never decides anything: messages are applied by the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_holder::Decoder;
use mainstay_holder::messages::HolderMessage;

use super::{HolderClient, lock};
use crate::os::OsEvent;
use crate::os::transport::{HolderReader, HolderWriter};

/// `connection`: of which holder; this ends when another one has taken its place.
pub(super) async fn write_requests(
    held: Arc<HolderClient>,
    mut speaking: HolderWriter,
    connection: u32,
) {
    loop {
        held.out_ready.notified().await;
        if held.gone.load(Ordering::Relaxed) {
            return; // an application goes on without us: nothing of ours may stay
        }
        let frames = {
            let mut out = lock(&held.out);
            if out.connection != connection {
                held.out_ready.notify_one(); // that was for the task of this one
                return;
            }
            out.writes = true;
            std::mem::take(&mut out.outbox)
        };
        if speaking.send(frames).await.is_err() {
            return; // the reader sees the end and says so
        }
        let mut out = lock(&held.out);
        if out.connection == connection {
            out.writes = false;
        }
        drop(out);
        held.sent.notify_one();
    }
}

pub(super) async fn read_messages(
    held: Arc<HolderClient>,
    mut hearing: HolderReader,
    mut decoder: Decoder,
) {
    loop {
        if read_until_end(&held, &mut hearing, &mut decoder).await == ReadEnd::Router {
            return;
        }
        if !held.succeed(&mut hearing).await {
            break;
        }
        decoder = Decoder::default();
    }
    held.watch_without_holder();
    let _router_ended = held.facts.send(OsEvent::HolderGone).await;
}

/// Why nothing is read any more.
#[derive(PartialEq, Eq)]
enum ReadEnd {
    /// The holder has closed its end, or says what makes no sense.
    Holder,
    Router,
}

async fn read_until_end(
    held: &Arc<HolderClient>,
    hearing: &mut HolderReader,
    decoder: &mut Decoder,
) -> ReadEnd {
    // A child of the holder that hangs before its exec keeps the other end open.
    let ended = held.successor.holder_ended();
    tokio::pin!(ended);
    let mut has_ended = false;
    loop {
        loop {
            match decoder.next::<HolderMessage>() {
                Ok(Some(tell)) => {
                    match &tell {
                        HolderMessage::Directories { fds, .. } => hearing.replace_listeners(*fds),
                        HolderMessage::Mirrored(record) => held.successor.keep(record, hearing),
                        _ => {}
                    }
                    if let Some(fact) = held.apply(tell)
                        && held.facts.send(fact).await.is_err()
                    {
                        return ReadEnd::Router;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "cannot understand the holder");
                    return ReadEnd::Holder;
                }
            }
        }
        let received = tokio::select! {
            biased;
            received = hearing.receive(decoder), if !has_ended => received,
            () = &mut ended, if !has_ended => {
                has_ended = true;
                hearing.receive_rest(decoder)
            }
            else => hearing.receive_rest(decoder),
        };
        match received {
            Ok(0) => return ReadEnd::Holder,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cannot read from the holder");
                return ReadEnd::Holder;
            }
        }
    }
}
