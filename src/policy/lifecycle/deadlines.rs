//! One deadline a module, and which comes first.
//! Owns a binary heap that knows where everyone is, so that a deadline can be taken back.
//! Allocates when a module is added, not when a deadline is set.

use alloc::vec;
use alloc::vec::Vec;

use crate::mono_time::MonoTime;
use crate::spec::ModuleId;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// The deadlines of all modules.
#[derive(Debug, Clone)]
pub(super) struct DeadlineHeap {
    heap: Vec<(MonoTime, ModuleId)>,
    place: Vec<u32>,
}

impl DeadlineHeap {
    /// Room for one deadline for each of `len` modules.
    pub(super) fn new(len: usize) -> DeadlineHeap {
        DeadlineHeap {
            heap: Vec::with_capacity(len),
            place: vec![NOWHERE; len],
        }
    }

    /// Makes room for `slots` modules.
    pub(super) fn grow(&mut self, len: usize) {
        self.place.resize(self.place.len().max(len), NOWHERE);
    }

    /// The first deadline.
    pub(super) fn first(&self) -> Option<(MonoTime, ModuleId)> {
        self.heap.first().copied()
    }

    /// Arms the deadline of `module`, instead of the one it had.
    pub(super) fn set(&mut self, module: ModuleId, at: MonoTime) {
        self.clear(module);
        self.heap.push((at, module));
        self.sift_up(self.heap.len() - 1);
    }

    /// Takes the deadline of `module` back.
    pub(super) fn clear(&mut self, module: ModuleId) {
        let place = core::mem::replace(&mut self.place[module.index()], NOWHERE);
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sift_up(place);
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        self.set_position(at);
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child]) else {
                break;
            };
            if self.heap[at] <= self.heap[least] {
                break;
            }
            self.swap(at, least);
            at = least;
        }
        self.set_position(at);
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.set_position(one);
        self.set_position(other);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are no more than u32 modules"
    )]
    fn set_position(&mut self, at: usize) {
        if let Some((_, module)) = self.heap.get(at) {
            self.place[module.index()] = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_first_deadline_is_always_known() {
        let (mut alarms, mut model, mut seed) = (DeadlineHeap::new(50), BTreeMap::new(), 1);
        for _ in 0..50_000 {
            seed = crate::backoff::splitmix64(seed);
            let module = ModuleId(u32::try_from(seed % 50).expect("small"));
            if (seed >> 32).is_multiple_of(3) {
                alarms.clear(module);
                model.remove(&module);
            } else {
                let at = MonoTime((seed >> 40) % 100);
                alarms.set(module, at);
                model.insert(module, at);
            }
            let first = model.iter().map(|(module, at)| (*at, *module)).min();
            assert_eq!(alarms.first(), first);
        }
    }
}
