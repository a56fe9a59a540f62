//! The processes of the simulated machine, and the part of the engine that spawns and reaps.
//! Owns what really runs; two spawner threads, sweeps and captured output are late as in earnest.
//! Never asks the roster what it should do: effects say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mainstay_holder::machines::Roster;
use mainstay_holder::messages::InstanceInfo;
use mainstay_process::{Exit, Signal, StartFailure, StartStep};

use super::tree_stop::RestOfTree;
use super::{Checked, HolderBug, HolderViolation, Item, Sim};
use crate::rng::Rng;

const SPAWNER_THREADS: usize = 2;
/// Numbers that are given to new processes soon.
const FREE_PIDS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct SimProcess {
    id: u32,
    /// Its number in the machine, which is another's after it.
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) generation: u64,
    /// The holder reaps it; else it learns of its exit by a handle, later.
    pub(super) is_child: bool,
    /// Something of its tree outlives it.
    pub(super) has_children: bool,
    /// A signal of another process stops it.
    pub(super) suspended: bool,
    ignores_sigterm: bool,
    /// How long a kill takes; none: it never dies, as in an uninterruptible system call.
    kill_delay: Option<Duration>,
    /// The result of its spawn has reached the loop of the holder.
    is_reported: bool,
    /// A kill is on its way to all of its tree.
    is_killed: bool,
    exited: Option<Exit>,
}

#[derive(Debug)]
struct SpawnJob {
    id: u32,
    name: String,
    generation: u64,
    timeout: Duration,
    /// The process, by its key, once a thread has forked it; none for a spawn that fails.
    process: Option<u32>,
    is_started: bool,
    /// It does not reach its exec until it is aborted.
    hangs: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub(super) struct FakeOs {
    processes: BTreeMap<u32, SimProcess>,
    /// By instance: what has ended unnoticed, because it is not the holder's child.
    pub(super) reaped_elsewhere: BTreeMap<u32, (SimProcess, Exit)>,
    /// By instance: trees without their main process.
    pub(super) rests: BTreeMap<u32, RestOfTree>,
    jobs: BTreeMap<u64, SpawnJob>,
    queue: VecDeque<u64>,
    last_job: u64,
    last_process: u32,
    last_pid: u32,
    /// Numbers of processes that are gone.
    free_pids: VecDeque<u32>,
}

/// A program that is not there.
pub(super) const NO_PROGRAM: StartFailure = StartFailure {
    step: StartStep::Exec,
    errno: 2,
};
/// A spawn that was aborted (ECANCELED).
const ABORTED: StartFailure = StartFailure {
    step: StartStep::Fork,
    errno: 125,
};

/// The exit of a process that a signal ended.
pub(super) fn signalled(signal: i32) -> Exit {
    Exit::Signal {
        signal: Signal(signal),
        core: false,
    }
}

impl FakeOs {
    /// The generation of the run of an instance, if its spawn was reported.
    pub(super) fn generation_of(&self, name: &str) -> Option<u64> {
        let processes = self.processes.values().filter(|one| one.is_reported);
        let elsewhere = self.reaped_elsewhere.values().map(|(one, _)| one);
        let mains = processes.chain(elsewhere);
        let runs = mains.map(|one| (&one.name, one.generation));
        let rests = self.rests.values().map(|one| (&one.name, one.generation));
        let mut all = runs.chain(rests);
        all.find(|(one, _)| *one == name)
            .map(|(_, generation)| generation)
    }

    pub(super) fn running_processes(&self) -> Vec<u32> {
        let running = |one: &SimProcess| one.is_reported && one.exited.is_none();
        let all = self.processes.iter();
        all.filter(|(_, one)| running(one))
            .map(|(number, _)| *number)
            .collect()
    }

    /// Ends all starts; returns the instance of each, and the number of its process if it had one.
    pub(super) fn take_starts(&mut self) -> Vec<(String, Option<u32>)> {
        self.queue.clear();
        let jobs = std::mem::take(&mut self.jobs).into_values();
        let ended = jobs.map(|job| {
            let process = job
                .process
                .and_then(|number| self.processes.remove(&number));
            (job.name, process.map(|one| one.pid))
        });
        ended.collect()
    }

    /// The instance and the number of a process.
    pub(super) fn main(&self, process: u32) -> Option<(u32, u32)> {
        let process = self.processes.get(&process)?;
        Some((process.id, process.pid))
    }

