//! What readers get: the snapshots and the plan, as the protocol shows them.
//! Owns the conversion. Never shows an environment, a command line or a secret.

use mainstay_policy::health::score::{self, DeductionReason, ScoreInput};
use mainstay_policy::reload::Watching;
use mainstay_policy::states::{Desired, State};
use mainstay_policy::{ModuleId, spec};
use mainstay_protocol::enums::Rung;
use mainstay_protocol::health::{Deduction, HealthReport, SystemHealth, Trend};
use mainstay_protocol::method::{GraphEdge, GraphNode, GraphView};
use mainstay_protocol::view::{ModuleCounts, Throttle};
use mainstay_protocol::{HealthStatus, ModuleView, SystemView, Timestamp};

use crate::actors::RuntimeContext;
use crate::actors::convert;
use crate::actors::lifecycle::emit_recovery::load_text;
use crate::actors::readiness;
use crate::actors::snapshots::ModuleSnapshot;
use crate::config::{LaunchSpec, asked_isolation};
use crate::os::machine;
use crate::os_text::duration_text;

/// A metric that reaches its limit within this number of seconds costs points.
const GROWTH_SOON_S: u64 = 900;
/// Modules of a plan that is watched that are named.
const WATCHED_SHOWN: usize = 3;

/// One module.
pub(crate) fn module(ctx: &RuntimeContext, id: ModuleId) -> ModuleView {
    let (spec, launch, now) = (ctx.spec(id), ctx.launch(id), ctx.snapshots.module(id));
    let info = &now.lifecycle.info;
    let names = |hard: bool| {
        let edges = spec.edges.iter().filter(|edge| edge.hard == hard);
        edges.map(|edge| ctx.name(edge.to).to_string()).collect()
    };
    let held_until = held_until(ctx, &now);
    ModuleView {
        module: spec.name.clone(),
        description: launch.description.clone(),
        version: launch.version.clone(),
        kind: convert::kind(spec.kind),
        state: convert::state(info.state),
        desired: convert::desired(info.desired),
        since: now.lifecycle.since,
        cause: (info.state != State::NotStarted).then(|| convert::cause(info.cause)),
        reason: now.lifecycle.reason.clone(),
        health: health(&spec, &now),
        score: score::score(&score_input(&now)),
        issues: now.health.issues.clone(),
        metrics: now.health.metrics.clone(),
        trends: now.health.trends.clone(),
        probes_stretched_ms: (now.health.probes.iter())
            .filter_map(|probe| probe.stretched_ms)
            .max(),
        pid: info.pid,
        generation: info.generation,
        restarts: u64::from(info.restarts),
        requested_restarts: u64::from(info.requested_restarts),
        started_because: now.lifecycle.started_because.as_deref().map(str::to_owned),
        attempts: info.attempts,
        required: spec.required,
        importance: convert::importance(spec.importance),
        requires: names(true),
        wants: names(false),
        waiting_on: info
            .waiting_on
            .iter()
            .map(|id| ctx.name(*id).to_string())
            .collect(),
        failed_need: info.held_by_failed.map(|id| ctx.name(id).to_string()),
        waits_for: match info.state {
            State::Starting => now
                .not_ready
                .clone()
                .or(readiness::awaited(&spec.readiness)),
            _ => now.lifecycle.waits_for.clone(),
        },
        next_attempt_at: now.lifecycle.next_attempt_at,
        held_until,
        held_by: held_until.and_then(|_| now.lifecycle.held_by.clone()),
        status_text: now
            .status_text
            .as_deref()
            .filter(|_| is_status_current(spec.kind, info.state))
            .map(str::to_owned),
        degraded: degraded(&launch, &now),
        features: ctx.features(id),
        proposal: info
            .proposal
            .map(|strategy| convert::strategy(strategy).to_owned()),
        throttle: throttle(ctx, &spec, &now),
        usage: now.usage,
        last_exit: now.last_exit.clone(),
        suspended_by: now.suspended_by.clone(),
        output_dropped_bytes: now.output_dropped_bytes,
    }
}

/// Until when it is held, if it is now.
fn held_until(ctx: &RuntimeContext, now: &ModuleSnapshot) -> Option<Timestamp> {
    let until = now.lifecycle.info.held_until;
    let until = until.filter(|until| ctx.os.now() < *until);
    until.map(|until| ctx.to_wall_clock(until))
}

