//! How processes end: waiting for them, killing what they leave, telling it in the right order.
//! Owns the order: what they said by notify, their exit; `Spawned` always came before.
//! Never waits for a process that is not its own child.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_process::{Exit, Signal};

use crate::clock::monotonic;
use crate::engine::Engine;
use crate::instance::{FormerMain, InstanceResources, trees_of};
use crate::kernel::{ProcessHandle, orphans};
use crate::poll_key;
use crate::process;
use crate::wait::{ReapedChild, WaitResult, WaitTarget, wait_nohang};
use crate::workers::output::FinishResult;
use crate::workers::reports::SweptRun;
use crate::workers::sweep::{
    Living, LivingRuns, ProcessTree, SweepJob, Sweeper, runs_of, sweep, sweep_marked,
};

/// Exits taken in at once before other events get their turn.
const REAP_BATCH: usize = 512;
/// How long killed processes may take to be gone when the holder leaves.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a sweep may take before the ends that wait for it are reported.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

impl Engine {
    /// Standalone: looks who ended before reaping, so that no status goes to the wrong place.
    pub(crate) fn reap(&mut self) {
        for _ in 0..REAP_BATCH {
            let WaitResult::Ended(ended) = wait_nohang(WaitTarget::Anyone, false) else {
                return;
            };
            if !self.take_exit(ended) {
                return self.reap_others();
            }
        }
        self.reap_again = true;
    }

    /// The kernel shows the same process again until it is reaped: others are asked for by number.
    fn reap_others(&mut self) {
        let runs = self.instances.values().filter_map(|one| one.run.as_ref());
        let mains = runs
            .map(|run| run.pid)
            .chain(self.former_mains.keys().copied());
        let pids: Vec<i32> = mains.chain(self.runtime_pid()).collect();
        for pid in pids {
            if let WaitResult::Ended(ended) = wait_nohang(WaitTarget::Pid(pid), false) {
                self.take_exit(ended);
            }
        }
    }

    /// False when its end waits for something else that is known soon.
    fn take_exit(&mut self, ended: ReapedChild) -> bool {
        let pid = ended.pid;
        let runtime = self.runtime_pid();
        if self.owner(pid).is_none() && runtime != Some(pid) {
            let spawner = self.spawner.as_ref();
            let starting = self
                .runtime
                .as_ref()
                .is_some_and(|one| one.starting.is_some());
            if starting || spawner.is_some_and(|spawner| spawner.may_be_pending_child(pid)) {
                self.reap_retry = true; // its start will be reported
                return false;
            }
            self.handle_queue(); // it may have been told a moment ago
        }
        let named = || self.former_mains.get(&pid).map(|former| former.id);
        let id = self.owner(pid).or_else(named);
        // It may have named another main process, or itself.
        if id.is_some_and(|id| !self.is_drained(id, pid)) {
            return false;
        }
        if let Some(id) = self.owner(pid) {
            let stops = self.stop_rest_of_tree(id, ended.exit);
            // While the zombie still keeps its numbers.
            let left = !stops && self.kill_leftovers(id, true);
            wait_nohang(WaitTarget::Pid(pid), true);
            if !stops {
                self.exited(id, ended, monotonic(), left);
            }
        } else {
            wait_nohang(WaitTarget::Pid(pid), true);
            self.forget_former(pid);
            if runtime == Some(pid) {
                self.runtime_ended(ended);
            }
        }
        true
    }

    /// One of ours ended, by its descriptor: embedded any, standalone one that was named by
    /// MAINPID and may be nobody's child here.
    pub(crate) fn reap_one(&mut self, id: u32) {
        let Some(pid) = self.ended_by_handle(id) else {
            return;
        };
        if !self.is_drained(id, pid) {
            if let Some(pinned) = self.instances.get(&id).and_then(InstanceResources::pinned) {
                self.poll.delete(pinned); // it would be seen again and again
            }
            return;
        }
        let Some(pinned) = self.instances.get(&id).and_then(InstanceResources::pinned) else {
            return;
        };
        let ended = match wait_nohang(WaitTarget::Process(pinned.waitid_target()), false) {
            WaitResult::Alive => return,
            WaitResult::Ended(ended) => ended,
            WaitResult::NoChild if self.is_inherited(id) => match self.exit_of_lost_child(id) {
                Some(ended) => ended,
                None => return,
            },
            // Its parent is, or was, someone else: that it is gone is all we know.
            WaitResult::NoChild => ReapedChild::default(),
        };
        if let Some(pinned) = self.instances.get(&id).and_then(InstanceResources::pinned) {
            self.poll.delete(pinned); // it is in there since the start
        }
        let stops = self.stop_rest_of_tree(id, ended.exit);
        let left = !stops && self.kill_leftovers(id, ended.pid != 0);
        if let Some(pinned) = self.instances.get(&id).and_then(InstanceResources::pinned) {
            wait_nohang(WaitTarget::Process(pinned.waitid_target()), true);
        }
        if !stops {
            self.exited(id, ended, monotonic(), left);
        }
    }

