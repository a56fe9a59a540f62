//! A configuration as one document: every written value with its location, as `committed.json`.
//! Owns the format of that document, both ways.
//! Never reads the configuration files: a running plan is kept although they changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mainstay_policy::ModuleIds;
use serde::{Deserialize, Serialize};

use super::env_file::EnvFiles;
use super::layers::MergedLayers;
use super::lower::{Configuration, FixedValues, lower};
use super::origin::{Origin, SourceMap, SourceText};
use super::overrides::apply_runtime_layer;
use super::problem::{LayerKind, Problem, Problems};
use super::runtime_layer::RuntimeValue;
use super::slots::{Base, SlotRule};
use super::tree::{KeyTable, Node, TableEntry, TreeValue};

/// The version of the format.
const VERSION: u32 = 2;

/// A configuration as a document, such as the last committed plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommittedConfig {
    version: u32,
    /// The hash of the configuration.
    pub fingerprint: String,
    config_dir: PathBuf,
    project: PathBuf,
    fixed: FixedValues,
    module_dirs: BTreeMap<String, PathBuf>,
    files: Vec<PathBuf>,
    #[serde(default)]
    tasks: BTreeSet<String>,
    /// What the holder calls the modules that were renamed while it runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    instances: BTreeMap<String, String>,
    env_files: EnvFiles,
    /// What `config set` said.
    #[serde(default)]
    overrides: Vec<RuntimeValue>,
    /// The sources: kind and name.
    texts: Vec<(LayerKind, String)>,
    /// The text of those that are one value, by their place in `texts`.
    #[serde(default)]
    raw: BTreeMap<usize, String>,
    /// Every written value.
    values: serde_json::Value,
    /// Text and line of each value and key of `values`, in the order of a walk through it.
    origins: Vec<(u32, u32)>,
}

impl Configuration {
    /// The files that are there and have nothing in them: perhaps one is being written.
    pub(crate) fn empty_files(&self) -> Vec<&str> {
        let texts = self.merged.texts.all().iter();
        let texts = texts.filter(|text| text.kind == LayerKind::File);
        let empty = texts.filter(|text| text.content.as_deref() == Some(""));
        empty.map(|text| text.name.as_str()).collect()
    }

    /// What is odd, although it can run: for the person who starts it.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.merged.warnings
    }

    /// What the holder calls each module that has another name by now.
    fn renamed_instances(&self) -> BTreeMap<String, String> {
        let modules = self.modules.iter();
        let pairs = modules.filter_map(|(spec, _)| {
            let instance = self.ids.instance(spec.id)?;
            (**instance != *spec.name).then(|| (spec.name.clone(), instance.to_string()))
        });
        pairs.collect()
    }

    pub(crate) fn fixed(&self) -> FixedValues {
        FixedValues {
            name: self.system.name.clone(),
            state_dir: self.system.state_dir.clone(),
            runtime_dir: self.system.runtime_dir.clone(),
            log_dir: self.system.logs.directory.clone(),
        }
    }
}

impl CommittedConfig {
    pub(crate) fn of(configuration: &Configuration) -> CommittedConfig {
        let merged = &configuration.merged;
        let mut origins = Vec::new();
        let tree = merged.below.as_ref().unwrap_or(&merged.tree);
        collect(tree, &merged.texts, &mut origins);
        let texts = merged.texts.all().iter();
        let texts = texts.filter(|text| text.kind != LayerKind::Override);
        let raw = texts.clone().enumerate().filter_map(|(place, text)| {
            let is_file = text.kind == LayerKind::File;
            Some((place, text.content.clone().filter(|_| !is_file)?))
        });
        CommittedConfig {
            overrides: merged.overrides.clone(),
            raw: raw.collect(),
            version: VERSION,
            fingerprint: configuration.fingerprint.clone(),
            config_dir: merged.config_dir.clone(),
            project: merged.project.clone(),
            fixed: configuration.fixed(),
            module_dirs: merged.module_dirs.clone(),
            files: merged.files.clone(),
            tasks: merged.tasks.clone(),
            instances: configuration.renamed_instances(),
            env_files: configuration.env_files.snapshot(),
            texts: texts.map(|text| (text.kind, text.name.clone())).collect(),
            values: to_json(tree),
            origins,
        }
    }

    /// The folder of the files that it was read from.
    pub(crate) fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// Whether it has just these tasks of an application.
    pub(crate) fn has_tasks(&self, tasks: &[String]) -> bool {
        self.tasks == tasks.iter().cloned().collect()
    }

    /// The folder of a module that it had, if `now` has none of that name.
    pub(crate) fn lost_folder(&self, now: &Configuration) -> Option<&Path> {
        let mut dirs = self.module_dirs.iter();
        let lost = dirs.find(|(name, _)| !now.merged.module_dirs.contains_key(*name));
        lost.map(|(_, folder)| folder.as_path())
    }

    /// What `config set` said.
    pub(crate) fn overrides(&self) -> &[RuntimeValue] {
        &self.overrides
    }

    /// The modules that were renamed while the holder ran, each with what the holder called it.
    #[must_use]
    pub fn instances(&self) -> &BTreeMap<String, String> {
        &self.instances
    }