/// Its rung, and what enforces its limits: what has no process has none.
fn throttle(ctx: &RuntimeContext, spec: &spec::ModuleSpec, now: &ModuleSnapshot) -> Throttle {
    let standing = ctx.os.enforcement().mechanism("cpu_percent");
    let standing = standing.filter(|_| spec.kind != spec::Kind::Builtin);
    let mechanism = now.throttle.map(|throttle| throttle.mechanism).or(standing);
    Throttle {
        rung: now
            .throttle
            .map_or(Rung::None, |throttle| convert::rung(throttle.rung)),
        mechanism: mechanism.unwrap_or("none").to_owned(),
    }
}

/// Whether what a module last said of itself still holds: "stopping" does not once it has stopped;
/// last words before a failure and the result of a task do.
fn is_status_current(kind: spec::Kind, state: State) -> bool {
    match state {
        State::NotStarted | State::Waiting => false,
        State::Stopped => kind == spec::Kind::Task,
        _ => true,
    }
}

/// A builtin is part of mainstay: it is healthy as long as mainstay answers.
fn health(spec: &spec::ModuleSpec, now: &ModuleSnapshot) -> HealthStatus {
    if spec.kind == spec::Kind::Builtin && now.lifecycle.info.state == State::Running {
        return HealthStatus::Healthy;
    }
    let is_well = matches!(
        now.health.status,
        HealthStatus::Healthy | HealthStatus::Unknown
    );
    match is_degraded(now) && is_well {
        true => HealthStatus::Degraded,
        false => now.health.status,
    }
}

fn is_degraded(now: &ModuleSnapshot) -> bool {
    now.lifecycle.info.degraded && now.lifecycle.info.state == State::Running
}

/// What a degraded module runs without.
fn degraded(launch: &LaunchSpec, now: &ModuleSnapshot) -> Vec<String> {
    if !is_degraded(now) {
        return Vec::new();
    }
    let load = launch.degrade.reduce_load.map(load_text);
    launch.degrade.disable.iter().cloned().chain(load).collect()
}

fn score_input(now: &ModuleSnapshot) -> ScoreInput {
    let info = &now.lifecycle.info;
    let soon = |trend: &Trend| trend.limit_in_s.is_some_and(|left| left < GROWTH_SOON_S);
    ScoreInput {
        failed: info.state == State::Failed,
        health: convert::health_to_policy(now.health.status),
        attempts: info.attempts,
        rung: now
            .throttle
            .map_or_else(Default::default, |throttle| throttle.rung),
        error_rate: now.health.metrics.get("error_rate").copied(),
        grows: now.health.trends.iter().any(soon),
    }
}

/// The health of the system and of these modules.
pub(crate) fn system_health(ctx: &RuntimeContext, modules: &[ModuleId]) -> SystemHealth {
    let system = system(ctx);
    let modules = modules.iter().map(|id| health_report(ctx, *id)).collect();
    SystemHealth {
        status: system.status,
        reason: system.reason,
        failing_modules: system.failing_modules,
        uptime_ms: system.uptime_ms,
        issues: system.issues,
        usage: system.usage,
        self_usage: system.self_usage,
        modules,
    }
}

fn health_report(ctx: &RuntimeContext, id: ModuleId) -> HealthReport {
    let (spec, now) = (ctx.spec(id), ctx.snapshots.module(id));
    let input = score_input(&now);
    let deductions = score::deductions(&input).into_iter();
    let deductions = deductions.map(|lost| Deduction {
        points: lost.points,
        text: deduction_text(lost.reason),
    });
    let measured = now.usage.iter().flat_map(|usage| {
        let counted = [
            ("cpu_percent", Some(usage.cpu_percent)),
            ("memory_bytes", Some(usage.memory_bytes as f64)),
            ("processes", Some(usage.processes as f64)),
            ("threads", usage.threads.map(|count| count as f64)),
            ("file_handles", usage.file_handles.map(|count| count as f64)),
            (
                "io_bytes_per_s",
                usage.io_bytes_per_s.map(|bytes| bytes as f64),
            ),
        ];
        let counted = counted.into_iter();
        counted.filter_map(|(name, value)| Some((name.to_owned(), value?)))
    });
    let reported = now.health.metrics.iter();
    let reported = reported.map(|(name, value)| (name.clone(), *value));
    HealthReport {
        module: spec.name.clone(),
        state: convert::state(now.lifecycle.info.state),
        status: health(&spec, &now),
        score: score::score(&input),
        deductions: deductions.collect(),
        last_check: now.health.last_check,
        metrics: reported.chain(measured).collect(),
        issues: now.health.issues.clone(),
        trends: now.health.trends.clone(),
        probes: now.health.probes.clone(),
    }
}

