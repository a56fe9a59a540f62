//! Frames of the wire: messages to bytes and back.
//! Owns the framing and the receive buffer.
//! Never interprets a message.

use serde::{Serialize, de::DeserializeOwned};

use crate::messages::MAX_FRAME_BYTES;

/// Most that is read at once, and what an idle receive buffer keeps.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Why a frame could not be made or read; the connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("cannot pass a frame of {0} bytes: the limit is {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// Not the JSON that was expected.
    #[error("cannot understand a frame; are both ends of the same version?")]
    Json(#[from] serde_json::Error),
}

/// Appends one frame to `out`; on an error `out` is as it was.
///
/// # Errors
/// The message is too long or cannot be written as JSON.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = serde_json::to_writer(&mut *out, message);
    let length = out.len() - start - 4;
    let problem = match written {
        Ok(()) if length <= MAX_FRAME_BYTES => {
            let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
            out[start..start + 4].copy_from_slice(&prefix);
            return Ok(());
        }
        Ok(()) => FrameError::TooLong(length),
        Err(problem) => problem.into(),
    };
    out.truncate(start);
    Err(problem)
}

/// Bytes in, messages out.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 && self.taken >= self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if one is there.
    ///
    /// # Errors
    /// The frame is too long or is not a `T`.
    #[expect(
        clippy::should_implement_trait,
        reason = "generic over the message, and fallible"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(body) = self.body()? else {
            return Ok(None);
        };
        let (message, length) = (serde_json::from_slice(body)?, body.len());
        self.taken += 4 + length;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(CHUNK_BYTES);
            self.taken = 0;
        }
        Ok(Some(message))
    }

    /// The next whole message, if one is there; it stays the next one.
    ///
    /// # Errors
    /// The frame is too long or is not a `T`.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<Option<T>, FrameError> {
        let body = self.body()?;
        Ok(body.map(serde_json::from_slice).transpose()?)
    }

    /// What was received and is not taken.
    #[cfg(target_os = "linux")]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn body(&self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((prefix, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        Ok(body.get(..length))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn frames_survive_any_cut_and_keep_their_order() {
        let mut bytes = Vec::new();
        for number in 0..20u32 {
            encode(&vec![number; number as usize], &mut bytes).unwrap();
        }
        for step in [1, 3, 7, 1000] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(step) {
                decoder.push(part);
                while let Some(frame) = decoder.next::<Vec<u32>>().unwrap() {
                    seen.push(frame.len());
                }
            }
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next::<u32>(), Err(FrameError::TooLong(_))));
        let mut out = vec![1];
        assert!(encode(&"x".repeat(MAX_FRAME_BYTES), &mut out).is_err());
        assert_eq!(out, [1]);
    }
}
