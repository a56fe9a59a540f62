//! The holder channel before the runtime is up: one request, one answer, blocking.
//! Owns the runtime's end of it, and compares the versions of the two sides.
//! Never used once the actors run: `holder_client` takes it over.

use std::io;

pub(crate) use mainstay_holder::messages::TakeoverState;
use mainstay_holder::messages::{HolderMessage, HolderRequest, HolderSetup, VERSION};
use mainstay_holder::{Decoder, encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::transport::{HolderEndpoint, ListenerHandle};

/// The channel before the runtime is up: blocking, one request and one answer.
pub(crate) struct HolderHandshake {
    pub(super) end: HolderEndpoint,
    pub(super) decoder: Decoder,
}

/// Why the channel cannot be used.
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
    /// The two sides are of different versions.
    #[error(
        "cannot use the holder: it speaks version {0} of the holder channel, this runtime version \
         {VERSION}; run `mainstay down`, then start mainstay again"
    )]
    Version(u32),
    /// The holder refused the setup; the second field is the exit code to end with.
    #[error("{0}")]
    Refused(String, u8),
}

/// What becomes of a frame that was read.
#[derive(Clone, Copy)]
enum Read {
    /// The next call reads it again.
    Keep,
    Consume,
}

/// The version in the first frame of a holder of any version.
#[derive(Deserialize)]
struct AnyTakeover {
    version: u32,
}

impl HolderHandshake {
    /// Takes over the runtime's end of the channel.
    pub(crate) fn new(end: HolderEndpoint) -> HolderHandshake {
        let decoder = Decoder::default();
        HolderHandshake { end, decoder }
    }

    /// Receives the first message of the holder, with the listeners when it has them.
    ///
    /// # Errors
    /// `Version` when the holder uses another version of the channel, or has exited.
    pub(crate) fn receive_takeover(
        &mut self,
    ) -> Result<(TakeoverState, Option<[ListenerHandle; 2]>), HandshakeError> {
        let AnyTakeover { version } = self.receive(Read::Keep)?;
        if version != VERSION {
            return Err(HandshakeError::Version(version));
        }
        match self.receive(Read::Consume)? {
            HolderMessage::Takeover(world) => {
                let entrances = match &world.setup {
                    Some(setup) => Some(self.entrances(world.fds, setup)?),
                    None => None,
                };
                Ok((*world, entrances))
            }
            other => Err(HandshakeError::Malformed(format!(
                "expected the world, got {other:?}"
            ))),
        }
    }

    /// Sends the holder its setup; returns the listeners for clients and for modules.
    ///
    /// # Errors
    /// `StateDir` with the holder's message, or when the holder has exited.
    pub(crate) fn configure(
        &mut self,
        setup: HolderSetup,
    ) -> Result<[ListenerHandle; 2], HandshakeError> {
        let mut frame = Vec::new();
        encode(&HolderRequest::Configure(setup.clone()), &mut frame)
            .map_err(|error| HandshakeError::Malformed(error.to_string()))?;
        self.end.write_all(&frame)?;
        match self.receive(Read::Consume)? {
            HolderMessage::Configured { fds } => self.entrances(fds, &setup),
            HolderMessage::Refused { message, exit } => Err(HandshakeError::Refused(message, exit)),
            HolderMessage::StopRequested { signal, .. } => {
                let message = format!("stopped by {signal} before anything was started");
                Err(HandshakeError::Refused(message, 0))
            }
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

    fn receive<T: DeserializeOwned>(&mut self, read: Read) -> Result<T, HandshakeError> {
        loop {
            let frame = match read {
                Read::Keep => self.decoder.peek(),
                Read::Consume => self.decoder.next(),
            };
            match frame {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(HandshakeError::Malformed(error.to_string())),
            }
            if self.end.receive(&mut self.decoder)? == 0 {
                return Err(HandshakeError::Closed);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// What a runtime makes of this first frame.
    fn received(frame: &serde_json::Value) -> Result<TakeoverState, HandshakeError> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).expect("a frame");
        std::io::Write::write_all(&mut &theirs, &bytes).expect("written");
        drop(theirs);
        let mut handshake = HolderHandshake::new(HolderEndpoint::from(OwnedFd::from(ours)));
        handshake.receive_takeover().map(|(takeover, _)| takeover)
    }

    #[test]
    fn a_holder_of_another_version_is_refused_with_both_versions_and_a_way_out() {
        let newer = VERSION + 1;
        for (version, frame) in [
            (
                1,
                serde_json::json!({ "tell": "world", "version": 1, "holder_pid": 5 }),
            ),
            (
                newer,
                serde_json::json!({ "type": "hello", "version": newer, "holder": { "pid": 5 } }),
            ),
        ] {
            let refused = received(&frame).expect_err("it is refused");
            let text = refused.to_string();
            assert!(
                matches!(refused, HandshakeError::Version(of) if of == version),
                "{text}"
            );
            assert!(
                text.contains(&format!("speaks version {version}")),
                "{text}"
            );
            assert!(
                text.contains(&format!("this runtime version {VERSION}")),
                "{text}"
            );
            assert!(
                text.ends_with("run `mainstay down`, then start mainstay again"),
                "{text}"
            );
        }
        let same = serde_json::json!({
            "type": "takeover", "version": VERSION, "holder_pid": 5, "newer": [1],
        });
        assert_eq!(received(&same).expect("it is taken over").holder_pid, 5);
    }
}