    /// A process, unless it is about to die.
    pub(super) fn changeable(&mut self, process: u32) -> Option<&mut SimProcess> {
        let process = self.processes.get_mut(&process)?;
        let lives = process.is_reported && process.exited.is_none() && !process.is_killed;
        lives.then_some(process)
    }

    /// The instance of a process, and whether a signal of another process stops it.
    pub(super) fn suspension(&self, process: u32) -> Option<(u32, bool)> {
        let process = self.processes.get(&process)?;
        Some((process.id, process.suspended))
    }

    /// The main process of an instance, where the roster says it is; None if that is another's.
    fn main_of(&self, id: u32, roster: &Roster) -> Option<u32> {
        let pid = roster.running(id)?.pid;
        let mut all = self.processes.iter();
        let found = all.find(|(_, one)| one.pid == pid && one.id == id);
        found.map(|(process, _)| *process)
    }

    /// A number that no process has, often one that was another's.
    pub(super) fn new_pid(&mut self, rng: &mut Rng) -> u32 {
        if rng.permille(700)
            && let Some(pid) = self.free_pids.pop_front()
        {
            return pid;
        }
        self.last_pid += 1;
        self.last_pid
    }

    pub(super) fn free_pid(&mut self, pid: u32) {
        self.free_pids.push_back(pid);
        if self.free_pids.len() > FREE_PIDS_MAX {
            self.free_pids.pop_front();
        }
    }

    /// Whether a kill does nothing to the process of an instance.
    pub(super) fn never_dies(&self, name: &str) -> bool {
        let mut of_name = self.processes.values().filter(|one| one.name == name);
        of_name.any(|one| one.kill_delay.is_none())
    }

    /// Whether the takeover state tells the truth about an instance.
    pub(super) fn agrees(&self, info: &InstanceInfo) -> bool {
        match info.pid {
            Some(_) => self.generation_of(&info.instance) == Some(info.generation),
            None => self.generation_of(&info.instance).is_none(),
        }
    }

    /// Each run whose spawn was reported is in the roster, and no number of the past.
    pub(super) fn check_known(&self, roster: &Roster) -> Checked {
        let reported = self.processes.values().filter(|one| one.is_reported);
        for process in reported {
            let is_known = roster.by_pid(process.pid) == Some(process.id)
                && roster.current(&process.name, process.generation) == Some(process.id);
            if !is_known {
                return Err(HolderViolation::UnknownProcess(process.name.clone()));
            }
        }
        for (id, rest) in &self.rests {
            rest.check_known(*id, roster)?;
        }
        for pid in &self.free_pids {
            let owner = roster.by_pid(*pid);
            if let Some(id) = owner.filter(|id| !self.reaped_elsewhere.contains_key(id)) {
                let name = roster.name_and_generation(id);
                let name = name.map_or_else(|| pid.to_string(), |(name, _)| name.to_string());
                return Err(HolderViolation::UnknownProcess(name));
            }
        }
        Ok(())
    }

    /// At the exit of the holder, which kills the runs it knows and aborts its spawns.
    pub(super) fn check_left(&self, known: &BTreeSet<u32>) -> Checked {
        let reported = self.processes.values().filter(|one| one.is_reported);
        let alive = reported.filter(|one| one.exited.is_none());
        let mains = alive.map(|one| (one.id, &one.name));
        let rests = self.rests.iter().map(|(id, one)| (*id, &one.name));
        let mut left = mains.chain(rests).filter(|(id, _)| !known.contains(id));
        left.next().map_or(Ok(()), |(_, name)| {
            Err(HolderViolation::LeftAlive(name.clone()))
        })
    }
}

impl Sim {
    pub(super) fn queue_spawn(&mut self, id: u32, name: &str, generation: u64, timeout: Duration) {
        self.os.last_job += 1;
        let job = SpawnJob {
            id,
            name: name.to_owned(),
            generation,
            timeout,
            process: None,
            is_started: false,
            hangs: false,
        };
        self.os.jobs.insert(self.os.last_job, job);
        self.os.queue.push_back(self.os.last_job);
    }

    /// Lets free spawner threads take what is queued.
    pub(super) fn run_spawners(&mut self) -> Checked {
        loop {
            let busy = self.os.jobs.values().filter(|job| job.is_started).count();
            if busy >= SPAWNER_THREADS {
                return Ok(());
            }
            let Some(number) = self.os.queue.pop_front() else {
                return Ok(());
            };
            self.start_job(number)?;
        }
    }