    /// The same for the start of another holder, which calls modules by their names.
    pub(crate) fn for_new_holder(mut self) -> CommittedConfig {
        self.instances.clear();
        self
    }

    /// Restores the configuration, whatever the files contain now.
    ///
    /// # Errors
    /// A document of another version, or one that this version refuses.
    pub fn restore(self) -> Result<Configuration, Problems> {
        self.restore_onto(ModuleIds::default())
    }

    /// The same to follow a configuration that runs: modules that had a slot keep it, and what only
    /// a start can change stays as it is.
    ///
    /// # Errors
    /// As [`CommittedConfig::restore`].
    pub(crate) fn restore_for(
        mut self,
        running: &Configuration,
    ) -> Result<Configuration, Problems> {
        self.fixed = running.fixed();
        // What another holder called a module leads to none of this one.
        let is_known = |_: &String, it: &mut String| running.ids.find_instance(it).is_some();
        self.instances.retain(is_known);
        self.restore_onto(running.ids.clone())
    }

    /// The same; modules that have a slot in `ids` keep it.
    ///
    /// # Errors
    /// As [`CommittedConfig::restore`].
    pub fn restore_onto(self, ids: ModuleIds) -> Result<Configuration, Problems> {
        if self.version != VERSION {
            let message = format!(
                "cannot read a committed configuration of version {}",
                self.version
            );
            return Err(Problem::new(message)
                .hint("start again with `mainstay up`")
                .into());
        }
        let mut texts = SourceMap::new();
        for (place, (kind, name)) in self.texts.into_iter().enumerate().skip(1) {
            let raw = self.raw.get(&place).cloned();
            texts.add(SourceText::new(kind, name, raw));
        }
        let raw: BTreeSet<usize> = self.raw.keys().copied().collect();
        let mut origins = self.origins.into_iter().map(|(text, number)| Origin {
            text,
            start: if raw.contains(&(text as usize)) {
                0
            } else {
                number
            },
            end: number,
        });
        let tree = from_json(self.values, &mut origins);
        let mut merged = MergedLayers {
            texts,
            tree,
            config_dir: self.config_dir,
            project: self.project,
            module_dirs: self.module_dirs,
            files: self.files,
            tasks: self.tasks,
            overrides: Vec::new(),
            below: None,
            consulted: BTreeSet::new(),
            warnings: Vec::new(),
        };
        let mut problems = Problems::default();
        apply_runtime_layer(self.overrides, &mut merged, &mut problems);
        lower(
            merged,
            problems,
            self.env_files.frozen(),
            Base {
                fixed: Some(self.fixed),
                ids,
                slots: SlotRule::Instances(self.instances),
            },
        )
    }
}

/// A node as JSON.
pub(crate) fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        TreeValue::Text(text) | TreeValue::Other(text) => text.as_str().into(),
        TreeValue::Whole(value) => (*value).into(),
        TreeValue::Number(value) => (*value).into(),
        TreeValue::Flag(value) => (*value).into(),
        TreeValue::List(list) => list.iter().map(to_json).collect(),
        TreeValue::Table(table) => table
            .iter()
            .map(|(key, entry)| (key.clone(), to_json(&entry.node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn collect(node: &Node, texts: &SourceMap, origins: &mut Vec<(u32, u32)>) {
    let pair = |origin: Origin| match texts.raw(origin) {
        // The text is one value: its end says whether the node is all of it.
        Some(_) => (origin.text, origin.end),
        None => (origin.text, texts.line(origin)),
    };
    origins.push(pair(node.origin));
    match &node.value {
        TreeValue::List(list) => list.iter().for_each(|each| collect(each, texts, origins)),
        TreeValue::Table(table) => {
            for entry in table.values() {
                origins.push(pair(entry.key));
                collect(&entry.node, texts, origins);
            }
        }
        TreeValue::Text(_)
        | TreeValue::Whole(_)
        | TreeValue::Number(_)
        | TreeValue::Flag(_)
        | TreeValue::Other(_) => {}
    }
}

fn from_json(value: serde_json::Value, origins: &mut impl Iterator<Item = Origin>) -> Node {
    let origin = origins.next().unwrap_or_default();
    let value = match value {
        serde_json::Value::Null => TreeValue::Number(f64::NAN),
        serde_json::Value::Bool(value) => TreeValue::Flag(value),
        serde_json::Value::Number(value) => match value.as_i64() {
            Some(value) => TreeValue::Whole(value),
            None => TreeValue::Number(value.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => TreeValue::Text(text),
        serde_json::Value::Array(list) => TreeValue::List(
            list.into_iter()
                .map(|each| from_json(each, origins))
                .collect(),
        ),
        // Sorted by key, like the tree.
        serde_json::Value::Object(map) => {
            let sorted: BTreeMap<String, serde_json::Value> = map.into_iter().collect();
            let mut table = KeyTable::new();
            for (name, value) in sorted {
                let key = origins.next().unwrap_or_default();
                let node = from_json(value, origins);
                table.insert(name, TableEntry { key, node });
            }
            TreeValue::Table(table)
        }
    };
    Node { value, origin }
}
