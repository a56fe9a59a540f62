//! Values of a newer version: carried as the text they are.
//! Owns the texts of this process, each once, so that a value can be copied like a known one.
//! Never keeps more than a stated number of them, nor long ones.

use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Texts that are kept; what comes after them reads as [`UnknownValue::UNNAMED`].
const VALUES_MAX: usize = 512;
/// Bytes of a text that is kept.
const BYTES_MAX: usize = 64;

static VALUES: RwLock<Vec<&'static str>> = RwLock::new(Vec::new());

/// A value that this version does not know, as it stood in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownValue(u16);

impl UnknownValue {
    /// Stands for values that are too long or too many to be kept, or that are no word.
    pub const UNNAMED: UnknownValue = UnknownValue(u16::MAX);

    /// Keeps a text that is not the spelling of a known value.
    #[must_use]
    pub(crate) fn new(text: &str) -> UnknownValue {
        if text.len() > BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return UnknownValue::UNNAMED;
        }
        let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
        let kept = values.iter().position(|kept| *kept == text);
        let position = kept.unwrap_or(values.len());
        if position >= VALUES_MAX {
            return UnknownValue::UNNAMED;
        }
        if kept.is_none() {
            values.push(Box::leak(text.to_owned().into_boxed_str()));
        }
        u16::try_from(position).map_or(UnknownValue::UNNAMED, UnknownValue)
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
        values
            .get(usize::from(self.0))
            .copied()
            .unwrap_or("unknown")
    }
}

impl fmt::Debug for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_not_without_a_limit() {
        let first = UnknownValue::new("hibernating");
        let same = UnknownValue::new(&String::from("hibernating"));
        assert_eq!((first, first.as_str()), (same, "hibernating"));
        for no_word in ["x".repeat(65).as_str(), "\u{1b}[31m", "a b", "\u{202e}"] {
            assert_eq!(UnknownValue::new(no_word), UnknownValue::UNNAMED);
        }
        for n in 0..VALUES_MAX + 10 {
            let _kept = UnknownValue::new(&format!("value-{n}"));
        }
        assert_eq!(UnknownValue::new("one more"), UnknownValue::UNNAMED);
        assert_eq!(UnknownValue::new("hibernating"), first);
        assert_eq!(UnknownValue::UNNAMED.as_str(), "unknown");
    }
}