    fn start_job(&mut self, number: u64) -> Checked {
        let faulty = self.faults_left > 0;
        let fails = faulty && self.rng.permille(40);
        let hangs = faulty && self.rng.permille(30);
        let lasts = faulty && self.rng.permille(15);
        let kill_delay = match self.rng.below(1000) {
            0..3 => None,
            3..40 => Some(self.rng.span(Duration::from_secs(20))),
            _ => Some(self.rng.span(Duration::from_millis(30))),
        };
        let Some(job) = self.os.jobs.get_mut(&number) else {
            return Ok(());
        };
        job.is_started = true;
        if !fails {
            self.os.last_process += 1;
            let number = self.os.last_process;
            job.process = Some(number);
            job.hangs = hangs;
            let mut process = SimProcess {
                id: job.id,
                pid: 0,
                name: job.name.clone(),
                generation: job.generation,
                is_child: true,
                has_children: self.rng.permille(300),
                suspended: false,
                ignores_sigterm: self.rng.permille(200),
                kill_delay,
                is_reported: false,
                is_killed: false,
                exited: None,
            };
            self.summary.processes += 1;
            self.summary.slow_kills +=
                u64::from(kill_delay.is_none_or(|delay| delay > Duration::from_millis(30)));
            self.check.created(&process.name)?;
            let newest = self.os.last_pid;
            process.pid = self.os.new_pid(&mut self.rng);
            self.summary.reused_pids += u64::from(process.pid <= newest);
            self.os.processes.insert(number, process);
            let lifetime = self.rng.span(Duration::from_secs(120));
            let code = self.rng.pick(&[0, 1, 3]);
            if faulty && self.rng.permille(300) {
                self.exit_after(number, lifetime, Exit::Code(code));
            }
        }
        if hangs && !fails {
            self.summary.hung_spawns += 1;
            return Ok(());
        }
        let most = if lasts { 40_000 } else { 3 };
        let delay = self.rng.span(Duration::from_millis(most));
        self.after(delay, Item::SpawnDone(number));
        Ok(())
    }

    /// A thread is free again; a process that has not been reported can only exit unnoticed.
    pub(super) fn spawn_done(&mut self, number: u64) -> Checked {
        let Some(job) = self.os.jobs.remove(&number) else {
            return Ok(());
        };
        let Some(number) = job.process else {
            self.check.spawn_failed(&job.name);
            let message = "cannot execute it".to_owned();
            self.roster.spawn_failed(job.id, NO_PROGRAM, message);
            return Ok(());
        };
        let Some((_, pid)) = self.os.main(number) else {
            return Ok(());
        };
        let id = (pid, u64::from(number));
        let is_accepted = self
            .roster
            .process_started(self.now, job.id, id, job.timeout);
        let Some(process) = self.os.processes.get_mut(&number) else {
            return Ok(());
        };
        process.is_reported = is_accepted;
        let exited = process.exited;
        if !is_accepted {
            self.os.processes.remove(&number); // killed by the engine
            self.os.free_pid(pid);
            return Ok(());
        }
        self.check.started(self.now, &job.name, job.timeout);
        if let Some(exit) = exited {
            self.after(Duration::ZERO, Item::ExitReaped(number, exit));
        }
        Ok(())
    }

    pub(super) fn abort_spawn(&mut self, id: u32) -> Checked {
        let mut jobs = self.os.jobs.iter_mut().filter(|(_, job)| job.id == id);
        let Some((number, job)) = jobs.next() else {
            return Ok(());
        };
        let number = *number;
        self.check.aborted(self.now, &job.name);
        if !job.is_started {
            if !self.has_bug(HolderBug::KeepAborted)
                && let Some(job) = self.os.jobs.remove(&number)
            {
                self.os.queue.retain(|queued| *queued != number);
                self.check.spawn_failed(&job.name);
            }
            let message = "cannot start it: aborted".to_owned();
            self.roster.spawn_failed(id, ABORTED, message);
            return Ok(());
        }
        if std::mem::take(&mut job.hangs) {
            self.after(Duration::from_millis(1), Item::SpawnDone(number));
        }
        if let Some(process) = self.os.jobs.get(&number).and_then(|job| job.process) {
            self.kill_process(process);
        }
        Ok(())
    }

