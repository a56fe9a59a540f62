//! Where the newest lines of a log begin.
//! Owns how far it is searched for them.
//! Never reads forward, and never more than it must.

use std::io;

use super::OpenLog;

/// Bytes that are read at once.
const BLOCK: u64 = 64 * 1024;
/// Bytes that are searched, at most.
const SEARCHED_MAX: u64 = 64 * 1024 * 1024;

/// Looks for the beginning of the newest lines, from the end.
pub(super) struct BackwardSearch {
    left: usize,
    searched: u64,
    /// Nothing was found yet that has bytes.
    is_newest: bool,
}

impl BackwardSearch {
    pub(super) fn new(count: usize) -> BackwardSearch {
        BackwardSearch {
            left: count,
            searched: 0,
            is_newest: true,
        }
    }

    /// Returns where to begin, if that is in this file.
    pub(super) fn search(&mut self, log: &mut OpenLog) -> io::Result<Option<u64>> {
        let (mut start, mut block) = (log.length, Vec::new());
        if self.left == 0 {
            return Ok(Some(start));
        }
        while start > 0 && self.searched < SEARCHED_MAX {
            let end = start;
            start = end.saturating_sub(BLOCK);
            log.read(start, end, &mut block)?;
            self.searched += end - start;
            for at in memchr::memrchr_iter(b'\n', &block) {
                let place = start + at as u64 + 1;
                if self.is_newest && place == log.length {
                    continue; // the newline at the very end begins no line
                }
                self.left -= 1;
                if self.left == 0 {
                    return Ok(Some(place));
                }
            }
        }
        self.is_newest &= log.length == 0;
        Ok((start > 0).then_some(start))
    }
}
