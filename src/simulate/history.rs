//! One history: the lifecycle and the runs of a plan, over simulated processes.
//! Owns the clock, the agenda, and the delivery of events and effects, which takes no time.
//! Never lies to the policy: lost, late and doubled messages are tried by the project's simulator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::lifecycle::{LifecycleEffect, LifecycleEvent, StartupFailure};
use mainstay_policy::run::{Exit, RunEffect, RunEvent, RunMachine, RunReportKind};
use mainstay_policy::{Lifecycle, ModuleId, MonoTime};

use super::Model;
use super::chance::Chance;
use super::observer::Observer;
use super::processes::SimProcess;

/// When each history begins: not at zero, so that something can be before it.
pub(super) const BEGIN: MonoTime = MonoTime(1_000_000_000);
/// Events of a history, so that a plan that never rests ends too.
const EVENTS_MAX: u64 = 5_000_000;

/// What is still to happen; what is of a run has its number.
#[derive(Debug, Clone, Copy)]
pub(super) enum SimEvent {
    /// A process ends.
    Exit(ModuleId, u64, Exit),
    /// A process says that it is ready.
    Ready(ModuleId, u64),
    /// A process feeds its watchdog.
    Feed(ModuleId, u64),
    /// A process hangs from now on.
    Hang(ModuleId, u64),
    /// A probe has its result: which one.
    Probe(ModuleId, u64, usize),
    /// A time in which all starts fail begins.
    Outage(ModuleId),
    RunTimer(ModuleId),
    LifecycleTimer,
}

/// What is delivered before time passes.
pub(super) enum Delivery {
    Run(ModuleId, RunEvent),
    Lifecycle(LifecycleEvent),
}

/// What became of a history.
pub(super) struct Outcome {
    /// What was seen.
    pub(super) observer: Observer,
    /// The initial startup failed, and everything was stopped.
    pub(super) startup_failure: Option<StartupFailure>,
    /// A policy stopped everything later.
    pub(super) stopped: bool,
    /// It was ended before its time because it never rests.
    pub(super) is_endless: bool,
}

/// A history that runs.
pub(super) struct History<'m> {
    pub(super) model: &'m Model,
    pub(super) chance: Chance,
    pub(super) now: MonoTime,
    agenda: BTreeMap<(MonoTime, u64), SimEvent>,
    events: u64,
    pub(super) deliveries: VecDeque<Delivery>,
    lifecycle: Lifecycle,
    runs: Vec<RunMachine>,
    /// By slot.
    pub(super) processes: Vec<Option<SimProcess>>,
    lifecycle_timer: MonoTime,
    run_timers: Vec<MonoTime>,
    observer: Observer,
    /// Something changed that the observer has not seen.
    pub(super) is_changed: bool,
    startup_failure: Option<StartupFailure>,
    is_over: bool,
}

/// Runs one.
pub(super) fn run(model: &Model, seed: u64, lasts: Duration) -> Outcome {
    let slots = model.plan.slots();
    let mut history = History {
        model,
        chance: Chance::new(seed),
        now: BEGIN,
        agenda: BTreeMap::new(),
        events: 0,
        deliveries: VecDeque::new(),
        lifecycle: Lifecycle::new(Arc::clone(&model.plan), seed),
        runs: vec![RunMachine::new(); slots],
        processes: (0..slots).map(|_| None).collect(),
        lifecycle_timer: MonoTime::NEVER,
        run_timers: vec![MonoTime::NEVER; slots],
        observer: Observer::new(slots),
        is_changed: true,
        startup_failure: None,
        is_over: false,
    };
    history.schedule_outages();
    history
        .deliveries
        .push_back(Delivery::Lifecycle(LifecycleEvent::Boot));
    let is_endless = history.run_until(BEGIN.after(lasts));
    Outcome {
        stopped: history.is_over && history.startup_failure.is_none(),
        startup_failure: history.startup_failure,
        observer: history.observer,
        is_endless,
    }
}

