//! Health: looks at running modules on a schedule.
//! Owns the probe schedules, at most one look in flight a probe, and one alarm. Never judges:
//! thresholds are policy's.
//! In flight at most: 1 look a probe, 1 Moved a module, 1 word of each module's own, 1 Woke.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::health::{ProbeAction, ProbeTracker, combine};
use mainstay_policy::rate_limit::TokenBucket;
use mainstay_policy::{ModuleId, MonoTime, states};
use mainstay_protocol::method::{HealthReportParams, name};
use mainstay_protocol::{ErrorCode, EventKind, HealthStatus};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::sync::oneshot;

use super::event_recorder::EventBuilder;
use super::lifecycle::LifecycleMsg;
use super::registry::RegistryMsg;
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert, probing};
use crate::config::{ProbeKind, ProbeSpec};

mod outlook;

use outlook::CheckTimes;
pub(crate) use outlook::ProbeOutlook;

/// Changes of one run that are told at once. One that goes to and fro is told more slowly then.
const CHANGES_AT_ONCE: u32 = 10;
/// How often that is; what counts is how it is then.
const CHANGE_EVERY: Duration = Duration::from_secs(10);

/// What health is told.
#[derive(Debug)]
pub(crate) enum HealthMsg {
    /// A module became ready, or is not any more.
    ReadinessChanged {
        /// Who.
        module: ModuleId,
        /// Its run.
        generation: u64,
        /// Ready, or not any more.
        running: bool,
        /// It was ready before, and is only found so.
        found: bool,
    },
    /// It fed its watchdog, or said how it is by itself.
    SelfReported {
        /// Who.
        module: ModuleId,
        /// Its run.
        generation: u64,
        /// How it says it is.
        health: HealthStatus,
    },
    /// A look is over.
    Probed {
        /// At whom.
        module: ModuleId,
        /// At which run.
        generation: u64,
        /// With which probe.
        probe: usize,
        /// What was seen.
        seen: ProbeResult,
    },
    /// Where do the probes of a module stand?
    Explain {
        /// Which.
        module: ModuleId,
        /// In the order of its configuration.
        answer: oneshot::Sender<Vec<ProbeOutlook>>,
    },
    /// The alarm.
    TimerFired,
}

/// What one look saw.
#[derive(Debug)]
pub(crate) struct ProbeResult {
    /// How the module is.
    pub(crate) health: HealthStatus,
    /// What is wrong, in words.
    pub(crate) issues: Vec<String>,
    /// It has no connection it could be asked over.
    pub(crate) absent: bool,
}

/// One probe of one running module.
struct ProbeState {
    tracker: ProbeTracker,
    /// None while a look is in flight.
    due: Option<MonoTime>,
    /// The newest look; tells a command that looks from any other.
    number: u64,
    times: CheckTimes,
    issues: Vec<String>,
    /// Looks in a row that found it unwell.
    failures: u32,
}

/// A running module that is looked at.
struct MonitoredModule {
    generation: u64,
    /// Since when it is looked at.
    since: MonoTime,
    probes: Vec<ProbeState>,
    /// What it said by itself.
    self_reported: HealthStatus,
    published: HealthStatus,
    changes: TokenBucket,
    /// When a change is told that came too soon behind others.
    deferred_publish: Option<MonoTime>,
}

