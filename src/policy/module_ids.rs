//! Module ids: one slot for each instance of a module, for the life of a runtime.
//! Owns which name has which slot. It grows; a slot is never given to another module.
//! Never knows what a module is: a plan says that, and the next plan may say otherwise.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use mainstay_process::Instance;

use crate::spec::ModuleId;

#[cfg(test)]
mod tests;

/// The slots of all modules that the plans of a runtime named so far.
///
/// A plan is built against a copy. The copy replaces the original when the plan is applied, so
/// that a rejected plan leaves no trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleIds {
    instances: Vec<Instance>,
    slots: BTreeMap<Instance, ModuleId>,
}

impl ModuleIds {
    /// Returns the slot of an instance; a new one if it has none yet.
    pub fn intern(&mut self, instance: Instance) -> ModuleId {
        if let Some(id) = self.slots.get(&instance) {
            return *id;
        }
        let id = ModuleId(u32::try_from(self.instances.len()).unwrap_or(u32::MAX));
        self.instances.push(instance.clone());
        self.slots.insert(instance, id);
        id
    }

    /// Gives modules new names (`renamed_from`), as pairs of the old and the new one. All are
    /// given at once: a name that one module leaves can go to another. A name that has a slot and
    /// keeps it is not given to another slot, so that the same file can be read many times.
    pub fn rename(&mut self, renames: &[(&str, &str)]) {
        let mut renamed = vec![false; self.instances.len()];
        // A name that becomes free in one round is given in the next.
        loop {
            let mut any = false;
            for (from, to) in renames {
                any |= self.rename_one(from, to, &mut renamed);
            }
            if !any {
                break;
            }
        }
    }

    /// Renames those replicas of one module that are not `renamed`; returns whether there was one.
    fn rename_one(&mut self, from: &str, to: &str, renamed: &mut [bool]) -> bool {
        let mut any = false;
        for (slot, instance) in self.instances.iter_mut().enumerate() {
            let new_name = Instance::new(to, instance.replica());
            if renamed[slot] || instance.module() != from || self.slots.contains_key(&new_name) {
                continue;
            }
            if let Some(id) = self.slots.remove(instance) {
                *instance = new_name.clone();
                self.slots.insert(new_name, id);
                (renamed[slot], any) = (true, true);
            }
        }
        any
    }

    /// The slot of the instance called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.slots.get(name).copied()
    }

    /// The instance in a slot, under its newest name.
    #[must_use]
    pub fn instance(&self, module: ModuleId) -> Option<&Instance> {
        self.instances.get(module.index())
    }

    /// The number of slots; every id is below it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}
