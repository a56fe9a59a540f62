//! Lowers the merged tree to a configuration that can run, along the schema.
//! Owns the sections and the checks between them.
//! Never reads a layer: `layers` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_policy::graph::DependencyGraph;
use mainstay_policy::spec::{ModuleSpec, SystemSpec};
use mainstay_policy::{ModuleId, ModuleIds};
use mainstay_process::Instance;
use sha2::{Digest, Sha256};

use super::across;
use super::effective::Effective;
use super::env_file::EnvFiles;
use super::folders::plain;
use super::launch::{Ipc, Launch, Logs, System};
use super::layers::{Merged, gather};
use super::lower_module::{lower_module, lower_recovery};
use super::places;
use super::problem::{Place, Problem, Problems};
use super::reading::Reading;
use super::schema::module::Module;
use super::schema::values::{Filled, is_name};
use super::schema::{Form, Value, root, system};
use super::sources::Sources;
use super::tree::{Entry, Node, Table, Tree};

/// The name of the runtime on the bus and in the log folder.
const RESERVED: &str = "mainstay";

/// The builtin of every system.
pub const EVENT_BUS: &str = "event-bus";

/// A configuration that can run.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The system's values that policy does not need.
    pub system: System,
    /// The system's values for policy.
    pub system_spec: SystemSpec,
    /// The modules by name, the builtin among them.
    pub modules: Vec<(Arc<ModuleSpec>, Launch)>,
    /// The slots of all modules so far, those of this configuration among them.
    pub ids: ModuleIds,
    /// Where in `modules` each slot is.
    by_slot: Vec<Option<usize>>,
    /// SHA-256 over all written values, without comments and the order of keys.
    pub fingerprint: String,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    graph: DependencyGraph,
    /// The written values and their origins.
    pub(crate) merged: Merged,
    pub(crate) env_files: EnvFiles,
}

impl Configuration {
    /// Returns the waves, in start order.
    #[must_use]
    pub fn waves(&self) -> Vec<Vec<&str>> {
        let mut waves: Vec<Vec<&str>> = Vec::new();
        for id in self.graph.order() {
            let wave = self.graph.wave(*id) as usize;
            if waves.len() <= wave {
                waves.resize(wave + 1, Vec::new());
            }
            waves[wave].extend(self.module(*id).map(|(spec, _)| spec.name.as_str()));
        }
        waves
    }

    /// The module in a slot, if this configuration has one there.
    #[must_use]
    pub fn module(&self, module: ModuleId) -> Option<&(Arc<ModuleSpec>, Launch)> {
        let place = self.by_slot.get(module.index()).copied().flatten()?;
        self.modules.get(place)
    }

    /// Returns the location of the value at `path`; none for a default.
    #[must_use]
    pub fn place(&self, path: &[&str]) -> Option<Place> {
        let node = self.merged.tree.at(path)?;
        self.merged.texts.place(node.origin)
    }

    /// Returns the written value at `path` as JSON; none if it is not written.
    #[must_use]
    pub fn said(&self, path: &[&str]) -> Option<serde_json::Value> {
        self.merged.tree.at(path).map(super::effective::to_json)
    }

    /// Returns the document from which the same configuration can be restored.
    #[must_use]
    pub fn effective(&self) -> Effective {
        Effective::of(self)
    }
}

/// Reads a configuration.
///
/// # Errors
/// All problems of it.
pub fn load(sources: &Sources) -> Result<Configuration, Problems> {
    load_onto(sources, ModuleIds::default())
}

/// Reads a configuration that follows another: modules that had a slot keep it.
///
/// # Errors
/// All problems of it.
pub fn load_onto(sources: &Sources, ids: ModuleIds) -> Result<Configuration, Problems> {
    let (merged, problems) = gather(sources);
    lower(merged, problems, EnvFiles::default(), None, ids)
}

/// The directories that an earlier process chose.
pub(crate) struct Chosen {
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
}

/// The sections of the system.
#[derive(Default)]
struct Sections {
    mainstay: system::Mainstay,
    health: system::Health,
    recovery: system::SystemRecovery,
    resources: system::Resources,
    ipc: system::Ipc,
    logs: system::Logs,
}

/// A module after reading.
pub(crate) struct Read<'a> {
    pub(crate) name: &'a str,
    /// The location of its name; none for the builtin.
    pub(crate) entry: Option<&'a Entry>,
    pub(crate) module: Module,
}

