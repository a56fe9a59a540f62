//! Plans and scripts in plain words, for the tests of this crate.
//! Owns the little language; see [`modules`] and [`LifecycleScript::apply`].
//! Never part of the product.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_process::Instance;

use crate::group::{GroupId, GroupMember, GroupSpec, GroupStrategy, OnExceeded};
use crate::lifecycle::{
    ChangeClass, Lifecycle, LifecycleEffect, LifecycleEvent, Operation, StartupFailure,
};
use crate::module_ids::ModuleIds;
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::run::{Exit, RunEnd, RunReport, RunReportKind, StartFailure, StartStep};
use crate::spec::{
    Backoff, Cascade, DependencyCondition, Edge, Importance, Kind, ModuleId, ModuleSpec,
    OnDependencyRestart, Probation, Readiness, RecoverySpec, RestartPolicy, StartMode, Strategy,
    SystemSpec,
};
use crate::states::{Cause, Health, State};

pub(crate) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(crate) const SEC: fn(u64) -> Duration = Duration::from_secs;

pub(crate) fn system() -> SystemSpec {
    SystemSpec {
        parallel_startup: true,
        module_start_delay: Duration::ZERO,
        startup_timeout: SEC(60),
        shutdown_timeout: SEC(30),
        concurrent_restarts: 4,
        cascade: Cascade {
            share: 1.0,
            window: SEC(60),
        },
        groups: Vec::new(),
    }
}

/// The defaults of the documents, without jitter.
pub(crate) fn recovery() -> RecoverySpec {
    RecoverySpec {
        auto: true,
        restart: RestartPolicy::Always,
        clean_exit_codes: vec![0],
        max_attempts: 3,
        window: SEC(300),
        backoff: Backoff {
            initial: MS(200),
            factor: 2.0,
            max: SEC(10),
            jitter: 0.0,
            floor: MS(50),
        },
        stable_after: SEC(60),
        probation: Some(Probation {
            initial: SEC(30),
            factor: 2.0,
            max: SEC(300),
        }),
        on_failure: vec![Strategy::Restart],
    }
}

pub(crate) fn module(name: &str) -> ModuleSpec {
    ModuleSpec {
        id: ModuleId(0),
        name: name.to_string(),
        kind: Kind::Service,
        required: true,
        start: StartMode::Eager,
        importance: Importance::Normal,
        edges: Vec::new(),
        readiness: Readiness::Started,
        has_before_start: false,
        has_after_stop: false,
        startup_timeout: SEC(30),
        shutdown_timeout: SEC(10),
        watchdog: None,
        has_probes: true,
        has_startup_probes: false,
        has_readiness_probes: false,
        recovery: recovery(),
        on_dependency_restart: OnDependencyRestart::Notify,
        throttle: crate::resources::ThrottleSpec::default(),
    }
}

/// One module a line: `name: a b? c@completed | optional lazy task`.
/// `a` is required, `b?` is wanted; `@started`, `@healthy`, `@completed` say until when.
pub(crate) fn modules(text: &str) -> Vec<ModuleSpec> {
    modules_onto(&mut ModuleIds::default(), text)
}

/// The same; modules that have a slot in `ids` keep it.
pub(crate) fn modules_onto(ids: &mut ModuleIds, text: &str) -> Vec<ModuleSpec> {
    let lines: Vec<(&str, &str, &str)> = (text.lines().map(str::trim))
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (line, words) = line.split_once('|').unwrap_or((line, ""));
            let (name, needs) = line.split_once(':').unwrap_or((line, ""));
            (name.trim(), needs, words)
        })
        .collect();
    for (name, ..) in &lines {
        ids.intern(Instance::new(name, 1));
    }
    let edge = |word: &str| {
        let (word, until) = word.split_once('@').unwrap_or((word, "ready"));
        let until = match until {
            "started" => DependencyCondition::Started,
            "ready" => DependencyCondition::Ready,
            "healthy" => DependencyCondition::Healthy,
            "completed" => DependencyCondition::Completed,
            other => panic!("no such edge: {other}"),
        };
        let name = word.trim_end_matches('?');
        Edge {
            to: ids.find(name).expect("a module of the plan"),
            hard: !word.ends_with('?'),
            until,
        }
    };
    (lines.iter())
        .map(|(name, needs, words)| {
            let mut spec = module(name);
            spec.id = ids.find(name).expect("it was interned");
            spec.edges = needs.split_whitespace().map(edge).collect();
            words
                .split_whitespace()
                .for_each(|word| adorn(&mut spec, word));
            spec
        })
        .collect()
}

