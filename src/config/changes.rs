//! What differs between two configurations, key by key, with the class of each key.
//! Owns the comparison: by what the values come to, never by how they are written.
//! Never decides what becomes of a module: `policy::diff` does.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_policy::{ModuleId, ModuleSpec};

use super::hints::key_path;
use super::launch::LaunchSpec;
use super::lower::Configuration;
use super::schema::{FromConfig, KeyChanges, KeyClass};
use super::tree::Node;

/// A module before and after.
type ModulePair<'a> = (
    &'a (Arc<ModuleSpec>, LaunchSpec),
    &'a (Arc<ModuleSpec>, LaunchSpec),
);

/// Comparing so many modules takes about a millisecond: more than starting a thread.
const PAIRS_A_THREAD: usize = 256;

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// For instance `module.storage.command`.
    pub path: String,
    /// What the change does to what runs.
    pub class: KeyClass,
}

/// The keys in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Those of the system.
    pub system: Vec<KeyChange>,
    /// Those of the modules that both have, by slot.
    pub modules: Vec<(ModuleId, Vec<KeyChange>)>,
}

impl ConfigChanges {
    /// The class of the most far-reaching key of each module.
    #[must_use]
    pub fn classes(&self) -> Vec<(ModuleId, KeyClass)> {
        let class = |keys: &[KeyChange]| keys.iter().map(|key| key.class).max();
        let modules = self.modules.iter();
        modules
            .map(|(id, keys)| (*id, class(keys).unwrap_or(KeyClass::Live)))
            .collect()
    }
}

impl Configuration {
    /// Compares with the configuration that is to follow.
    #[must_use]
    pub fn changes_to(&self, next: &Configuration) -> ConfigChanges {
        let pairs = next.modules.iter().filter_map(|after| {
            let before = self.module(after.0.id)?;
            (before != after).then_some((before, after))
        });
        let pairs: Vec<_> = pairs.collect();
        let (former, newest) = (self.read_again(), next.read_again());
        let mut found = KeyChanges::default();
        former.system.differ(&newest.system, &mut found);
        let mut changes = ConfigChanges {
            system: named(&[], found),
            modules: Vec::with_capacity(pairs.len()),
        };
        for section in ["features", "group", "secrets"] {
            changes.system.extend(self.named_changes(section, next));
        }
        let parts = pairs.len().div_ceil(PAIRS_A_THREAD);
        let parts = std::thread::available_parallelism().map_or(1, |most| most.get().min(parts));
        let mut parts = pairs.chunks(pairs.len().div_ceil(parts.max(1)).max(1));
        let first = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let others = parts.map(|part| {
                let compare = move || self.changes_of(next, part);
                (
                    part,
                    std::thread::Builder::new().spawn_scoped(scope, compare),
                )
            });
            let others: Vec<_> = others.collect();
            changes.modules.extend(self.changes_of(next, first));
            for (part, other) in others {
                // Where no thread can be made, or one was lost, it is done here.
                let found = other.ok().and_then(|thread| thread.join().ok());
                let found = found.unwrap_or_else(|| self.changes_of(next, part));
                changes.modules.extend(found);
            }
        });
        changes
    }

    /// The keys in which modules differ, before and after.
    fn changes_of(
        &self,
        next: &Configuration,
        pairs: &[ModulePair<'_>],
    ) -> Vec<(ModuleId, Vec<KeyChange>)> {
        let (mut former, mut newest) = (self.read_again(), next.read_again());
        let is_alike = former.is_like(&newest);
        let changes = pairs.iter().map(|(before, after)| {
            let mut found = KeyChanges::default();
            let names = (&*before.0.name, &*after.0.name);
            let [one, other] = former.differing(names, &mut newest, is_alike);
            one.differ(&other, &mut found);
            // Every key is written as before: it is what an env file says.
            if before.1.env != after.1.env && !found.has("env") && !found.has("env_file") {
                found.found.push((vec!["env_file"], KeyClass::Restart));
            }
            // The same names: it is their values that differ.
            let has_secrets = found.has("secrets") || found.has("secret_env");
            if before.1.secrets != after.1.secrets && !has_secrets {
                found.found.push((vec!["secrets"], KeyClass::Restart));
            }
            // The list of probes is live, but the environment of a run tells it of its watchdog.
            if before.0.watchdog != after.0.watchdog {
                let path = vec!["health", "probes", "watchdog"];
                found.found.push((path, KeyClass::Restart));
            }
            (after.0.id, named(&["module", &after.0.name], found))
        });
        changes.collect()
    }

    fn named_changes(&self, section: &str, next: &Configuration) -> Vec<KeyChange> {
        let names = [self, next].map(|one| one.merged.tree.at(&[section]).and_then(Node::as_table));
        let names = names.into_iter().flatten().flatten();
        let names: BTreeSet<&String> = names.map(|(name, _)| name).collect();
        let value = |one: &Configuration, name: &str| one.written_value(&[section, name]);
        let differing = names.into_iter();
        let differing = differing.filter(|name| value(self, name) != value(next, name));
        let change = |name: &String| KeyChange {
            path: key_path(&[section, name]),
            class: KeyClass::Live,
        };
        differing.map(change).collect()
    }
}

fn named(below: &[&str], changes: KeyChanges) -> Vec<KeyChange> {
    let named = changes.found.into_iter().map(|(path, class)| KeyChange {
        path: key_path(&[below, &path].concat()),
        class,
    });
    named.collect()
}
