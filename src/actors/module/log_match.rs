//! `ready = { log = … }`: the line that a run writes when it is ready.
//! Owns the search in what it writes, piece by piece.
//! Never keeps more than one unfinished line of bounded length.

use mainstay_policy::run::RunEvent;
use mainstay_policy::spec::Readiness;
use regex::Regex;

use super::ModuleActorState;

/// Longest unfinished line kept while waiting for a log line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl ModuleActorState {
    /// Looks for the readiness line in what it wrote; lines may arrive in pieces.
    pub(super) fn match_log(&mut self, generation: u64, text: &str) {
        let ours = generation == self.module.generation();
        let Some((pattern, unfinished)) = self.log.as_mut().filter(|_| ours) else {
            return;
        };
        unfinished.push_str(text);
        let found = unfinished.lines().any(|line| pattern.is_match(line));
        match unfinished.rfind('\n') {
            Some(end) => drop(unfinished.drain(..=end)),
            None if unfinished.len() > LINE_BYTES_MAX => unfinished.clear(),
            None => {}
        }
        if found {
            self.stop_log_match();
            self.note(RunEvent::ReadyReported { generation });
        }
    }

    /// For `ready = { log = … }`: what it writes is looked at until the line was there; with what
    /// it wrote before, if another runtime has searched already.
    pub(super) fn start_log_match(&mut self, again: bool) {
        self.stop_log_match();
        if let Readiness::Log(pattern) = &self.ctx.spec(self.id).readiness {
            // It was compiled once already when the configuration was checked.
            self.log = Regex::new(pattern)
                .ok()
                .map(|pattern| (pattern, String::new()));
            let instance = self.ctx.instance(self.id);
            let followers = &self.ctx.log_followers;
            followers.tap_for_readiness(&*self.ctx.os, &instance, self.id, again);
        }
    }

    pub(super) fn stop_log_match(&mut self) {
        if self.log.take().is_some() {
            let instance = self.ctx.instance(self.id);
            let followers = &self.ctx.log_followers;
            followers.untap_for_readiness(&*self.ctx.os, &instance, self.id);
        }
    }
}
