//! Main processes that are stopped by a signal of another process, SIGSTOP for instance.
//! Owns nothing: a stop is reported when it lasts, until then the engine has it.
//! Never continues one: who stopped it decides.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::wait::{WaitTarget, next_suspension};

/// A shorter stop is not reported: what limits the CPU time of a run stops it for less.
const REPORTED_AFTER: Duration = Duration::from_millis(500);
/// How often an application's engine looks: the signals of its children are not the engine's.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Children taken in at once.
const BATCH: usize = 512;

impl Engine {
    /// Standalone: after a SIGCHLD.
    pub(crate) fn take_in_suspensions(&mut self) {
        for _ in 0..BATCH {
            let Some((pid, signal)) = next_suspension(WaitTarget::Anyone) else {
                return;
            };
            self.suspended(pid, signal);
        }
        self.reap_again = true; // there may be more
    }

    fn suspended(&mut self, pid: i32, signal: Option<i32>) {
        let Some(id) = self.owner(pid) else {
            return;
        };
        let pending = &mut self.suspended;
        match signal {
            Some(signal) => drop(pending.insert(pid, (Instant::now() + REPORTED_AFTER, signal))),
            None => {
                pending.remove(&pid);
                self.roster.main_suspended(id, None);
            }
        }
    }

    /// Embedded: looks at each main process by its own descriptor.
    fn look_at_suspensions(&mut self, now: Instant) {
        // What is due is looked at again: a lease that has ended since has continued it.
        let is_due = self.suspended.values().any(|(at, _)| *at <= now);
        let is_early = self.suspension_look.is_some_and(|at| at > now);
        if self.runtime.is_some() || (is_early && !is_due) {
            return;
        }
        let runs = self.instances.values().filter_map(|one| one.pinned());
        let found =
            runs.filter_map(|pinned| next_suspension(WaitTarget::Process(pinned.waitid_target())));
        for (pid, signal) in found.collect::<Vec<_>>() {
            self.suspended(pid, signal);
        }
        let is_any = self.roster.all_running().next().is_some();
        self.suspension_look = is_any.then(|| now + LOOK_INTERVAL);
    }

    /// Reports the stops that last.
    pub(crate) fn expire_suspensions(&mut self, now: Instant) {
        self.look_at_suspensions(now);
        let due = self.suspended.extract_if(.., |_, (at, _)| *at <= now);
        for (pid, (_, signal)) in due.collect::<Vec<_>>() {
            match self.owner(pid) {
                // A lease that is renewed lasts longer, and ends by itself.
                Some(id) if self.leases.holds(id) => {
                    self.suspended.insert(pid, (now + REPORTED_AFTER, signal));
                }
                Some(id) => self.roster.main_suspended(id, Some(signal)),
                None => {}
            }
        }
    }
}
