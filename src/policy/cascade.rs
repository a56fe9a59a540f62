//! Cascades: many modules that are given up within a window.
//! Owns the list of those that were. Never stops a module.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::mono_time::MonoTime;
use crate::spec::{Cascade, ModuleId};

/// Fewer modules than this are no cascade, whatever their share.
const CASCADE_MIN: usize = 3;

/// The modules that were given up lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct CascadeDetector {
    /// Oldest first; each module once.
    failed: VecDeque<(MonoTime, ModuleId)>,
}

impl CascadeDetector {
    /// Counts a module that was given up.
    pub(crate) fn count(&mut self, now: MonoTime, module: ModuleId) {
        self.failed.retain(|(_, other)| *other != module);
        self.failed.push_back((now, module));
    }

    /// Returns the modules of a cascade, among this number of modules, if there is one; the count
    /// begins anew then.
    pub(crate) fn take(
        &mut self,
        cascade: Cascade,
        now: MonoTime,
        modules: usize,
    ) -> Option<Vec<ModuleId>> {
        let expired = |(at, _): &mut (MonoTime, ModuleId)| at.after(cascade.window) <= now;
        while self.failed.pop_front_if(expired).is_some() {}
        let count = self.failed.len();
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are far fewer modules than a float counts"
        )]
        let is_cascade = count >= CASCADE_MIN && count as f64 > cascade.share * modules as f64;
        is_cascade.then(|| self.failed.drain(..).map(|(_, module)| module).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const SHARE: Cascade = Cascade {
        share: 0.5,
        window: Duration::from_secs(60),
    };

    fn feed(detector: &mut CascadeDetector, seconds: u64, module: u32, modules: usize) -> usize {
        let now = MonoTime(0).after(Duration::from_secs(seconds));
        detector.count(now, ModuleId(module));
        let found = detector.take(SHARE, now, modules);
        found.map_or(0, |modules| modules.len())
    }

    #[test]
    fn more_than_the_share_within_the_window_is_a_cascade() {
        let mut detector = CascadeDetector::default();
        assert_eq!(feed(&mut detector, 0, 0, 6), 0);
        assert_eq!(feed(&mut detector, 1, 1, 6), 0);
        assert_eq!(
            feed(&mut detector, 2, 2, 6),
            0,
            "half is not more than half"
        );
        assert_eq!(feed(&mut detector, 3, 2, 6), 0, "the same one again");
        assert_eq!(feed(&mut detector, 4, 3, 6), 4);
        assert_eq!(feed(&mut detector, 5, 3, 6), 0, "the count begins anew");
    }

    #[test]
    fn failures_far_apart_or_of_few_modules_are_none() {
        let mut detector = CascadeDetector::default();
        for (at, module) in (0..).zip(0..6) {
            assert_eq!(feed(&mut detector, at * 61, module, 6), 0);
        }
        let mut detector = CascadeDetector::default();
        assert_eq!(feed(&mut detector, 0, 0, 2), 0);
        assert_eq!(feed(&mut detector, 0, 1, 2), 0, "two of two");
    }
}
