//! Lowers the merged tree to a configuration that can run, along the schema.
//! Owns the sections and the checks between them.
//! Never reads a layer: `layers` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_policy::graph::DependencyGraph;
use mainstay_policy::spec::{Cascade, ModuleSpec, SystemSpec};
use mainstay_policy::{ModuleId, ModuleIds};
use serde::{Deserialize, Serialize};

use super::committed::CommittedConfig;
use super::cross_checks;
use super::default_dirs;
use super::env_file::EnvFiles;
use super::fingerprint::fingerprint;
use super::groups;
use super::launch::{
    Feature, ForensicsConfig, IpcConfig, KeySource, LaunchSpec, LogConfig, SystemConfig,
};
use super::layers::{MergedLayers, read_all};
use super::lower_module::{lower_module, lower_recovery};
use super::paths::normalize;
use super::problem::{Problem, Problems, SourceLocation};
use super::read_context::ReadContext;
use super::schema::module::ModuleSection;
use super::schema::scalars::{Template, is_name};
use super::schema::secrets::SealedSecret;
use super::schema::{FromConfig, KeyChanges, KeyClass, ValueType, root, system};
use super::slots::{Base, SlotRule};
use super::sources::ConfigSources;
use super::tree::{KeyTable, Node, TableEntry};

/// The name of the runtime on the bus and in the log folder.
const RESERVED: &str = "mainstay";

/// The builtin of every system.
pub const EVENT_BUS: &str = "event-bus";

/// A configuration that can run.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The system's values that policy does not need.
    pub system: SystemConfig,
    /// The system's values for policy.
    pub system_spec: SystemSpec,
    /// The modules by name, the builtin among them.
    pub modules: Vec<(Arc<ModuleSpec>, LaunchSpec)>,
    /// The slots of all modules so far, those of this configuration among them.
    pub ids: ModuleIds,
    /// Where in `modules` each slot is.
    pub(super) by_slot: Vec<Option<usize>>,
    /// SHA-256 over all written values, without comments and the order of keys.
    pub fingerprint: String,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// The keys whose values wait for the next start of the system.
    pub waiting: Vec<&'static str>,
    graph: DependencyGraph,
    /// The written values and their origins.
    pub(crate) merged: MergedLayers,
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
    pub fn module(&self, module: ModuleId) -> Option<&(Arc<ModuleSpec>, LaunchSpec)> {
        let place = self.by_slot.get(module.index()).copied().flatten()?;
        self.modules.get(place)
    }

    /// Returns the location of the value at `path`; none for a default.
    #[must_use]
    pub fn location(&self, path: &[&str]) -> Option<SourceLocation> {
        let node = self.merged.tree.at(path)?;
        self.merged.texts.place(node.origin)
    }

    /// Returns the written value at `path` as JSON; none if it is not written.
    #[must_use]
    pub fn written_value(&self, path: &[&str]) -> Option<serde_json::Value> {
        self.merged.tree.at(path).map(super::committed::to_json)
    }

    /// Reads its sections again, for a comparison by key.
    pub(crate) fn read_again(&self) -> SectionReader<'_> {
        let mut at = ReadContext::new(&self.merged.texts, Problems::default());
        at.variables.project = text_of(&self.merged.project);
        at.variables.state_dir = text_of(&self.system.state_dir);
        at.variables.runtime_dir = text_of(&self.system.runtime_dir);
        let table = self.merged.tree.as_table().unwrap_or(KeyTable::EMPTY);
        let mut system = read_sections(table, &mut at);
        if let Some(entry) = table.get("logs") {
            system.logs.update(&entry.node, &mut at);
        }
        SectionReader {
            merged: &self.merged,
            modules: self.merged.tree.at(&["module"]).and_then(Node::as_table),
            defaults: system.module_defaults(),
            system,
            at,
        }
    }

    /// Returns the document from which the same configuration can be restored.
    #[must_use]
    pub fn effective(&self) -> CommittedConfig {
        CommittedConfig::of(self)
    }
}

