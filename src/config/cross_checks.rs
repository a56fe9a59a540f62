//! Checks that need more than one key: between modules (names exist, no cycle), and between the
//! keys of one module. Owns these checks; each problem has the location of a key.
//! Never changes a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_policy::graph::DependencyGraph;
use mainstay_policy::spec::{
    DependencyCondition, Kind, ModuleId, ModuleSpec, Readiness, StartMode,
};
use mainstay_process::ProbeRole;

use super::hints::closest;
use super::launch::ProbeKind;
use super::lower::{EVENT_BUS, ParsedModule};
use super::origin::Origin;
use super::problem::Related;
use super::read_context::ReadContext;
use super::schema::compound::RawDependency;
use super::schema::probes::RawProbe;
use super::schema::scalars::ModuleName;
use super::tree::{KeyTable, TreeValue};
use crate::os_text::duration_text;

/// Keys that make sense for a builtin.
const OF_A_BUILTIN: [&str; 4] = ["kind", "description", "version", "importance"];

/// Keys of a process, which an embedded task does not have.
const OF_A_PROCESS: [&str; 9] = [
    "command",
    "stop_signal",
    "reload_signal",
    "reload_command",
    "limits",
    "isolation",
    "clear_env",
    "sockets",
    "stdin",
];

pub(crate) fn check<'a>(
    read: &[ParsedModule<'a>],
    tasks: &BTreeSet<String>,
    at: &mut ReadContext<'a>,
) {
    let ids = read.iter().enumerate();
    let ids: BTreeMap<&str, usize> = ids.map(|(index, read)| (read.name, index)).collect();
    let ids = &ids;
    let (mut listens, mut renamed_from) = (BTreeMap::new(), BTreeMap::new());
    for each in read {
        kind(each, tasks, at);
        sockets(each, &mut listens, at);
        if tasks.contains(each.name) {
            task(each, at);
        }
        probes(each, at);
        settle(each, at);
        idle_stop(each, at);
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let edges = [
            ("requires", &each.module.requires),
            ("wants", &each.module.wants),
        ];
        for (key, list) in edges {
            for needed in list {
                edge(each, key, needed, read, ids, at);
                if !seen.insert(&needed.module.text) {
                    let (name, to) = (each.name, &needed.module.text);
                    let message = format!("cannot use module.{name}.{key}: it names {to} twice");
                    let hint = "name a module once, in `requires` or in `wants`";
                    at.problem::<()>(needed.module.origin, message, hint);
                }
            }
        }
        if let Some(former) = &each.module.renamed_from {
            renamed(each, former, (tasks, &mut renamed_from), at);
        }
        for name in each.module.may_call.iter().flatten() {
            missing(each, "may_call", name, ids, at);
        }
    }
}

/// Checks that a former name is one, and leads to one module.
fn renamed<'r>(
    each: &'r ParsedModule<'_>,
    former: &'r ModuleName,
    (tasks, renamed_from): (&BTreeSet<String>, &mut BTreeMap<&'r str, &'r str>),
    at: &mut ReadContext<'_>,
) {
    let (name, from) = (each.name, former.text.as_str());
    let (cause, hint) = match renamed_from.insert(from, name) {
        _ if from == name => ("that is its own name".to_owned(), "leave it out"),
        _ if from == EVENT_BUS => (
            format!("{EVENT_BUS} is the runtime's own module"),
            "leave it out",
        ),
        _ if tasks.contains(from) => (
            format!("the application runs {from} itself, under that name"),
            "leave it out",
        ),
        Some(other) => (
            format!("{other} was renamed from {from} too"),
            "name it in one of them",
        ),
        None => return,
    };
    let message = format!("cannot use module.{name}.renamed_from: {cause}");
    at.problem::<()>(former.origin, message, hint);
}

/// Checks that each address belongs to one module.
fn sockets<'r>(
    each: &'r ParsedModule<'_>,
    listens: &mut BTreeMap<(&'r str, &'r str), &'r str>,
    at: &mut ReadContext<'_>,
) {
    for listen in &each.module.sockets.0 {
        let relative = listen.address.contains('/') && !listen.address.starts_with('/');
        let beside = if relative {
            each.module.directory.0.as_str()
        } else {
            ""
        };
        if let Some(other) = listens.insert((beside, &listen.address), each.name) {
            let message = format!("cannot listen on {}: {other} does", listen.address);
            at.problem::<()>(
                listen.origin,
                message,
                "choose another address for one of them",
            );
        }
    }
}