/// The state.
pub(crate) struct HealthActorState {
    ctx: Arc<RuntimeContext>,
    watched: Vec<Option<MonitoredModule>>,
    /// What each module last said of itself, and in which run: its word may be faster than the
    /// news that it runs.
    self_reported: Vec<(u64, HealthStatus)>,
    alarm: DeadlineTimer,
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
            ctx,
            watched: Vec::new(),
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
        match msg {
            HealthMsg::ReadinessChanged {
                module,
                generation,
                running,
                found,
            } => {
                state.cancel_probes(module);
                state.watched[module.index()] =
                    running.then(|| state.monitor(module, generation, found));
                state.publish(module);
                if state.probes(module).is_empty() {
                    return Ok(()); // nothing of it is due, before or after
                }
            }
            HealthMsg::SelfReported {
                module,
                generation,
                health,
            } => state.on_self_report(module, generation, health),
            HealthMsg::Probed {
                module,
                generation,
                probe,
                seen,
            } => {
                state.on_probe_result(module, generation, probe, seen);
            }
            HealthMsg::Explain { module, answer } => {
                let _asker_left = answer.send(state.outlook(module));
                return Ok(());
            }
            HealthMsg::TimerFired => state.start_due_probes(),
        }
        let (now, next) = (state.ctx.os.now(), state.next_due());
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
        if self.watched.len() < slots {
            self.watched.resize_with(slots, || None);
            self.self_reported.resize(slots, (0, HealthStatus::Unknown));
        }
    }

    fn monitor(&self, module: ModuleId, generation: u64, found: bool) -> MonitoredModule {
        let now = self.ctx.os.now();
        let delay = |probe: &ProbeSpec| match found {
            true => probe.initial_delay.max(self.first_of_many(module, probe)),
            false => probe.initial_delay,
        };
        let probes = self
            .probes(module)
            .iter()
            .map(|probe| ProbeState {
                tracker: ProbeTracker::new(probe.unhealthy_threshold, probe.healthy_threshold),
                due: Some(now.after(delay(probe))),
                number: 0,
                times: CheckTimes::default(),
                issues: Vec::new(),
                failures: 0,
            })
            .collect();
        let (of, said) = self.self_reported[module.index()];
        MonitoredModule {
            generation,
            since: now,
            probes,
            self_reported: if of == generation {
                said
            } else {
                HealthStatus::Unknown
            },
            published: HealthStatus::Unknown,
            changes: TokenBucket::new(CHANGES_AT_ONCE, 1.0 / CHANGE_EVERY.as_secs_f64()),
            deferred_publish: None,
        }
    }

    /// All that is found is found at once: a whole interval passes before it is looked at, and up
    /// to a quarter more, by its place, so that not all are looked at in the same moment.
    fn first_of_many(&self, module: ModuleId, probe: &ProbeSpec) -> Duration {
        let (place, count) = (module.0, self.ctx.plan().len().max(1));
        let spread = probe.interval / 4 * place / u32::try_from(count).unwrap_or(u32::MAX);
        probe.interval + spread
    }

    /// The probes that are looked with; a watchdog is fed instead.
    fn probes(&self, module: ModuleId) -> Vec<ProbeSpec> {
        let launch = self.ctx.launch(module);
        let probes = launch.probes.iter();
        probes
            .filter(|probe| !is_watchdog(&probe.check))
            .cloned()
            .collect()
    }

    fn next_due(&self) -> Option<MonoTime> {
        self.watched
            .iter()
            .flatten()
            .flat_map(|watched| {
                watched
                    .probes
                    .iter()
                    .map(|w| w.due)
                    .chain([watched.deferred_publish])
            })
            .flatten()
            .min()
    }

    fn start_due_probes(&mut self) {
        let now = self.ctx.os.now();
        let (mut due, mut late) = (Vec::new(), Vec::new());
        for (index, watched) in self.watched.iter_mut().enumerate() {
            let Some(watched) = watched else { continue };
            if watched.deferred_publish.is_some_and(|at| at <= now) {
                late.push(ModuleId(u32::try_from(index).unwrap_or(u32::MAX)));
            }
            for (probe, watch) in watched.probes.iter_mut().enumerate() {
                if watch.due.is_some_and(|at| at <= now) {
                    watch.due = None;
                    watch.times.began = Some(now);
                    watch.number = now.0 + probe as u64;
                    due.push((index, watched.generation, probe, watch.number));
                }
            }
        }
        late.into_iter().for_each(|module| self.publish(module));
        for (index, generation, probe, number) in due {
            let module = ModuleId(u32::try_from(index).unwrap_or(u32::MAX));
            if let Some(spec) = self.probes(module).into_iter().nth(probe) {
                let ctx = Arc::clone(&self.ctx);
                start_probe(ctx, module, (generation, probe, number), spec);
            }
        }
    }

    /// Looks at what does not run any more end with it.
    fn cancel_probes(&self, module: ModuleId) {
        let Some(watched) = &self.watched[module.index()] else {
            return;
        };
        let looking = watched.probes.iter().filter(|watch| watch.due.is_none());
        for watch in looking {
            let command = self.ctx.instance(module).with_command(watch.number);
            self.ctx.os.kill(&command, watch.number);
        }
    }

    fn on_probe_result(
        &mut self,
        module: ModuleId,
        generation: u64,
        probe: usize,
        seen: ProbeResult,
    ) {
        let Some(spec) = self.probes(module).into_iter().nth(probe) else {
            return;
        };
        let now = self.ctx.os.now();
        let Some(watched) = self.watched[module.index()].as_mut() else {
            return;
        };
        if watched.generation != generation {
            return;
        }
        let Some(watch) = watched.probes.get_mut(probe) else {
            return;
        };
        // Its connection comes behind its start, or behind our own return: as long as it has never
        // answered, it may be away for as long as a start may take.
        let young = now.since(watched.since) < self.ctx.spec(module).startup_timeout;
        if seen.absent && young && watch.tracker.health() == states::Health::Unknown {
            watch.due = Some(now.after(spec.interval));
            return;
        }
        watch.times.took = watch.times.began.take().map(|began| now.since(began));
        watch.failures = match seen.health {
            HealthStatus::Unhealthy => watch.failures.saturating_add(1),
            _ => 0,
        };
        let counted = |issue: &String| probing::counted(issue, watch.failures);
        watch.issues = seen.issues.iter().map(counted).collect();
        let answer = watch.tracker.record(convert::health_to_policy(seen.health));
        watch.due = Some(match answer {
            // The confirmation before a restart: asked again at once.
            ProbeAction::Recheck => now,
            ProbeAction::Continue | ProbeAction::Restart => now.after(spec.interval),
        });
        self.publish_with(module, answer == ProbeAction::Restart);
    }

    fn on_self_report(&mut self, module: ModuleId, generation: u64, health: HealthStatus) {
        self.self_reported[module.index()] = (generation, health);
        let watched = self.watched[module.index()].as_mut();
        if let Some(watched) = watched.filter(|watched| watched.generation == generation) {
            watched.self_reported = health;
            self.publish(module);
        }
    }

    fn publish(&mut self, module: ModuleId) {
        self.publish_with(module, false);
    }

    /// The worst of what was seen and said; a change is published and told to the lifecycle.
    fn publish_with(&mut self, module: ModuleId, restart: bool) {
        let watchdog = (self.ctx.launch(module).probes.iter()).any(|it| is_watchdog(&it.check));
        let Some(watched) = self.watched[module.index()].as_mut() else {
            return;
        };
        let seen = watched.probes.iter().map(|watch| watch.tracker.health());
        let reported = convert::health_to_policy(watched.self_reported);
        // A module that reports without being asked may never do so; a watchdog has to be fed.
        let reported = (watchdog || reported != states::Health::Unknown).then_some(reported);
        let health = convert::health(combine(seen.chain(reported)));
        let builtin = self.ctx.spec(module).kind == mainstay_policy::spec::Kind::Builtin;
        let health = if builtin {
            HealthStatus::Healthy
        } else {
            health
        };
        let late = watched.deferred_publish.take();
        if health == watched.published && !restart {
            return;
        }
        let now = self.ctx.os.now();
        if !restart && !watched.changes.try_take(now) {
            let late = late.filter(|at| *at > now);
            watched.deferred_publish = late.or_else(|| Some(now.after(CHANGE_EVERY)));
            return;
        }
        let from = std::mem::replace(&mut watched.published, health);
        let generation = watched.generation;
        let issues: Vec<String> = watched
            .probes
            .iter()
            .flat_map(|watch| watch.issues.iter().cloned())
            .collect();
        if from != health {
            let entry = EventBuilder::of(EventKind::ModuleHealthChanged)
                .module(module, generation)
                .payload(json!({ "from": from, "to": health, "issues": issues }));
            self.ctx.recorder.record(entry);
        }
        let found = issues.join("; ");
        self.ctx
            .actor_refs
            .registry
            .cast(RegistryMsg::Health(module, health, issues));
        let health = convert::health_to_policy(health);
        let msg = LifecycleMsg::Health {
            module,
            generation,
            health,
            liveness_issue: restart.then_some(found),
        };
        self.ctx.actor_refs.lifecycle.cast(msg);
    }
}

