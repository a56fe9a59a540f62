//! One cancellable wake-up.
//! Owns a timer task that casts one message; setting again or dropping cancels it.
//! Never repeats: deadlines are data, the owner asks for the next one.

use std::time::Duration;

use mainstay_policy::MonoTime;
use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;

/// The one alarm an actor keeps for its policy's `deadline()`.
#[derive(Debug, Default)]
pub(crate) struct DeadlineTimer {
    armed: Option<(MonoTime, AbortHandle)>,
}

impl DeadlineTimer {
    /// Arms for `deadline`, or disarms with None. The same deadline again costs nothing.
    pub(crate) fn set<M: Message>(
        &mut self,
        now: MonoTime,
        deadline: Option<MonoTime>,
        to: &ActorRef<M>,
        wake: fn() -> M,
    ) {
        let Some(at) = deadline.filter(|at| *at != MonoTime::NEVER) else {
            return self.cancel();
        };
        if self
            .armed
            .as_ref()
            .is_some_and(|(armed, _)| *armed == at && now < at)
        {
            return;
        }
        self.cancel();
        let (to, wait) = (to.clone(), at.since(now));
        let timer = tokio::spawn(async move {
            // Tokio's timer has millisecond steps and rounds up: what is due now goes at once.
            if wait > Duration::ZERO {
                tokio::time::sleep(wait).await;
            }
            let _receiver_ended = to.cast(wake());
        });
        self.armed = Some((at, timer.abort_handle()));
    }

    fn cancel(&mut self) {
        if let Some((_, timer)) = self.armed.take() {
            timer.abort();
        }
    }
}

impl Drop for DeadlineTimer {
    fn drop(&mut self) {
        self.cancel();
    }
}
