//! A value for each module, by id, shared by all threads.
//! Owns the values; it grows with the slots of the plan and never shrinks.
//! Never blocks a reader: reading loads a pointer, growing swaps one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_policy::ModuleId;

/// One `T` for each slot.
#[derive(Debug)]
pub(crate) struct SlotStore<T>(ArcSwap<Vec<Arc<T>>>);

impl<T> SlotStore<T> {
    /// A store of `slots` values.
    pub(crate) fn new(slots: usize, make: impl Fn(ModuleId) -> T) -> SlotStore<T> {
        let store = SlotStore(ArcSwap::default());
        store.grow(slots, make);
        store
    }

    /// Adds values until there are `slots`. Only one thread grows a store at a time.
    pub(crate) fn grow(&self, slots: usize, make: impl Fn(ModuleId) -> T) {
        let old = self.0.load();
        let ids = (0_u32..).map(ModuleId).take(slots).skip(old.len());
        let new = ids.map(|id| Arc::new(make(id)));
        self.0
            .store(Arc::new(old.iter().cloned().chain(new).collect()));
    }

    /// The value of a module.
    pub(crate) fn get(&self, module: ModuleId) -> Arc<T> {
        Arc::clone(&self.0.load()[module.index()])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn growing_keeps_what_is_there() {
        let store = SlotStore::new(1, |_| AtomicU32::new(0));
        store.get(ModuleId(0)).store(7, Ordering::Relaxed);
        store.grow(3, |id| AtomicU32::new(id.0));
        let read = |id| store.get(ModuleId(id)).load(Ordering::Relaxed);
        assert_eq!([read(0), read(1), read(2)], [7, 1, 2]);
        store.grow(2, |_| AtomicU32::new(9));
        assert_eq!([read(0), read(2)], [7, 2]);
    }
}
