//! Recovery: runs the procedure behind each verdict and writes it down step by step.
//! Owns the procedures on their way, at most one a module. Never gives the verdict: policy did.
//! In flight at most: 1 verdict, 1 Running and 1 Ended a module.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::recovery::{Failure, Verdict};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

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
    /// A module is ready: the validation of a procedure on its way.
    Running {
        /// Who.
        module: ModuleId,
        /// Its run.
        generation: u64,
    },
    /// A run ended.
    Ended {
        /// Whose.
        module: ModuleId,
        /// Which.
        generation: u64,
    },
}

/// A procedure on its way.
struct Procedure {
    /// The run that failed; a newer one validates or fails it.
    failed: u64,
    /// The event that opened it.
    opened: u64,
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    procedures: HashMap<ModuleId, Procedure>,
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
        })
    }

    async fn handle(
        &self,
        _: ActorRef<RecoveryMsg>,
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
            RecoveryMsg::Running { module, generation } => {
                own.close(module, generation, EventKind::RecoveryCompleted);
            }
            RecoveryMsg::Ended { module, generation } => {
                own.close(module, generation, EventKind::RecoveryStepCompleted);
            }
        }
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
                },
            );
        } else {
            self.procedures.remove(&module);
        }
    }

    /// A newer run became ready (completed) or ended (that step failed; policy judges again).
    fn close(&mut self, module: ModuleId, generation: u64, kind: EventKind) {
        let newer = self
            .procedures
            .get(&module)
            .is_some_and(|open| open.failed < generation);
        if !newer {
            return;
        }
        if let Some(procedure) = self.procedures.remove(&module) {
            let text = if kind == EventKind::RecoveryCompleted {
                "it is ready again"
            } else {
                "the new run ended before it was ready"
            };
            let entry = Entry::of(kind)
                .module(module, generation)
                .because(Because::Event(procedure.opened))
                .payload(json!({ "text": text }));
            self.house.chronicle.tell(entry);
        }
    }
}
