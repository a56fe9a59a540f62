//! Executing another program is for Linux: elsewhere the request is refused.
//! Never executes anything.

use std::time::Instant;

use crate::engine::Engine;
use crate::messages::HolderMessage;

/// There is none.
#[derive(Debug)]
pub(crate) enum ReexecRequest {}

impl ReexecRequest {
    pub(crate) fn next_look(&self) -> Option<Instant> {
        None
    }
}

impl Engine {
    pub(crate) fn reexec_requested(&mut self, number: u64) {
        drop(self.channel.take_fds(1));
        let problem = "cannot execute another holder: this system has no way to do it";
        let problem = Some(problem.to_owned());
        self.send(&HolderMessage::Reexecuted { number, problem });
    }

    pub(crate) fn reexec_if_due(&mut self) {}
}