/// Reads the sections of a configuration again; those of modules one at a time.
pub(crate) struct SectionReader<'a> {
    merged: &'a MergedLayers,
    modules: Option<&'a KeyTable>,
    pub(crate) system: SystemSections,
    /// The section of a module that writes nothing.
    defaults: ModuleSection,
    at: ReadContext<'a>,
}

impl<'a> SectionReader<'a> {
    /// Reads the sections of a module in this configuration and in another one. What is written
    /// alike in both, and comes to the same, is left at its default in both.
    pub(crate) fn differing(
        &mut self,
        (name, other_name): (&str, &str),
        other: &mut SectionReader<'_>,
        is_alike: bool,
    ) -> [ModuleSection; 2] {
        let (written, also) = (self.written(name), other.written(other_name));
        let is_alike = is_alike && self.dir(name) == other.dir(other_name);
        let known = |table: Option<_>| table.filter(|_| is_alike).unwrap_or(KeyTable::EMPTY);
        [
            self.module(name, written, known(also)),
            other.module(other_name, also, known(written)),
        ]
    }

    /// Whether the same text in a module comes to the same value in another configuration.
    pub(crate) fn is_like(&self, other: &SectionReader<'_>) -> bool {
        // A variable may write a number where a text is expected: its digits count.
        let is_of_files = |one: &SectionReader<'_>| one.merged.texts.is_of_files();
        let (one, another) = (&self.at.variables, &other.at.variables);
        is_of_files(self)
            && is_of_files(other)
            && self.defaults == other.defaults
            && one.project == another.project
            && one.state_dir == another.state_dir
            && one.runtime_dir == another.runtime_dir
    }

    fn written(&self, name: &str) -> Option<&'a KeyTable> {
        let entry = self.modules.and_then(|modules| modules.get(name));
        entry.and_then(|entry| entry.node.as_table())
    }

    fn dir(&self, name: &str) -> Option<&Path> {
        self.merged.module_dirs.get(name).map(PathBuf::as_path)
    }

    /// Reads the section of a module without what `known` says too.
    fn module(
        &mut self,
        name: &str,
        written: Option<&'a KeyTable>,
        known: &KeyTable,
    ) -> ModuleSection {
        let mut module = self.defaults.clone();
        self.at.variables.module_dir = self.dir(name).and_then(text_of);
        for (key, entry) in written.unwrap_or(KeyTable::EMPTY) {
            if known.get(key).is_none_or(|it| it.node != entry.node) {
                module.set_key(key, &entry.node, &mut self.at);
            }
        }
        module
    }
}

/// Reads a configuration.
///
/// # Errors
/// All problems of it.
pub fn load(sources: &ConfigSources) -> Result<Configuration, Problems> {
    let (merged, problems) = read_all(sources);
    lower(merged, problems, EnvFiles::default(), Base::default())
}

/// Reads a configuration that is to follow one that runs: modules that had a slot keep it, and
/// what only a start can change stays as it is.
///
/// # Errors
/// All problems of it.
pub fn load_onto(
    sources: &ConfigSources,
    running: &Configuration,
) -> Result<Configuration, Problems> {
    load_watched(sources, running).0
}

/// The same, with every file and folder on which the result depends, also when it has problems.
pub(crate) fn load_watched(
    sources: &ConfigSources,
    running: &Configuration,
) -> (Result<Configuration, Problems>, BTreeSet<PathBuf>) {
    let (mut merged, problems) = read_all(sources);
    let mut consulted = std::mem::take(&mut merged.consulted);
    let base = Base {
        fixed: Some(running.fixed()),
        ids: running.ids.clone(),
        slots: SlotRule::Renamed(running),
    };
    let read = lower(merged, problems, EnvFiles::default(), base);
    // Those of a configuration with problems are those of the one that runs, as far as is known.
    let known = read.as_ref().unwrap_or(running);
    consulted.extend(known.env_files.all().map(|(path, _)| PathBuf::from(path)));
    (read, consulted)
}

/// What a system keeps from its start to its end, whatever the files say meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FixedValues {
    pub(crate) name: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
}