fn adorn(spec: &mut ModuleSpec, word: &str) {
    let recovery = &mut spec.recovery;
    match word {
        "optional" => spec.required = false,
        "lazy" => spec.start = StartMode::Lazy,
        "readiness" => spec.has_readiness_probes = true,
        "builtin" => spec.kind = Kind::Builtin,
        "task" => (spec.kind, recovery.restart) = (Kind::Task, RestartPolicy::Never),
        "on_failure" => recovery.restart = RestartPolicy::OnFailure,
        "never" => recovery.restart = RestartPolicy::Never,
        "by_hand" => recovery.auto = false,
        "no_probation" => recovery.probation = None,
        "unlimited" => recovery.max_attempts = 0,
        "restart" => spec.on_dependency_restart = OnDependencyRestart::Restart,
        "ignore" => spec.on_dependency_restart = OnDependencyRestart::Ignore,
        "critical" => spec.importance = Importance::Critical,
        "low" => spec.importance = Importance::Low,
        "once" => recovery.max_attempts = 1,
        "reset" => recovery.on_failure.push(Strategy::RestartWithReset),
        "degrade" => recovery.on_failure.push(Strategy::Degrade),
        "system" => recovery.on_failure.push(Strategy::RestartSystem),
        "stop" => recovery.on_failure.push(Strategy::Stop),
        other => panic!("no such word: {other}"),
    }
}

pub(crate) fn plan(text: &str) -> Plan {
    Plan::new(1, system(), modules(text)).expect("a good plan")
}

/// The same with groups, one a line: `name: a group:b | one_for_all 5 30s stop_group`.
pub(crate) fn plan_with_groups(text: &str, groups: &str) -> Plan {
    let modules = modules(text);
    let find = |name: &str| {
        let found = modules.iter().find(|spec| spec.name == name);
        found.expect("a module of the plan").id
    };
    let system = SystemSpec {
        groups: self::groups(groups, find),
        ..system()
    };
    Plan::new(1, system, modules).expect("a good plan")
}

pub(crate) fn groups(text: &str, find: impl Fn(&str) -> ModuleId) -> Vec<GroupSpec> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let name = |line: &str| line.split(':').next().expect("a name").trim().to_string();
    let names: Vec<String> = lines.iter().map(|line| name(line)).collect();
    let member = |word: &str| match word.strip_prefix("group:") {
        None => GroupMember::Module(find(word)),
        Some(group) => {
            let at = names.iter().position(|name| name == group);
            GroupMember::Group(GroupId(at.map_or(99, |at| at as u32)))
        }
    };
    let group = |line: &&str| {
        let (members, words) = line.split_once('|').expect("members | words");
        let (_, members) = members.split_once(':').expect("name: members");
        let words: Vec<&str> = words.split_whitespace().collect();
        GroupSpec {
            name: name(line),
            members: members.split_whitespace().map(member).collect(),
            strategy: match words[0] {
                "one_for_one" => GroupStrategy::OneForOne,
                "one_for_all" => GroupStrategy::OneForAll,
                "rest_for_one" => GroupStrategy::RestForOne,
                other => panic!("no such strategy: {other}"),
            },
            max_restarts: words[1].parse().expect("a number"),
            within: span(words[2]),
            on_exceeded: match words[3] {
                "escalate" => OnExceeded::Escalate,
                "stop_group" => OnExceeded::StopGroup,
                "restart_system" => OnExceeded::RestartSystem,
                "shutdown" => OnExceeded::Shutdown,
                "degrade" => OnExceeded::Degrade,
                other => panic!("no such word: {other}"),
            },
        }
    };
    lines.iter().map(group).collect()
}