fn deduction_text(reason: DeductionReason) -> String {
    match reason {
        DeductionReason::Failed => "it failed".to_owned(),
        DeductionReason::Health(health) => format!("it is {}", convert::health(health)),
        DeductionReason::Restarts(count) => format!("failures that still count: {count}"),
        DeductionReason::Throttled(rung) => format!("throttled: {}", convert::rung(rung)),
        DeductionReason::Errors(share) => format!("{:.1} % errors", share * 100.0),
        DeductionReason::Growth => "a metric soon reaches its limit".to_owned(),
    }
}

/// The system.
pub(crate) fn system(ctx: &RuntimeContext) -> SystemView {
    let now = ctx.snapshots.system();
    let mut issues = ctx.recorder.journal().issues(ctx.os.wall_clock());
    if let Some(problem) = &now.directory_problem {
        issues.push(format!(
            "directories that were removed are not there again: {problem}"
        ));
    }
    issues.extend(now.watching.as_ref().map(|it| watch_text(ctx, it)));
    for key in &ctx.configuration().waiting {
        issues.push(format!(
            "{key} changed: the new value holds from the next `mainstay up`"
        ));
    }
    if machine::is_stopped(ctx.holder.get()) {
        let pid = ctx.holder.get();
        issues.push(format!(
            "the holder (pid {pid}) was stopped, by Ctrl-Z perhaps: nothing is started or ended; \
             go on with `fg` or `kill -CONT {pid}`"
        ));
    }
    issues.extend(ctx.upgrade.holder_issue(ctx.holder.get()));
    for id in ctx.plan().ids() {
        module_issues(ctx, id, &mut issues);
    }
    SystemView {
        name: ctx.configuration().system.name.clone(),
        status: convert::status(now.summary.status),
        reason: ctx.reason(&now.summary),
        failing_modules: now
            .summary
            .failing
            .iter()
            .map(|id| ctx.name(*id).to_string())
            .collect(),
        issues,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        upgrade: ctx.upgrade.view(),
        plan: ctx.plan().number(),
        config_problem: now.config_problem.clone(),
        runtime_values: runtime_values(ctx),
        pid: std::process::id(),
        holder_pid: ctx.holder.get(),
        holder_version: ctx.upgrade.holder_version(),
        uptime_ms: u64::try_from(ctx.os.now().since(ctx.up_since).as_millis()).unwrap_or(u64::MAX),
        modules: counts(ctx),
        usage: now.machine,
        self_usage: now.self_usage,
    }
}

/// That a plan may be rolled back, by which modules, and how long.
fn watch_text(ctx: &RuntimeContext, watching: &Watching) -> String {
    let names = match &watching.modules[..] {
        modules if modules.len() > WATCHED_SHOWN => format!("one of {} modules", modules.len()),
        modules => ctx.names(modules).replace(", ", " or "),
    };
    let until = match watching.until {
        Some(until) => {
            let left = until.since(ctx.os.now()).as_secs();
            format!("for {left} s more")
        }
        None => {
            let period = duration_text(watching.period);
            format!("until {period} after the last of its modules runs")
        }
    };
    let (plan, before) = (watching.plan, ctx.committed.load().number);
    format!("plan {plan} is watched {until}: if {names} fails, plan {before} is in force again")
}

/// The same for one module that is watched.
pub(crate) fn watch_of(ctx: &RuntimeContext, module: ModuleId) -> Option<String> {
    let system = ctx.snapshots.system();
    let mut watching = system.watching.clone()?;
    watching.modules.retain(|id| *id == module);
    (!watching.modules.is_empty()).then(|| watch_text(ctx, &watching))
}