fn kind(each: &ParsedModule<'_>, tasks: &BTreeSet<String>, at: &mut ReadContext<'_>) {
    let (name, Some(entry)) = (each.name, each.entry) else {
        return;
    };
    let origin = entry.key;
    let builtin = each.module.kind == Kind::Builtin;
    if builtin != (name == EVENT_BUS) {
        let message = match builtin {
            true => format!("cannot make module {name} a builtin: the only one is {EVENT_BUS}"),
            false => format!("cannot use the name {EVENT_BUS}: it is the runtime's own module"),
        };
        let hint = match builtin {
            true => "leave `kind` out, or say kind = \"task\"",
            false => "rename this module, or say kind = \"builtin\" and leave the rest out",
        };
        at.problem::<()>(origin, message, hint);
        return;
    }
    if builtin {
        let keys = entry.node.as_table().into_iter().flatten();
        for (key, entry) in keys.filter(|(key, _)| !OF_A_BUILTIN.contains(&key.as_str())) {
            let message = format!("cannot use module.{name}.{key}: a builtin has no process");
            at.problem::<()>(entry.key, message, "leave it out");
        }
        return;
    }
    // A wrong or misspelt command is reported already.
    let said = |key: &String| closest(key, ["command"]).is_some();
    let table = entry.node.as_table();
    let needs_one = !tasks.contains(name);
    if needs_one && table.is_some_and(|table| !table.keys().any(said)) {
        let message = format!("cannot start module {name}: it has no command");
        at.problem::<()>(origin, message, "command = [\"program\", \"argument\"]");
    }
}

/// Checks the keys of an embedded task, which the application runs itself.
fn task(each: &ParsedModule<'_>, at: &mut ReadContext<'_>) {
    let (name, table) = (
        each.name,
        each.entry.and_then(|entry| entry.node.as_table()),
    );
    for (key, entry) in table.into_iter().flatten() {
        if OF_A_PROCESS.contains(&key.as_str()) {
            let message =
                format!("cannot use module.{name}.{key}: the application runs {name} itself");
            at.problem::<()>(entry.key, message, "leave it out: it has no process");
        }
        let ready = &each.module.ready.readiness;
        if key == "ready" && matches!(ready, Readiness::Log(_) | Readiness::Fd(_)) {
            let message =
                format!("cannot use module.{name}.ready: the application runs {name} itself");
            let hint = "ready = { notify = true }: it says `ready()`";
            at.problem::<()>(entry.key, message, hint);
        }
    }
    let mut probes = each.module.health.probes.iter();
    if let Some(probe) = probes.find(|probe| matches!(probe.look, ProbeKind::Sdk)) {
        let message = format!("cannot probe {name} over its connection: it is a task and has none");
        at.problem::<()>(probe.origin, message, "a watchdog probe, fed by the task");
    }
}

/// Whether a probe goes on once the module is ready.
fn reports_health(probe: &RawProbe) -> bool {
    probe.table.role != ProbeRole::Startup
}

fn probes(each: &ParsedModule<'_>, at: &mut ReadContext<'_>) {
    let probes = &each.module.health.probes;
    for (kind, is) in [
        (
            "watchdog",
            (|look| matches!(look, ProbeKind::Watchdog(_))) as fn(&ProbeKind) -> bool,
        ),
        ("sdk", |look| matches!(look, ProbeKind::Sdk)),
    ] {
        if let Some(second) = probes.iter().filter(|probe| is(&probe.look)).nth(1) {
            let message = format!("cannot use two {kind} probes in module {}", each.name);
            at.problem::<()>(second.origin, message, "leave one of them out");
        }
    }
    let has_role = |probe: &&RawProbe| probe.table.role != ProbeRole::Liveness;
    let is_task = each.module.kind == Kind::Task;
    if let Some(probe) = probes.iter().find(has_role).filter(|_| is_task) {
        let message = format!(
            "cannot probe {} in this role: a task is never ready",
            each.name
        );
        at.problem::<()>(probe.origin, message, "leave `role` out");
    }
}

/// Checks that a module can settle before its start times out.
fn settle(each: &ParsedModule<'_>, at: &mut ReadContext<'_>) {
    let ready = &each.module.ready.readiness;
    let (Readiness::Settle(span), timeout) = (ready, each.module.startup_timeout.0) else {
        return;
    };
    if *span < timeout {
        return;
    }
    let key = |path: &[&str]| each.entry?.node.at(path).map(|node| node.origin);
    let (name, written) = (each.name, key(&["startup_timeout"]));
    let message = format!(
        "cannot use module.{name}.ready.settle: {name} would never be ready, because its start \
         times out after {} (module.{name}.startup_timeout{})",
        duration_text(timeout),
        if written.is_some() {
            ""
        } else {
            ", the default"
        },
    );
    let mut problem = (at.texts).problem(key(&["ready", "settle"]).unwrap_or_default(), message);
    let place = written.and_then(|origin| at.texts.place(origin));
    problem.related.extend(place.map(|place| Related {
        place,
        text: format!("startup_timeout is {}", duration_text(timeout)),
    }));
    let hint = format!("make startup_timeout longer than {}", duration_text(*span));
    at.problems.push(|| problem.hint(&hint));
}

