//! Random plans: every readiness, policy, edge and hook, in small numbers.
//! Owns the distribution. Never makes a cycle: an edge points to a lower id.

use std::time::Duration;

use mainstay_policy::group::{GroupId, GroupMember, GroupSpec, GroupStrategy, OnExceeded};
use mainstay_policy::lifecycle::ChangeClass;
use mainstay_policy::spec::{
    Backoff, Cascade, DependencyCondition, Edge, Importance, Kind, ModuleId, ModuleSpec,
    OnDependencyRestart, Probation, Readiness, RecoverySpec, RestartPolicy, StartMode, Strategy,
    SystemSpec,
};
use mainstay_policy::{Plan, PlanError};
use mainstay_process::Probe;

use crate::rng::Rng;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A plan of `modules` modules.
///
/// # Errors
/// None, unless the generator itself is wrong.
pub fn generate(rng: &mut Rng, modules: u32) -> Result<Plan, PlanError> {
    let system = SystemSpec {
        parallel_startup: !rng.permille(200),
        module_start_delay: rng.pick(&[Duration::ZERO, MS(10)]),
        startup_timeout: rng.pick(&[MS(5_000), MS(20_000), MS(60_000)]),
        shutdown_timeout: rng.pick(&[MS(500), MS(3_000), MS(30_000)]),
        concurrent_restarts: rng.pick(&[0, 1, 4]),
        cascade: Cascade {
            share: rng.pick(&[0.3, 0.5, 2.0]),
            window: MS(30_000),
        },
        groups: Vec::new(),
    };
    let mut specs: Vec<ModuleSpec> = Vec::new();
    for id in 0..modules {
        let spec = module(rng, id, &specs);
        specs.push(spec);
    }
    let ids: Vec<ModuleId> = specs.iter().map(|spec| spec.id).collect();
    let groups = groups(rng, &ids);
    Plan::new(1, SystemSpec { groups, ..system }, specs)
}

/// Some groups, of which one may be in another.
fn groups(rng: &mut Rng, modules: &[ModuleId]) -> Vec<GroupSpec> {
    let mut groups: Vec<GroupSpec> = Vec::new();
    let mut free: Vec<GroupMember> = modules.iter().copied().map(GroupMember::Module).collect();
    for at in 0..rng.below(4) {
        let mut members = Vec::new();
        for _ in 0..rng.below(5) {
            if !free.is_empty() {
                let nth = usize::try_from(rng.below(free.len() as u64)).unwrap_or(0);
                members.push(free.swap_remove(nth));
            }
        }
        for member in &members {
            if let GroupMember::Group(inner) = member
                && rng.permille(600)
            {
                groups[inner.0 as usize].on_exceeded = OnExceeded::Escalate;
            }
        }
        groups.push(GroupSpec {
            name: format!("g{at}"),
            members,
            strategy: rng.pick(&[
                GroupStrategy::OneForOne,
                GroupStrategy::OneForAll,
                GroupStrategy::RestForOne,
            ]),
            max_restarts: rng.pick(&[0, 1, 3, 10]),
            within: rng.pick(&[MS(1_000), MS(30_000)]),
            on_exceeded: rng.pick(&[
                OnExceeded::StopGroup,
                OnExceeded::StopGroup,
                OnExceeded::RestartSystem,
                OnExceeded::Shutdown,
                OnExceeded::Degrade,
            ]),
        });
        let group = GroupId(u32::try_from(groups.len() - 1).unwrap_or(0));
        free.push(GroupMember::Group(group));
    }
    groups
}

/// A plan that promises less than `plan`: unlimited restarts at once, and nobody restarts with
/// what it needs.
///
/// # Panics
/// Never: edges and names are those of a plan.
#[must_use]
pub fn weakened(plan: &Plan) -> Plan {
    let mut system = plan.system().clone();
    system.concurrent_restarts = 0;
    let modules = plan.modules().map(|module| ModuleSpec {
        on_dependency_restart: OnDependencyRestart::Ignore,
        throttle: mainstay_policy::resources::ThrottleSpec::default(),
        ..ModuleSpec::clone(module)
    });
    match Plan::new(plan.number(), system, modules) {
        Ok(plan) => plan,
        Err(error) => unreachable!("cannot spoil a plan: {error}"),
    }
}

/// The plan without its groups.
///
/// # Panics
/// Never: edges and names are those of a plan.
#[must_use]
pub fn without_groups(plan: &Plan) -> Plan {
    let mut system = plan.system().clone();
    system.groups.clear();
    match Plan::new(plan.number(), system, plan.modules().cloned()) {
        Ok(plan) => plan,
        Err(error) => unreachable!("cannot take groups from a plan: {error}"),
    }
}

