//! Health: probes running modules on a schedule.
//! Owns what is monitored, at most one check in flight a probe, and one alarm. Never judges:
//! thresholds, pauses, trends are policy's.
//! In flight at most: 1 check a probe, 1 ReadinessChanged a module, 1 report of each module's own,
//! 1 Sampled, 1 TimerFired.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::health::{ProbeAction, combine, schedule};
use mainstay_policy::{ModuleId, MonoTime, states};
use mainstay_protocol::method::HealthReportParams;
use mainstay_protocol::{EventKind, HealthStatus};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::sync::oneshot;

use super::event_recorder::EventBuilder;
use super::lifecycle::LifecycleMsg;
use super::registry::RegistryMsg;
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert};
use crate::config::{ProbeKind, ProbeSpec};
use crate::os::RunHold;

mod check;
mod monitored;
mod outlook;

pub(crate) use check::ProbeResult;
use monitored::{CHANGE_EVERY, MonitoredModule};
pub(crate) use outlook::ProbeOutlook;

/// An alarm that is later than this was held up: the machine slept, or mainstay was stopped.
const LATE: Duration = Duration::from_secs(5);
/// A check is repeated after this time when what it probes could not answer.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// Messages of the health actor.
#[derive(Debug)]
pub(crate) enum HealthMsg {
    /// A module became ready, or is not any more.
    ReadinessChanged {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// Ready, or not any more.
        running: bool,
        /// It was ready before, and is only found so.
        found: bool,
    },
    /// It fed its watchdog, or reported its health without being asked.
    SelfReported {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// What it reports.
        report: HealthReportParams,
    },
    /// A check has ended.
    Probed {
        /// Of which module.
        module: ModuleId,
        /// Of which run.
        generation: u64,
        /// By which probe.
        probe: usize,
        /// Which check of it.
        number: u64,
        /// What was found.
        result: ProbeResult,
    },
    /// Where do the probes of a module stand?
    Explain {
        /// The module.
        module: ModuleId,
        /// In the order of its configuration.
        answer: oneshot::Sender<Vec<ProbeOutlook>>,
    },
    /// What runs use: module, generation, bytes of memory.
    Sampled(Vec<(ModuleId, u64, u64)>),
    /// The alarm.
    TimerFired,
}

impl HealthMsg {
    /// A run fed its watchdog: that is its report.
    pub(super) fn watchdog_fed(module: ModuleId, generation: u64) -> HealthMsg {
        HealthMsg::SelfReported {
            module,
            generation,
            report: HealthReportParams {
                status: HealthStatus::Healthy,
                ..monitored::no_report()
            },
        }
    }
}

/// The state.
pub(crate) struct HealthActorState {
    ctx: Arc<RuntimeContext>,
    monitored: Vec<Option<MonitoredModule>>,
    /// What each module last reported of itself, and in which run: its report may arrive before the
    /// message that it runs.
    self_reported: Vec<(u64, HealthReportParams)>,
    /// What is due next, and of which module.
    next: Option<(MonoTime, usize)>,
    alarm: DeadlineTimer,
    /// How long the machine had slept since it was booted, when that was last read.
    slept: Duration,
    /// When the machine was found to have slept.
    resumed_at: MonoTime,
}

/// The actor.
pub(crate) struct HealthActor;

