//! The instances of the holder: which run of each exists, and what the runtime is sent about it.
//! Owns the fence (one run at a time, generations only grow), records, run deadlines, requests
//! that wait for a spawn, and the takeover by the next runtime: each exit is sent to it once.
//! Never touches a process: effects say what to spawn, signal and kill, inputs what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use mainstay_process::{Exit, Instance, ProcessEventKind, StartFailure};
use serde::{Deserialize, Serialize};

use crate::messages::{HolderMessage, InstanceInfo, MAX_RECORD_BYTES};
use instance::{InstancePhase, PendingExit, RosterInstance, RunDeadlines};

mod instance;
mod stops;
mod succession;

pub use instance::{RosterEntry, RunningProcess};

/// Time a spawn may take to reach its exec. After that it hangs: a run with a timeout is killed,
/// and a new runtime no longer waits for it.
pub const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the engine does for the instances.
#[derive(Debug, Clone, PartialEq)]
pub enum RosterEffect {
    /// Send the takeover state, the first message of a channel, with these instances.
    SendTakeover(Vec<InstanceInfo>),
    /// Send a message.
    Send(HolderMessage),
    /// End a spawn; one that had not started is reported with `spawn_failed`.
    AbortSpawn(u32),
    /// Send a signal to the main process, and SIGCONT after it if `cont`.
    Signal {
        /// The instance.
        id: u32,
        /// The signal.
        signal: i32,
        /// Whether SIGCONT follows.
        cont: bool,
    },
    /// Kill the process tree.
    KillTree(u32),
    /// Watch the activation sockets: the instance does not run.
    WatchActivation(u32),
    /// Drop all that belongs to the instance: the roster has no entry for it any more.
    Remove {
        /// The instance.
        id: u32,
        /// Its name.
        name: Instance,
    },
}

/// Why a run is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceError {
    /// This generation of the instance has not ended.
    Running(u64),
    /// The generation is not newer than the last one.
    Stale,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Takeover {
    /// No runtime is connected.
    #[default]
    None,
    /// One is, and waits for its first message until no spawn is in flight or this has passed.
    Waits {
        deadline: Duration,
    },
    Sent,
}

/// All instances.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    ids: HashMap<Instance, u32>,
    instances: BTreeMap<u32, RosterInstance>,
    by_pid: HashMap<u32, u32>,
    last_id: u32,
    /// When runs time out.
    run_deadlines: BTreeSet<(Duration, u32)>,
    takeover: Takeover,
    /// Instances whose notify state is sent once the runtime reads again.
    deferred_notify: BTreeSet<u32>,
    #[serde(skip)]
    effects: VecDeque<RosterEffect>,
}

impl Roster {
    /// Returns the next effect; to be called until it returns none, after each input.
    pub fn next_effect(&mut self) -> Option<RosterEffect> {
        self.effects.pop_front()
    }