/// What a person should know of one module.
fn module_issues(ctx: &RuntimeContext, id: ModuleId, issues: &mut Vec<String>) {
    let module = ctx.snapshots.module(id);
    issues.extend(
        module
            .health
            .issues
            .iter()
            .map(|issue| format!("{}: {issue}", &ctx.name(id))),
    );
    for key in asked_isolation(&ctx.launch(id).isolation) {
        if let Some((cause, remedy)) = ctx.os.enforcement().missing(key) {
            let name = ctx.name(id);
            issues.push(format!(
                "{name}: isolation.{key} is not enforced: {cause}; {remedy}"
            ));
        }
    }
    if held_until(ctx, &module).is_some() {
        let name = ctx.name(id);
        let by = module.lifecycle.held_by.as_deref();
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        issues.push(format!(
            "{name} is held{by}: no run of it starts; `mainstay release {name}` ends that"
        ));
    }
    if let Some(signal) = &module.suspended_by {
        let pid = module.lifecycle.info.pid.unwrap_or_default();
        issues.push(format!(
            "{} is stopped by a signal ({signal}); `kill -CONT {pid}` continues it",
            &ctx.name(id)
        ));
    }
    if let Some(strategy) = module.lifecycle.info.proposal.map(convert::strategy) {
        let name = ctx.name(id);
        issues.push(format!(
            "{name} failed; proposed: {strategy}; accept it with `mainstay recover {name}`"
        ));
    }
    if let Some(reason) = &module.output_lost {
        let bytes = module.output_dropped_bytes;
        let name = ctx.name(id);
        let file = ctx.log_file(id);
        issues.push(format!(
            "{name}: {bytes} bytes of output were dropped: cannot write {}: {reason}",
            file.display()
        ));
    }
}

fn runtime_values(ctx: &RuntimeContext) -> Vec<String> {
    let configuration = ctx.configuration();
    let values = configuration.overrides().iter();
    values.map(|value| value.path.clone()).collect()
}

/// How many modules are in which state.
pub(crate) fn counts(ctx: &RuntimeContext) -> ModuleCounts {
    let mut counts = ModuleCounts::default();
    for id in ctx.plan().ids() {
        let kind = ctx.spec(id).kind;
        if kind == spec::Kind::Builtin {
            continue;
        }
        counts.total += 1;
        let info = &ctx.snapshots.module(id).lifecycle.info;
        let is_on_request = info.state == State::Stopped && info.desired == Desired::Down;
        counts.stopped_on_request += usize::from(is_on_request);
        *match info.state {
            // As `ModuleView::is_done`.
            State::Stopped if kind == spec::Kind::Task && info.desired == Desired::Up => {
                &mut counts.done
            }
            State::NotStarted => &mut counts.not_started,
            State::Waiting => &mut counts.waiting,
            State::Starting => &mut counts.starting,
            State::Running => &mut counts.running,
            State::Stopping => &mut counts.stopping,
            State::Stopped => &mut counts.stopped,
            State::Backoff => &mut counts.backoff,
            State::Failed => &mut counts.failed,
        } += 1;
    }
    counts
}

/// The graph, in start order.
pub(crate) fn graph(ctx: &RuntimeContext, modules: &[ModuleId]) -> GraphView {
    let plan = &ctx.plan();
    let node = |id: ModuleId| {
        let info = &ctx.snapshots.module(id).lifecycle.info;
        let is_task = ctx.spec(id).kind == spec::Kind::Task;
        GraphNode {
            module: ctx.name(id).to_string(),
            wave: plan.wave(id) as usize,
            state: Some(convert::state(info.state)),
            done: is_task && info.state == State::Stopped && info.desired == Desired::Up,
        }
    };
    let edges = modules.iter().flat_map(|&id| {
        plan.dependencies(id).iter().map(move |edge| GraphEdge {
            from: ctx.name(id).to_string(),
            to: ctx.name(edge.to).to_string(),
            hard: edge.hard,
            until: edge.until.as_str().to_owned(),
        })
    });
    GraphView {
        modules: modules.iter().map(|id| node(*id)).collect(),
        edges: edges.collect(),
    }
}
