//! The wire to the holder before the runtime is up: one question, one answer, blocking.
//! Owns the end of it and what was read of the next frame.
//! Never used once the actors run: `held` takes it over.

use std::io;

use mainstay_holder::messages::{HolderMessage, HolderRequest, HolderSetup, TakeoverState};
use mainstay_holder::{Decoder, encode};

use super::transport::{End, Entrance};

/// The wire before the runtime is up: blocking, one question and one answer.
pub(crate) struct Wire {
    pub(super) end: End,
    pub(super) decoder: Decoder,
}

/// Why the wire could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The socket failed.
    #[error("cannot talk to the holder: {0}")]
    Io(#[from] io::Error),
    /// The holder closed it.
    #[error("cannot talk to the holder: it closed the connection")]
    Closed,
    /// A frame made no sense here.
    #[error("cannot understand the holder: {0}")]
    Nonsense(String),
    /// The holder refused the setup; the second field is the exit code to end with.
    #[error("{0}")]
    Refused(String, u8),
}

impl Wire {
    /// Takes over the runtime's end of the wire.
    pub(crate) fn new(end: End) -> Wire {
        let decoder = Decoder::default();
        Wire { end, decoder }
    }

    /// The first message of the holder, with the entrances when it has them.
    ///
    /// # Errors
    /// When the holder is gone or says something else.
    pub(crate) fn world(&mut self) -> Result<(TakeoverState, Option<[Entrance; 2]>), WireError> {
        match self.receive()? {
            HolderMessage::Takeover(world) => {
                let entrances = match &world.setup {
                    Some(setup) => Some(self.entrances(world.fds, setup)?),
                    None => None,
                };
                Ok((world, entrances))
            }
            other => Err(WireError::Nonsense(format!(
                "expected the world, got {other:?}"
            ))),
        }
    }

    /// Tells the holder where things are; returns the entrances for clients and for modules.
    ///
    /// # Errors
    /// `Refused` with the holder's sentence, or when it is gone.
    pub(crate) fn configure(&mut self, setup: HolderSetup) -> Result<[Entrance; 2], WireError> {
        let mut frame = Vec::new();
        encode(&HolderRequest::Configure(setup.clone()), &mut frame)
            .map_err(|error| WireError::Nonsense(error.to_string()))?;
        self.end.write_all(&frame)?;
        match self.receive()? {
            HolderMessage::Configured { fds } => self.entrances(fds, &setup),
            HolderMessage::Refused { message, exit } => Err(WireError::Refused(message, exit)),
            other => Err(WireError::Nonsense(format!(
                "expected an answer, got {other:?}"
            ))),
        }
    }

    fn entrances(&mut self, count: u32, setup: &HolderSetup) -> Result<[Entrance; 2], WireError> {
        self.end
            .entrances(count, setup)
            .ok_or_else(|| WireError::Nonsense("a listener is missing".to_owned()))
    }

    fn receive(&mut self) -> Result<HolderMessage, WireError> {
        loop {
            match self.decoder.next::<HolderMessage>() {
                Ok(Some(tell)) => return Ok(tell),
                Ok(None) => {}
                Err(error) => return Err(WireError::Nonsense(error.to_string())),
            }
            if self.end.receive(&mut self.decoder)? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}