impl History<'_> {
    /// Whether it was ended because it never rests.
    fn run_until(&mut self, end: MonoTime) -> bool {
        loop {
            self.deliver_all();
            let next = self.agenda.first_key_value();
            let next = next.filter(|((at, _), _)| *at <= end && !self.is_over);
            let Some((&(at, _), _)) = next else {
                break;
            };
            if self.events > EVENTS_MAX {
                break;
            }
            if let Some((_, event)) = self.agenda.pop_first() {
                self.now = at;
                self.happen(event);
            }
        }
        if !self.is_over {
            self.now = end;
        }
        let (lifecycle, processes) = (&self.lifecycle, &self.processes);
        self.observer
            .finish(self.model, self.now, lifecycle, processes);
        self.events > EVENTS_MAX
    }

    /// Schedules an event.
    pub(super) fn at(&mut self, at: MonoTime, event: SimEvent) {
        self.events += 1;
        self.agenda.insert((at, self.events), event);
    }

    pub(super) fn tell_run(&mut self, module: ModuleId, event: RunEvent) {
        self.deliveries.push_back(Delivery::Run(module, event));
    }

    pub(super) fn tell_lifecycle(&mut self, event: LifecycleEvent) {
        self.deliveries.push_back(Delivery::Lifecycle(event));
    }

    fn deliver_all(&mut self) {
        while let Some(delivery) = self.deliveries.pop_front() {
            match delivery {
                Delivery::Run(module, event) => self.apply_to_run(module, event),
                Delivery::Lifecycle(event) => self.apply_to_lifecycle(event),
            }
        }
        if std::mem::take(&mut self.is_changed) {
            let (lifecycle, processes) = (&self.lifecycle, &self.processes);
            self.observer
                .observe(self.model, self.now, lifecycle, processes);
        }
    }

    fn happen(&mut self, event: SimEvent) {
        match event {
            SimEvent::RunTimer(module) => {
                self.run_timers[module.index()] = MonoTime::NEVER;
                self.tell_run(module, RunEvent::TimerFired);
            }
            SimEvent::LifecycleTimer => {
                self.lifecycle_timer = MonoTime::NEVER;
                self.tell_lifecycle(LifecycleEvent::TimerFired);
            }
            event => self.happen_to_process(event),
        }
    }

    fn apply_to_run(&mut self, module: ModuleId, event: RunEvent) {
        let (at, model) = (module.index(), self.model);
        let spec = model.spec(module);
        self.runs[at].apply(spec, self.now, event);
        while let Some(effect) = self.runs[at].next_effect(spec, self.now) {
            self.perform_run_effect(module, effect);
        }
        if let Some(deadline) = self.runs[at].deadline()
            && deadline < self.run_timers[at]
        {
            self.run_timers[at] = deadline;
            self.at(deadline.max(self.now), SimEvent::RunTimer(module));
        }
    }

    fn perform_run_effect(&mut self, module: ModuleId, effect: RunEffect) {
        match effect {
            RunEffect::Prepare { generation } => {
                let ok = true;
                self.tell_run(module, RunEvent::Prepared { generation, ok });
            }
            RunEffect::CleanUp { generation } => {
                self.tell_run(module, RunEvent::CleanedUp { generation });
            }
            RunEffect::DrainNotify { generation } => {
                self.tell_run(module, RunEvent::NotifyDrained { generation });
            }
            RunEffect::Spawn { generation } => self.spawn(module, generation),
            RunEffect::Probe { generation, .. } => {
                let process = self.processes[module.index()].as_ref();
                let ok = process.is_some_and(|process| process.is_well(self.now));
                self.tell_run(module, RunEvent::Probed { generation, ok });
            }
            RunEffect::Terminate { generation, .. } => self.terminate(module, generation),
            RunEffect::Kill { generation } => self.kill(module, generation),
            RunEffect::Report(report) => {
                if report.what == RunReportKind::Ready {
                    self.begin_probes(module, report.generation);
                }
                self.tell_lifecycle(LifecycleEvent::Reported { module, report });
            }
        }
    }

    fn apply_to_lifecycle(&mut self, event: LifecycleEvent) {
        self.lifecycle.apply(self.now, event);
        while let Some(effect) = self.lifecycle.next_effect(self.now) {
            self.perform_effect(effect);
        }
        if let Some(deadline) = self.lifecycle.deadline()
            && deadline < self.lifecycle_timer
        {
            self.lifecycle_timer = deadline;
            self.at(deadline.max(self.now), SimEvent::LifecycleTimer);
        }
    }

    fn perform_effect(&mut self, effect: LifecycleEffect) {
        match effect {
            LifecycleEffect::Run { module, generation } => {
                self.tell_run(module, RunEvent::StartRequested { generation });
            }
            LifecycleEffect::Stop {
                module,
                generation,
                grace,
                limit,
            } => {
                let stop = RunEvent::StopRequested {
                    generation,
                    grace,
                    limit,
                };
                self.tell_run(module, stop);
            }
            LifecycleEffect::Prepare(order) => {
                self.tell_lifecycle(LifecycleEvent::ProcedureEnded {
                    module: order.module,
                    ticket: order.ticket,
                    ok: true,
                });
            }
            LifecycleEffect::RecoveryDecided {
                module,
                failure,
                decision,
                ..
            } => {
                let process = self.processes[module.index()].as_ref();
                let is_false_alarm = process.is_some_and(|it| it.is_well(self.now));
                self.observer
                    .failed(module, failure, &decision, is_false_alarm);
            }
            LifecycleEffect::StartupFailed { reason } => self.startup_failure = Some(reason),
            LifecycleEffect::CascadeStopped { .. } => self.observer.cascades += 1,
            LifecycleEffect::AllStopped { .. } => self.is_over = true,
            LifecycleEffect::StateChanged { .. } => self.is_changed = true,
            LifecycleEffect::NotifyDependent { .. }
            | LifecycleEffect::DegradedChanged { .. }
            | LifecycleEffect::StartupCompleted
            | LifecycleEffect::Removed { .. }
            | LifecycleEffect::PlanInForce { .. } => {}
        }
    }
}
