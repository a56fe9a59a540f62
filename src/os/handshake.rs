//! The wire to the holder before the runtime is up: one question, one answer, blocking.
//! Owns the end of it and what was read of the next frame.
//! Never used once the actors run: `held` takes it over.

use std::io;

use mainstay_holder::messages::{HolderMessage, HolderRequest, HolderSetup, TakeoverState};
use mainstay_holder::{Decoder, encode};

use super::transport::{HolderEndpoint, ListenerHandle};

/// The wire before the runtime is up: blocking, one question and one answer.
pub(crate) struct HolderHandshake {
    pub(super) end: HolderEndpoint,
    pub(super) decoder: Decoder,
}

/// Why the wire could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The socket failed.
    #[error("cannot talk to the holder: {0}")]
    Io(#[from] io::Error),
    /// The holder closed it.
    #[error("cannot talk to the holder: it closed the connection")]
    Closed,
    /// A frame made no sense here.
    #[error("cannot understand the holder: {0}")]
    Malformed(String),
    /// The holder refused the setup; the second field is the exit code to end with.
    #[error("{0}")]
    Refused(String, u8),
}

impl HolderHandshake {
    /// Takes over the runtime's end of the wire.
    pub(crate) fn new(end: HolderEndpoint) -> HolderHandshake {
        let decoder = Decoder::default();
        HolderHandshake { end, decoder }
    }

    /// The first message of the holder, with the entrances when it has them.
    ///
    /// # Errors
    /// When the holder is gone or says something else.
    pub(crate) fn receive_takeover(
        &mut self,
    ) -> Result<(TakeoverState, Option<[ListenerHandle; 2]>), HandshakeError> {
        match self.receive()? {
            HolderMessage::Takeover(world) => {
                let entrances = match &world.setup {
                    Some(setup) => Some(self.entrances(world.fds, setup)?),
                    None => None,
                };
                Ok((world, entrances))
            }
            other => Err(HandshakeError::Malformed(format!(
                "expected the world, got {other:?}"
            ))),
        }
    }

    /// Tells the holder where things are; returns the entrances for clients and for modules.
    ///
    /// # Errors
    /// `StateDir` with the holder's sentence, or when it is gone.
    pub(crate) fn configure(
        &mut self,
        setup: HolderSetup,
    ) -> Result<[ListenerHandle; 2], HandshakeError> {
        let mut frame = Vec::new();
        encode(&HolderRequest::Configure(setup.clone()), &mut frame)
            .map_err(|error| HandshakeError::Malformed(error.to_string()))?;
        self.end.write_all(&frame)?;
        match self.receive()? {
            HolderMessage::Configured { fds } => self.entrances(fds, &setup),
            HolderMessage::Refused { message, exit } => Err(HandshakeError::Refused(message, exit)),
            other => Err(HandshakeError::Malformed(format!(
                "expected an answer, got {other:?}"
            ))),
        }
    }

    fn entrances(
        &mut self,
        count: u32,
        setup: &HolderSetup,
    ) -> Result<[ListenerHandle; 2], HandshakeError> {
        self.end
            .listeners(count, setup)
            .ok_or_else(|| HandshakeError::Malformed("a listener is missing".to_owned()))
    }

    fn receive(&mut self) -> Result<HolderMessage, HandshakeError> {
        loop {
            match self.decoder.next::<HolderMessage>() {
                Ok(Some(tell)) => return Ok(tell),
                Ok(None) => {}
                Err(error) => return Err(HandshakeError::Malformed(error.to_string())),
            }
            if self.end.receive(&mut self.decoder)? == 0 {
                return Err(HandshakeError::Closed);
            }
        }
    }
}
