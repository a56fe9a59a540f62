//! Recovery: records each verdict, and whether the run that follows proves it right.
//! Owns the validations in flight, at most one a module. Never decides and never acts: policy gives
//! the verdict, and the lifecycle restarts.
//! In flight at most: 1 verdict, 1 Running, 1 Health and 1 Ended a module, and 1 Woke.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::recovery::{Failure, RecoveryValidation, ValidationOutcome, Verdict};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

use super::event_recorder::{CausedBy, EventBuilder};
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert};

/// What recovery is told.
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
    },
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
        me: ActorRef<RecoveryMsg>,
        msg: RecoveryMsg,
        own: &mut RecoveryActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RecoveryMsg::Judged {
                module,
                generation,
                failure,
                why,
                attempt,
                verdict,
            } => {
                let payload = own.payload(module, failure, &why, attempt, verdict);
                own.judged(module, generation, payload);
            }
            RecoveryMsg::Running { module, generation } => own.ready(module, generation),
            RecoveryMsg::Health {
                module,
                generation,
                healthy,
            } => {
                if let Some(procedure) = own.procedures.get_mut(&module) {
                    procedure.trial.health_changed(generation, healthy);
                    own.validate(module);
                }
            }
            RecoveryMsg::TimerFired => own.validate_due(),
            RecoveryMsg::Ended { module, generation } => {
                let procedure = own.procedures.get(&module);
                if let Some(outcome) = procedure.and_then(|one| one.trial.ended(generation)) {
                    own.finish(module, generation, outcome);
                }
            }
        }
        let next = own.validating.front().map(|(at, ..)| *at);
        let now = own.ctx.os.now();
        own.alarm.set(now, next, &me, || RecoveryMsg::TimerFired);
        Ok(())
    }
}

impl RecoveryActorState {
    /// What is told of a verdict, and as what.
    fn payload(
        &self,
        module: ModuleId,
        failure: Failure,
        why: &str,
        attempt: u32,
        verdict: Verdict,
    ) -> Option<(EventKind, Value)> {
        let max = self.ctx.spec(module).recovery.max_attempts;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match verdict {
            Verdict::Retry { after } => Some((
                EventKind::RecoveryStarted,
                json!({ "failure": convert::failure_noun(failure), "attempt": attempt,
                        "max_attempts": max, "delay_ms": ms(after) }),
            )),
            Verdict::GiveUp { probation } => Some((
                EventKind::RecoveryFailed,
                json!({ "text": why, "attempt": attempt, "probation_ms": probation.map(ms) }),
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
            self.procedures
                .insert(module, RecoveryProcedure { opened, trial });
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