    fn ended_by_handle(&self, id: u32) -> Option<i32> {
        let run = self.instances.get(&id)?.run.as_ref()?;
        let has_ended = run.pinned.as_ref().is_some_and(ProcessHandle::has_ended);
        has_ended.then_some(run.pid)
    }

    /// The process that was started, after another one took its place. It is still ours to reap.
    pub(crate) fn watch_former(&mut self, pid: i32, id: u32, pinned: Option<ProcessHandle>) {
        if let Some(pinned) = &pinned {
            let _ = self.watch(pinned, poll_key::FORMER); // unwatched it is reaped at the end
        }
        self.former_mains.insert(pid, FormerMain { id, pinned });
    }

    /// Embedded: some of them may have ended.
    pub(crate) fn reap_former(&mut self) {
        let has_ended =
            |former: &FormerMain| former.pinned.as_ref().is_some_and(ProcessHandle::has_ended);
        let ended = self
            .former_mains
            .iter()
            .filter(|(_, former)| has_ended(former));
        let ended: Vec<(i32, u32)> = ended.map(|(pid, former)| (*pid, former.id)).collect();
        for (pid, id) in ended {
            if self.is_drained(id, pid) {
                self.forget_former(pid);
            } else if let Some(pinned) = self
                .former_mains
                .get(&pid)
                .and_then(|former| former.pinned.as_ref())
            {
                self.poll.delete(pinned); // it may have named itself: that is known soon
            }
        }
    }

    fn forget_former(&mut self, pid: i32) {
        if let Some(pinned) = self
            .former_mains
            .remove(&pid)
            .and_then(|former| former.pinned)
        {
            wait_nohang(WaitTarget::Process(pinned.waitid_target()), true);
            self.poll.delete(&pinned); // it is in there since `watch_former`
        }
    }

    /// At once what can be killed at once; the rest is for a sweep. True when its group was not
    /// empty: its end is awaited.
    pub(crate) fn kill_leftovers(&mut self, id: u32, is_zombie: bool) -> bool {
        let Some(instance) = self.instances.get(&id) else {
            return false;
        };
        let Some(run) = &instance.run else {
            return false;
        };
        match &instance.group {
            Some(group) => group.kill_rest(),
            None => {
                if is_zombie {
                    process::kill(-run.pid, libc::SIGKILL); // its group
                }
                false
            }
        }
    }

    /// Children of the holder that are no known run: orphans. None where the kernel does not say.
    fn strays(&self) -> Option<Vec<i32>> {
        self.runtime.as_ref()?;
        let runtime = self.runtime_pid();
        let mut strays = orphans()?;
        let known = |pid: &i32| self.owner(*pid).is_some() || runtime == Some(*pid);
        strays.retain(|pid| !known(pid));
        Some(strays)
    }

    /// Whether something of its tree may be left outside its process group.
    pub(crate) fn needs_sweep(&self) -> bool {
        let orphans_are_elsewhere = self.succession.is_successor;
        orphans_are_elsewhere || self.strays().is_none_or(|strays| !strays.is_empty())
    }

    /// What of the children of the holder is not to be killed; None where not all orphans become
    /// its children, as in an application.
    fn living(&self, doomed: &[ProcessTree]) -> Option<Living> {
        self.runtime
            .as_ref()
            .filter(|_| !self.succession.is_successor)?;
        orphans()?;
        let mut runs = LivingRuns {
            given: self.tags.given(),
            ..LivingRuns::default()
        };
        for (id, instance) in &self.instances {
            if self.roster.is_starting(*id) {
                runs.tags.insert(instance.tag);
            }
            let is_doomed = doomed.iter().any(|tree| tree.id == *id);
            let Some(run) = instance.run.as_ref().filter(|_| !is_doomed) else {
                continue;
            };
            runs.tags.insert(instance.tag);
            runs.leaders.extend([run.pid, run.first.0]);
            runs.marks.insert(run.mark.clone());
            runs.groups.extend(instance.group.clone());
        }
        let runs_of_all = self.roster.all_running();
        let mains = runs_of_all.map(|(_, process)| process.pid.cast_signed());
        Some(Living {
            pids: mains.chain(self.former_mains.keys().copied()).collect(),
            inherited: self.inherited_children.clone(),
            runs: Some(runs),
        })
    }

    /// Has killed what is to be, unless a sweep is in flight.
    pub(crate) fn start_sweep(&mut self) {
        if self.sweeping.is_some() {
            return;
        }
        let strays = std::mem::take(&mut self.strays_due)
            && self.strays().is_some_and(|strays| !strays.is_empty());
        if self.to_sweep.is_empty() && !strays {
            return;
        }
        let trees = std::mem::take(&mut self.to_sweep);
        self.sweeping = Some((Instant::now() + SWEEP_TIMEOUT, runs_of(&trees)));
        let living = self.living(&trees);
        self.sweeper.sweep(SweepJob { trees, living });
    }

    pub(crate) fn finish_sweep(&mut self, runs: &[SweptRun]) {
        if self.sweeping.take_if(|(_, swept)| swept == runs).is_none() {
            return; // the sweep was abandoned
        }
        runs.iter().for_each(|run| self.on_swept(run));
    }