/// A lifecycle with events and effects as text.
pub(crate) struct LifecycleScript {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) now: MonoTime,
    /// The groups of the plans that follow.
    pub(crate) groups: &'static str,
    slots: ModuleIds,
}

impl LifecycleScript {
    pub(crate) fn new(plan: Plan) -> LifecycleScript {
        let mut slots = ModuleIds::default();
        for slot in (0_u32..).map(ModuleId).take(plan.slots()) {
            let name = plan.get(slot).map_or("vacant", |spec| &spec.name);
            slots.intern(Instance::new(name, 1));
        }
        LifecycleScript {
            slots,
            lifecycle: Lifecycle::new(plan, 1),
            groups: "",
            now: MonoTime(1_000_000_000),
        }
    }

    pub(crate) fn id(&self, name: &str) -> ModuleId {
        let id = self.slots.find(name);
        id.unwrap_or_else(|| panic!("no module {name}"))
    }

    pub(crate) fn ids(&self) -> Vec<ModuleId> {
        self.lifecycle.plan().ids().collect()
    }

    pub(crate) fn state(&self, name: &str) -> State {
        self.lifecycle.view(self.id(name)).state
    }

    fn name(&self, module: ModuleId) -> &str {
        self.slots.name(module).map_or("nobody", |it| it.as_str())
    }

    /// Makes what `words` say happen and returns the effects, comma-separated and sorted by
    /// nothing but their order. `StateChanged` and `RecoveryDecided` are left out: states are
    /// asked for.
    ///
    /// `boot`, `resume`, `stop all [5s]`, `wait 200ms`, `start a`, `stop a`, `restart a`,
    /// `wake a`, `a up` (started and ready), `a started`, `a ready`, `a done`, `a exit 1`,
    /// `a killed`, `recover a`, `a prepared 1`, `a unprepared 1`, `a halted`, `a forced`, `a exec`, `a late`,
    /// `a healthy`, `a unhealthy`, `a ill`, `hold a 10s`, `release a`.
    pub(crate) fn apply(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut effects = Vec::new();
        match &words[..] {
            ["boot"] => self.note(LifecycleEvent::Boot, &mut effects),
            ["resume"] => self.note(LifecycleEvent::Resume, &mut effects),
            ["stop", "all"] => self.note(LifecycleEvent::StopAll { budget: None }, &mut effects),
            ["stop", "all", budget] => {
                let budget = Some(span(budget));
                self.note(LifecycleEvent::StopAll { budget }, &mut effects);
            }
            ["wait", time] => self.wait(span(time), &mut effects),
            ["hold", name, time] => {
                let (module, until) = (self.id(name), Some(self.now.after(span(time))));
                self.note(LifecycleEvent::Held { module, until }, &mut effects);
            }
            ["release", name] => {
                let (module, until) = (self.id(name), None);
                self.note(LifecycleEvent::Held { module, until }, &mut effects);
            }
            ["start", name] => self.operation(name, Operation::Start, &mut effects),
            ["stop", name] => self.operation(name, Operation::Stop, &mut effects),
            ["restart", name] => self.operation(name, Operation::Restart, &mut effects),
            ["wake", name] => self.operation(name, Operation::Wake, &mut effects),
            ["recover", name] => self.operation(name, Operation::Recover, &mut effects),
            [name, what @ ..] => self.news(name, what, &mut effects),
            [] => {}
        }
        let told = effects.iter().filter_map(|effect| self.words(effect));
        told.collect::<Vec<_>>().join(", ")
    }

