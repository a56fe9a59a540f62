//! Recovery: runs the procedure behind each verdict and writes it down step by step.
//! Owns the procedures on their way, at most one a module. Never gives the verdict: policy did.
//! In flight at most: 1 verdict, 1 Running, 1 Health and 1 Ended a module, and 1 Woke.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::recovery::{Failure, Verdict};
use mainstay_policy::{ModuleId, Time};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

use super::alarm::Alarm;
use super::chronicle::{Because, Entry};
use super::{House, words};

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
    /// A module is ready: the validation of a procedure on its way begins.
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
    Woke,
    /// A run ended.
    Ended {
        /// Whose.
        module: ModuleId,
        /// Which.
        generation: u64,
    },
}

/// A run that is ready has to last this long before it is told that recovery succeeded: of one
/// that nothing is looked for, being ready says no more than that it was started.
const PROVEN: Duration = Duration::from_secs(1);

/// A procedure on its way.
struct Procedure {
    /// The run that failed; a newer one validates or fails it.
    failed: u64,
    /// The event that opened it.
    opened: u64,
    /// The newer run, once it is ready.
    ready: Option<u64>,
    /// Whether that run has been ready for long enough.
    lasted: bool,
    /// Whether its probes found it healthy.
    healthy: bool,
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    procedures: HashMap<ModuleId, Procedure>,
    /// Runs that are ready, and when they will have lasted long enough; in that order.
    proving: VecDeque<(Time, ModuleId, u64)>,
    alarm: Alarm,
}

/// The actor.
pub(crate) struct Recovery;

impl Actor for Recovery {
    type Msg = RecoveryMsg;
    type State = Owned;
    type Arguments = Arc<House>;

    async fn pre_start(
        &self,
        _: ActorRef<RecoveryMsg>,
        house: Arc<House>,
    ) -> Result<Owned, ActorProcessingErr> {
        Ok(Owned {
            house,
            procedures: HashMap::new(),
            proving: VecDeque::new(),
            alarm: Alarm::default(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<RecoveryMsg>,
        msg: RecoveryMsg,
        own: &mut Owned,
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
                if let Some(procedure) = own.newer(module, generation) {
                    procedure.healthy = healthy;
                    own.validate(module);
                }
            }
            RecoveryMsg::Woke => own.proved(),
            RecoveryMsg::Ended { module, generation } => {
                if own.newer(module, generation).is_some() {
                    own.close(module, generation, EventKind::RecoveryStepCompleted);
                }
            }
        }
        let next = own.proving.front().map(|(at, ..)| *at);
        let now = own.house.os.now();
        own.alarm.set(now, next, &me, || RecoveryMsg::Woke);
        Ok(())
    }
}

impl Owned {
    /// What is told of a verdict, and as what.
    fn payload(
        &self,
        module: ModuleId,
        failure: Failure,
        why: &str,
        attempt: u32,
        verdict: Verdict,
    ) -> Option<(EventKind, Value)> {
        let max = self.house.spec(module).recovery.max_attempts;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match verdict {
            Verdict::Retry { after } => Some((
                EventKind::RecoveryStarted,
                json!({ "failure": words::failure_noun(failure), "attempt": attempt,
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
        let entry = Entry::of(kind).module(module, generation).payload(payload);
        let opened = self.house.chronicle.tell(entry);
        if kind == EventKind::RecoveryStarted {
            self.procedures.insert(
                module,
                Procedure {
                    failed: generation,
                    opened,
                    ready: None,
                    lasted: false,
                    healthy: false,
                },
            );
        } else {
            self.procedures.remove(&module);
        }
    }

    /// The procedure whose validation this run is.
    fn newer(&mut self, module: ModuleId, generation: u64) -> Option<&mut Procedure> {
        let procedure = self.procedures.get_mut(&module)?;
        (procedure.failed < generation).then_some(procedure)
    }

    fn ready(&mut self, module: ModuleId, generation: u64) {
        let at = self.house.os.now().after(PROVEN);
        if let Some(procedure) = self.newer(module, generation) {
            (procedure.ready, procedure.lasted) = (Some(generation), false);
            self.proving.push_back((at, module, generation));
        }
    }

    /// Those whose time has come have lasted, if it is still the same run.
    fn proved(&mut self) {
        let now = self.house.os.now();
        while let Some((_, module, generation)) = self.proving.pop_front_if(|(at, ..)| *at <= now) {
            let procedure = self.procedures.get_mut(&module);
            if let Some(procedure) = procedure.filter(|one| one.ready == Some(generation)) {
                procedure.lasted = true;
                self.validate(module);
            }
        }
    }

    /// Ready for long enough, and healthy where it is looked at: recovery succeeded.
    fn validate(&mut self, module: ModuleId) {
        let Some(procedure) = self.procedures.get(&module) else {
            return;
        };
        let healthy = procedure.healthy || !self.house.spec(module).has_probes;
        if let Some(generation) = procedure.ready.filter(|_| procedure.lasted && healthy) {
            self.close(module, generation, EventKind::RecoveryCompleted);
        }
    }

    /// A newer run proved itself (completed) or ended (that step failed; policy judges again).
    fn close(&mut self, module: ModuleId, generation: u64, kind: EventKind) {
        let Some(procedure) = self.procedures.remove(&module) else {
            return;
        };
        let text = match (kind, procedure.ready, procedure.healthy) {
            (EventKind::RecoveryCompleted, _, true) => "it is ready and healthy again",
            (EventKind::RecoveryCompleted, ..) => "it is ready again",
            (_, Some(_), _) => "the new run ended before it had proved itself",
            (_, None, _) => "the new run ended before it was ready",
        };
        let entry = Entry::of(kind)
            .module(module, generation)
            .because(Because::Event(procedure.opened))
            .payload(json!({ "text": text }));
        self.house.chronicle.tell(entry);
    }
}
