//! Which duplicates the runtime has: what was sent of each instance, and what has changed since.
//! Owns the bound of how many there are.
//! Never makes a duplicate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// The number under which all that belongs to no instance is sent.
pub(crate) const BASE: u32 = 0;
/// The same of the state of the runtime's supervision, which changes more often.
pub(crate) const SUPERVISION: u32 = u32::MAX;
/// Descriptors that are left to the runtime of those it may have open.
const OWN_FDS: usize = 512;

/// What a runtime was sent, while it is to have duplicates.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// What was sent of each: a sum of it, and how many descriptors.
    pub(crate) sent: HashMap<u32, (u64, usize)>,
    pub(crate) changed: BTreeSet<u32>,
    /// Requests that were performed, and of how many of them the runtime knows.
    pub(crate) performed: u64,
    pub(crate) told: u64,
    /// Where the thread of sd_notify sends its part.
    pub(crate) notify: Option<OwnedFd>,
    fds: usize,
    fds_max: usize,
}

impl Mirror {
    /// `number`: of the request for it.
    pub(crate) fn new(number: u64, open_files: u64) -> Mirror {
        let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
        Mirror {
            sent: HashMap::new(),
            changed: BTreeSet::new(),
            performed: number,
            told: number,
            notify: None,
            fds: 0,
            fds_max: open_files.saturating_sub(OWN_FDS) / 2,
        }
    }

    /// Whether this is to be sent. None: with it, there would be too many descriptors.
    pub(crate) fn note(&mut self, id: u32, sum: u64, fds: usize) -> Option<bool> {
        let before = self.sent.insert(id, (sum, fds));
        let count = before.map_or(0, |(_, fds)| fds);
        self.fds = self.fds - count + fds;
        (self.fds <= self.fds_max).then_some(before.is_none_or(|(before, _)| before != sum))
    }

    /// Whether there was anything to drop.
    pub(crate) fn forget(&mut self, id: u32) -> bool {
        let before = self.sent.remove(&id);
        self.fds -= before.map_or(0, |(_, fds)| fds);
        before.is_some()
    }
}

/// What a holder has to do for its successor, and as one.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    pub(crate) mirror: Option<Mirror>,
    /// Processes of an earlier holder that have ended and are not reaped by whose children they
    /// are now: until when that is waited for.
    pub(crate) unreaped: BTreeMap<u32, Instant>,
    /// This holder has started only a part of what runs.
    pub(crate) is_successor: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_is_not_sent_again_and_no_more_than_the_runtime_can_have() {
        let mut mirror = Mirror::new(0, 512 + 20);
        assert_eq!(mirror.note(1, 7, 6), Some(true));
        assert_eq!(mirror.note(1, 7, 6), Some(false));
        assert_eq!(mirror.note(1, 8, 4), Some(true));
        assert_eq!(mirror.note(2, 8, 6), Some(true));
        assert_eq!(mirror.note(3, 8, 1), None);
        assert!(mirror.forget(2) && !mirror.forget(2));
        assert_eq!(mirror.note(4, 8, 5), Some(true));
    }
}
