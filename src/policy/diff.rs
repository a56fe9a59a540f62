//! What one plan changes in another: modules that are new, gone or different, and how much.
//! Owns the classes of a change, and which dependents a change takes along.
//! Never compares keys of the configuration: it is given what those of each module come to.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::lifecycle::ChangeClass;
use crate::plan::Plan;
use crate::spec::ModuleId;

#[cfg(test)]
mod tests;

/// What a changed key does to a module that runs, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyClass {
    /// Applied in place.
    Live,
    /// The module is notified and may apply it itself.
    Notify,
    /// The module, or mainstay itself, is restarted.
    Restart,
    /// The module and its dependents are restarted.
    RestartDependents,
}

impl KeyClass {
    /// As in the reference page and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyClass::Live => "live",
            KeyClass::Notify => "notify",
            KeyClass::Restart => "restart",
            KeyClass::RestartDependents => "restart_dependents",
        }
    }
}

/// How a module differs between two plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its keys differ, of this class at most.
    Changed(KeyClass),
    /// Nothing of it differs; it is restarted because this one, which it requires, is.
    TakenAlong(ModuleId),
}

impl Difference {
    /// What becomes of a run.
    #[must_use]
    pub fn class(self) -> ChangeClass {
        match self {
            Difference::Added => ChangeClass::Added,
            Difference::Removed => ChangeClass::Removed,
            Difference::Changed(KeyClass::Live | KeyClass::Notify) => ChangeClass::Live,
            Difference::Changed(KeyClass::Restart | KeyClass::RestartDependents)
            | Difference::TakenAlong(_) => ChangeClass::Restart,
        }
    }
}

/// Compares two plans. `keys` has the class of the most far-reaching key that differs, of each
/// module with one. What is gone comes first, in stop order; then the others in start order. A
/// module that does not differ is not in the result.
#[must_use]
pub fn diff(from: &Plan, to: &Plan, keys: &[(ModuleId, KeyClass)]) -> Vec<(ModuleId, Difference)> {
    let keys: BTreeMap<ModuleId, KeyClass> = keys.iter().copied().collect();
    let mut changes: BTreeMap<ModuleId, Difference> = BTreeMap::new();
    for id in to.ids() {
        let difference = match (from.get(id), to.get(id), keys.get(&id)) {
            (None, _, _) => Difference::Added,
            (Some(_), _, Some(class)) => Difference::Changed(*class),
            // A name, or a slot that a dependency left: no key of its own differs.
            (Some(before), Some(after), None) if before != after => {
                Difference::Changed(KeyClass::Live)
            }
            _ => continue,
        };
        changes.insert(id, difference);
    }
    for (id, class) in keys {
        if class == KeyClass::RestartDependents && to.has(id) && from.has(id) {
            take_along(to, id, &mut changes);
        }
    }
    let gone = from.order().iter().rev().filter(|id| !to.has(**id));
    let gone = gone.map(|id| (*id, Difference::Removed));
    let stay = to.order().iter();
    let stay = stay.filter_map(|id| changes.get(id).map(|difference| (*id, *difference)));
    gone.chain(stay).collect()
}

/// Restarts what requires `module`, unless it is new or restarted for a reason of its own.
fn take_along(plan: &Plan, module: ModuleId, changes: &mut BTreeMap<ModuleId, Difference>) {
    for dependent in plan.dependents(module).iter().filter(|each| each.hard) {
        let change = changes
            .entry(dependent.from)
            .or_insert(Difference::TakenAlong(module));
        if change.class() == ChangeClass::Live {
            *change = Difference::TakenAlong(module);
        }
    }
}