impl Actor for HealthActor {
    type Msg = HealthMsg;
    type State = HealthActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        _: ActorRef<HealthMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<HealthActorState, ActorProcessingErr> {
        Ok(HealthActorState {
            self_reported: Vec::new(),
            slept: ctx.os.sleep_time(),
            resumed_at: MonoTime(0),
            ctx,
            monitored: Vec::new(),
            next: None,
            alarm: DeadlineTimer::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<HealthMsg>,
        msg: HealthMsg,
        state: &mut HealthActorState,
    ) -> Result<(), ActorProcessingErr> {
        state.make_room();
        state.check_for_sleep();
        let touched = match &msg {
            HealthMsg::ReadinessChanged { module, .. } => Some(module.index()),
            HealthMsg::SelfReported { module, .. } => Some(module.index()),
            _ => None,
        };
        match msg {
            HealthMsg::ReadinessChanged {
                module,
                generation,
                running,
                found,
            } => {
                state.cancel_probes(module);
                state.monitored[module.index()] =
                    running.then(|| state.monitor(module, generation, found));
                state.publish(module);
            }
            HealthMsg::SelfReported {
                module,
                generation,
                report,
            } => state.on_self_report(module, generation, report),
            HealthMsg::Probed {
                module,
                generation,
                probe,
                number,
                result,
            } => state.on_probe_result(module, generation, (probe, number), result),
            HealthMsg::Explain { module, answer } => {
                let _asker_left = answer.send(state.outlook(module));
                return Ok(());
            }
            HealthMsg::Sampled(usages) => state.on_sample(&usages),
            HealthMsg::TimerFired => state.start_due_probes(),
        }
        state.update_next(touched);
        let (now, next) = (state.ctx.os.now(), state.next.map(|(due, _)| due));
        state
            .alarm
            .set(now, next, &myself, || HealthMsg::TimerFired);
        Ok(())
    }
}

impl HealthActorState {
    /// Grows with the slots of the plan.
    fn make_room(&mut self) {
        let slots = self.ctx.planned().slots();
        if self.monitored.len() < slots {
            self.monitored.resize_with(slots, || None);
            self.self_reported
                .resize(slots, (0, monitored::no_report()));
        }
    }

    /// After a sleep every probe gets a whole interval: what answers late after it is not at fault.
    fn check_for_sleep(&mut self) {
        let (slept, now) = (self.ctx.os.sleep_time(), self.ctx.os.now());
        let gap = slept.saturating_sub(std::mem::replace(&mut self.slept, slept));
        let late = self.next.map_or(Duration::ZERO, |(due, _)| now.since(due));
        let gap = gap.max(late);
        if gap < LATE {
            return;
        }
        self.resumed_at = now;
        for (index, monitored) in self.monitored.iter_mut().enumerate() {
            let probes = self
                .ctx
                .launch_of(index)
                .map(|launch| checks(&launch.probes));
            if let (Some(monitored), Some(probes)) = (monitored, probes) {
                monitored.postpone(now, &probes);
            }
        }
        self.update_next(None);
        let slept_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let entry = EventBuilder::of(EventKind::SystemResumed);
        let entry = entry.payload(json!({ "slept_ms": slept_ms }));
        self.ctx.recorder.record(entry);
    }

    fn monitor(&self, module: ModuleId, generation: u64, found: bool) -> MonitoredModule {
        let now = self.ctx.os.now();
        let (of, report) = &self.self_reported[module.index()];
        let report = (*of == generation).then(|| report.clone());
        let mut monitored = MonitoredModule::new(now, generation, &self.probes(module), report);
        if found {
            // All are found at once: a whole interval passes before each, and up to a quarter more.
            let (place, count) = (module.0, self.ctx.plan().len().max(1));
            let share = f64::from(place) / count as f64 / 4.0;
            monitored.spread(now, &self.probes(module), share);
        }
        monitored
    }

    /// The probes that check a module which is ready; a watchdog is fed instead.
    fn probes(&self, module: ModuleId) -> Vec<ProbeSpec> {
        checks(&self.ctx.launch(module).probes)
    }

    /// After a change of one module, unless it was the next, no other has to be looked at.
    fn update_next(&mut self, touched: Option<usize>) {
        let due_of = |index: usize| {
            let due = self.monitored.get(index)?.as_ref()?.next_due()?;
            Some((due, index))
        };
        self.next = match touched {
            Some(index) if self.next.is_none_or(|(_, next)| next != index) => {
                self.next.into_iter().chain(due_of(index)).min()
            }
            _ => (0..self.monitored.len()).filter_map(due_of).min(),
        };
    }

    fn start_due_probes(&mut self) {
        let now = self.ctx.os.now();
        let (mut due, mut late) = (Vec::new(), Vec::new());
        for (index, monitored) in self.monitored.iter_mut().enumerate() {
            let Some(monitored) = monitored else { continue };
            let module = ModuleId(u32::try_from(index).unwrap_or(u32::MAX));
            if monitored.deferred_publish.is_some_and(|at| at <= now) {
                late.push(module);
            }
            due.extend(monitored.take_due(now).map(|probe| (module, probe)));
        }
        late.into_iter().for_each(|module| self.publish(module));
        for (module, probe) in due {
            if let Some(spec) = self.probes(module).into_iter().nth(probe.index) {
                check::start(Arc::clone(&self.ctx), module, probe, spec);
            }
        }
    }

    /// Kills the commands that check what does not run any more.
    fn cancel_probes(&self, module: ModuleId) {
        let Some(monitored) = &self.monitored[module.index()] else {
            return;
        };
        for number in monitored.in_flight() {
            let command = self.ctx.instance(module).with_command(number);
            self.ctx.os.kill(&command, number);
        }
    }

    fn on_probe_result(
        &mut self,
        module: ModuleId,
        generation: u64,
        (probe, number): (usize, u64),
        result: ProbeResult,
    ) {
        let Some(spec) = self.probes(module).into_iter().nth(probe) else {
            return;
        };
        let now = self.ctx.os.now();
        let startup_timeout = self.ctx.spec(module).startup_timeout;
        let monitored = self.monitored[module.index()].as_mut();
        let Some(monitored) = monitored.filter(|it| it.generation == generation) else {
            return;
        };
        let young = now.since(monitored.since) < startup_timeout;
        // A check of probes that are not configured any more says nothing of these.
        let state = monitored.probes.get_mut(probe);
        let Some(state) = state.filter(|state| state.number == number) else {
            return;
        };
        let is_failure = result.health == HealthStatus::Unhealthy;
        // Its connection is made after its start, or after the runtime came back: as long as it has
        // never answered, it may be missing for as long as a start may take.
        let is_early = result.absent && young && state.tracker.health() == states::Health::Unknown;
        let had_to_wait = is_failure && state.started_at < self.resumed_at;
        if is_early || had_to_wait || state.is_excused(&result, spec.unhealthy_threshold) {
            state.paused = result.held.map(RunHold::text);
            let pause = match result.held {
                Some(_) => HELD_PAUSE.min(spec.interval),
                None => spec.interval,
            };
            state.due = Some(now.after(pause));
            return self.publish(module);
        }
        let seed = u64::from(module.0) ^ (generation << 20) ^ now.0.rotate_left(32);
        let load = load(&self.ctx);
        let action = state.record(&result);
        let rates = schedule::ProbeRates {
            role: spec.role,
            interval: spec.interval,
            adaptive: spec.adaptive,
        };
        state.stretch = schedule::stretch(&rates, &state.tracker, load);
        state.due = Some(match action {
            // The confirmation before a restart follows at once.
            ProbeAction::Recheck => now,
            ProbeAction::Continue | ProbeAction::Restart => {
                now.after(schedule::pause(&rates, &state.tracker, load, seed))
            }
        });
        monitored.last_check = Some(self.ctx.os.wall_clock());
        let response_ms = result.response_ms();
        monitored.take_metrics(now, result.metrics, response_ms);
        self.publish_with(module, action == ProbeAction::Restart);
    }

    fn on_self_report(&mut self, module: ModuleId, generation: u64, report: HealthReportParams) {
        let (now, wall) = (self.ctx.os.now(), self.ctx.os.wall_clock());
        let monitored = self.monitored[module.index()].as_mut();
        if let Some(monitored) = monitored.filter(|it| it.generation == generation) {
            monitored.take_report(now, report.clone());
            monitored.last_check = Some(wall);
            self.publish(module);
        }
        self.self_reported[module.index()] = (generation, report);
    }

    fn on_sample(&mut self, usages: &[(ModuleId, u64, u64)]) {
        let now = self.ctx.os.now();
        for (module, generation, bytes) in usages {
            let monitored = self.monitored.get_mut(module.index());
            let monitored = monitored.and_then(Option::as_mut);
            if let Some(monitored) = monitored.filter(|it| it.generation == *generation) {
                monitored.measured(now, "memory_bytes", *bytes as f64);
                self.publish(*module);
            }
        }
    }

    fn publish(&mut self, module: ModuleId) {
        self.publish_with(module, false);
    }

    /// The worst of what was found and reported; a change is published and sent to the lifecycle.
    fn publish_with(&mut self, module: ModuleId, restart: bool) {
        let (spec, launch) = (self.ctx.spec(module), self.ctx.launch(module));
        let Some(monitored) = self.monitored[module.index()].as_mut() else {
            return;
        };
        let has_watchdog = launch.probes.iter().any(|it| is_watchdog(&it.check));
        let builtin = spec.kind == mainstay_policy::spec::Kind::Builtin;
        let health = match builtin {
            true => HealthStatus::Healthy,
            false => convert::health(combine(monitored.reports(has_watchdog))),
        };
        let limit = spec.throttle.limits.memory_bytes;
        let info = monitored.info(health, &checks(&launch.probes), limit);
        let passes = monitored.passes();
        let deferred = monitored.deferred_publish.take();
        let has_changed = (health, passes) != monitored.published;
        let now = self.ctx.os.now();
        if has_changed && !restart && !monitored.changes.try_take(now) {
            let deferred = deferred.filter(|at| *at > now);
            monitored.deferred_publish = deferred.or_else(|| Some(now.after(CHANGE_EVERY)));
            return;
        }
        let generation = monitored.generation;
        let (from, _) = std::mem::replace(&mut monitored.published, (health, passes));
        let found = info.issues.join("; ");
        if from != health {
            let entry = EventBuilder::of(EventKind::ModuleHealthChanged)
                .module(module, generation)
                .payload(json!({
                    "from": from, "to": health, "issues": info.issues, "output": info.output(),
                }));
            self.ctx.recorder.record(entry);
        }
        if monitored.shown.as_ref() != Some(&info) {
            monitored.shown = Some(info.clone());
            let msg = RegistryMsg::Health(module, Arc::new(info));
            self.ctx.actor_refs.registry.cast(msg);
        }
        if has_changed || restart {
            let msg = LifecycleMsg::Health {
                module,
                generation,
                health: convert::health_to_policy(health),
                passes,
                liveness_issue: restart.then_some(found),
            };
            self.ctx.actor_refs.lifecycle.cast(msg);
        }
    }
}

/// The probes that go on once the module is ready.
fn checks(probes: &[ProbeSpec]) -> Vec<ProbeSpec> {
    let probes = probes.iter();
    let goes_on = |probe: &&ProbeSpec| {
        !is_watchdog(&probe.check) && probe.role != mainstay_process::ProbeRole::Startup
    };
    probes.filter(goes_on).cloned().collect()
}

/// Whether a module has to report by itself instead of being probed.
fn is_watchdog(probe: &ProbeKind) -> bool {
    matches!(probe, ProbeKind::Watchdog(_))
}

/// Tasks that run or wait for a processor, per processor; where they are not counted, the share of
/// all processors in use.
fn load(ctx: &RuntimeContext) -> f64 {
    let usage = ctx.snapshots.system().machine;
    let load = usage.load.unwrap_or(usage.cpu_percent / 100.0);
    load / usage.cores.max(1) as f64
}