/// The sections of the system.
#[derive(Default)]
pub(crate) struct SystemSections {
    mainstay: system::MainstaySection,
    health: system::HealthSection,
    recovery: system::SystemRecoverySection,
    resources: system::ResourcesSection,
    ipc: system::IpcSection,
    logs: system::LogsSection,
    chaos: system::ChaosSection,
    features: BTreeMap<String, Feature>,
    forensics: system::ForensicsSection,
    secrets: BTreeMap<String, SealedSecret>,
}

impl SystemSections {
    /// A module that says nothing of its own.
    fn module_defaults(&self) -> ModuleSection {
        let mut module = ModuleSection::default();
        module.health.rates = self.health.clone();
        module.recovery.each = self.recovery.each.clone();
        module
    }

    /// Lists the keys in which two differ.
    pub(crate) fn differ(&self, other: &SystemSections, found: &mut KeyChanges) {
        let class = KeyClass::Live;
        found.key("mainstay", class, (&self.mainstay, &other.mainstay));
        found.key("health", class, (&self.health, &other.health));
        found.key("recovery", class, (&self.recovery, &other.recovery));
        found.key("resources", class, (&self.resources, &other.resources));
        found.key("ipc", class, (&self.ipc, &other.ipc));
        found.key("logs", class, (&self.logs, &other.logs));
        found.key("chaos", class, (&self.chaos, &other.chaos));
        found.key("forensics", class, (&self.forensics, &other.forensics));
    }
}

/// A module after reading.
pub(crate) struct ParsedModule<'a> {
    pub(crate) name: &'a str,
    /// The location of its name; none for the builtin.
    pub(crate) entry: Option<&'a TableEntry>,
    pub(crate) module: ModuleSection,
}

pub(crate) fn lower(
    merged: MergedLayers,
    problems: Problems,
    mut env_files: EnvFiles,
    mut base: Base<'_>,
) -> Result<Configuration, Problems> {
    let damaged = !problems.is_empty();
    let mut at = ReadContext::new(&merged.texts, problems);
    at.variables.project = text_of(&merged.project);
    let empty = KeyTable::new();
    let table = merged.tree.as_table().unwrap_or(&empty);
    let mut sections = read_sections(table, &mut at);
    let (fixed, project) = (base.fixed.take(), &merged.project);
    let dirs = folders(&sections.mainstay, project, fixed.as_ref(), &mut at);
    let (state_dir, runtime_dir) = dirs;
    at.variables.state_dir = text_of(&state_dir);
    at.variables.runtime_dir = text_of(&runtime_dir);
    if let Some(entry) = table.get("logs") {
        at.push_key("logs");
        sections.logs.update(&entry.node, &mut at);
        at.pop_key();
    }
    let mut system = lower_system(&sections, &merged, state_dir, runtime_dir);
    let waiting = match fixed {
        Some(fixed) => keep_fixed(&mut system, fixed, &sections.mainstay, &merged.project),
        None => Vec::new(),
    };
    let read = read_modules(table, &sections, &merged, &mut at);
    let groups = groups::read(table, &mut at);
    // What is missing because a layer cannot be read is not a further problem.
    if !damaged {
        cross_checks::check(&read, &merged.tasks, &mut at);
        groups::check(&groups, &read, &mut at);
        #[cfg(windows)]
        {
            super::windows_checks::modules(&read, &mut at);
            super::windows_checks::ipc(&sections.ipc, table, &mut at);
        }
    }
    let ids = base.assign_slots(&read);
    let system_spec = SystemSpec {
        groups: groups::lower(&groups, &ids),
        ..system_spec(&sections)
    };
    let (mut modules, mut by_slot) = (Vec::new(), vec![None; ids.len()]);
    let mut slots = vec![None; ids.len()];
    for each in read {
        let dir = merged.module_dirs.get(each.name);
        let defaults = (&system, &sections.resources);
        let (spec, launch) = lower_module(each, &ids, defaults, dir, &mut env_files, &mut at);
        let (at, spec) = (spec.id.index(), Arc::new(spec));
        by_slot[at] = Some(modules.len());
        slots[at] = Some(Arc::clone(&spec));
        modules.push((spec, launch));
    }
    // The graph relies on the checks before: each edge ends at a module.
    let sound = at.problems.is_empty();
    let graph = sound.then(|| cross_checks::graph(&slots, table, &mut at));
    let mut problems = at.problems;
    let Some(graph) = graph.flatten() else {
        sort(&mut problems);
        return Err(problems);
    };
    let mut files = merged.files.clone();
    files.extend(env_files.all().map(|(path, _)| PathBuf::from(path)));
    Ok(Configuration {
        system_spec,
        fingerprint: fingerprint(&merged, &system, &env_files),
        system,
        modules,
        ids,
        by_slot,
        files,
        waiting,
        graph,
        merged,
        env_files,
    })
}

