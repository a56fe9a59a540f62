//! What an attacker was told on its command line, and what it tells about itself.
//! Owns the order of words. Never guesses: a word that is missing is an error.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// The words behind the name of the program.
pub(crate) struct Words(pub(crate) Vec<String>);

impl Words {
    /// A word as it stands.
    pub(crate) fn text(&self, at: usize) -> io::Result<&str> {
        let missing = || io::Error::other(format!("cannot go on: word {at} is missing"));
        self.0.get(at).map(String::as_str).ok_or_else(missing)
    }

    /// A word that is a number.
    pub(crate) fn number(&self, at: usize) -> io::Result<u64> {
        let text = self.text(at)?;
        let wrong = |_| io::Error::other(format!("cannot read {text:?}: it is no number"));
        text.parse().map_err(wrong)
    }

    /// A word that is a number of milliseconds, as the moment at which they are over.
    pub(crate) fn end(&self, at: usize) -> io::Result<Instant> {
        Ok(Instant::now() + Duration::from_millis(self.number(at)?))
    }

    /// All words from one on.
    pub(crate) fn rest(&self, from: usize) -> &[String] {
        self.0.get(from..).unwrap_or_default()
    }
}

/// Says that the attack is under way; whoever waits for that begins to measure.
pub(crate) fn under_way() -> io::Result<()> {
    say("under way")
}

/// Says a line at once.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// How long is left until a moment.
pub(crate) fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}
