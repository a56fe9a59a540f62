//! Lowers the section of one module to `policy::spec` and to its launch values.
//! Owns the base of relative paths and the defaults that depend on other keys.
//! Never reads other modules, except for their slot in the plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mainstay_policy::ModuleIds;
use mainstay_policy::resources::{ResourceLimits, Rung, ThrottleSpec};
use mainstay_policy::spec::{self, Edge, Kind, ModuleSpec, Readiness, RestartPolicy};
use mainstay_process::{self as process, Limits, ProbeRole};

use super::env_file::{EnvFileError, EnvFiles, inherited, is_variable};
use super::env_syntax::{Fault, Lookup};
use super::hints::closest;
use super::isolation;
use super::launch::{
    DegradeSpec, LaunchSpec, ProbeKind, ProbeSpec, ReloadBy, ResetSpec, ResourceRequirements,
    SecretUse, SystemConfig, WatchSpec,
};
use super::lower::ParsedModule;
use super::origin::{SourceMap, SourceText};
use super::paths::normalize;
use super::problem::LayerKind;
use super::read_context::ReadContext;
use super::schema::compound::{RawDependency, RawProbation};
use super::schema::module::{FilePattern, LimitsSection, ModuleSection};
use super::schema::probes::RawProbe;
use super::schema::scalars::{CommandLine, CpuPercent};
use super::schema::system::{RecoverySection, ResourcesSection};
use super::tree::{Node, origin_of};

const MIB: u64 = 1 << 20;

pub(crate) fn lower_module<'a>(
    read: ParsedModule<'a>,
    ids: &ModuleIds,
    (system, resources): (&SystemConfig, &ResourcesSection),
    module_dir: Option<&PathBuf>,
    env_files: &mut EnvFiles,
    at: &mut ReadContext<'a>,
) -> (ModuleSpec, LaunchSpec) {
    let ParsedModule {
        name,
        entry,
        module,
    } = read;
    at.push_key("module");
    at.push_key(name);
    let node = entry.map(|entry| &entry.node);
    let recovery_node = node.and_then(|node| node.at(&["recovery"]));
    at.push_key("recovery");
    let recovery = lower_recovery(&module.recovery.each, recovery_node, at);
    at.pop_key();
    let directory = directory_of(&module, system);
    let env = environment((name, &module), node, &directory, env_files, at);
    let secrets = secrets(&module, node, system, at);
    let reset = reset(&module, recovery_node, &directory, module_dir, system, at);
    at.pop_key();
    at.pop_key();
    let probes = probes(&module, &directory);
    let needed = [&*directory, &*system.runtime_dir];
    isolation::check(name, node, &module.isolation, &needed, at);
    let spec = ModuleSpec {
        id: ids.find(name).unwrap_or_default(),
        name: name.to_owned(),
        kind: module.kind,
        required: module.required,
        start: module.start,
        importance: module.importance,
        edges: edges(&module, ids),
        readiness: match &module.ready.readiness {
            Readiness::Probe(probe) => Readiness::Probe(resolved(probe, &directory)),
            reported => reported.clone(),
        },
        has_before_start: !module.before_start.is_empty(),
        has_after_stop: !module.after_stop.is_empty(),
        startup_timeout: module.startup_timeout.0,
        shutdown_timeout: module.shutdown_timeout.0,
        watchdog: probes.iter().find_map(|probe| match probe.check {
            ProbeKind::Watchdog(span) => Some(span),
            _ => None,
        }),
        has_probes: probes.iter().any(|probe| probe.role != ProbeRole::Startup),
        has_startup_probes: has_role(&probes, ProbeRole::Startup),
        has_readiness_probes: has_role(&probes, ProbeRole::Readiness),
        recovery: spec::RecoverySpec {
            restart: module.recovery.restart.unwrap_or(match module.kind {
                Kind::Service | Kind::Builtin => RestartPolicy::Always,
                Kind::Task => RestartPolicy::Never,
            }),
            clean_exit_codes: module
                .recovery
                .clean_exit_codes
                .iter()
                .filter_map(|code| i32::try_from(code.0).ok())
                .collect(),
            ..recovery
        },
        on_dependency_restart: module.recovery.on_dependency_restart,
        throttle: throttle(&module, resources),
    };
    let launch = LaunchSpec {
        reset,
        secrets,
        ..launch(module, directory, module_dir, env, probes)
    };
    (spec, launch)
}

/// A directory of the module without the links on the way to it: none can be inserted later.
fn real(root: &Path, system: &SystemConfig) -> PathBuf {
    match root == system.state_dir {
        true => root.to_path_buf(),
        false => root.canonicalize().unwrap_or_else(|_| root.to_path_buf()),
    }
}

