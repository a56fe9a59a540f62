//! The slots of the modules of a configuration that follows another one.
//! Owns how a module finds the slot that it had: by name, by `renamed_from`, or by its instance.
//! Never decides what becomes of a slot without a module.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_policy::ModuleIds;
use mainstay_process::Instance;

use super::lower::{Configuration, FixedValues, ParsedModule};

/// What a configuration takes over from an earlier one.
#[derive(Default)]
pub(crate) struct Base<'a> {
    /// What only a start can change; none: this is a start.
    pub(crate) fixed: Option<FixedValues>,
    /// The slots so far.
    pub(crate) ids: ModuleIds,
    pub(crate) slots: SlotRule<'a>,
}

/// How modules find the slots that they had.
#[derive(Default)]
pub(crate) enum SlotRule<'a> {
    /// By their names.
    #[default]
    Named,
    /// By the names that they have in this configuration, which is in force, or by
    /// `renamed_from`.
    Renamed(&'a Configuration),
    /// By what the holder calls them: its own name, or the one here.
    Instances(BTreeMap<String, String>),
}

impl Base<'_> {
    /// Gives each module its slot.
    pub(crate) fn assign_slots(self, read: &[ParsedModule<'_>]) -> ModuleIds {
        let mut ids = self.ids;
        if let SlotRule::Renamed(running) = &self.slots {
            let renames = read.iter().filter_map(|each| {
                let from = each.module.renamed_from.as_ref()?;
                Some((from.text.as_str(), each.name))
            });
            let renames: Vec<(&str, &str)> = renames.collect();
            ids.rename(&renames, |id| running.module(id).is_some());
        }
        for each in read {
            let name = Instance::new(each.name, 1);
            let _slot = match &self.slots {
                SlotRule::Instances(instances) => {
                    let instance = instances.get(each.name);
                    let instance = instance.map_or(name.clone(), |it| Instance::new(it, 1));
                    ids.intern_as(name, instance)
                }
                SlotRule::Named | SlotRule::Renamed(_) => ids.intern(name),
            };
        }
        ids
    }
}

impl Configuration {
    /// The same configuration with the slots that there are by now; its modules keep theirs, and
    /// have the names again that they have in it.
    pub(crate) fn with_ids(mut self, ids: ModuleIds) -> Configuration {
        self.by_slot.resize(ids.len(), None);
        self.ids = ids;
        let modules = self.modules.iter();
        self.ids
            .restore_names(modules.map(|(spec, _)| (spec.id, &*spec.name)));
        self
    }

    /// This configuration, and the modules that only `former` has.
    pub(crate) fn with_modules_of(mut self, former: &Configuration) -> Configuration {
        let gone = former.modules.iter();
        let gone = gone.filter(|(spec, _)| self.module(spec.id).is_none());
        let mut gone: Vec<_> = gone.cloned().collect();
        for (spec, _) in &mut gone {
            // A name that another module has by now; no configuration can have the one it gets.
            if self
                .modules
                .iter()
                .any(|(other, _)| other.name == spec.name)
            {
                Arc::make_mut(spec).name += ".removed";
            }
        }
        self.modules.extend(gone);
        self.modules
            .sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        for (place, (spec, _)) in self.modules.iter().enumerate() {
            self.by_slot[spec.id.index()] = Some(place);
        }
        self
    }
}