    /// A sweep that hangs in a look at a process does not hold up the ends of others.
    pub(crate) fn expire_sweep(&mut self, now: Instant) {
        if let Some((_, runs)) = self.sweeping.take_if(|(at, _)| *at <= now) {
            self.sweeper = Sweeper::new(Arc::clone(&self.queue));
            runs.iter().for_each(|run| self.on_swept(run));
        }
    }

    pub(crate) fn exited(&mut self, id: u32, ended: ReapedChild, at: Duration, left: bool) {
        self.read_ready(id);
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Some(run) = instance.run.take() else {
            return;
        };
        if let Some(receiver) = self.notify_receiver.as_ref().filter(|_| run.notifies) {
            receiver.close(id, run.generation);
        }
        let mut exit = ended.exit;
        if exit.signal() == Some(Signal::KILL)
            && let Some(group) = &instance.group
        {
            let kills = group.oom_kills();
            if kills > instance.oom_kills {
                exit = Exit::Oom;
            }
            instance.oom_kills = kills;
        }
        let finish = match (&self.context, run.stream) {
            (Some(context), Some(key)) => context.logs.finish(key, exit),
            _ => FinishResult::Done(String::new()),
        };
        let (output, output_pending) = match finish {
            FinishResult::Done(output) => (output, false),
            FinishResult::Later => (String::new(), true),
        };
        self.strays_due = true;
        let group = instance.group.clone();
        let led_by_another = run.pid != run.first.0 && group.is_none();
        let sweep_pending = left || led_by_another || (group.is_none() && self.needs_sweep());
        if sweep_pending {
            let with_group = |target| ProcessTree {
                group: group.clone(),
                ..target
            };
            self.to_sweep.extend(trees_of(id, &run).map(with_group));
        }
        let pending = (sweep_pending, output_pending);
        self.roster.process_exited(at, id, exit, pending, output);
        self.perform_effects();
    }

    /// A sweep that began before the exit does not count; the one for the exit follows. The next
    /// run may have begun since.
    fn on_swept(&mut self, (id, mark): &SweptRun) {
        let run = self.instances.get(id).and_then(|one| one.run.as_ref());
        if let Some(run) = run.filter(|run| run.mark == *mark) {
            run.signal(libc::SIGKILL); // where processes cannot be seen, it at least
        }
        let again = self.to_sweep.iter().any(|target| target.id == *id);
        self.roster.tree_swept(*id, again);
        self.perform_effects();
    }

    /// Ends everything that lives; the holder goes afterwards.
    pub(crate) fn end_all(&mut self) {
        if let Some(spawner) = &self.spawner {
            spawner.quit();
        }
        let end = Instant::now() + EXIT_TIMEOUT;
        let tick = Duration::from_millis(1);
        let mut abandoned = 0;
        while Instant::now() < end {
            let spawner = self.spawner.as_ref();
            abandoned += spawner.map_or(0, crate::spawn::spawner::Spawner::abandon);
            self.handle_queue();
            if self.roster.spawns_in_flight() <= abandoned {
                break;
            }
            std::thread::sleep(tick);
        }
        let mut trees: Vec<ProcessTree> = std::mem::take(&mut self.to_sweep);
        let mut pids: Vec<i32> = self.former_mains.keys().copied().collect();
        for (id, instance) in &self.instances {
            if let Some(run) = &instance.run {
                match &instance.group {
                    Some(group) => group.kill(),
                    None => trees.extend(trees_of(*id, run)),
                }
                run.signal(libc::SIGKILL);
                pids.push(run.pid);
            }
        }
        let living = None;
        if !trees.is_empty() {
            sweep(&SweepJob { trees, living });
        }
        if let Some(context) = self
            .context
            .as_ref()
            .filter(|context| context.groups.is_none())
        {
            sweep_marked(&context.marks.prefix()); // those that lost every other tie to their tree
        }
        while !pids.is_empty() && Instant::now() < end {
            pids.retain(|pid| wait_nohang(WaitTarget::Pid(*pid), true) == WaitResult::Alive);
            if !pids.is_empty() {
                std::thread::sleep(tick);
            }
        }
        self.end_children(end);
    }

    /// Kills every child but the runtime, and what becomes one when its parent is killed.
    fn end_children(&self, end: Instant) {
        if self.runtime.is_none() {
            return; // those of an application are its own
        }
        let job = SweepJob {
            trees: Vec::new(),
            living: Some(Living {
                pids: HashSet::new(),
                inherited: self.inherited_children.clone(),
                runs: None,
            }),
        };
        while Instant::now() < end {
            let mut left = self.strays().unwrap_or_default();
            left.retain(|pid| wait_nohang(WaitTarget::Pid(*pid), true) == WaitResult::Alive);
            left.retain(|pid| !self.inherited_children.iter().any(|(one, _)| one == pid));
            if left.is_empty() {
                return;
            }
            sweep(&job);
        }
    }
}