/// Returns what a reset removes, each path with the directory that it is inside of.
fn reset(
    module: &ModuleSection,
    node: Option<&Node>,
    directory: &Path,
    module_dir: Option<&PathBuf>,
    system: &SystemConfig,
    at: &mut ReadContext<'_>,
) -> ResetSpec {
    let reset = &module.recovery.reset;
    let list = node.and_then(|node| node.at(&["reset", "remove"]));
    let origin = list.map(|node| node.origin).unwrap_or_default();
    let roots = [
        Some(&system.state_dir),
        module_dir,
        Some(&directory.to_path_buf()),
    ];
    let mut remove = Vec::new();
    for written in &reset.remove {
        let path = normalize(&directory.join(&written.0));
        let inside = roots.iter().flatten().find_map(|root| {
            let rest = path.strip_prefix(root).ok()?;
            (!rest.as_os_str().is_empty()).then(|| (real(root, system), rest.to_path_buf()))
        });
        let (problem, hint) = match inside {
            Some(found) if !system.is_own(&path) => {
                remove.push(found);
                continue;
            }
            Some(_) => ("it is mainstay's own", "name files of the module alone"),
            None => (
                "it is not inside of the state directory or of the module's directories",
                "for instance \"${state_dir}/cache\"",
            ),
        };
        let message = format!(
            "cannot use {}.recovery.reset.remove: {}: {problem}",
            at.path(),
            path.display()
        );
        at.problem::<()>(origin, message, hint);
    }
    ResetSpec {
        remove,
        clear_queues: reset.clear_queues,
    }
}

/// The secrets of a module, with their encrypted values.
fn secrets(
    module: &ModuleSection,
    node: Option<&Node>,
    system: &SystemConfig,
    at: &mut ReadContext<'_>,
) -> Vec<SecretUse> {
    let files = module.secrets.iter().map(|name| (name, None));
    let variables = module.secret_env.iter();
    let variables = variables.map(|(variable, name)| (name, Some(variable.clone())));
    let mut found = Vec::new();
    for (name, variable) in files.chain(variables) {
        if let Some(variable) = variable.as_ref().filter(|name| !is_variable(name)) {
            let origin = node.and_then(|node| node.at(&["secret_env"]));
            let origin = origin.map(|node| node.origin).unwrap_or_default();
            let message = format!("cannot name a variable {variable:?}");
            at.problem::<()>(origin, message, "no spaces, no `=`, not empty");
        }
        match system.secrets.get(&name.text) {
            Some(sealed) => found.push(SecretUse {
                name: name.text.clone(),
                sealed: sealed.clone(),
                variable,
            }),
            None => {
                let message = format!(
                    "cannot use the secret {:?}: it is not in [secrets]",
                    name.text
                );
                let names = system.secrets.keys().map(String::as_str);
                let hint = match closest(&name.text, names) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("`mainstay secret set {}` makes it", name.text),
                };
                at.problem::<()>(name.origin, message, &hint);
            }
        }
    }
    found
}

/// By what a module is throttled: its own limits and rungs, the times of the system.
fn throttle(module: &ModuleSection, resources: &ResourcesSection) -> ThrottleSpec {
    let limits = &module.limits;
    let rungs = module.rungs.as_ref().unwrap_or(&resources.rungs);
    let mut rungs: Vec<Rung> = rungs.iter().map(|rung| Rung::from(*rung)).collect();
    rungs.sort_unstable();
    ThrottleSpec {
        limits: ResourceLimits {
            cpu_permille: limits.cpu_percent.map(CpuPercent::permille),
            memory_bytes: limits.memory_mb.map(|mb| mb.0.saturating_mul(MIB)),
            threads: limits.threads.map(|threads| threads.0),
            processes: limits.processes.map(|processes| processes.0),
            io_bytes_per_s: limits.io_mb_per_s.map(|mb| mb.0.saturating_mul(MIB)),
        },
        dwell: resources.dwell.0,
        release: resources.release.0,
        rungs,
    }
}