    /// The number of an instance, which is created if it is unknown.
    pub fn intern(&mut self, name: &Instance) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.last_id += 1;
        self.ids.insert(name.clone(), self.last_id);
        self.instances
            .insert(self.last_id, RosterInstance::new(name.clone()));
        self.last_id
    }

    /// The number of an instance whose newest run has this generation.
    #[must_use]
    pub fn current(&self, name: &str, generation: u64) -> Option<u32> {
        let id = *self.ids.get(name)?;
        self.instances
            .get(&id)
            .filter(|one| one.generation == generation)
            .map(|_| id)
    }

    /// The name and newest generation of an instance.
    #[must_use]
    pub fn name_and_generation(&self, id: u32) -> Option<(Instance, u64)> {
        let instance = self.instances.get(&id)?;
        Some((instance.name.clone(), instance.generation))
    }

    /// The process of a running instance.
    #[must_use]
    pub fn running(&self, id: u32) -> Option<RunningProcess> {
        self.instances.get(&id)?.running()
    }

    /// Every running instance.
    pub fn all_running(&self) -> impl Iterator<Item = (u32, RunningProcess)> {
        let all = self.instances.iter();
        all.filter_map(|(id, one)| Some((*id, one.running()?)))
    }

    /// The instance whose main process this is.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<u32> {
        self.by_pid.get(&pid).copied()
    }

    /// Whether the spawn of an instance is in flight.
    #[must_use]
    pub fn is_starting(&self, id: u32) -> bool {
        let phase = self.instances.get(&id).map(|one| &one.phase);
        matches!(phase, Some(InstancePhase::Starting(_)))
    }

    /// Whether an instance has no run.
    #[must_use]
    pub fn is_idle(&self, id: u32) -> bool {
        self.instances.get(&id).is_some_and(RosterInstance::is_idle)
    }

    /// Whether no instance has a run.
    #[must_use]
    pub fn is_all_idle(&self) -> bool {
        self.by_pid.is_empty() && self.instances.values().all(RosterInstance::is_idle)
    }

    /// Whether a run has ended whose exit is not reported yet.
    #[must_use]
    pub fn has_pending_exit(&self) -> bool {
        let exiting = |one: &RosterInstance| matches!(one.phase, InstancePhase::Exiting(_));
        self.instances.values().any(exiting)
    }

    /// Number of spawns without a result.
    #[must_use]
    pub fn spawns_in_flight(&self) -> usize {
        let starting = |one: &&RosterInstance| matches!(one.phase, InstancePhase::Starting(_));
        self.instances.values().filter(starting).count()
    }

    /// Whether a runtime is connected and has been sent the takeover state.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.takeover == Takeover::Sent
    }

    /// A runtime wants a new run: the fence lets it pass, or says why not. From here on the spawn
    /// is in flight, until `process_started` or `spawn_failed`. `timeout`: of the run; zero: none.
    ///
    /// # Errors
    /// A run of the instance has not ended, or the generation is not newer.
    pub fn spawn_requested(
        &mut self,
        now: Duration,
        name: &Instance,
        generation: u64,
        timeout: Duration,
    ) -> Result<u32, FenceError> {
        let id = self.intern(name);
        let Some(instance) = self.instances.get_mut(&id) else {
            return Err(FenceError::Stale);
        };
        if !instance.is_idle() {
            return Err(FenceError::Running(instance.generation));
        }
        if generation <= instance.generation {
            return Err(FenceError::Stale);
        }
        let deadline = (!timeout.is_zero()).then(|| now + timeout + SPAWN_TIMEOUT);
        self.run_deadlines.extend(deadline.map(|at| (at, id)));
        instance.start(generation, deadline);
        Ok(id)
    }

    /// A spawn has reached its exec; the timeout of the run counts from now. False if no spawn of
    /// the instance is in flight: that process has to be killed.
    pub fn process_started(
        &mut self,
        now: Duration,
        id: u32,
        (pid, start_time): (u32, u64),
        timeout: Duration,
    ) -> bool {
        let Some(instance) = self.instances.get_mut(&id) else {
            return false;
        };
        let InstancePhase::Starting(deferred) = &mut instance.phase else {
            return false;
        };
        let deferred = std::mem::take(deferred);
        let limits = RunDeadlines {
            deadline: (!timeout.is_zero()).then(|| now + timeout),
            ..deferred.limits
        };
        let process = RunningProcess {
            pid,
            start_time,
            main_exited: false,
            suspended: None,
            limits,
        };
        instance.phase = InstancePhase::Running(process);
        let message = instance.event(ProcessEventKind::Spawned { pid, start_time });
        let is_module = instance.name.command().is_none();
        self.by_pid.insert(pid, id);
        self.move_deadline(id, deferred.limits.next_deadline(), limits.next_deadline());
        if is_module {
            self.send(message); // of a command the end alone is awaited
        }
        if let Some((signal, cont)) = deferred.signal {
            self.effects
                .push_back(RosterEffect::Signal { id, signal, cont });
        }
        if deferred.kill {
            self.effects.push_back(RosterEffect::KillTree(id));
        }
        self.send_takeover_if_due();
        true
    }

    /// A spawn has failed: there is no process.
    pub fn spawn_failed(&mut self, id: u32, failure: StartFailure, message: String) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let InstancePhase::Starting(deferred) = std::mem::take(&mut instance.phase) else {
            return;
        };
        let message = instance.event(ProcessEventKind::SpawnFailed { failure, message });
        self.move_deadline(id, deferred.limits.next_deadline(), None);
        self.send(message);
        self.became_idle(id);
        self.send_takeover_if_due();
    }

    /// Another process of the tree is the main process from now on.
    pub fn main_changed(&mut self, id: u32, pid: u32, start_time: u64) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let InstancePhase::Running(process) = &mut instance.phase else {
            return;
        };
        forget_pid(&mut self.by_pid, process.pid, id);
        self.by_pid.insert(pid, id);
        (process.pid, process.start_time) = (pid, start_time);
        let was_suspended = process.suspended.take().is_some();
        let message = instance.event(ProcessEventKind::MainChanged { pid, start_time });
        let continued = was_suspended.then(|| instance.event(ProcessEventKind::Continued));
        self.send(message);
        continued.into_iter().for_each(|message| self.send(message));
    }

    /// The main process has exited. The exit is reported once the sweep of its tree and its output
    /// are done, where they are pending.
    pub fn process_exited(
        &mut self,
        now: Duration,
        id: u32,
        exit: Exit,
        (sweep_pending, output_pending): (bool, bool),
        output: String,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Some(process) = instance.running() else {
            return;
        };
        let exited = RosterInstance::exit_of(now, &process, exit, output);
        instance.phase = InstancePhase::Exiting(Box::new(PendingExit {
            exited,
            sweep_pending,
            output_pending,
        }));
        if !process.main_exited {
            forget_pid(&mut self.by_pid, process.pid, id);
        }
        self.move_deadline(id, process.limits.next_deadline(), None);
        self.report_exit(id);
    }

    /// The tree of an instance has been swept; `again` if a sweep that started after its exit is
    /// still to come.
    pub fn tree_swept(&mut self, id: u32, again: bool) {
        if let Some(pending) = self.pending_exit(id) {
            pending.sweep_pending &= again;
        }
        self.report_exit(id);
    }

    /// The captured output of a run is complete.
    pub fn output_collected(&mut self, id: u32, generation: u64, output: String) {
        let newest = self.instances.get(&id).map(|one| one.generation);
        let pending = self.pending_exit(id);
        if let Some(pending) = pending.filter(|_| newest == Some(generation)) {
            pending.exited.output = output;
            pending.output_pending = false;
        }
        self.report_exit(id);
    }

    fn pending_exit(&mut self, id: u32) -> Option<&mut PendingExit> {
        match &mut self.instances.get_mut(&id)?.phase {
            InstancePhase::Exiting(pending) => Some(pending),
            _ => None,
        }
    }

    /// Reports the exit if nothing of it is pending.
    fn report_exit(&mut self, id: u32) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        match &instance.phase {
            InstancePhase::Exiting(one) if !one.sweep_pending && !one.output_pending => {}
            _ => return,
        }
        let InstancePhase::Exiting(pending) = std::mem::take(&mut instance.phase) else {
            return;
        };
        instance.last_exit = Some(pending.exited.clone());
        let message = instance.event(ProcessEventKind::Exited(pending.exited));
        self.send(message);
        self.became_idle(id);
    }

    fn became_idle(&mut self, id: u32) {
        let instance = self.instances.get(&id);
        match instance.is_some_and(|one| one.forgotten || one.name.command().is_some()) {
            true => self.remove(id),
            false => self.effects.push_back(RosterEffect::WatchActivation(id)),
        }
    }

    /// A module reported its state by sd_notify. If `is_backpressured`, only the sticky part is
    /// kept, and sent by `send_deferred_notify`.
    pub fn notify_received(&mut self, id: u32, pid: u32, text: String, is_backpressured: bool) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.notify_state.merge(&text);
        let message = instance.event(ProcessEventKind::Notify { pid, text });
        match is_backpressured {
            true => drop(self.deferred_notify.insert(id)),
            false => self.send(message),
        }
    }

    /// The runtime reads again.
    pub fn send_deferred_notify(&mut self) {
        for id in std::mem::take(&mut self.deferred_notify) {
            let instance = self.instances.get(&id);
            if let Some(message) = instance.and_then(RosterInstance::notify_replay) {
                self.send(message);
            }
        }
    }

    /// Whether `send_deferred_notify` has something to send.
    #[must_use]
    pub fn has_deferred_notify(&self) -> bool {
        !self.deferred_notify.is_empty()
    }

    /// The runtime wants a signal sent; a spawn in flight gets it after its exec.
    pub fn signal_requested(&mut self, name: &str, generation: u64, signal: i32, cont: bool) {
        let Some(id) = self.current(name, generation) else {
            return;
        };
        match self.instances.get_mut(&id).map(|one| &mut one.phase) {
            Some(InstancePhase::Starting(deferred)) => deferred.signal = Some((signal, cont)),
            Some(InstancePhase::Running(process)) if !process.main_exited => self
                .effects
                .push_back(RosterEffect::Signal { id, signal, cont }),
            _ => {}
        }
    }

    /// The runtime wants a run killed.
    pub fn kill_requested(&mut self, name: &str, generation: u64) {
        if let Some(id) = self.current(name, generation) {
            self.kill(id);
        }
    }

    fn kill(&mut self, id: u32) {
        match self.instances.get_mut(&id).map(|one| &mut one.phase) {
            Some(InstancePhase::Starting(deferred)) => {
                deferred.kill = true;
                self.effects.push_back(RosterEffect::AbortSpawn(id));
            }
            Some(InstancePhase::Running(_)) => self.effects.push_back(RosterEffect::KillTree(id)),
            _ => {}
        }
    }

    /// The runtime wants a record kept for the next one.
    pub fn record_saved(&mut self, name: &Instance, record: String) {
        let id = self.intern(name);
        if record.len() <= MAX_RECORD_BYTES
            && let Some(instance) = self.instances.get_mut(&id)
        {
            instance.record = Some(record);
            instance.forgotten = false;
        }
    }

    /// The instance has left the plan: its run is killed, then everything of it is dropped.
    pub fn forget_requested(&mut self, name: &str) {
        let Some(id) = self.ids.get(name).copied() else {
            return;
        };
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.forgotten = true;
        match instance.is_idle() {
            true => self.remove(id),
            false => self.kill(id),
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(RosterInstance { name, .. }) = self.instances.remove(&id) {
            self.ids.remove(&name);
            self.deferred_notify.remove(&id);
            self.effects.push_back(RosterEffect::Remove { id, name });
        }
    }

    /// A runtime has connected. It is sent the takeover state as soon as no spawn is in flight,
    /// because only then the state of each instance is definite.
    pub fn runtime_connected(&mut self, now: Duration) {
        let deadline = now + SPAWN_TIMEOUT;
        self.takeover = Takeover::Waits { deadline };
        self.send_takeover_if_due();
    }

    /// The channel is closed.
    pub fn runtime_disconnected(&mut self) {
        self.takeover = Takeover::None;
    }

    fn send_takeover_if_due(&mut self) {
        if matches!(self.takeover, Takeover::Waits { .. }) && self.spawns_in_flight() == 0 {
            self.send_takeover();
        }
    }

    fn send_takeover(&mut self) {
        self.takeover = Takeover::Sent;
        self.deferred_notify.clear();
        let all = || self.instances.values();
        let infos = all().map(RosterInstance::info).collect();
        let replay = all().flat_map(|one| {
            let state = one.notify_replay().into_iter().chain(one.suspension());
            state.chain(one.exit_replay())
        });
        let replay: Vec<RosterEffect> = replay.map(RosterEffect::Send).collect();
        self.effects.push_back(RosterEffect::SendTakeover(infos));
        self.effects.extend(replay);
    }

    /// Sends to a runtime that has been sent the takeover state; what it must not miss is kept in
    /// the instances.
    fn send(&mut self, message: HolderMessage) {
        if self.is_taken_over() {
            self.effects.push_back(RosterEffect::Send(message));
        }
    }

    /// When `deadline_passed` has to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let run = self.run_deadlines.first().map(|(at, ..)| *at);
        let takeover = match self.takeover {
            Takeover::Waits { deadline } => Some(deadline),
            Takeover::None | Takeover::Sent => None,
        };
        [run, takeover].into_iter().flatten().min()
    }

    /// Kills each run that has timed out, and aborts the spawns that a new runtime has waited for.
    pub fn deadline_passed(&mut self, now: Duration) {
        while let Some((_, id)) = self
            .run_deadlines
            .first()
            .copied()
            .filter(|(at, _)| *at <= now)
        {
            self.run_deadlines.pop_first();
            self.time_out(now, id);
        }
        if matches!(self.takeover, Takeover::Waits { deadline } if deadline <= now) {
            let starting = |id: &u32| self.is_starting(*id);
            let hung: Vec<u32> = self.instances.keys().copied().filter(starting).collect();
            hung.into_iter().for_each(|id| self.kill(id));
            self.send_takeover();
        }
    }

    fn time_out(&mut self, now: Duration, id: u32) {
        let Some(limits) = self.instances.get_mut(&id).and_then(RosterInstance::limits) else {
            return;
        };
        limits.timed_out |= limits.deadline.take_if(|at| *at <= now).is_some();
        limits.stop.take_if(|stop| stop.deadline <= now);
        let next = limits.next_deadline();
        self.run_deadlines.extend(next.map(|at| (at, id)));
        self.kill(id);
    }

    fn move_deadline(&mut self, id: u32, from: Option<Duration>, to: Option<Duration>) {
        if let Some(at) = from {
            self.run_deadlines.remove(&(at, id));
        }
        self.run_deadlines.extend(to.map(|at| (at, id)));
    }
}

/// Forgets the process of an instance, unless its number is another instance's by now: a main
/// process that is no child of the holder can be reaped before its end is known here.
fn forget_pid(by_pid: &mut HashMap<u32, u32>, pid: u32, id: u32) {
    if by_pid.get(&pid) == Some(&id) {
        by_pid.remove(&pid);
    }
}

#[cfg(test)]
mod tests;