    /// The next plan; `changes` as `b live, c restart`.
    pub(crate) fn replan(&mut self, text: &str, changes: &str) -> String {
        let number = self.lifecycle.plan().number() + 1;
        let modules = modules_onto(&mut self.slots, text);
        let system = SystemSpec {
            groups: groups(self.groups, |name| self.id(name)),
            ..system()
        };
        let plan = Plan::new(number, system, modules).expect("a good plan");
        let changes = changes
            .split(',')
            .filter(|change| !change.trim().is_empty());
        let change = |text: &str| {
            let (name, class) = text.trim().split_once(' ').expect("a name and a class");
            let class = match class {
                "live" => ChangeClass::Live,
                "restart" => ChangeClass::Restart,
                other => panic!("no such class: {other}"),
            };
            (self.id(name), class)
        };
        let changes: Vec<_> = changes.map(change).collect();
        let done = self.lifecycle.replan(self.now, plan, &changes);
        done.expect("it follows");
        let mut effects = Vec::new();
        self.note(LifecycleEvent::TimerFired, &mut effects);
        let told = effects.iter().filter_map(|effect| self.words(effect));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Gives a module another name.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        self.slots.rename(&[(from, to)], |_| true);
    }

    fn operation(&mut self, name: &str, operation: Operation, effects: &mut Vec<LifecycleEffect>) {
        self.note(
            LifecycleEvent::Requested {
                module: self.id(name),
                operation,
            },
            effects,
        );
    }

    fn news(&mut self, name: &str, what: &[&str], effects: &mut Vec<LifecycleEffect>) {
        let module = self.id(name);
        let generation = self.lifecycle.view(module).generation;
        let ended = |ending| vec![RunReportKind::Ended(ending)];
        let health = |health, restart| LifecycleEvent::Health {
            module,
            generation,
            health,
            passes: health == Health::Healthy,
            restart,
        };
        let halted = |forced| RunEnd::Stopped {
            exit: Some(Exit::Code(0)),
            forced,
        };
        let reports = match what {
            ["up"] => vec![RunReportKind::Started { pid: 7 }, RunReportKind::Ready],
            ["started"] => vec![RunReportKind::Started { pid: 7 }],
            ["ready"] => vec![RunReportKind::Ready],
            ["ending"] => vec![RunReportKind::Ending { cause: Cause::Exit }],
            ["done"] => ended(RunEnd::Exited(Exit::Code(0))),
            ["exit", code] => ended(RunEnd::Exited(Exit::Code(
                code.parse().expect("an exit code"),
            ))),
            ["killed"] => ended(RunEnd::Exited(Exit::Signal {
                signal: mainstay_process::Signal::KILL,
                core: false,
            })),
            ["halted"] => ended(halted(false)),
            ["forced"] => ended(halted(true)),
            ["stuck"] => ended(RunEnd::Stopped {
                exit: Some(Exit::Stuck),
                forced: true,
            }),
            ["exec"] => ended(RunEnd::NotStarted(StartFailure {
                step: StartStep::Exec,
                errno: 12,
            })),
            ["lost"] => ended(RunEnd::NotStarted(StartFailure {
                step: StartStep::Holder,
                errno: 0,
            })),
            ["late"] => ended(RunEnd::StartTimeout),
            ["prepared", number] => return self.prepared(module, number, true, effects),
            ["unprepared", number] => return self.prepared(module, number, false, effects),
            ["healthy"] => return self.note(health(Health::Healthy, false), effects),
            ["unhealthy"] => return self.note(health(Health::Unhealthy, false), effects),
            ["ill"] => return self.note(health(Health::Unhealthy, true), effects),
            ["idle"] => return self.note(LifecycleEvent::Idle { module, generation }, effects),
            ["begins", "anew"] => {
                self.lifecycle.repeat_order(self.now, module);
                return self.note(LifecycleEvent::TimerFired, effects);
            }
            other => panic!("no such news: {other:?}"),
        };
        for what in reports {
            let report = RunReport { generation, what };
            self.note(LifecycleEvent::Reported { module, report }, effects);
        }
    }

    fn prepared(
        &mut self,
        module: ModuleId,
        number: &str,
        ok: bool,
        effects: &mut Vec<LifecycleEffect>,
    ) {
        let ticket = number.parse().expect("a number");
        let event = LifecycleEvent::ProcedureEnded { module, ticket, ok };
        self.note(event, effects);
    }