fn launch(
    module: ModuleSection,
    directory: PathBuf,
    module_dir: Option<&PathBuf>,
    env: Vec<(String, String)>,
    probes: Vec<ProbeSpec>,
) -> LaunchSpec {
    let all = |commands: &[CommandLine]| -> Vec<Vec<String>> {
        commands
            .iter()
            .map(|command| argv(&command.words, &directory))
            .collect()
    };
    let may_call = match &module.may_call {
        Some(said) => said.iter().map(|name| name.text.clone()).collect(),
        None => {
            let needed = module.requires.iter().chain(&module.wants);
            needed.map(|needed| needed.module.text.clone()).collect()
        }
    };
    let by_signal = module.reload_signal.as_ref();
    let reload = match &module.reload_command {
        Some(command) => Some(ReloadBy::Command(argv(&command.words, &directory))),
        None => by_signal.map(|by| ReloadBy::Signal(by.signal)),
    };
    let listens = module.sockets.0.iter();
    let sockets = listens.map(|listen| (listen.name.clone(), place(&listen.address, &directory)));
    let isolation = isolation::lower(&module.isolation, &directory);
    LaunchSpec {
        isolation,
        sockets: sockets.collect(),
        idle_stop: module.idle_stop.map(|span| span.0),
        argv: module
            .command
            .as_ref()
            .map(|command| argv(&command.words, &directory))
            .unwrap_or_default(),
        before_start: all(&module.before_start),
        after_stop: all(&module.after_stop),
        prewarm: all(&module.prewarm),
        may_call,
        directory,
        description: module.description,
        version: module.version,
        module_dir: module_dir.cloned(),
        env,
        clear_env: module.clear_env,
        stdin: module.stdin,
        user: module.user,
        group: module.group,
        stop_signal: module.stop_signal.signal,
        reload,
        settings: module.settings.0,
        limits: process_limits(&module.limits),
        no_new_privileges: module.isolation.no_new_privileges,
        ready_owner: module.ready.owner,
        probes,
        reset: ResetSpec::default(),
        secrets: Vec::new(),
        degrade: DegradeSpec {
            disable: module.recovery.degrade.disable.clone(),
            reduce_load: module.recovery.degrade.reduce_load.map(|share| share.0),
        },
        watch: WatchSpec {
            files: texts(&module.watch),
            ignore: texts(&module.watch_ignore),
        },
        needs: ResourceRequirements {
            memory_bytes: module.needs.memory_mb.map(|mb| mb.0.saturating_mul(MIB)),
            disk_bytes: module.needs.disk_mb.map(|mb| mb.0.saturating_mul(MIB)),
        },
    }
}

fn texts(patterns: &[FilePattern]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.0.clone()).collect()
}

