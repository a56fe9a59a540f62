//! What the holder keeps of the journal: a text that survives the runtime and the state directory.
//! Owns its form, `key=value` words, of which the file `audit.head` holds a part.
//! Never longer than a record of the holder; unknown words are skipped.

use std::fmt;
use std::sync::Arc;

use super::chain::{ChainPosition, hex};

/// Receives the text whenever it changes.
#[derive(Clone)]
pub struct WatermarkKeeper(Arc<dyn Fn(String) + Send + Sync>);

impl WatermarkKeeper {
    /// Calls `keep` with each new text, in order, from whichever thread changed it.
    pub fn new(keep: impl Fn(String) + Send + Sync + 'static) -> WatermarkKeeper {
        WatermarkKeeper(Arc::new(keep))
    }

    pub(super) fn keep(&self, watermark: &Watermark) {
        (self.0)(watermark.to_string());
    }
}

impl fmt::Debug for WatermarkKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatermarkKeeper")
    }
}

/// How far the journal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watermark {
    /// No event has this number or a larger one.
    pub(super) next: u64,
    /// The newest committed link of the audit chain.
    pub(super) head: ChainPosition,
    /// The newest administrative row that was appended.
    pub(super) appended: u64,
    /// Administrative rows that were appended and are not committed.
    pub(super) waiting: u64,
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watermark {
            next,
            head,
            appended,
            waiting,
        } = self;
        write!(
            f,
            "next={next} appended={appended} waiting={waiting} {head}"
        )
    }
}

impl Watermark {
    /// Returns nothing for a text that is no watermark.
    pub(super) fn parse(text: &str) -> Option<Watermark> {
        Some(Watermark {
            next: number(text, "next")?,
            head: ChainPosition::parse(text)?,
            appended: number(text, "appended")?,
            waiting: number(text, "waiting")?,
        })
    }
}

impl fmt::Display for ChainPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, seq, hash) = (self.count, self.seq, hex(&self.hash));
        write!(f, "count={count} seq={seq} hash={hash}")
    }
}

impl ChainPosition {
    /// Returns nothing for a text that names no position.
    pub(super) fn parse(text: &str) -> Option<ChainPosition> {
        let digits = word(text, "hash").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(ChainPosition {
            seq: number(text, "seq")?,
            count: number(text, "count")?,
            hash,
        })
    }
}

fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut words = text.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(text: &str, key: &str) -> Option<u64> {
    word(text, key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark() -> Watermark {
        Watermark {
            next: u64::MAX,
            head: ChainPosition {
                seq: u64::MAX - 1,
                count: u64::MAX - 2,
                hash: [0xA7; 32],
            },
            appended: u64::MAX - 3,
            waiting: u64::MAX - 4,
        }
    }

    #[test]
    fn a_watermark_survives_its_text_and_fits_a_record_of_the_holder() {
        let text = watermark().to_string();
        assert!(text.len() <= 512, "{} bytes", text.len());
        assert_eq!(Watermark::parse(&text), Some(watermark()));
    }

    #[test]
    fn unknown_words_are_skipped_and_other_text_is_no_watermark() {
        let text = watermark().to_string();
        let newer = format!("colour=green {text} later=1\n");
        assert_eq!(Watermark::parse(&newer), Some(watermark()));
        for wrong in [
            "",
            "next=1",
            &text.replace("hash=a7", "hash="),
            &text.replace("hash=a7", "hash=g7"),
            &text.replace("hash=a7", "hash=é"),
            &text.replace("count=", "count=-"),
        ] {
            assert_eq!(Watermark::parse(wrong), None, "{wrong}");
        }
    }
}
