//! Module ids: one slot for each instance of a module, for the life of a runtime.
//! Owns which name has which slot, and what the holder calls it. A slot is never given away.
//! Never knows what a module is: a plan says that, and the next plan may say otherwise.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use mainstay_process::Instance;

use crate::spec::ModuleId;

#[cfg(test)]
mod tests;

/// The slots of all modules that the plans of a runtime named so far.
///
/// A slot has a name, which a plan can change (`renamed_from`), and an instance: what the holder
/// calls it. The instance is the first name of the slot and stays as long as the holder runs, so
/// that a running process, its sockets and its log file need not follow a rename.
///
/// A plan is built against a copy. The copy replaces the original when the plan is applied, so
/// that a rejected plan leaves no trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleIds {
    /// By slot: the newest name, and the instance.
    slots: Vec<(Instance, Instance)>,
    by_name: BTreeMap<Instance, ModuleId>,
    by_instance: BTreeMap<Instance, ModuleId>,
}

impl ModuleIds {
    /// Returns the slot of a name; a new one if it has none yet.
    pub fn intern(&mut self, name: Instance) -> ModuleId {
        match self.by_name.get(&name) {
            Some(id) => *id,
            None => {
                let instance = self.free_instance(&name);
                self.add(name, instance)
            }
        }
    }

    /// Returns the slot of an instance, which gets this name; a new slot if there is none yet.
    pub fn intern_as(&mut self, name: Instance, instance: Instance) -> ModuleId {
        match self.by_instance.get(&instance).copied() {
            Some(id) => {
                self.set_name(id, name);
                id
            }
            None => self.add(name, instance),
        }
    }

    fn add(&mut self, name: Instance, instance: Instance) -> ModuleId {
        let id = ModuleId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.by_name.insert(name.clone(), id);
        self.by_instance.insert(instance.clone(), id);
        self.slots.push((name, instance));
        id
    }

    /// An instance for a new slot of this name: another slot may have had the name first.
    fn free_instance(&self, name: &Instance) -> Instance {
        let numbered = (2_u32..).map(|number| format!("{}.{number}", name.module()));
        let others = numbered.map(|module| Instance::new(&module, name.replica()));
        let mut candidates = core::iter::once(name.clone()).chain(others);
        let free = candidates.find(|one| !self.by_instance.contains_key(one));
        free.unwrap_or_else(|| name.clone())
    }

    /// Gives modules new names (`renamed_from`), as pairs of the old and the new one. All are
    /// given at once: a name that one module leaves can go to another. A name is given only to a
    /// module that is `planned`, and never taken from one, so that the same file can be read many
    /// times.
    pub fn rename(&mut self, renames: &[(&str, &str)], planned: impl Fn(ModuleId) -> bool) {
        let mut renamed = vec![false; self.slots.len()];
        // A name that becomes free in one round is given in the next.
        loop {
            let mut any = false;
            for (from, to) in renames {
                any |= self.rename_one(from, to, &planned, &mut renamed);
            }
            if !any {
                break;
            }
        }
    }

    /// Renames those replicas of one module that are not `renamed`; returns whether there was one.
    fn rename_one(
        &mut self,
        from: &str,
        to: &str,
        planned: impl Fn(ModuleId) -> bool,
        renamed: &mut [bool],
    ) -> bool {
        let mut any = false;
        for (id, slot) in (0_u32..).map(ModuleId).zip(0..self.slots.len()) {
            let name = &self.slots[slot].0;
            if renamed[slot] || name.module() != from || self.find(name) != Some(id) {
                continue;
            }
            let new_name = Instance::new(to, name.replica());
            if planned(id) && !self.find(&new_name).is_some_and(&planned) {
                self.set_name(id, new_name);
                (renamed[slot], any) = (true, true);
            }
        }
        any
    }

    /// Names modules again as an earlier plan did.
    pub fn restore_names<'a>(&mut self, names: impl IntoIterator<Item = (ModuleId, &'a str)>) {
        for (id, name) in names {
            self.set_name(id, Instance::new(name, 1));
        }
    }

    /// A slot that had the name before has none then, until it is named again.
    fn set_name(&mut self, module: ModuleId, name: Instance) {
        let Some((former, _)) = self.slots.get_mut(module.index()) else {
            return;
        };
        let former = core::mem::replace(former, name.clone());
        if self.by_name.get(&former) == Some(&module) {
            self.by_name.remove(&former);
        }
        self.by_name.insert(name, module);
    }

    /// The slot of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.by_name.get(name).copied()
    }

    /// The slot that the holder calls by this instance.
    #[must_use]
    pub fn find_instance(&self, instance: &str) -> Option<ModuleId> {
        self.by_instance.get(instance).copied()
    }

    /// The newest name of a slot.
    #[must_use]
    pub fn name(&self, module: ModuleId) -> Option<&Instance> {
        Some(&self.slots.get(module.index())?.0)
    }

    /// What the holder calls a slot.
    #[must_use]
    pub fn instance(&self, module: ModuleId) -> Option<&Instance> {
        Some(&self.slots.get(module.index())?.1)
    }

    /// The number of slots; every id is below it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