/// Keeps what only a start can change; returns the keys that say otherwise.
fn keep_fixed(
    system: &mut SystemConfig,
    fixed: FixedValues,
    mainstay: &system::MainstaySection,
    project: &Path,
) -> Vec<&'static str> {
    let differs = |said: &Option<Template>, fixed: &Path| {
        said.as_ref()
            .is_some_and(|path| normalize(&project.join(&path.0)) != fixed)
    };
    let waiting = [
        ("mainstay.name", system.name != fixed.name),
        (
            "mainstay.state_dir",
            differs(&mainstay.state_dir, &fixed.state_dir),
        ),
        (
            "mainstay.runtime_dir",
            differs(&mainstay.runtime_dir, &fixed.runtime_dir),
        ),
        ("logs.directory", system.logs.directory != fixed.log_dir),
    ];
    (system.name, system.logs.directory) = (fixed.name, fixed.log_dir);
    let waiting = waiting.into_iter().filter(|(_, differs)| *differs);
    waiting.map(|(key, _)| key).collect()
}

/// Where a module finds its secrets.
fn secrets_dir(runtime_dir: Option<&String>, module: &str) -> Option<String> {
    let folder = Path::new(runtime_dir?).join("secrets").join(module);
    text_of(&folder)
}

fn text_of(path: &Path) -> Option<String> {
    Some(path.to_string_lossy().into_owned())
}

/// Reads the values on which the variables of other sections depend.
fn read_sections<'a>(table: &'a KeyTable, at: &mut ReadContext<'a>) -> SystemSections {
    let mut sections = SystemSections::default();
    for (name, entry) in table {
        at.push_key(name);
        let node = &entry.node;
        match name.as_str() {
            "mainstay" => sections.mainstay.update(node, at),
            "health" => sections.health.update(node, at),
            "recovery" => sections.recovery.update(node, at),
            "resources" => sections.resources.update(node, at),
            "ipc" => sections.ipc.update(node, at),
            "chaos" => sections.chaos.update(node, at),
            "features" => sections.features.update(node, at),
            "forensics" => sections.forensics.update(node, at),
            "secrets" => sections.secrets.update(node, at),
            "logs" | "module" | "group" => {}
            _ => at.unknown(name, entry, root()),
        }
        at.pop_key();
    }
    if let Some(entry) = table.get("recovery") {
        at.push_key("recovery");
        lower_recovery(&sections.recovery.each, Some(&entry.node), at);
        at.pop_key();
    }
    sections
}

/// Returns the state directory and the runtime directory.
fn folders(
    mainstay: &system::MainstaySection,
    project: &Path,
    fixed: Option<&FixedValues>,
    at: &mut ReadContext<'_>,
) -> (PathBuf, PathBuf) {
    if let Some(fixed) = fixed {
        return (fixed.state_dir.clone(), fixed.runtime_dir.clone());
    }
    let mut known = |said: &Option<Template>, other: fn(&str) -> Result<PathBuf, Box<Problem>>| {
        if let Some(path) = said {
            return normalize(&project.join(&path.0));
        }
        other(&mainstay.name.text).unwrap_or_else(|problem| {
            at.problems.push(|| *problem);
            PathBuf::new()
        })
    };
    let state_dir = known(&mainstay.state_dir, default_dirs::state_dir);
    (
        state_dir,
        known(&mainstay.runtime_dir, default_dirs::runtime_dir),
    )
}