/// The plan without these modules.
///
/// # Panics
/// Never: edges and names are those of a plan.
#[must_use]
pub fn without(plan: Plan, dropped: &std::collections::BTreeSet<ModuleId>) -> Plan {
    if dropped.is_empty() {
        return plan;
    }
    let mut system = plan.system().clone();
    for group in &mut system.groups {
        group.members.retain(|member| match member {
            GroupMember::Module(module) => !dropped.contains(module),
            GroupMember::Group(_) => true,
        });
    }
    let kept = plan
        .modules()
        .filter(|module| !dropped.contains(&module.id));
    let kept = kept.map(|module| {
        let mut module = ModuleSpec::clone(module);
        module.edges.retain(|edge| !dropped.contains(&edge.to));
        module
    });
    match Plan::new(plan.number(), system, kept) {
        Ok(plan) => plan,
        Err(error) => unreachable!("cannot leave out modules: {error}"),
    }
}

/// The plan after `plan`: modules are added, removed, changed in place and with a restart, and
/// edges are turned around. No plan has more than `most` slots.
///
/// # Errors
/// None, unless the generator itself is wrong.
pub fn next(
    rng: &mut Rng,
    plan: &Plan,
    most: u32,
) -> Result<(Plan, Vec<(ModuleId, ChangeClass)>), PlanError> {
    let mut system = plan.system().clone();
    if rng.permille(200) {
        system.concurrent_restarts = rng.pick(&[0, 1, 4]);
        system.parallel_startup = !rng.permille(200);
    }
    let kept = plan.order().iter().copied();
    let kept = kept.filter(|id| plan.module(*id).kind == Kind::Builtin || !rng.permille(60));
    let mut ids: Vec<ModuleId> = kept.collect();
    for _ in 0..rng.below(3) {
        let id = ModuleId(u32::try_from(rng.below(u64::from(most))).unwrap_or(0));
        if !ids.contains(&id) && !plan.has(id) {
            ids.insert(place(rng, ids.len()), id);
        }
    }
    if ids.len() > 1 && rng.permille(300) {
        let moved = ids.remove(place(rng, ids.len() - 1));
        ids.insert(place(rng, ids.len()), moved);
    }
    let (mut specs, mut changes): (Vec<ModuleSpec>, _) = (Vec::new(), Vec::new());
    for id in ids {
        let (spec, change) = match plan.get(id) {
            None => {
                // Another module may have the name by now that it had before.
                let name = format!("m{}+{}", id.0, plan.number() + 1);
                let spec = added(rng, id, &specs);
                (ModuleSpec { name, ..spec }, Some(ChangeClass::Added))
            }
            Some(former) => changed(rng, former, &specs),
        };
        specs.push(spec);
        changes.extend(change.map(|change| (id, change)));
    }
    rename(plan, &mut specs, &mut changes);
    let ids: Vec<ModuleId> = specs.iter().map(|spec| spec.id).collect();
    match rng.permille(500) {
        true => system.groups = groups(rng, &ids),
        false => {
            for group in &mut system.groups {
                group.members.retain(|member| match member {
                    GroupMember::Module(module) => ids.contains(module),
                    GroupMember::Group(_) => true,
                });
            }
        }
    }
    Ok((Plan::new(plan.number() + 1, system, specs)?, changes))
}

/// Gives some modules that stay other names: each that of the next one, the last a new name.
fn rename(plan: &Plan, specs: &mut [ModuleSpec], changes: &mut Vec<(ModuleId, ChangeClass)>) {
    let number = plan.number() + 1;
    let is_renamed = |spec: &&mut ModuleSpec| {
        let is_chosen = (u64::from(spec.id.0) + number).is_multiple_of(5);
        is_chosen && plan.has(spec.id) && spec.kind != Kind::Builtin
    };
    let mut name: Option<String> = None;
    for spec in specs.iter_mut().rev().filter(is_renamed) {
        let to = name.unwrap_or_else(|| format!("m{}-{number}", spec.id.0));
        name = Some(core::mem::replace(&mut spec.name, to));
        if changes.iter().all(|(module, _)| *module != spec.id) {
            changes.push((spec.id, ChangeClass::Live));
        }
    }
}

fn place(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64 + 1)).unwrap_or(0)
}

/// A module that is no builtin, because there is one at most and it stays.
fn added(rng: &mut Rng, id: ModuleId, before: &[ModuleSpec]) -> ModuleSpec {
    let mut spec = module(rng, id.0, before);
    if spec.kind == Kind::Builtin {
        spec.kind = Kind::Service;
    }
    spec
}

/// A module of the next plan that was in the former one.
fn changed(
    rng: &mut Rng,
    former: &ModuleSpec,
    before: &[ModuleSpec],
) -> (ModuleSpec, Option<ChangeClass>) {
    let mut spec = former.clone();
    let mut change = None;
    if former.kind != Kind::Builtin && rng.permille(150) {
        change = Some(rng.pick(&[ChangeClass::Live, ChangeClass::Restart]));
        spec = ModuleSpec {
            kind: former.kind,
            name: former.name.clone(),
            has_probes: former.has_probes,
            has_readiness_probes: former.has_readiness_probes,
            ..added(rng, former.id, before)
        };
    }
    // Edges to modules that are gone, or come later now, cannot stay.
    let edges = spec.edges.len();
    let target = |edge: &Edge| before.iter().find(|module| module.id == edge.to);
    spec.edges.retain(|edge| target(edge).is_some());
    if spec.edges.len() < edges && change.is_none() {
        change = Some(rng.pick(&[ChangeClass::Live, ChangeClass::Restart]));
    }
    (spec, change)
}

