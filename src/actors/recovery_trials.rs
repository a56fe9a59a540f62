//! Recovery: performs what is due before a restart, records each verdict, and validates the run
//! that follows. Owns the recoveries in flight, at most one a module. Never decides: policy gives
//! the verdict, and the lifecycle restarts.
//! In flight at most: 1 verdict, 1 order, 1 Running, 1 Health and 1 Ended a module, and 1 timer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::group::Scope;
use mainstay_policy::lifecycle::ProcedureOrder;
use mainstay_policy::recovery::{
    Failure, MIN_READY_TIME, RecoveryValidation, ValidationOutcome, Verdict,
};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

use super::event_recorder::{CausedBy, EventBuilder};
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert};
use crate::os_text::duration_text;

mod procedure;

/// Messages of the recovery actor.
#[derive(Debug)]
pub(crate) enum RecoveryMsg {
    /// A failure was judged.
    Judged {
        /// The module.
        module: ModuleId,
        /// The run that failed.
        generation: u64,
        /// What failed.
        failure: Failure,
        /// How it ended, in words.
        why: String,
        /// How many failures are not paid back.
        attempt: u32,
        /// What policy decided.
        verdict: Verdict,
        /// For whom.
        scope: Scope,
        /// The members of its group that go along.
        along: Vec<ModuleId>,
    },
    /// Something is to be done before the next run.
    Perform(ProcedureOrder),
    /// A module is ready: the validation of its recovery starts, if one is in flight.
    Running {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
    },
    /// The health of a module changed.
    Health {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// Whether it is healthy now.
        healthy: bool,
    },
    /// The alarm.
    TimerFired,
    /// A run ended.
    Ended {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
    },
}

/// A recovery whose new run is not validated yet.
struct RecoveryTrial {
    /// The event that opened it.
    opened: u64,
    trial: RecoveryValidation,
    /// When the trial is looked at again.
    deadline: Option<MonoTime>,
    /// Files were set aside for it.
    reset: bool,
    /// The time that its run has to be well, as text.
    stable_after: String,
}

/// The state.
pub(crate) struct RecoveryActorState {
    ctx: Arc<RuntimeContext>,
    trials: HashMap<ModuleId, RecoveryTrial>,
    /// The deadlines of `trials`.
    deadlines: BTreeSet<(MonoTime, ModuleId)>,
    alarm: DeadlineTimer,
}

/// The actor.
pub(crate) struct RecoveryActor;

impl Actor for RecoveryActor {
    type Msg = RecoveryMsg;
    type State = RecoveryActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        _: ActorRef<RecoveryMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<RecoveryActorState, ActorProcessingErr> {
        Ok(RecoveryActorState {
            ctx,
            trials: HashMap::new(),
            deadlines: BTreeSet::new(),
            alarm: DeadlineTimer::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RecoveryMsg>,
        msg: RecoveryMsg,
        state: &mut RecoveryActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RecoveryMsg::Judged {
                module,
                generation,
                failure,
                why,
                attempt,
                verdict,
                scope,
                along,
            } => {
                let failed = (convert::failure_noun(failure), why);
                let payload = state.payload(module, failed, attempt, verdict, (scope, &along));
                state.judged(module, generation, payload);
            }
            RecoveryMsg::Perform(order) => {
                let recovery = state.trials.get_mut(&order.module);
                let opened = recovery.map(|one| {
                    one.reset = order.reset;
                    one.opened
                });
                procedure::perform(&state.ctx, order, opened);
            }
            RecoveryMsg::Running { module, generation } => state.ready(module, generation),
            RecoveryMsg::Health {
                module,
                generation,
                healthy,
            } => {
                let now = state.ctx.os.now();
                if let Some(recovery) = state.trials.get_mut(&module) {
                    recovery.trial.health_changed(now, generation, healthy);
                    state.validate(module);
                }
            }
            RecoveryMsg::TimerFired => state.validate_due(),
            RecoveryMsg::Ended { module, generation } => {
                let recovery = state.trials.get(&module);
                if let Some(outcome) = recovery.and_then(|one| one.trial.ended(generation)) {
                    state.finish(module, generation, outcome);
                }
            }
        }
        let next = state.deadlines.first().map(|(at, ..)| *at);
        let now = state.ctx.os.now();
        state
            .alarm
            .set(now, next, &myself, || RecoveryMsg::TimerFired);
        Ok(())
    }
}

impl RecoveryActorState {
    /// The payload of a verdict's event.
    fn payload(
        &self,
        module: ModuleId,
        (failure, why): (String, String),
        attempt: u32,
        verdict: Verdict,
        (scope, along): (Scope, &[ModuleId]),
    ) -> Option<(EventKind, Value)> {
        let names = || -> Vec<String> {
            let names = along.iter().map(|id| self.ctx.name(*id).to_string());
            names.collect()
        };
        let spec = self.ctx.spec(module);
        let (max, window) = (spec.recovery.max_attempts, spec.recovery.window);
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match verdict {
            Verdict::Retry { after, strategy } => Some((
                EventKind::RecoveryStarted,
                json!({ "failure": failure, "attempt": attempt,
                        "max_attempts": max, "window_ms": ms(window),
                        "delay_ms": ms(after),
                        "strategy": convert::strategy(strategy), "along": names(),
                        "system": scope == Scope::System }),
            )),
            Verdict::Propose { strategy } => Some((
                EventKind::RecoveryProposed,
                json!({ "text": why, "strategy": convert::strategy(strategy) }),
            )),
            Verdict::GiveUp { probation } => Some((
                EventKind::RecoveryFailed,
                json!({ "text": why, "attempt": attempt, "probation_ms": probation.map(ms),
                        "along": names() }),
            )),
            Verdict::Done => None,
        }
    }