/// What is stopped when it is not used has to start by itself.
fn idle_stop(each: &ParsedModule<'_>, at: &mut ReadContext<'_>) {
    let (name, module) = (each.name, &each.module);
    let (problem, hint) = match (module.start, module.kind) {
        (StartMode::Lazy, Kind::Service) => return,
        (StartMode::Eager, Kind::Service) => (
            "nothing starts it again when it is used",
            "set start = \"lazy\"",
        ),
        _ => ("it is no service", "leave it out"),
    };
    let node = each.entry.and_then(|entry| entry.node.at(&["idle_stop"]));
    if let (Some(_), Some(node)) = (module.idle_stop, node) {
        let message = format!("cannot use module.{name}.idle_stop: {problem}");
        at.problem::<()>(node.origin, message, hint);
    }
}

fn edge(
    each: &ParsedModule<'_>,
    key: &str,
    needed: &RawDependency,
    read: &[ParsedModule<'_>],
    ids: &BTreeMap<&str, usize>,
    at: &mut ReadContext<'_>,
) {
    let (name, to) = (each.name, &needed.module);
    if to.text == name {
        let message = format!("cannot use module.{name}.{key}: {name} depends on itself");
        at.problem::<()>(to.origin, message, "leave it out");
        return;
    }
    if missing(each, key, to, ids, at) {
        return;
    }
    let target = ids.get(to.text.as_str()).and_then(|index| read.get(*index));
    let Some(target) = target else { return };
    if needed.until == DependencyCondition::Healthy
        && !target.module.health.probes.iter().any(reports_health)
    {
        let message = format!("cannot wait until {} is healthy: it has no probe", to.text);
        let hint = format!(
            "give it one: [module.{}.health] probes = [{{ sdk = true }}]",
            to.text
        );
        at.problem::<()>(to.origin, message, &hint);
    }
    if needed.until == DependencyCondition::Completed && target.module.kind == Kind::Builtin {
        let message = format!("cannot wait until {} has completed: it never ends", to.text);
        at.problem::<()>(to.origin, message, "until = \"ready\"");
    }
}

fn missing(
    each: &ParsedModule<'_>,
    key: &str,
    to: &ModuleName,
    ids: &BTreeMap<&str, usize>,
    at: &mut ReadContext<'_>,
) -> bool {
    if ids.contains_key(to.text.as_str()) {
        return false;
    }
    at.problem_with(to.origin, || {
        let message = format!(
            "cannot use module.{}.{key}: there is no module {:?}",
            each.name, to.text
        );
        let hint = match closest(&to.text, ids.keys().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "register it, or leave it out".to_owned(),
        };
        (message, Some(hint))
    });
    true
}

/// Returns the graph, or a cycle with its full path and the location of each edge.
pub(crate) fn graph(
    slots: &[Option<Arc<ModuleSpec>>],
    table: &KeyTable,
    at: &mut ReadContext<'_>,
) -> Option<DependencyGraph> {
    let cycle = match DependencyGraph::new(slots) {
        Ok(graph) => return Some(graph),
        Err(cycle) => cycle,
    };
    let name = |id: &ModuleId| match slots.get(id.index()) {
        Some(Some(spec)) => spec.name.as_str(),
        _ => "",
    };
    // The cycle begins with its first name, so that its message is stable.
    let first = cycle
        .iter()
        .enumerate()
        .min_by_key(|(_, id)| name(id))
        .map_or(0, |(at, _)| at);
    let turned = cycle.iter().cycle().skip(first).take(cycle.len());
    let mut names: Vec<&str> = turned.map(name).collect();
    names.extend(names.first().copied());
    let places: Vec<Option<Origin>> = names
        .windows(2)
        .map(|pair| {
            pair.first()
                .zip(pair.get(1))
                .and_then(|(from, to)| place(table, from, to))
        })
        .collect();
    let related = names.windows(2).zip(&places).filter_map(|(pair, origin)| {
        let place = at.texts.place((*origin)?)?;
        let text = format!("{} needs {}", pair.first()?, pair.get(1)?);
        Some(Related { place, text })
    });
    let related: Vec<Related> = related.collect();
    let origin = places.first().copied().flatten().unwrap_or_default();
    let message = format!(
        "cannot order the modules: they depend on each other: {}",
        names.join(" → ")
    );
    let mut problem = at.texts.problem(origin, message);
    problem.related = related;
    let hint = "leave one of these edges out; `wants` does not break a cycle";
    at.problems.push(|| problem.hint(hint));
    None
}

/// Returns the location of an edge.
fn place(table: &KeyTable, from: &str, to: &str) -> Option<Origin> {
    let module = &table.get("module")?.node.as_table()?.get(from)?.node;
    ["requires", "wants"].iter().find_map(|key| {
        let TreeValue::List(list) = &module.at(&[key])?.value else {
            return None;
        };
        let named = list.iter().find(|each| match &each.value {
            TreeValue::Text(text) => text == to,
            TreeValue::Table(_) => {
                let module = each.at(&["module"]).map(|module| &module.value);
                matches!(module, Some(TreeValue::Text(text)) if text == to)
            }
            _ => false,
        });
        named.map(|each| each.origin)
    })
}
