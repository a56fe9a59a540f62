//! Which lines of a log are wanted.
//! Owns what holds of a line of which something is not known.
//! Never looks at the bytes of a line, but by a pattern.

use mainstay_process::StdStream;
use mainstay_protocol::Timestamp;
use regex::bytes::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Which lines are returned. A line whose time is not known is in every interval.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFilter {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) run: Option<u64>,
    /// Unlike with times, a line of which it is not known is of neither.
    pub(crate) stream: Option<StdStream>,
    /// Matches lines; `^` and `$` are their ends.
    pub(crate) grep: Option<Regex>,
}

impl LogFilter {
    /// Compiles a pattern for `grep`, which may take a while.
    ///
    /// # Errors
    /// It is no regular expression, or too large.
    pub(crate) fn pattern(text: &str) -> Result<Regex, regex::Error> {
        let mut builder = RegexBuilder::new(text);
        builder.multi_line(true).size_limit(PATTERN_BYTES_MAX);
        builder.build()
    }

    /// Whether it lets every line pass.
    pub(crate) fn is_empty(&self) -> bool {
        let is_open = self.since.is_none() && self.until.is_none() && self.run.is_none();
        is_open && self.stream.is_none() && self.grep.is_none()
    }

    pub(super) fn includes(&self, time: Option<u64>, run: u64) -> bool {
        let after = |since: Timestamp| time.is_none_or(|time| time >= since.0);
        let before = |until: Timestamp| time.is_none_or(|time| time <= until.0);
        self.since.is_none_or(after)
            && self.until.is_none_or(before)
            && self.run.is_none_or(|wanted| wanted == run)
    }
}