/// Resolves a program with a slash relative to the directory; without one PATH is searched.
fn argv(words: &[String], directory: &Path) -> Vec<String> {
    let mut words = words.to_vec();
    if let Some(program) = words.first_mut()
        && program.contains(std::path::is_separator)
        && !Path::new(program).is_absolute()
    {
        *program = text(&normalize(&directory.join(&*program)));
    }
    words
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Resolves the address of a socket; a path is relative to the module's directory.
pub(crate) fn place(address: &str, directory: &Path) -> String {
    if address.contains('/') {
        text(&normalize(&directory.join(address)))
    } else {
        address.to_owned()
    }
}

/// An abstract socket ("@name") has no place in the file system.
fn socket(path: &str, directory: &Path) -> String {
    if path.starts_with('@') {
        path.to_owned()
    } else {
        text(&normalize(&directory.join(path)))
    }
}

fn edges(module: &ModuleSection, ids: &ModuleIds) -> Vec<Edge> {
    let edge = |needed: &RawDependency, hard: bool| {
        let to = ids.find(&needed.module.text)?;
        let until = needed.until;
        Some(Edge { to, hard, until })
    };
    let hard = module
        .requires
        .iter()
        .filter_map(|needed| edge(needed, true));
    hard.chain(module.wants.iter().filter_map(|needed| edge(needed, false)))
        .collect()
}

/// Returns a probe with absolute paths.
fn resolved(probe: &process::Probe, directory: &Path) -> process::Probe {
    match probe {
        process::Probe::Unix(path) => process::Probe::Unix(socket(path, directory)),
        process::Probe::File(path) => process::Probe::File(text(&normalize(&directory.join(path)))),
        process::Probe::Exec(words) => process::Probe::Exec(argv(words, directory)),
        process::Probe::Tcp(_) | process::Probe::Http { .. } | process::Probe::Grpc(_) => {
            probe.clone()
        }
    }
}

fn process_limits(limits: &LimitsSection) -> Limits {
    Limits {
        file_handles: limits.file_handles.map(|handles| handles.0),
        nice: limits.nice.map(|nice| nice.0),
        oom_score_adj: limits.oom_score_adj.map(|score| score.0),
        cpu_affinity: limits.cpu_affinity.as_deref().map(isolation::cpu_set),
    }
}

fn directory_of(module: &ModuleSection, system: &SystemConfig) -> PathBuf {
    match module.directory.0.as_str() {
        "${project}" => system.project.clone(),
        said => normalize(&system.project.join(said)),
    }
}

fn has_role(probes: &[ProbeSpec], role: ProbeRole) -> bool {
    probes.iter().any(|probe| probe.role == role)
}

fn probes(module: &ModuleSection, directory: &Path) -> Vec<ProbeSpec> {
    let lower = |probe: &RawProbe| {
        let rates = probe.rates(&module.health.rates);
        ProbeSpec {
            check: match &probe.look {
                ProbeKind::Probe(probe) => ProbeKind::Probe(resolved(probe, directory)),
                other => other.clone(),
            },
            role: probe.table.role,
            owner: probe.table.owner.unwrap_or_default(),
            adaptive: rates.adaptive,
            interval: rates.interval.0,
            timeout: rates.timeout.0,
            unhealthy_threshold: rates.unhealthy_threshold.small(),
            healthy_threshold: rates.healthy_threshold.small(),
            initial_delay: rates.initial_delay.0,
        }
    };
    module.health.probes.iter().map(lower).collect()
}

/// Returns the variables of `env_file`, then those of `env`; each name once.
fn environment(
    (name, module): (&str, &ModuleSection),
    node: Option<&Node>,
    directory: &Path,
    env_files: &mut EnvFiles,
    at: &mut ReadContext<'_>,
) -> Vec<(String, String)> {
    let origin = |key: &str| {
        let found = node.and_then(|node| node.at(&[key]));
        found.map(|node| node.origin).unwrap_or_default()
    };
    let mut env: Vec<(String, String)> = Vec::with_capacity(module.env.len());
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for file in &module.env_file.0 {
        let optional = file.0.strip_prefix('-');
        let path = normalize(&directory.join(optional.unwrap_or(&file.0)));
        let earlier = |name: &str| files.get(name).cloned().or_else(|| inherited(name));
        let lookup = module.env_expand.then_some(&earlier as Lookup<'_>);
        match env_files.lines(&path, optional.is_some(), lookup) {
            Ok(lines) => files.extend(lines),
            Err(EnvFileError::Unreadable(reason)) => {
                let message = format!("cannot read {}: {reason}", path.display());
                let hint = format!("env_file is relative to {}", directory.display());
                let key = format!("{message}; {hint}");
                let origin = origin("env_file");
                let problem = |texts: &SourceMap| texts.problem(origin, message).hint(hint);
                at.shared_problem(name, key, problem);
            }
            Err(EnvFileError::Faults(text, faults)) => env_faults(name, &path, text, faults, at),
        }
    }
    let own = |(name, _): &(String, String)| !module.env.contains_key(name);
    env.extend(files.into_iter().filter(own));
    for (name, value) in &module.env {
        if !is_variable(name) {
            let message = format!("cannot name a variable {name:?}");
            at.problem::<()>(origin("env"), message, "no spaces, no `=`, not empty");
        }
        env.push((name.clone(), value.0.clone()));
    }
    env
}

/// Reports every fault of an env file where it stands. The line itself is not shown: it may hold a
/// secret.
fn env_faults(
    module: &str,
    path: &Path,
    text: String,
    faults: Vec<Fault>,
    at: &mut ReadContext<'_>,
) {
    let mut texts = SourceMap::new();
    let name = path.display().to_string();
    let number = texts.add(SourceText::new(LayerKind::File, name, Some(text)));
    for fault in faults {
        let origin = origin_of(number, &fault.at);
        let mut problem = texts.problem(origin, fault.message).hint(fault.hint);
        problem.excerpt = None;
        let key = format!("{:?}: {}", problem.place, problem.message);
        at.shared_problem(module, key, |_| problem);
    }
}

/// Lowers recovery for policy; problems have the location of `node`.
pub(crate) fn lower_recovery(
    recovery: &RecoverySection,
    node: Option<&Node>,
    at: &mut ReadContext<'_>,
) -> spec::RecoverySpec {
    let backoff = &recovery.backoff;
    let mut ordered = |key: &str, least: (&str, std::time::Duration), max: std::time::Duration| {
        if let Some(node) = node.and_then(|node| node.at(&[key]))
            && least.1 > max
        {
            let message = format!(
                "cannot use {}.{key}: `{}` is more than `max`",
                at.path(),
                least.0
            );
            at.problem::<()>(node.origin, message, "make `max` the larger one");
        }
    };
    ordered("backoff", ("initial", backoff.initial.0), backoff.max.0);
    ordered("backoff", ("floor", backoff.floor.0), backoff.max.0);
    let probation = match &recovery.probation {
        RawProbation::Off => None,
        RawProbation::On(times) => {
            ordered("probation", ("initial", times.initial.0), times.max.0);
            Some(spec::Probation {
                initial: times.initial.0,
                factor: times.factor.0,
                max: times.max.0,
            })
        }
    };
    spec::RecoverySpec {
        auto: recovery.auto,
        restart: RestartPolicy::Always,
        clean_exit_codes: Vec::new(),
        max_attempts: recovery.max_attempts.small(),
        window: recovery.window.0,
        backoff: spec::Backoff {
            initial: backoff.initial.0,
            factor: backoff.factor.0,
            max: backoff.max.0,
            jitter: backoff.jitter.0,
            floor: backoff.floor.0,
        },
        stable_after: recovery.stable_after.0,
        probation,
        on_failure: recovery.on_failure.0.clone(),
    }
}
