//! A configuration as one document: every written value with its location, as `committed.json`.
//! Owns the format of that document, both ways.
//! Never reads the configuration files: a running plan is kept although they changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::env_file::EnvFiles;
use super::layers::Merged;
use super::lower::{Chosen, Configuration, lower};
use super::origin::{Origin, Text, Texts};
use super::problem::{PlaceKind, Problem, Problems};
use super::tree::{Entry, Node, Table, Tree};

/// The version of the format.
const VERSION: u32 = 1;

/// A configuration as a document, such as the last committed plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    version: u32,
    /// The hash of the configuration.
    pub fingerprint: String,
    config_dir: PathBuf,
    project: PathBuf,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    module_dirs: BTreeMap<String, PathBuf>,
    files: Vec<PathBuf>,
    #[serde(default)]
    tasks: BTreeSet<String>,
    env_files: EnvFiles,
    /// The sources: kind and name.
    texts: Vec<(PlaceKind, String)>,
    /// Every written value.
    said: serde_json::Value,
    /// Text and line of each value and key of `said`, in the order of a walk through it.
    origins: Vec<(u32, u32)>,
}

impl Effective {
    pub(crate) fn of(configuration: &Configuration) -> Effective {
        let merged = &configuration.merged;
        let mut origins = Vec::new();
        collect(&merged.tree, &merged.texts, &mut origins);
        let texts = merged.texts.all().iter();
        Effective {
            version: VERSION,
            fingerprint: configuration.fingerprint.clone(),
            config_dir: merged.config_dir.clone(),
            project: merged.project.clone(),
            state_dir: configuration.system.state_dir.clone(),
            runtime_dir: configuration.system.runtime_dir.clone(),
            module_dirs: merged.module_dirs.clone(),
            files: merged.files.clone(),
            tasks: merged.tasks.clone(),
            env_files: configuration.env_files.kept(),
            texts: texts.map(|text| (text.kind, text.name.clone())).collect(),
            said: to_json(&merged.tree),
            origins,
        }
    }

    /// Restores the configuration, whatever the files contain now.
    ///
    /// # Errors
    /// A document of another version, or one that this version refuses.
    pub fn restore(self) -> Result<Configuration, Problems> {
        if self.version != VERSION {
            let message = format!(
                "cannot read a committed configuration of version {}",
                self.version
            );
            return Err(Problem::new(message)
                .hint("start again with `mainstay up`")
                .into());
        }
        let mut texts = Texts::new();
        for (kind, name) in self.texts.into_iter().skip(1) {
            texts.add(Text::new(kind, name, None));
        }
        let mut origins = self.origins.into_iter();
        let tree = from_json(self.said, &mut origins);
        let merged = Merged {
            texts,
            tree,
            config_dir: self.config_dir,
            project: self.project,
            module_dirs: self.module_dirs,
            files: self.files,
            tasks: self.tasks,
        };
        let chosen = Chosen {
            state_dir: self.state_dir,
            runtime_dir: self.runtime_dir,
        };
        lower(
            merged,
            Problems::default(),
            self.env_files.closed(),
            Some(chosen),
            mainstay_policy::ModuleIds::default(),
        )
    }
}

/// A node as JSON.
pub(crate) fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Tree::Text(text) | Tree::Other(text) => text.as_str().into(),
        Tree::Whole(value) => (*value).into(),
        Tree::Number(value) => (*value).into(),
        Tree::Flag(value) => (*value).into(),
        Tree::List(list) => list.iter().map(to_json).collect(),
        Tree::Table(table) => table
            .iter()
            .map(|(key, entry)| (key.clone(), to_json(&entry.node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn collect(node: &Node, texts: &Texts, origins: &mut Vec<(u32, u32)>) {
    let pair = |origin: Origin| (origin.text, texts.line(origin));
    origins.push(pair(node.origin));
    match &node.value {
        Tree::List(list) => list.iter().for_each(|each| collect(each, texts, origins)),
        Tree::Table(table) => {
            for entry in table.values() {
                origins.push(pair(entry.key));
                collect(&entry.node, texts, origins);
            }
        }
        Tree::Text(_) | Tree::Whole(_) | Tree::Number(_) | Tree::Flag(_) | Tree::Other(_) => {}
    }
}

fn from_json(value: serde_json::Value, origins: &mut impl Iterator<Item = (u32, u32)>) -> Node {
    let origin = next(origins);
    let value = match value {
        serde_json::Value::Null => Tree::Number(f64::NAN),
        serde_json::Value::Bool(value) => Tree::Flag(value),
        serde_json::Value::Number(value) => match value.as_i64() {
            Some(value) => Tree::Whole(value),
            None => Tree::Number(value.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Tree::Text(text),
        serde_json::Value::Array(list) => Tree::List(
            list.into_iter()
                .map(|each| from_json(each, origins))
                .collect(),
        ),
        // Sorted by key, like the tree.
        serde_json::Value::Object(map) => {
            let sorted: BTreeMap<String, serde_json::Value> = map.into_iter().collect();
            let mut table = Table::new();
            for (name, value) in sorted {
                let key = next(origins);
                let node = from_json(value, origins);
                table.insert(name, Entry { key, node });
            }
            Tree::Table(table)
        }
    };
    Node { value, origin }
}

fn next(origins: &mut impl Iterator<Item = (u32, u32)>) -> Origin {
    let (text, line) = origins.next().unwrap_or_default();
    Origin {
        text,
        start: line,
        end: line,
    }
}
