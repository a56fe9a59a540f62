//! Has the holder execute the program of this runtime, where it runs another one.
//! Owns the request that is not answered yet.
//! Never requests it of a holder that does not know it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_holder::messages::{HolderRequest, TakeoverState};
use tokio::sync::oneshot;

use super::{HolderClient, lock};
use crate::os::transport::PassedFd;
use crate::os::{OsEvent, machine};

/// Time the holder has to answer: it checks the program and waits until it is at rest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is requested of a holder that is not at rest, and how long between.
const ATTEMPTS_MAX: u32 = 5;
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The holder, and who waits for its answer.
#[derive(Default)]
pub(super) struct HolderProgram {
    /// None: it executes no other program.
    holder: Option<u32>,
    asker: Mutex<Option<Asker>>,
}

/// Who waits for the answer to one request.
struct Asker {
    number: u64,
    answer: oneshot::Sender<Option<String>>,
}

impl HolderProgram {
    pub(super) fn of(known: &TakeoverState) -> HolderProgram {
        HolderProgram {
            holder: known.can_reexec.then_some(known.holder_pid),
            asker: Mutex::default(),
        }
    }

    /// An answer that comes when nobody waits for it any more counts if the holder is another
    /// program now; why an earlier attempt failed does not.
    pub(super) fn answered(&self, number: u64, problem: Option<String>) -> Option<OsEvent> {
        let asker = lock(&self.asker).take_if(|one| one.number == number);
        match (asker, problem) {
            (Some(asker), problem) => {
                let _it_waits_no_longer = asker.answer.send(problem);
                None
            }
            (None, None) => Some(OsEvent::HolderExecuted {
                problem: None,
                is_last: true,
            }),
            (None, Some(_)) => None,
        }
    }
}

impl HolderClient {
    /// This runtime is in control. After an upgrade of it the holder follows.
    pub(super) fn report_ready(&self) {
        self.send_request(&HolderRequest::Ready);
        let (Some(holder), Some(client)) = (self.program.holder, self.myself.upgrade()) else {
            return;
        };
        self.handle.spawn(async move {
            for attempt in 1..=ATTEMPTS_MAX {
                let Some(program) = machine::own_program_unless_of(holder) else {
                    return;
                };
                let problem = client.reexec(u64::from(attempt), program).await;
                let is_last = problem.is_none() || attempt == ATTEMPTS_MAX;
                let event = OsEvent::HolderExecuted { problem, is_last };
                if client.facts.send(event).await.is_err() || is_last {
                    return;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        });
    }

    /// Returns why the holder goes on as it was.
    async fn reexec(self: &Arc<Self>, attempt: u64, program: PassedFd) -> Option<String> {
        let (sender, answer) = oneshot::channel();
        // Of the runtime before an answer may be on its way too.
        let number = u64::from(std::process::id()) << u32::BITS | attempt;
        let asker = Asker {
            number,
            answer: sender,
        };
        *lock(&self.program.asker) = Some(asker);
        self.send_request_with(&HolderRequest::Reexec { number }, vec![program]);
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(problem)) => problem,
            Ok(Err(_)) | Err(_) => Some("it did not answer".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        let program = HolderProgram::default();
        let (sender, mut answer) = oneshot::channel();
        *lock(&program.asker) = Some(Asker {
            number: 2,
            answer: sender,
        });
        assert!(program.answered(1, Some("busy".to_owned())).is_none());
        answer
            .try_recv()
            .expect_err("the second one is not answered");
        let late = program.answered(1, None);
        assert!(matches!(
            late,
            Some(OsEvent::HolderExecuted { problem: None, .. })
        ));
        assert!(program.answered(2, None).is_none());
        assert_eq!(answer.try_recv().expect("answered"), None);
    }
}