    pub(super) fn signal_process(&mut self, id: u32, signal: i32, cont: bool) {
        if let Some((process, _)) = self.os.reaped_elsewhere.get(&id) {
            self.check.signalled(&process.name, cont); // it reaches no process
        }
        let Some(number) = self.os.main_of(id, &self.roster) else {
            return;
        };
        let Some(target) = self.os.processes.get_mut(&number) else {
            return;
        };
        if self.options.injected_bug == Some(HolderBug::IgnoreDeferred)
            && self.check.was_deferred(&target.name)
        {
            return;
        }
        self.check.signalled(&target.name, cont);
        let continues = cont && std::mem::take(&mut target.suspended);
        if !target.ignores_sigterm && !target.suspended {
            let delay = self.rng.span(Duration::from_millis(500));
            self.exit_after(number, delay, signalled(signal));
        }
        if continues {
            self.report_suspension(number);
        }
    }

    pub(super) fn kill_tree(&mut self, id: u32) -> Checked {
        if self.roster.running(id).is_none() || self.has_bug(HolderBug::IgnoreKills) {
            return Ok(());
        }
        let Some((name, generation)) = self.roster.name_and_generation(id) else {
            return Ok(());
        };
        self.check.killed(self.now, &name)?;
        if self.has_bug(HolderBug::RepeatKills) {
            self.check.kill_requested(&name, generation);
            self.roster.kill_requested(&name, generation);
        }
        if self.os.rests.contains_key(&id) {
            self.after(Duration::ZERO, Item::TreeGone(id, generation));
            return Ok(());
        }
        if let Some(process) = self.os.main_of(id, &self.roster) {
            self.kill_process(process);
        }
        if self.rng.permille(500) {
            self.to_sweep.push(id);
        }
        Ok(())
    }

    fn kill_process(&mut self, number: u32) {
        let Some(process) = self.os.processes.get_mut(&number) else {
            return;
        };
        process.is_killed = true;
        if let Some(delay) = process.kill_delay {
            self.exit_after(number, delay, signalled(9));
        }
    }

    pub(super) fn exit_after(&mut self, process: u32, delay: Duration, exit: Exit) {
        self.after(delay, Item::ProcessExits(process, exit));
    }

    pub(super) fn process_exits(&mut self, number: u32, exit: Exit) {
        let misses = self.has_bug(HolderBug::MissExits) && self.rng.permille(200);
        let Some(process) = self.os.processes.get_mut(&number) else {
            return;
        };
        if process.exited.is_some() || (process.suspended && exit != signalled(9)) {
            return; // it sleeps
        }
        process.exited = Some(exit);
        if misses {
            self.os.processes.remove(&number);
            return;
        }
        let delay = self.rng.span(Duration::from_millis(2));
        if !process.is_child {
            self.reap_elsewhere(number, exit);
        } else if process.is_reported {
            // Before its exec it can only be reaped after the result of its spawn.
            self.after(delay, Item::ExitReaped(number, exit));
        }
    }

    /// Its parent reaps it at once, the holder learns of it later.
    fn reap_elsewhere(&mut self, number: u32, exit: Exit) {
        if let Some(process) = self.os.processes.remove(&number) {
            let id = process.id;
            self.os.free_pids.push_front(process.pid); // the next one may get it
            self.check.process_gone(&process.name);
            self.os.reaped_elsewhere.insert(id, (process, exit));
            let delay = self.rng.span(Duration::from_secs(1));
            self.after(delay, Item::HandleEnded(id));
        }
    }

    pub(super) fn exit_reaped(&mut self, number: u32, exit: Exit) -> Checked {
        let Some(process) = self.os.processes.remove(&number) else {
            return Ok(());
        };
        let Some(id) = self.roster.by_pid(process.pid) else {
            return Err(HolderViolation::UnknownProcess(process.name));
        };
        self.os.free_pid(process.pid);
        self.check.process_gone(&process.name);
        if !self.leave_rest(id, &process, exit) {
            self.run_exited(id, &process.name, process.generation, exit);
        }
        Ok(())
    }

    /// The run is over; its sweep and its output may take longer.
    pub(super) fn run_exited(&mut self, id: u32, name: &str, generation: u64, exit: Exit) {
        let (sweep, output) = (self.rng.permille(400), self.rng.permille(200));
        if sweep {
            self.to_sweep.push(id);
        }
        if output {
            let delay = self.rng.span(Duration::from_millis(100));
            self.after(delay, Item::OutputCollected(id, generation));
        }
        let pending = (sweep, output);
        self.check.exited(name, pending);
        let pending = match self.has_bug(HolderBug::ReportEarly) {
            true => (false, false),
            false => pending,
        };
        self.roster
            .process_exited(self.now, id, exit, pending, String::new());
    }
}