pub(crate) fn lower(
    merged: Merged,
    problems: Problems,
    mut env_files: EnvFiles,
    chosen: Option<Chosen>,
    mut ids: ModuleIds,
) -> Result<Configuration, Problems> {
    let damaged = !problems.is_empty();
    let mut at = Reading::new(&merged.texts, problems);
    at.variables.project = text_of(&merged.project);
    let empty = Table::new();
    let table = merged.tree.as_table().unwrap_or(&empty);
    let mut sections = read_sections(table, &mut at);
    let (state_dir, runtime_dir) = folders(&sections.mainstay, &merged.project, chosen, &mut at);
    at.variables.state_dir = text_of(&state_dir);
    at.variables.runtime_dir = text_of(&runtime_dir);
    if let Some(entry) = table.get("logs") {
        at.enter("logs");
        sections.logs.update(&entry.node, &mut at);
        at.leave();
    }
    let system = lower_system(&sections, &merged, state_dir, runtime_dir);
    let read = read_modules(table, &sections, &merged, &mut at);
    let places: BTreeMap<&str, usize> = read
        .iter()
        .enumerate()
        .map(|(index, read)| (read.name, index))
        .collect();
    // What is missing because a layer cannot be read is not a further problem.
    if !damaged {
        across::check(&read, &places, &merged.tasks, &mut at);
        #[cfg(windows)]
        {
            super::windows::modules(&read, &mut at);
            super::windows::ipc(&sections.ipc, table, &mut at);
        }
    }
    for each in &read {
        ids.intern(Instance::new(each.name, 1));
    }
    let (mut modules, mut by_slot) = (Vec::new(), vec![None; ids.len()]);
    let mut slots = vec![None; ids.len()];
    for each in read {
        let module_dir = merged.module_dirs.get(each.name);
        let (spec, launch) = lower_module(each, &ids, &system, module_dir, &mut env_files, &mut at);
        let (at, spec) = (spec.id.index(), Arc::new(spec));
        by_slot[at] = Some(modules.len());
        slots[at] = Some(Arc::clone(&spec));
        modules.push((spec, launch));
    }
    // The graph relies on the checks before: each edge ends at a module.
    let sound = at.problems.is_empty();
    let graph = sound.then(|| across::graph(&slots, table, &mut at));
    let mut problems = at.problems;
    let Some(graph) = graph.flatten() else {
        sort(&mut problems);
        return Err(problems);
    };
    let mut files = merged.files.clone();
    files.extend(env_files.all().map(|(path, _)| PathBuf::from(path)));
    Ok(Configuration {
        system_spec: system_spec(&sections),
        fingerprint: fingerprint(&merged.tree, &system, &env_files),
        system,
        modules,
        ids,
        by_slot,
        files,
        graph,
        merged,
        env_files,
    })
}

fn text_of(path: &Path) -> Option<String> {
    Some(path.to_string_lossy().into_owned())
}

/// Reads the values on which the variables of other sections depend.
fn read_sections<'a>(table: &'a Table, at: &mut Reading<'a>) -> Sections {
    let mut sections = Sections::default();
    for (name, entry) in table {
        at.enter(name);
        let node = &entry.node;
        match name.as_str() {
            "mainstay" => sections.mainstay.update(node, at),
            "health" => sections.health.update(node, at),
            "recovery" => sections.recovery.update(node, at),
            "resources" => sections.resources.update(node, at),
            "ipc" => sections.ipc.update(node, at),
            "logs" | "module" => {}
            _ => at.unknown(name, entry, root()),
        }
        at.leave();
    }
    if let Some(entry) = table.get("recovery") {
        at.enter("recovery");
        lower_recovery(&sections.recovery.each, Some(&entry.node), at);
        at.leave();
    }
    sections
}

/// Returns the state directory and the runtime directory.
fn folders(
    mainstay: &system::Mainstay,
    project: &Path,
    chosen: Option<Chosen>,
    at: &mut Reading<'_>,
) -> (PathBuf, PathBuf) {
    if let Some(chosen) = chosen {
        return (chosen.state_dir, chosen.runtime_dir);
    }
    let mut known = |said: &Option<Filled>, other: fn(&str) -> Result<PathBuf, Box<Problem>>| {
        if let Some(path) = said {
            return plain(&project.join(&path.0));
        }
        other(&mainstay.name.text).unwrap_or_else(|problem| {
            at.problems.push(|| *problem);
            PathBuf::new()
        })
    };
    let state_dir = known(&mainstay.state_dir, places::state_dir);
    (state_dir, known(&mainstay.runtime_dir, places::runtime_dir))
}

fn lower_system(
    sections: &Sections,
    merged: &Merged,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
) -> System {
    let (ipc, logs) = (&sections.ipc, &sections.logs);
    System {
        name: sections.mainstay.name.text.clone(),
        config_dir: merged.config_dir.clone(),
        project: merged.project.clone(),
        logs: Logs {
            directory: plain(&state_dir.join(&logs.directory.0)),
            max_bytes: logs.max_bytes.0,
            keep: logs.keep.small(),
            format: logs.format,
        },
        state_dir,
        runtime_dir,
        ipc: Ipc {
            observers: ipc.observers.clone(),
            operators: ipc.operators.clone(),
            admins: ipc.admins.clone(),
            requests_per_second: ipc.requests_per_second.small(),
        },
        check_interval: sections.resources.check_interval.0,
    }
}

