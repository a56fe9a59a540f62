//! The channel to the runtime in the state: what was received of it and is no whole frame yet.
//! All that was to be sent is sent before.
//! Never loses a byte: the runtime notices no more than the answer.

use std::io;

use serde::{Deserialize, Serialize};

use super::kept_fds::{KeptFd, KeptFds};
use super::request::Obstacle;
use crate::channel::{Connection, RuntimeChannel};
use crate::codec::Decoder;

/// The channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChannelState {
    pub(crate) socket: KeptFd,
    pub(crate) received: Vec<u8>,
    /// Came with it.
    pub(crate) fds: Vec<KeptFd>,
}

impl ChannelState {
    pub(crate) fn of(channel: &RuntimeChannel, kept: &mut KeptFds) -> Result<Self, Obstacle> {
        let connection = channel.0.as_ref().filter(|one| one.takeover_sent);
        let Some(connection) = connection else {
            return Err(Obstacle::busy("no runtime is connected"));
        };
        if connection.outbox.waiting_bytes() > 0 {
            return Err(Obstacle::busy("the runtime does not read"));
        }
        Ok(ChannelState {
            socket: kept.keep(&connection.socket),
            received: connection.decoder.rest().to_vec(),
            fds: connection.fds.iter().map(|fd| kept.keep(fd)).collect(),
        })
    }

    pub(crate) fn restore(self) -> io::Result<Connection> {
        let mut decoder = Decoder::default();
        decoder.push(&self.received);
        let fds = self.fds.into_iter().map(KeptFd::take);
        let mut connection = Connection::new(self.socket.take()?);
        connection.fds = fds.collect::<io::Result<_>>()?;
        (connection.decoder, connection.takeover_sent) = (decoder, true);
        Ok(connection)
    }
}