    fn judged(&mut self, module: ModuleId, generation: u64, told: Option<(EventKind, Value)>) {
        let Some((kind, payload)) = told else { return };
        self.close(module);
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .payload(payload);
        let opened = self.ctx.recorder.record(entry);
        if kind == EventKind::RecoveryStarted {
            let spec = self.ctx.spec(module);
            let stable_after = spec.recovery.stable_after;
            let recovery = RecoveryTrial {
                opened,
                trial: RecoveryValidation::new(generation, spec.has_probes, stable_after),
                deadline: None,
                reset: false,
                stable_after: duration_text(stable_after.max(MIN_READY_TIME)),
            };
            self.trials.insert(module, recovery);
        }
    }

    /// Removes the recovery in flight.
    fn close(&mut self, module: ModuleId) -> Option<RecoveryTrial> {
        let recovery = self.trials.remove(&module)?;
        if let Some(at) = recovery.deadline {
            self.deadlines.remove(&(at, module));
        }
        Some(recovery)
    }

    fn ready(&mut self, module: ModuleId, generation: u64) {
        let now = self.ctx.os.now();
        if let Some(recovery) = self.trials.get_mut(&module) {
            recovery.trial.ready(now, generation);
            self.validate(module);
        }
    }

    /// Looks at the trials whose deadlines have passed.
    fn validate_due(&mut self) {
        let now = self.ctx.os.now();
        while let Some((_, module)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            self.validate(module);
        }
    }

    fn validate(&mut self, module: ModuleId) {
        let now = self.ctx.os.now();
        let Some(recovery) = self.trials.get_mut(&module) else {
            return;
        };
        if recovery.trial.keeps_reset(now) && std::mem::take(&mut recovery.reset) {
            procedure::drop_kept(&self.ctx, module);
        }
        if let Some((generation, outcome)) = recovery.trial.outcome(now) {
            return self.finish(module, generation, outcome);
        }
        let next = recovery.trial.deadline(now);
        if let Some(before) = std::mem::replace(&mut recovery.deadline, next) {
            self.deadlines.remove(&(before, module));
        }
        self.deadlines.extend(next.map(|at| (at, module)));
    }

    /// The newer run proved itself, or that step failed and policy judges again.
    fn finish(&mut self, module: ModuleId, generation: u64, outcome: ValidationOutcome) {
        let Some(recovery) = self.close(module) else {
            return;
        };
        let stable = &recovery.stable_after;
        use EventKind::{RecoveryCompleted, RecoveryStepCompleted};
        let (kind, text) = match outcome {
            ValidationOutcome::Passed { healthy: true } => {
                (RecoveryCompleted, format!("ready and healthy for {stable}"))
            }
            ValidationOutcome::Passed { healthy: false } => {
                (RecoveryCompleted, format!("ready for {stable}"))
            }
            ValidationOutcome::Ended { ready: true } => (
                RecoveryStepCompleted,
                format!("the new run ended before it was well for {stable}"),
            ),
            ValidationOutcome::Ended { ready: false } => (
                RecoveryStepCompleted,
                "the new run ended before it was ready".to_owned(),
            ),
        };
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .caused_by(CausedBy::Event(recovery.opened))
            .payload(json!({ "text": text }));
        self.ctx.recorder.record(entry);
    }
}