/// Whether a module has to report by itself instead of being probed.
fn is_watchdog(probe: &ProbeKind) -> bool {
    matches!(probe, ProbeKind::Watchdog(_))
}

fn start_probe(
    ctx: Arc<RuntimeContext>,
    module: ModuleId,
    (generation, probe, number): (u64, usize, u64),
    spec: ProbeSpec,
) {
    tokio::spawn(async move {
        let seen = run_probe(&ctx, module, number, &spec).await;
        let msg = HealthMsg::Probed {
            module,
            generation,
            probe,
            seen,
        };
        ctx.actor_refs.health.cast(msg);
    });
}

async fn run_probe(
    ctx: &RuntimeContext,
    module: ModuleId,
    number: u64,
    spec: &ProbeSpec,
) -> ProbeResult {
    let result = match &spec.check {
        ProbeKind::Probe(probe) => probing::probe(ctx, module, number, probe, spec.timeout).await,
        ProbeKind::Sdk => return probe_over_sdk(ctx, module, spec).await,
        ProbeKind::Watchdog(_) => Ok(()),
    };
    match result {
        Ok(()) => ProbeResult {
            health: HealthStatus::Healthy,
            issues: Vec::new(),
            absent: false,
        },
        Err(issue) => ProbeResult {
            health: HealthStatus::Unhealthy,
            issues: vec![issue],
            absent: false,
        },
    }
}

/// Asks the module itself over its connection.
async fn probe_over_sdk(ctx: &RuntimeContext, module: ModuleId, spec: &ProbeSpec) -> ProbeResult {
    let params = serde_json::Value::Null;
    let unwell = |issue: String| ProbeResult {
        health: HealthStatus::Unhealthy,
        issues: vec![issue],
        absent: false,
    };
    match ctx
        .bus
        .request(module, name::HEALTH_CHECK, params, spec.timeout)
        .await
    {
        Ok(answer) => match serde_json::from_value::<HealthReportParams>(answer) {
            Ok(report) => ProbeResult {
                health: report.status,
                issues: report.issues,
                absent: false,
            },
            Err(error) => unwell(format!("its health report makes no sense: {error}")),
        },
        Err(refusal) => ProbeResult {
            absent: refusal.data.code == ErrorCode::Unavailable,
            ..unwell(format!("it did not answer: {}", refusal.message))
        },
    }
}