fn module(rng: &mut Rng, id: u32, before: &[ModuleSpec]) -> ModuleSpec {
    let kind = match rng.below(10) {
        0 if id == 0 => Kind::Builtin,
        1 | 2 => Kind::Task,
        _ => Kind::Service,
    };
    // The simulator does not report the health of a builtin.
    let has_probes = kind != Kind::Builtin && rng.permille(500);
    ModuleSpec {
        id: ModuleId(id),
        name: format!("m{id}"),
        kind,
        required: rng.permille(300),
        start: if rng.permille(150) {
            StartMode::Lazy
        } else {
            StartMode::Eager
        },
        importance: rng.pick(&[
            Importance::Low,
            Importance::Normal,
            Importance::High,
            Importance::Critical,
        ]),
        edges: edges(rng, before),
        readiness: rng.pick_readiness(),
        has_before_start: rng.permille(150),
        has_after_stop: rng.permille(150),
        startup_timeout: rng.pick(&[MS(200), MS(2_000), MS(10_000)]),
        shutdown_timeout: rng.pick(&[Duration::ZERO, MS(50), MS(1_000), MS(5_000)]),
        watchdog: rng.permille(100).then_some(MS(500)),
        has_probes,
        has_startup_probes: kind == Kind::Service && rng.permille(100),
        has_readiness_probes: has_probes && kind == Kind::Service && rng.permille(300),
        recovery: recovery(rng),
        on_dependency_restart: rng.pick(&[
            OnDependencyRestart::Notify,
            OnDependencyRestart::Restart,
            OnDependencyRestart::Ignore,
        ]),
        throttle: mainstay_policy::resources::ThrottleSpec::default(),
    }
}

fn edges(rng: &mut Rng, before: &[ModuleSpec]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for _ in 0..rng.below(4).min(before.len() as u64) {
        let at = usize::try_from(rng.below(before.len() as u64)).unwrap_or(0);
        let target = &before[at];
        let to = target.id;
        let until = match rng.below(6) {
            0 => DependencyCondition::Started,
            1 if target.has_probes => DependencyCondition::Healthy,
            2 if target.kind == Kind::Task => DependencyCondition::Completed,
            _ => DependencyCondition::Ready,
        };
        edges.push(Edge {
            to,
            hard: rng.permille(600),
            until,
        });
    }
    edges
}

fn recovery(rng: &mut Rng) -> RecoverySpec {
    let probation = Probation {
        initial: rng.pick(&[MS(300), MS(3_000)]),
        factor: 2.0,
        max: MS(20_000),
    };
    RecoverySpec {
        auto: !rng.permille(50),
        restart: rng.pick(&[
            RestartPolicy::Always,
            RestartPolicy::Always,
            RestartPolicy::OnFailure,
            RestartPolicy::Never,
        ]),
        clean_exit_codes: vec![0],
        max_attempts: rng.pick(&[0, 1, 3, 5]),
        window: rng.pick(&[MS(1_000), MS(30_000), MS(30_000)]),
        backoff: Backoff {
            initial: rng.pick(&[Duration::ZERO, MS(20), MS(200)]),
            factor: rng.pick(&[1.0, 1.5, 2.0]),
            max: MS(2_000),
            jitter: rng.pick(&[0.0, 0.1, 1.0]),
            floor: rng.pick(&[MS(5), MS(50)]),
        },
        stable_after: rng.pick(&[MS(300), MS(600), MS(60_000)]),
        probation: (!rng.permille(200)).then_some(probation),
        on_failure: match rng.below(16) {
            0 | 1 => vec![Strategy::Restart, Strategy::Stop],
            2 | 3 => vec![Strategy::Stop],
            4 => vec![Strategy::Restart, Strategy::RestartWithReset],
            5 => vec![Strategy::Restart, Strategy::Degrade, Strategy::Stop],
            6 => vec![
                Strategy::Restart,
                Strategy::RestartWithReset,
                Strategy::Degrade,
                Strategy::RestartSystem,
            ],
            7 => vec![Strategy::RestartWithReset, Strategy::Stop],
            _ => vec![Strategy::Restart],
        },
    }
}

impl Rng {
    fn pick_readiness(&mut self) -> Readiness {
        match self.below(4) {
            0 => Readiness::Settle(MS(30)),
            1 => Readiness::Notify,
            2 => Readiness::Probe(Probe::File(String::from("/ready"))),
            _ => Readiness::Started,
        }
    }
}
