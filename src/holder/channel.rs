//! The holder's end of the channel to a runtime.
//! Owns the connection and what is not sent yet, in bounds.
//! Never interprets a request; never waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use crate::codec::Decoder;
use crate::fds::MAX_FDS;
use crate::frame::{FrameQueue, recv_with_fds};
use crate::kernel::Poller;
use crate::messages::{HolderMessage, HolderRequest};
use crate::poll_key;

/// Bytes that may wait for a runtime that does not read; from half of it on only exits and answers
/// are added.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) decoder: Decoder,
    pub(crate) fds: VecDeque<OwnedFd>,
    pub(crate) outbox: FrameQueue,
    write_blocked: bool,
    /// The takeover state was sent: from here on everything is.
    pub(crate) takeover_sent: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Connection {
        Connection {
            socket,
            decoder: Decoder::default(),
            fds: VecDeque::new(),
            outbox: FrameQueue::default(),
            write_blocked: false,
            takeover_sent: false,
        }
    }
}

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes,
    Nothing,
    /// The runtime has closed its end, or sends what is no request.
    End,
}

/// The channel; without a connection nothing is sent or received.
#[derive(Debug, Default)]
pub(crate) struct RuntimeChannel(pub(crate) Option<Connection>);

impl RuntimeChannel {
    pub(crate) fn open(&mut self, poll: &Poller, socket: OwnedFd) -> io::Result<()> {
        self.reopen(poll, Connection::new(socket))
    }

    pub(crate) fn reopen(&mut self, poll: &Poller, connection: Connection) -> io::Result<()> {
        poll.add(&connection.socket, poll_key::CHANNEL)?;
        self.0 = Some(connection);
        Ok(())
    }

    /// False if there is no connection.
    pub(crate) fn close(&mut self, poll: &Poller) -> bool {
        let connection = self.0.take();
        if let Some(connection) = &connection {
            poll.delete(&connection.socket); // it is in there since `open`
        }
        connection.is_some()
    }

    pub(crate) fn receive(&mut self) -> Received {
        let Some(connection) = &mut self.0 else {
            return Received::Nothing;
        };
        let (decoder, fds) = (&mut connection.decoder, &mut connection.fds);
        match recv_with_fds(&connection.socket, decoder, fds) {
            Ok(1..) if fds.len() <= MAX_FDS => Received::Bytes,
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => Received::Bytes,
            Ok(_) | Err(_) => Received::End,
        }
    }

    /// The next whole request of what was received.
    pub(crate) fn next_request(&mut self) -> Result<Option<HolderRequest>, Received> {
        let connection = self.0.as_mut().ok_or(Received::Nothing)?;
        connection.decoder.next().map_err(|_| Received::End)
    }

    /// Takes descriptors that came with the request that is performed.
    pub(crate) fn take_fds(&mut self, count: usize) -> Vec<OwnedFd> {
        let fds = self.0.as_mut().map(|connection| &mut connection.fds);
        fds.map_or_else(Vec::new, |fds| fds.drain(..count.min(fds.len())).collect())
    }

    /// From here on messages are sent.
    pub(crate) fn start_takeover(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.takeover_sent = true;
        }
    }

    /// Queues a message for a runtime that has the takeover state. False if the runtime does not
    /// read: the channel is to be closed.
    pub(crate) fn send(&mut self, message: &HolderMessage, fds: Vec<OwnedFd>) -> bool {
        let connection = self
            .0
            .as_mut()
            .filter(|connection| connection.takeover_sent);
        connection.is_none_or(|connection| {
            let outbox = &mut connection.outbox;
            outbox.waiting_bytes() <= OUTBOX_BYTES && outbox.push(message, fds).is_ok()
        })
    }

    /// The runtime does not keep up: what can wait or be summed up is held back.
    pub(crate) fn is_backpressured(&self) -> bool {
        let waiting = self
            .0
            .as_ref()
            .map(|connection| connection.outbox.waiting_bytes());
        waiting.is_some_and(|waiting| waiting > OUTBOX_BYTES / 2)
    }

    pub(crate) fn flush(&mut self, poll: &Poller) {
        let Some(connection) = &mut self.0 else {
            return;
        };
        // That the runtime is gone is found by reading.
        let blocked = connection
            .outbox
            .flush(&connection.socket)
            .is_ok_and(|done| !done);
        if blocked != connection.write_blocked {
            connection.write_blocked = blocked;
            poll.watch_writable(&connection.socket, poll_key::CHANNEL, blocked);
        }
    }
}
