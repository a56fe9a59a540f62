//! Reads a log while it grows: new lines, new files, prompts.
//! Owns the silence after which a line without newline is shown.
//! Never waits: its caller looks again.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::io;
use std::time::{Duration, Instant};

use super::{LogIndex, LogLine, LogReader, OpenLog, rotated};

/// Silence after which a line without newline is shown.
pub(super) const PROMPT_DELAY: Duration = Duration::from_millis(200);

impl LogReader {
    /// Sees what was written since, also in new files. Then [`LogReader::next_new`] returns it.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "silence is measured while a person waits"
    )]
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let about = std::fs::metadata(&self.path).ok();
        let Some(log) = self.files.back_mut() else {
            self.add_newer(None)?;
            self.grew = Some((0, now));
            return Ok(());
        };
        let own = log.file.metadata()?;
        let before = std::mem::replace(&mut log.length, own.len());
        match &mut log.index {
            Some(index) => index.refresh(),
            // The first line comes before its index.
            None if before < own.len() => log.index = LogIndex::open(&self.path, || own.len()),
            None => {}
        }
        let is_replaced = about.is_some_and(|about| !is_same(&about, &own));
        if own.len() < before {
            self.files.clear();
            self.position = 0;
            self.add_newer(None)?;
        } else if is_replaced {
            self.add_newer(Some(&own))?;
        }
        let is_quiet = !is_replaced && own.len() == before;
        let grew = self.grew.filter(|_| is_quiet).map_or(now, |(_, at)| at);
        self.grew = Some((
            if is_replaced {
                0
            } else {
                before.min(own.len())
            },
            grew,
        ));
        Ok(())
    }

    /// Returns the next line, also one without newline once nothing followed it for 200 ms.
    ///
    /// # Errors
    /// When the file cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "silence is measured while a person waits"
    )]
    pub(crate) fn next_new(&mut self) -> io::Result<Option<LogLine>> {
        if let Some(line) = self.next_known()? {
            return Ok(Some(line));
        }
        let silent = |at: Instant| Instant::now().duration_since(at) >= PROMPT_DELAY;
        if !self.grew.is_some_and(|(_, at)| silent(at)) {
            return Ok(None);
        }
        while let Some(line) = self.take_open() {
            if let Some(line) = self.pass(line) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Whether a line waits for its newline, or for its time.
    pub(crate) fn has_unfinished(&self) -> bool {
        let end = self.files.back().map_or(0, |log| log.length);
        self.has_open() || self.files.len() > 1 || self.position < end
    }

    /// Skips what cannot be shown in time: all but the last `most` bytes. Returns how many.
    pub(crate) fn skip_all_but(&mut self, most: u64) -> u64 {
        let ahead: u64 = self.files.iter().map(|log| log.length).sum();
        let skipped = ahead.saturating_sub(self.position).saturating_sub(most);
        if skipped == 0 {
            return 0;
        }
        while self.files.len() > 1 {
            self.files.pop_front();
        }
        let length = self.files.back().map_or(0, |log| log.length);
        self.position = length.saturating_sub(most);
        (self.open, self.other) = Default::default();
        self.open.skips = true;
        skipped
    }

    /// Opens the files that are newer than the one described; all if it is not there any more.
    fn add_newer(&mut self, than: Option<&Metadata>) -> io::Result<()> {
        let mut newer = VecDeque::new();
        for number in 0.. {
            let opened = match number {
                0 => OpenLog::open(&self.path),
                _ if than.is_none() => break,
                _ => OpenLog::open(&rotated(&self.path, number)),
            };
            let log = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                opened => opened?,
            };
            let about = log.file.metadata()?;
            if than.is_some_and(|than| is_same(than, &about)) {
                break;
            }
            newer.push_front(log);
        }
        self.files.extend(newer);
        Ok(())
    }
}

#[cfg(unix)]
pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Windows does not say: a file that is created later is another.
#[cfg(windows)]
pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.created().ok() == other.created().ok()
}
