//! Which parts of a record a failure needs: delta debugging over places.
//! Owns the search and its limit. Never knows what a place stands for.

use std::ops::Range;

/// One search.
pub(crate) struct Minimiser<'a, F> {
    /// Runs a history with the places that are kept; the failure that is searched for, or None.
    fails: &'a dyn Fn(&[bool]) -> Option<F>,
    kept: Vec<bool>,
    smallest: F,
    replays: u32,
    most: u32,
}

/// What a search found.
pub(crate) struct Minimal<F> {
    /// By place.
    pub(crate) kept: Vec<bool>,
    /// The failure of the smallest history.
    pub(crate) failure: F,
    /// Histories that were run.
    pub(crate) replays: u32,
}

impl<'a, F> Minimiser<'a, F> {
    /// Of `places` places, with at most this number of histories; None: with all places kept the
    /// history does not fail.
    pub(crate) fn new(
        places: usize,
        most: u32,
        fails: &'a dyn Fn(&[bool]) -> Option<F>,
    ) -> Option<Minimiser<'a, F>> {
        let kept = vec![true; places];
        Some(Minimiser {
            smallest: fails(&kept)?,
            fails,
            kept,
            replays: 1,
            most,
        })
    }

    /// Leaves these out, if the failure stays.
    pub(crate) fn drop_all(&mut self, places: &[usize]) -> bool {
        if places.is_empty() || self.replays >= self.most {
            return false;
        }
        let mut fewer = self.kept.clone();
        places.iter().for_each(|at| fewer[*at] = false);
        self.replays += 1;
        let failure = (self.fails)(&fewer);
        let fails = failure.is_some();
        if let Some(failure) = failure {
            (self.kept, self.smallest) = (fewer, failure);
        }
        fails
    }

    /// Leaves out as many of a range as the failure does not need.
    pub(crate) fn drop_most(&mut self, range: Range<usize>) {
        let left = |search: &Minimiser<'a, F>| {
            let places = range.clone().filter(|at| search.kept[*at]);
            places.collect::<Vec<usize>>()
        };
        let mut size = left(self).len();
        while size > 0 {
            let places = left(self);
            let mut changed = false;
            for chunk in places.chunks(size) {
                changed |= self.drop_all(chunk);
            }
            if size == 1 && changed && self.replays < self.most {
                continue;
            }
            size /= 2;
        }
    }

    /// What was found.
    pub(crate) fn finish(self) -> Minimal<F> {
        Minimal {
            kept: self.kept,
            failure: self.smallest,
            replays: self.replays,
        }
    }
}