    pub(crate) fn note(&mut self, event: LifecycleEvent, effects: &mut Vec<LifecycleEffect>) {
        self.lifecycle.apply(self.now, event);
        while let Some(effect) = self.lifecycle.next_effect(self.now) {
            effects.push(effect);
            assert!(effects.len() < 1_000_000, "settle does not come to an end");
        }
    }

    /// Lets time pass, with a wake-up at each deadline.
    fn wait(&mut self, span: Duration, effects: &mut Vec<LifecycleEffect>) {
        let end = self.now.after(span);
        while let Some(at) = self.lifecycle.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.note(LifecycleEvent::TimerFired, effects);
        }
        self.now = end;
        self.note(LifecycleEvent::TimerFired, effects);
    }

    fn words(&self, effect: &LifecycleEffect) -> Option<String> {
        Some(match effect {
            LifecycleEffect::Run { module, .. } => format!("run {}", self.name(*module)),
            LifecycleEffect::Stop { module, grace, .. } if *grace == SEC(10) => {
                format!("halt {}", self.name(*module))
            }
            LifecycleEffect::Stop { module, grace, .. } => {
                format!("halt {} {grace:?}", self.name(*module))
            }
            LifecycleEffect::NotifyDependent {
                module,
                about,
                news,
            } => {
                format!("tell {} {} {news:?}", self.name(*module), self.name(*about))
            }
            LifecycleEffect::StartupCompleted => "started".to_string(),
            LifecycleEffect::Removed { module } => format!("removed {}", self.name(*module)),
            LifecycleEffect::PlanInForce { plan } => format!("plan {plan}"),
            LifecycleEffect::StartupFailed {
                reason: StartupFailure::RequiredModuleFailed { module },
            } => {
                format!("start failed: {}", self.name(*module))
            }
            LifecycleEffect::StartupFailed {
                reason: StartupFailure::DependencyFailed { module, needed_by },
            } => {
                let (name, by) = (self.name(*module), self.name(*needed_by));
                format!("start failed: {name}, needed by {by}")
            }
            LifecycleEffect::StartupFailed {
                reason: StartupFailure::TimedOut { missing },
            } => {
                let missing: Vec<&str> = missing.iter().map(|id| self.name(*id)).collect();
                format!("start timed out: {}", missing.join(" "))
            }
            LifecycleEffect::AllStopped { forced } => format!("all stopped, {forced} forced"),
            LifecycleEffect::Prepare(order) => {
                let what = if order.reset { "reset" } else { "roll back" };
                format!("{what} {} {}", self.name(order.module), order.ticket)
            }
            LifecycleEffect::DegradedChanged {
                module, degraded, ..
            } => {
                let what = if *degraded { "degrade" } else { "restore" };
                format!("{what} {}", self.name(*module))
            }
            LifecycleEffect::CascadeStopped { branch, .. } => {
                let names: Vec<&str> = branch.iter().map(|id| self.name(*id)).collect();
                format!("cascade: {}", names.join(" "))
            }
            LifecycleEffect::StateChanged { .. } | LifecycleEffect::RecoveryDecided { .. } => {
                return None;
            }
        })
    }
}

fn span(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number = digits.parse().expect("a number");
    match &text[digits.len()..] {
        "ms" => MS(number),
        "s" => SEC(number),
        "m" => SEC(60 * number),
        "h" => SEC(3600 * number),
        other => panic!("no such unit: {other}"),
    }
}

/// Applies one event after the other to a lifecycle of `plan` and compares the effects.
#[track_caller]
pub(crate) fn check(text: &str, steps: &[(&str, &str)]) -> LifecycleScript {
    let mut script = LifecycleScript::new(plan(text));
    run(&mut script, steps);
    script
}

#[track_caller]
pub(crate) fn run(script: &mut LifecycleScript, steps: &[(&str, &str)]) {
    for (at, (event, expected)) in steps.iter().enumerate() {
        assert_eq!(script.apply(event), *expected, "step {}: {event}", at + 1);
    }
}