fn lower_system(
    sections: &SystemSections,
    merged: &MergedLayers,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
) -> SystemConfig {
    let logs = &sections.logs;
    let secrets = sections.secrets.iter();
    let secrets = secrets.map(|(name, sealed)| (name.clone(), sealed.0.clone()));
    SystemConfig {
        name: sections.mainstay.name.text.clone(),
        config_dir: merged.config_dir.clone(),
        project: merged.project.clone(),
        logs: LogConfig {
            directory: normalize(&state_dir.join(&logs.directory.0)),
            max_bytes: logs.max_bytes.0,
            keep: logs.keep.small(),
            format: logs.format,
            streams: logs.streams,
        },
        secret_key: match &sections.mainstay.secret_key {
            Some(text) => KeySource::of(&text.0, &merged.project, &sections.mainstay.name.text),
            None => KeySource::File(state_dir.join("secret.key")),
        },
        state_dir,
        runtime_dir,
        ipc: IpcConfig::from(&sections.ipc),
        check_interval: sections.resources.check_interval.0,
        reload: sections.mainstay.reload,
        reload_watch: sections.mainstay.reload_watch.0,
        throttle_threshold: sections.resources.throttle_threshold.0,
        enforcement: sections.resources.enforcement,
        forensics: ForensicsConfig::from(&sections.forensics),
        chaos_allowed: sections.chaos.allowed,
        secrets: secrets.collect(),
        features: sections.features.clone(),
    }
}

fn system_spec(sections: &SystemSections) -> SystemSpec {
    let mainstay = &sections.mainstay;
    SystemSpec {
        parallel_startup: mainstay.parallel_startup,
        module_start_delay: mainstay.module_start_delay.0,
        startup_timeout: mainstay.startup_timeout.0,
        shutdown_timeout: mainstay.shutdown_timeout.0,
        concurrent_restarts: sections.recovery.concurrent_restarts.small(),
        cascade: Cascade {
            share: sections.recovery.cascade.share.0,
            window: sections.recovery.cascade.window.0,
        },
        groups: Vec::new(),
    }
}

/// Returns all modules by name, including the builtin and undeclared tasks of the application.
fn read_modules<'a>(
    table: &'a KeyTable,
    sections: &SystemSections,
    merged: &'a MergedLayers,
    at: &mut ReadContext<'a>,
) -> Vec<ParsedModule<'a>> {
    at.push_key("module");
    let mut read: Vec<ParsedModule<'a>> = Vec::new();
    let modules = table
        .get("module")
        .and_then(|entry| at.table(&entry.node, ValueType::Any));
    let modules = modules.into_iter().flatten();
    for (name, entry) in modules {
        at.push_key(name);
        if !is_name(name) {
            let message = format!("cannot name a module {name:?}");
            at.problem::<()>(entry.key, message, &ValueType::Name.expected());
        } else if name == RESERVED {
            let message = format!("cannot name a module {name:?}");
            at.problem::<()>(
                entry.key,
                message,
                "choose another: it is the runtime's own",
            );
        }
        let mut module = sections.module_defaults();
        at.variables.module_dir = merged.module_dirs.get(name).and_then(|path| text_of(path));
        at.variables.secrets_dir = secrets_dir(at.variables.runtime_dir.as_ref(), name);
        module.update(&entry.node, at);
        let entry = Some(entry);
        read.push(ParsedModule {
            name,
            entry,
            module,
        });
        at.pop_key();
    }
    (at.variables.module_dir, at.variables.secrets_dir) = (None, None);
    at.pop_key();
    for name in &merged.tasks {
        if let Err(place) = read.binary_search_by(|each| each.name.cmp(name)) {
            let module = sections.module_defaults();
            let entry = None;
            let task = ParsedModule {
                name,
                entry,
                module,
            };
            read.insert(place, task);
        }
    }
    let place = read.binary_search_by(|each| each.name.cmp(EVENT_BUS));
    if let Err(place) = place {
        let module = ModuleSection {
            description: "Carries messages between modules".to_owned(),
            kind: mainstay_policy::spec::Kind::Builtin,
            ..ModuleSection::default()
        };
        read.insert(
            place,
            ParsedModule {
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
