//! The roster's part of stops: the deadline of one, what goes on after the main process, and main
//! processes that a signal of another process stopped.
//! Never kills by itself: the deadline of the run does.

use std::time::Duration;

use mainstay_process::{ProcessEventKind, Signal};

use super::Roster;
use super::instance::{InstancePhase, RosterInstance, StopOrder};

impl Roster {
    /// The runtime wants a run stopped: it gets the signal, and its tree is killed when `within`
    /// has passed. A second request can only shorten the first.
    pub fn stop_requested(
        &mut self,
        now: Duration,
        name: &str,
        generation: u64,
        signal: i32,
        within: Duration,
    ) {
        let Some(id) = self.current(name, generation) else {
            return;
        };
        let Some(limits) = self.instances.get_mut(&id).and_then(RosterInstance::limits) else {
            return;
        };
        let (deadline, before) = (now + within, limits.next_deadline());
        let earlier = |stop: StopOrder| stop.deadline.min(deadline);
        let deadline = limits.stop.map_or(deadline, earlier);
        limits.stop = Some(StopOrder { signal, deadline });
        let after = limits.next_deadline();
        self.move_deadline(id, before, after);
        self.signal_requested(name, generation, signal, true);
    }

    /// The signal of a stop that is in force: when the main process exits, the rest of its tree
    /// gets it too and keeps the rest of the time.
    #[must_use]
    pub fn stop_signal(&self, now: Duration, id: u32) -> Option<i32> {
        let process = self.running(id).filter(|process| !process.main_exited)?;
        let stop = process.limits.stop.filter(|stop| now < stop.deadline);
        stop.map(|stop| stop.signal)
    }

    /// The main process has exited in a stop, and others of its tree are alive: the run goes on
    /// until `process_exited`.
    pub fn main_exited(&mut self, id: u32) {
        let phase = self.instances.get_mut(&id).map(|one| &mut one.phase);
        if let Some(InstancePhase::Running(process)) = phase {
            process.main_exited = true;
            super::forget_pid(&mut self.by_pid, process.pid, id);
        }
    }

    /// The main process is stopped by this signal of another process, or by none any more.
    pub fn main_suspended(&mut self, id: u32, signal: Option<i32>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let InstancePhase::Running(process) = &mut instance.phase else {
            return;
        };
        if process.main_exited || process.suspended == signal {
            return;
        }
        process.suspended = signal;
        let message = instance.event(match signal {
            Some(signal) => ProcessEventKind::Suspended {
                signal: Signal(signal),
            },
            None => ProcessEventKind::Continued,
        });
        self.send(message);
    }
}
