//! The processes of the simulated machine, and the part of the engine that spawns and reaps.
//! Owns what really runs; two spawner threads, sweeps and captured output are late as in earnest.
//! Never asks the roster what it should do: effects say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mainstay_holder::machines::Roster;
use mainstay_holder::messages::InstanceInfo;
use mainstay_process::{Exit, Signal, StartFailure, StartStep};

use super::{Checked, HolderBug, HolderViolation, Item, Sim};

const SPAWNER_THREADS: usize = 2;

#[derive(Debug)]
struct SimProcess {
    id: u32,
    name: String,
    generation: u64,
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
    /// The process, once a thread has forked it; none for a spawn that fails.
    pid: Option<u32>,
    is_started: bool,
    /// It does not reach its exec until it is aborted.
    hangs: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub(super) struct FakeOs {
    processes: BTreeMap<u32, SimProcess>,
    jobs: BTreeMap<u64, SpawnJob>,
    queue: VecDeque<u64>,
    last_job: u64,
    last_pid: u32,
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
    /// The generation of the process of an instance, if its spawn was reported.
    pub(super) fn generation_of(&self, name: &str) -> Option<u64> {
        let mut of_name = self.processes.values().filter(|one| one.name == name);
        of_name
            .find(|one| one.is_reported)
            .map(|one| one.generation)
    }

    pub(super) fn running_pids(&self) -> Vec<u32> {
        let running = |one: &SimProcess| one.is_reported && one.exited.is_none();
        let all = self.processes.iter();
        all.filter(|(_, one)| running(one))
            .map(|(pid, _)| *pid)
            .collect()
    }

    /// Whether a kill does nothing to the process of an instance.
    pub(super) fn never_dies(&self, name: &str) -> bool {
        let mut of_name = self.processes.values().filter(|one| one.name == name);
        of_name.any(|one| one.kill_delay.is_none())
    }

    /// Whether the takeover state tells the truth about an instance.
    pub(super) fn agrees(&self, info: &InstanceInfo) -> bool {
        match info.pid {
            Some(pid) => self
                .processes
                .get(&pid)
                .is_some_and(|one| one.name == *info.instance && one.generation == info.generation),
            None => self.generation_of(&info.instance).is_none(),
        }
    }

    /// Each process whose spawn was reported is in the roster.
    pub(super) fn check_known(&self, roster: &Roster) -> Checked {
        for (pid, process) in self.processes.iter().filter(|(_, one)| one.is_reported) {
            let is_known = roster.by_pid(*pid) == Some(process.id)
                && roster.current(&process.name, process.generation) == Some(process.id);
            if !is_known {
                return Err(HolderViolation::UnknownProcess(process.name.clone()));
            }
        }
        Ok(())
    }

    /// At the exit of the holder, which kills the processes it knows and aborts its spawns.
    pub(super) fn check_left(&self, known: &BTreeSet<u32>) -> Checked {
        let spawning: BTreeSet<u32> = self.jobs.values().filter_map(|job| job.pid).collect();
        for (pid, process) in self
            .processes
            .iter()
            .filter(|(_, one)| one.exited.is_none())
        {
            if !known.contains(pid) && !spawning.contains(pid) && process.is_reported {
                return Err(HolderViolation::LeftAlive(process.name.clone()));
            }
        }
        Ok(())
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
            pid: None,
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
            self.os.last_pid += 1;
            job.pid = Some(self.os.last_pid);
            job.hangs = hangs;
            let process = SimProcess {
                id: job.id,
                name: job.name.clone(),
                generation: job.generation,
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
            self.os.processes.insert(self.os.last_pid, process);
            let lifetime = self.rng.span(Duration::from_secs(120));
            let code = self.rng.pick(&[0, 1, 3]);
            if faulty && self.rng.permille(300) {
                self.exit_after(self.os.last_pid, lifetime, Exit::Code(code));
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
        let Some(pid) = job.pid else {
            self.check.spawn_failed(&job.name);
            let message = "cannot execute it".to_owned();
            self.roster.spawn_failed(job.id, NO_PROGRAM, message);
            return Ok(());
        };
        let id = (pid, u64::from(pid));
        let is_accepted = self
            .roster
            .process_started(self.now, job.id, id, job.timeout);
        let Some(process) = self.os.processes.get_mut(&pid) else {
            return Ok(());
        };
        process.is_reported = is_accepted;
        let exited = process.exited;
        if !is_accepted {
            self.os.processes.remove(&pid); // killed by the engine
            return Ok(());
        }
        self.check.started(self.now, &job.name, job.timeout);
        if let Some(exit) = exited {
            self.after(Duration::ZERO, Item::ExitReaped(pid, exit));
        }
        Ok(())
    }

    pub(super) fn abort_spawn(&mut self, id: u32) -> Checked {
        let mut jobs = self.os.jobs.iter_mut().filter(|(_, job)| job.id == id);
        let Some((number, job)) = jobs.next() else {
            return Ok(());
        };
        let number = *number;
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
        if let Some(pid) = self.os.jobs.get(&number).and_then(|job| job.pid) {
            self.kill_process(pid);
        }
        Ok(())
    }

    pub(super) fn signal_process(&mut self, id: u32, signal: i32) {
        let Some(process) = self.roster.running(id) else {
            return;
        };
        let Some(target) = self.os.processes.get(&process.pid) else {
            return;
        };
        if self.has_bug(HolderBug::IgnoreDeferred) && self.check.was_deferred(&target.name) {
            return;
        }
        self.check.signalled(&target.name);
        if !target.ignores_sigterm {
            let delay = self.rng.span(Duration::from_millis(500));
            self.exit_after(process.pid, delay, signalled(signal));
        }
    }

    pub(super) fn kill_tree(&mut self, id: u32) {
        let Some(process) = self.roster.running(id) else {
            return;
        };
        if self.has_bug(HolderBug::IgnoreKills) {
            return;
        }
        if let Some(target) = self.os.processes.get(&process.pid) {
            self.check.killed(&target.name);
        }
        if self.has_bug(HolderBug::RepeatKills)
            && let Some((name, generation)) = self.roster.name_and_generation(id)
        {
            self.roster.kill_requested(&name, generation);
        }
        self.kill_process(process.pid);
        if self.rng.permille(500) {
            self.to_sweep.push(id);
        }
    }

    fn kill_process(&mut self, pid: u32) {
        let Some(process) = self.os.processes.get_mut(&pid) else {
            return;
        };
        process.is_killed = true;
        if let Some(delay) = process.kill_delay {
            self.exit_after(pid, delay, signalled(9));
        }
    }

    pub(super) fn exit_after(&mut self, pid: u32, delay: Duration, exit: Exit) {
        self.after(delay, Item::ProcessExits(pid, exit));
    }

    pub(super) fn process_exits(&mut self, pid: u32, exit: Exit) {
        let misses = self.has_bug(HolderBug::MissExits) && self.rng.permille(200);
        let Some(process) = self.os.processes.get_mut(&pid) else {
            return;
        };
        if process.exited.is_some() {
            return;
        }
        process.exited = Some(exit);
        if misses {
            self.os.processes.remove(&pid);
            return;
        }
        // Before its exec it can only be reaped after the result of its spawn.
        if process.is_reported {
            let delay = self.rng.span(Duration::from_millis(2));
            self.after(delay, Item::ExitReaped(pid, exit));
        }
    }

    pub(super) fn exit_reaped(&mut self, pid: u32, exit: Exit) -> Checked {
        let Some(process) = self.os.processes.remove(&pid) else {
            return Ok(());
        };
        let Some(id) = self.roster.by_pid(pid) else {
            return Err(HolderViolation::UnknownProcess(process.name));
        };
        let (sweep, output) = (self.rng.permille(400), self.rng.permille(200));
        if sweep {
            self.to_sweep.push(id);
        }
        if output {
            let delay = self.rng.span(Duration::from_millis(100));
            self.after(delay, Item::OutputCollected(id, process.generation));
        }
        let pending = (sweep, output);
        self.check.reaped(&process.name, pending);
        let pending = match self.has_bug(HolderBug::ReportEarly) {
            true => (false, false),
            false => pending,
        };
        self.roster
            .process_exited(self.now, id, exit, pending, String::new());
        Ok(())
    }

    /// MAINPID: another process of the tree takes the place of the main process.
    pub(super) fn change_main(&mut self, pid: u32) {
        let is_running =
            |one: &&SimProcess| one.is_reported && one.exited.is_none() && !one.is_killed;
        if self.os.processes.get(&pid).filter(is_running).is_none() {
            return;
        }
        self.os.last_pid += 1;
        let new = self.os.last_pid;
        if let Some(process) = self.os.processes.remove(&pid) {
            let id = process.id;
            self.os.processes.insert(new, process);
            if !self.has_bug(HolderBug::MissMainChange) {
                self.roster.main_changed(id, new, u64::from(new));
            }
        }
    }
}
