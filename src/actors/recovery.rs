//! Recovery: performs what is due before a restart, records each verdict, and validates the run
//! that follows. Owns the recoveries in flight, at most one a module. Never decides: policy gives
//! the verdict, and the lifecycle restarts.
//! In flight at most: 1 verdict, 1 order, 1 Running, 1 Health and 1 Ended a module, and 1 timer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::group::Scope;
use mainstay_policy::lifecycle::ProcedureOrder;
use mainstay_policy::recovery::{Failure, RecoveryValidation, ValidationOutcome, Verdict};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

use super::event_recorder::{CausedBy, EventBuilder};
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert};

mod procedure;

/// Messages of the recovery actor.
#[derive(Debug)]
pub(crate) enum RecoveryMsg {
    /// A failure was judged.
    Judged {
        /// Of whom.
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
        /// Who.
        module: ModuleId,
        /// Its run.
        generation: u64,
    },
    /// The health of a module changed.
    Health {
        /// Whose.
        module: ModuleId,
        /// Its run.
        generation: u64,
        /// Whether it is healthy now.
        healthy: bool,
    },
    /// The alarm.
    TimerFired,
    /// A run ended.
    Ended {
        /// Whose.
        module: ModuleId,
        /// Which.
        generation: u64,
    },
}

/// A recovery whose new run is not validated yet.
struct RecoveryProcedure {
    /// The event that opened it.
    opened: u64,
    trial: RecoveryValidation,
    /// Files were set aside for it.
    reset: bool,
}

/// The state.
pub(crate) struct RecoveryActorState {
    ctx: Arc<RuntimeContext>,
    procedures: HashMap<ModuleId, RecoveryProcedure>,
    /// Whose run is ready, and when it is to be looked at again; in that order.
    validating: VecDeque<(MonoTime, ModuleId)>,
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
            procedures: HashMap::new(),
            validating: VecDeque::new(),
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
                let recovery = state.procedures.get_mut(&order.module);
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
                if let Some(procedure) = state.procedures.get_mut(&module) {
                    procedure.trial.health_changed(generation, healthy);
                    state.validate(module);
                }
            }
            RecoveryMsg::TimerFired => state.validate_due(),
            RecoveryMsg::Ended { module, generation } => {
                let procedure = state.procedures.get(&module);
                if let Some(outcome) = procedure.and_then(|one| one.trial.ended(generation)) {
                    state.finish(module, generation, outcome);
                }
            }
        }
        let next = state.validating.front().map(|(at, ..)| *at);
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
        let max = self.ctx.spec(module).recovery.max_attempts;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match verdict {
            Verdict::Retry { after, strategy } => Some((
                EventKind::RecoveryStarted,
                json!({ "failure": failure, "attempt": attempt,
                        "max_attempts": max, "delay_ms": ms(after),
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
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .payload(payload);
        let opened = self.ctx.recorder.record(entry);
        if kind == EventKind::RecoveryStarted {
            let trial = RecoveryValidation::new(generation, self.ctx.spec(module).has_probes);
            let reset = false;
            let recovery = RecoveryProcedure {
                opened,
                trial,
                reset,
            };
            self.procedures.insert(module, recovery);
        } else {
            self.procedures.remove(&module);
        }
    }

    fn ready(&mut self, module: ModuleId, generation: u64) {
        let now = self.ctx.os.now();
        let procedure = self.procedures.get_mut(&module);
        if let Some(at) = procedure.and_then(|one| one.trial.ready(now, generation)) {
            self.validating.push_back((at, module));
        }
    }

    /// Looks at those whose time has come.
    fn validate_due(&mut self) {
        let now = self.ctx.os.now();
        while let Some((_, module)) = self.validating.pop_front_if(|(at, _)| *at <= now) {
            self.validate(module);
        }
    }

    fn validate(&mut self, module: ModuleId) {
        let (now, procedure) = (self.ctx.os.now(), self.procedures.get(&module));
        if let Some((generation, outcome)) = procedure.and_then(|one| one.trial.outcome(now)) {
            self.finish(module, generation, outcome);
        }
    }

    /// The newer run proved itself, or that step failed and policy judges again.
    fn finish(&mut self, module: ModuleId, generation: u64, outcome: ValidationOutcome) {
        let Some(procedure) = self.procedures.remove(&module) else {
            return;
        };
        if procedure.reset && matches!(outcome, ValidationOutcome::Passed { .. }) {
            procedure::drop_kept(&self.ctx, module);
        }
        use EventKind::{RecoveryCompleted, RecoveryStepCompleted};
        let (kind, text) = match outcome {
            ValidationOutcome::Passed { healthy: true } => {
                (RecoveryCompleted, "it is ready and healthy again")
            }
            ValidationOutcome::Passed { healthy: false } => {
                (RecoveryCompleted, "it is ready again")
            }
            ValidationOutcome::Ended { ready: true } => (
                RecoveryStepCompleted,
                "the new run ended before it had proved itself",
            ),
            ValidationOutcome::Ended { ready: false } => (
                RecoveryStepCompleted,
                "the new run ended before it was ready",
            ),
        };
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .caused_by(CausedBy::Event(procedure.opened))
            .payload(json!({ "text": text }));
        self.ctx.recorder.record(entry);
    }
}