fn system_spec(sections: &Sections) -> SystemSpec {
    let mainstay = &sections.mainstay;
    SystemSpec {
        parallel_startup: mainstay.parallel_startup,
        module_start_delay: mainstay.module_start_delay.0,
        startup_timeout: mainstay.startup_timeout.0,
        shutdown_timeout: mainstay.shutdown_timeout.0,
        concurrent_restarts: sections.recovery.concurrent_restarts.small(),
    }
}

/// Returns all modules by name, including the builtin and undeclared tasks of the application.
fn read_modules<'a>(
    table: &'a Table,
    sections: &Sections,
    merged: &'a Merged,
    at: &mut Reading<'a>,
) -> Vec<Read<'a>> {
    let with_defaults = || {
        let mut module = Module::default();
        module.health.rates = sections.health.clone();
        module.recovery.each = sections.recovery.each.clone();
        module
    };
    at.enter("module");
    let mut read: Vec<Read<'a>> = Vec::new();
    let modules = table
        .get("module")
        .and_then(|entry| at.table(&entry.node, Form::Any));
    let modules = modules.into_iter().flatten();
    for (name, entry) in modules {
        at.enter(name);
        if !is_name(name) {
            let message = format!("cannot name a module {name:?}");
            at.problem::<()>(entry.key, message, &Form::Name.expected());
        } else if name == RESERVED {
            let message = format!("cannot name a module {name:?}");
            at.problem::<()>(
                entry.key,
                message,
                "choose another: it is the runtime's own",
            );
        }
        let mut module = with_defaults();
        at.variables.module_dir = merged.module_dirs.get(name).and_then(|path| text_of(path));
        module.update(&entry.node, at);
        let entry = Some(entry);
        read.push(Read {
            name,
            entry,
            module,
        });
        at.leave();
    }
    at.variables.module_dir = None;
    at.leave();
    for name in &merged.tasks {
        if let Err(place) = read.binary_search_by(|each| each.name.cmp(name)) {
            let module = with_defaults();
            let entry = None;
            let task = Read {
                name,
                entry,
                module,
            };
            read.insert(place, task);
        }
    }
    let place = read.binary_search_by(|each| each.name.cmp(EVENT_BUS));
    if let Err(place) = place {
        let module = Module {
            description: "Carries messages between modules".to_owned(),
            kind: mainstay_policy::spec::Kind::Builtin,
            ..Module::default()
        };
        read.insert(
            place,
            Read {
                name: EVENT_BUS,
                entry: None,
                module,
            },
        );
    }
    read
}

/// Orders by file and line; problems without a location come first.
fn sort(problems: &mut Problems) {
    let key = |problem: &Problem| {
        let place = problem.place.as_ref();
        place.map(|place| (place.name.clone(), place.line, place.column))
    };
    problems.problems.sort_by_cached_key(key);
}

fn fingerprint(tree: &Node, system: &System, env_files: &EnvFiles) -> String {
    let mut hash = Sha256::new();
    for path in [
        &system.project,
        &system.config_dir,
        &system.state_dir,
        &system.runtime_dir,
    ] {
        feed(&mut hash, b'p', path.as_os_str().as_encoded_bytes());
    }
    for (path, lines) in env_files.all() {
        feed(&mut hash, b'e', path.as_bytes());
        for (name, value) in lines {
            feed(&mut hash, b'n', name.as_bytes());
            feed(&mut hash, b'v', value.as_bytes());
        }
    }
    feed_tree(&mut hash, &tree.value);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hashes kind, length and bytes, so that different trees differ.
fn feed(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    hash.update(head);
    hash.update(bytes);
}

fn feed_tree(hash: &mut Sha256, tree: &Tree) {
    match tree {
        Tree::Text(text) | Tree::Other(text) => feed(hash, b's', text.as_bytes()),
        Tree::Whole(value) => feed(hash, b'i', &value.to_le_bytes()),
        Tree::Number(value) => feed(hash, b'f', &value.to_bits().to_le_bytes()),
        Tree::Flag(value) => feed(hash, b'b', &[u8::from(*value)]),
        Tree::List(list) => {
            feed(hash, b'l', &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|node| feed_tree(hash, &node.value));
        }
        Tree::Table(table) => {
            feed(hash, b't', &(table.len() as u64).to_le_bytes());
            for (key, entry) in table {
                feed(hash, b'k', key.as_bytes());
                feed_tree(hash, &entry.node.value);
            }
        }
    }
}
