//! What a stop leaves of a tree after its main process, main processes that are not the holder's
//! children, and those that a signal of another process stops.
//! Owns the rests of trees. Never tells the machines more than the engine knows.

use std::time::Duration;

use mainstay_holder::machines::Roster;
use mainstay_process::Exit;

use super::fake_os::SimProcess;
use super::{Checked, HolderBug, HolderViolation, Item, Sim};

/// SIGSTOP, as it is reported.
const STOPPED_BY: i32 = 19;

/// A tree whose main process has exited and was reaped.
#[derive(Debug)]
pub(super) struct RestOfTree {
    pub(super) name: String,
    pub(super) generation: u64,
    exit: Exit,
}

impl RestOfTree {
    /// The run goes on in the roster, and no number is its main process.
    pub(super) fn check_known(&self, id: u32, roster: &Roster) -> Checked {
        let runs = roster.running(id).is_some_and(|one| one.main_exited);
        match runs && roster.current(&self.name, self.generation) == Some(id) {
            true => Ok(()),
            false => Err(HolderViolation::UnknownProcess(self.name.clone())),
        }
    }
}

impl Sim {
    /// The main process has exited; false if nothing is left of its tree, or no stop is in force.
    pub(super) fn leave_rest(&mut self, id: u32, process: &SimProcess, exit: Exit) -> bool {
        if !process.has_children || self.roster.stop_signal(self.now, id).is_none() {
            return false;
        }
        self.summary.tree_stops += 1;
        self.check.main_exited(&process.name);
        self.roster.main_exited(id);
        let (name, generation) = (process.name.clone(), process.generation);
        let rest = RestOfTree {
            name,
            generation,
            exit,
        };
        self.os.rests.insert(id, rest);
        // Some of it ignores the signal.
        if self.rng.permille(700) {
            let delay = self.rng.span(Duration::from_secs(3));
            self.after(delay, Item::TreeGone(id, generation));
        }
        true
    }

    /// All of it has exited or was killed: the run has ended.
    pub(super) fn tree_gone(&mut self, id: u32, generation: u64) {
        let current = |rest: &RestOfTree| rest.generation == generation;
        if self.os.rests.get(&id).is_some_and(current)
            && let Some(rest) = self.os.rests.remove(&id)
        {
            self.run_exited(id, &rest.name, generation, rest.exit);
        }
    }

    /// A main process that is the child of another process of its tree has ended, a while ago: its
    /// number may be another's by now.
    pub(super) fn handle_ended(&mut self, id: u32) {
        if let Some((process, exit)) = self.os.reaped_elsewhere.remove(&id)
            && !self.leave_rest(id, &process, exit)
        {
            self.run_exited(id, &process.name, process.generation, exit);
        }
    }

    /// MAINPID: another process of the tree takes the place of the main process.
    pub(super) fn change_main(&mut self, number: u32) {
        let is_child = self.rng.permille(500);
        let Some((id, old)) = self.os.main(number) else {
            return;
        };
        let new = self.os.new_pid(&mut self.rng);
        if let Some(process) = self.os.changeable(number) {
            (process.pid, process.is_child, process.suspended) = (new, is_child, false);
            self.os.free_pid(old);
            self.check.main_changed(id);
            if !self.has_bug(HolderBug::MissMainChange) {
                self.roster.main_changed(id, new, u64::from(new));
            }
        }
    }

    /// Another process stops it by a signal, or continues it.
    pub(super) fn toggle_suspension(&mut self, number: u32) {
        if let Some(process) = self.os.changeable(number) {
            let is_suspended = !process.suspended;
            process.suspended = is_suspended;
            self.summary.suspensions += u64::from(is_suspended);
            self.report_suspension(number);
        }
    }

    pub(super) fn report_suspension(&mut self, number: u32) {
        let Some((id, suspended)) = self.os.suspension(number) else {
            return;
        };
        self.check.suspended(id, suspended);
        if !self.has_bug(HolderBug::MissSuspensions) {
            let signal = suspended.then_some(STOPPED_BY);
            self.roster.main_suspended(id, signal);
        }
    }
}
