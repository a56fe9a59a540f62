//! One seed, one history of the holder: its roster and its runtime supervisor under faults.
//! Owns virtual time, the channel between holder and runtime, and the part of the engine.
//! Never helps the machines: spawns hang, kills do not kill, messages are late, twice or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_holder::machines::{
    Roster, RosterEffect, RuntimeExit, RuntimeSupervisor, SupervisorEffect,
};
use mainstay_process::{Exit, Instance};

use crate::rng::Rng;
use checker::Checker;
use fake_os::FakeOs;
use fake_runtime::{Delivery, FakeRuntime, Request, RuntimeTimer};

mod checker;
mod death;
mod fake_os;
mod fake_runtime;
mod faults;
mod history;
mod requests;
mod tree_stop;
mod upgrade;
mod violation;

pub use history::{HolderBug, HolderFailure, HolderOptions, HolderSummary};
pub use violation::HolderViolation;

/// The most effects one input may have.
const EFFECTS_MAX: usize = 10_000;
/// How long a history goes on without faults before everything must be in order.
const QUIET: Duration = Duration::from_secs(200);
/// Silence after which the runtime counts as unresponsive.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(8);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// The exit code of a holder whose setup was refused.
const REFUSED: u8 = 4;
/// The last lines of a history that are shown with a failure, and the length of each.
const TRACE_LINES: usize = 80;
const TRACE_COLUMNS: usize = 300;

/// Something that will happen.
#[derive(Debug, Clone)]
enum Item {
    /// A spawner thread has finished with the job.
    SpawnDone(u64),
    /// A process exits, and is reaped a moment later.
    ProcessExits(u32, Exit),
    ExitReaped(u32, Exit),
    /// The main process of this instance was not the holder's child: its handle says that it ended.
    HandleEnded(u32),
    /// Nothing is alive any more of the tree of this run.
    TreeGone(u32, u64),
    /// The sweep of these instances is done.
    SweepDone(Vec<u32>),
    OutputCollected(u32, u64),
    /// A request of this runtime reaches the holder.
    ToHolder(u32, Request),
    /// A message of the holder reaches this runtime.
    ToRuntime(u32, Delivery),
    RuntimeTimer(u32, RuntimeTimer),
    RuntimeExits(u32),
    RuntimeReaped(u32),
    /// The runtime reads again.
    ReadAgain,
    Fault,
    /// The machine sleeps, or the holder is stopped.
    Suspend,
    /// The runtime stops reading and answering.
    HangRuntime,
    /// Nothing: the loop turns.
    Turn,
}

struct Sim {
    options: HolderOptions,
    rng: Rng,
    now: Duration,
    agenda: BTreeMap<(Duration, u64), Item>,
    order: u64,
    supervisor: RuntimeSupervisor,
    roster: Roster,
    os: FakeOs,
    /// The process of the runtime, while it runs.
    runtime: Option<FakeRuntime>,
    last_epoch: u32,
    /// The runtime at the other end of the channel, while the holder has it open; when the newest
    /// message in either direction arrives.
    channel: Option<(u32, Duration, Duration)>,
    /// The exit of a runtime is noticed before the end of its channel, as on Windows.
    exit_first: bool,
    /// The holder is a thread of the application, and so is the runtime.
    embedded: bool,
    /// Status texts that modules have sent.
    statuses: u64,
    to_sweep: Vec<u32>,
    sweeping: bool,
    configured: bool,
    faults_left: u32,
    upgrades: upgrade::Upgrades,
    exited: Option<u8>,
    check: Checker,
    trace: Vec<String>,
    summary: HolderSummary,
}

type Checked = Result<(), HolderViolation>;

/// Runs one history.
///
/// # Errors
/// The first violation, with the lines that led to it.
pub fn run(options: HolderOptions) -> Result<HolderSummary, Box<HolderFailure>> {
    let mut sim = Sim::new(options);
    match sim.history() {
        Ok(()) => {
            sim.summary.lasted = sim.now;
            Ok(sim.summary)
        }
        Err(violation) => {
            let from = sim.trace.len().saturating_sub(TRACE_LINES);
            Err(Box::new(HolderFailure {
                options,
                violation,
                at: sim.now,
                trace: sim.trace.split_off(from),
            }))
        }
    }
}

impl Sim {
    fn new(options: HolderOptions) -> Sim {
        let mut rng = Rng::new(options.seed);
        let exit_first = rng.permille(500);
        let embedded = rng.permille(100);
        let begin = Duration::from_secs(1000);
        let supervisor = match embedded {
            true => RuntimeSupervisor::embedded(begin),
            false => RuntimeSupervisor::standalone(begin),
        };
        Sim {
            options,
            rng,
            now: begin,
            agenda: BTreeMap::new(),
            order: 0,
            supervisor,
            roster: Roster::default(),
            os: FakeOs::default(),
            runtime: None,
            last_epoch: 0,
            channel: None,
            exit_first,
            embedded,
            statuses: 0,
            to_sweep: Vec::new(),
            sweeping: false,
            configured: false,
            faults_left: options.faults,
            upgrades: upgrade::Upgrades::default(),
            exited: None,
            check: Checker::default(),
            trace: Vec::new(),
            summary: HolderSummary::default(),
        }
    }

    fn has_bug(&self, bug: HolderBug) -> bool {
        self.options.injected_bug == Some(bug)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.now.as_secs_f64();
        let line: String = line().chars().take(TRACE_COLUMNS).collect();
        self.trace.push(format!("{at:>12.6} {line}"));
        if self.trace.len() > 10 * TRACE_LINES {
            self.trace.drain(..9 * TRACE_LINES);
        }
    }

    fn after(&mut self, delay: Duration, item: Item) {
        self.at(self.now + delay, item);
    }

    fn at(&mut self, at: Duration, item: Item) {
        self.order += 1;
        self.agenda.insert((at, self.order), item);
    }

    fn history(&mut self) -> Checked {
        if self.embedded {
            self.connect_runtime()?;
            self.supervisor.channel_opened(self.now);
            self.roster.runtime_connected(self.now);
        }
        self.effects()?;
        self.after(Duration::from_millis(500), Item::Fault);
        // Faults are at most three seconds apart, sleeps of the holder apart.
        while self.faults_left > 0 && self.exited.is_none() {
            self.step(Duration::MAX)?;
        }
        let quiet = self.now + QUIET;
        while self.exited.is_none() && self.step(quiet)? {}
        if self.exited.is_none() {
            self.now = quiet;
            self.check_quiet()?;
            self.request_stop();
            // Some runtimes hang in the middle of the stop.
            if self.rng.permille(300) {
                let delay = self.rng.span(Duration::from_secs(2));
                self.after(delay, Item::HangRuntime);
            }
            self.after(Duration::ZERO, Item::Turn);
            while self.exited.is_none() && self.step(Duration::MAX)? {}
        }
        match self.exited {
            Some(_) => Ok(()),
            None => Err(HolderViolation::StopTooLong),
        }
    }

    /// One turn of the loop of the holder, at or before `end`; false if nothing is left to happen.
    fn step(&mut self, end: Duration) -> Result<bool, HolderViolation> {
        let next = self.agenda.keys().next().map(|(at, _)| *at);
        let Some(at) = [self.next_deadline(), next].into_iter().flatten().min() else {
            return Ok(false);
        };
        if at > end {
            return Ok(false);
        }
        self.now = self.now.max(at);
        self.summary.steps += 1;
        // What has happened comes first, then what is due.
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let item = entry.remove();
            self.happen(item)?;
            self.roster_effects()?;
        }
        let skips = self.has_bug(HolderBug::SkipRunDeadlines);
        if !skips && self.next_deadline().is_some_and(|at| at <= self.now) {
            self.roster.deadline_passed(self.now);
        }
        self.effects()?;
        if self.exited.is_none() {
            self.check.on_time(self.now)?;
            self.upgrades.on_time(self.now)?;
            let running = self.runtime.as_ref().map(|one| one.epoch);
            self.check.runtime(self.now, running)?;
        }
        Ok(true)
    }

    fn next_deadline(&self) -> Option<Duration> {
        let machines = [self.supervisor.next_deadline(), self.roster.next_deadline()];
        let deadline = machines.into_iter().flatten().min();
        let ignores = self.has_bug(HolderBug::IgnoreDeadlines)
            || (self.has_bug(HolderBug::NeverExit) && self.supervisor.is_stopping());
        deadline.filter(|_| !ignores)
    }

    fn happen(&mut self, item: Item) -> Checked {
        match item {
            Item::SpawnDone(job) => self.spawn_done(job)?,
            Item::ProcessExits(number, exit) => self.process_exits(number, exit),
            Item::ExitReaped(number, exit) => self.exit_reaped(number, exit)?,
            Item::HandleEnded(id) => self.handle_ended(id),
            Item::TreeGone(id, generation) => self.tree_gone(id, generation),
            Item::ReadAgain => self.read_again(),
            Item::SweepDone(ids) => {
                self.sweeping = false;
                for id in ids {
                    let again = self.to_sweep.contains(&id);
                    self.check.swept(id, again);
                    self.roster.tree_swept(id, again);
                }
            }
            Item::OutputCollected(id, generation) => {
                self.check.collected(id, generation);
                let output = "output".to_owned();
                self.roster.output_collected(id, generation, output);
            }
            Item::ToHolder(epoch, request) => {
                if self.channel.is_some_and(|(open, ..)| open == epoch) {
                    self.handle(request)?;
                } else {
                    self.summary.dropped_messages += 1;
                }
            }
            Item::ToRuntime(epoch, delivery) => self.deliver(epoch, delivery),
            Item::RuntimeTimer(epoch, timer) => self.runtime_timer(epoch, timer),
            Item::RuntimeExits(epoch) => self.runtime_exits(epoch),
            Item::RuntimeReaped(epoch) => self.runtime_reaped(epoch)?,
            Item::Fault => self.inject_fault(),
            Item::Suspend => self.suspend(),
            Item::HangRuntime => self.hang_runtime(),
            Item::Turn => {}
        }
        Ok(())
    }

    /// Performs what follows from an input.
    fn roster_effects(&mut self) -> Checked {
        for _ in 0..EFFECTS_MAX {
            let Some(effect) = self.roster.next_effect() else {
                return Ok(());
            };
            self.note(|| format!("roster -> {effect:?}"));
            self.perform(effect)?;
        }
        Err(HolderViolation::Endless)
    }

    /// Performs everything that is due.
    fn effects(&mut self) -> Checked {
        for _ in 0..EFFECTS_MAX {
            self.roster_effects()?;
            if self.exited.is_some() {
                return Ok(());
            }
            let effect = self.supervisor.next_effect(self.now);
            if let Some(code) = self.supervisor.exit_code() {
                return self.shut_down(code);
            }
            let Some(effect) = effect else {
                self.start_sweep();
                self.run_spawners()?;
                return self.check_state();
            };
            self.note(|| format!("supervisor -> {effect:?}"));
            self.supervise(effect)?;
        }
        Err(HolderViolation::Endless)
    }

    fn perform(&mut self, effect: RosterEffect) -> Checked {
        match effect {
            RosterEffect::SendTakeover(infos) => {
                let Some((epoch, ..)) = self.channel else {
                    return Err(HolderViolation::SentToNobody);
                };
                self.check.takeover(epoch, &infos)?;
                let report = self.upgrade_report();
                self.upgrades.check_report(report.as_ref())?;
                for info in &infos {
                    let is_right = self.os.agrees(info);
                    if !is_right {
                        return Err(HolderViolation::WrongTakeover(info.instance.to_string()));
                    }
                }
                self.supervisor.takeover_sent(self.now);
                self.send(Delivery::Takeover(infos))
            }
            RosterEffect::Send(message) => {
                let skips = self.has_bug(HolderBug::SkipReplay) && self.check.is_replaying();
                if skips || self.is_told_again(&message) {
                    return Ok(());
                }
                let twice = self.has_bug(HolderBug::SendExitsTwice);
                for _ in 0..1 + u32::from(twice) {
                    let epoch = self.channel.map(|(epoch, ..)| epoch);
                    self.check.sent(epoch, &message)?;
                    if self.has_bug(HolderBug::LoseMessages) && self.rng.permille(100) {
                        continue;
                    }
                    self.send(Delivery::Message(Box::new(message.clone())))?;
                }
                Ok(())
            }
            RosterEffect::AbortSpawn(id) => self.abort_spawn(id),
            RosterEffect::Signal { id, signal, cont } => {
                self.signal_process(id, signal, cont);
                Ok(())
            }
            RosterEffect::KillTree(id) => self.kill_tree(id),
            RosterEffect::WatchActivation(_) => Ok(()),
            RosterEffect::Remove { name, .. } => self.check.removed(&name),
        }
    }

    fn supervise(&mut self, effect: SupervisorEffect) -> Checked {
        match effect {
            SupervisorEffect::StartRuntime { new_program } => {
                self.program_starts(new_program)?;
                if self.has_bug(HolderBug::StartTwice) {
                    self.start_runtime(new_program)?;
                }
                self.start_runtime(new_program)
            }
            SupervisorEffect::KeepNewProgram => {
                if !self.has_bug(HolderBug::LoseNewProgram) {
                    self.upgrades.keep_new();
                }
                Ok(())
            }
            SupervisorEffect::KillRuntime => self.kill_runtime(),
            SupervisorEffect::CloseChannel => {
                self.close_channel();
                Ok(())
            }
            SupervisorEffect::SendPing => {
                // The worst moment to fall asleep.
                if self.faults_left > 0 && self.rng.permille(20) {
                    self.after(Duration::ZERO, Item::Suspend);
                }
                self.send(Delivery::Ping)
            }
            SupervisorEffect::SendStopRequest { time_left, .. } => {
                if self.has_bug(HolderBug::LoseStopRequests) {
                    return Ok(());
                }
                self.check
                    .stop_sent(self.channel.map(|(epoch, ..)| epoch))?;
                self.send(Delivery::StopRequested { time_left })
            }
            SupervisorEffect::WriteStatus(_) => Ok(()),
        }
    }

    /// Everything that the engine knows is killed at its exit; nothing else may be left.
    fn shut_down(&mut self, code: u8) -> Checked {
        self.note(|| format!("holder exits with {code}"));
        self.exited = Some(code);
        self.check.exits_with(code)?;
        let skips = self.has_bug(HolderBug::SkipFinalKill);
        let killed = self.roster.all_running().filter(|_| !skips);
        let known: BTreeSet<u32> = killed.map(|(id, _)| id).collect();
        self.os.check_left(&known)
    }

    /// Nothing is due any more, and what the machines know is true.
    fn check_state(&mut self) -> Checked {
        if self.next_deadline().is_some_and(|at| at <= self.now) {
            return Err(HolderViolation::Spins);
        }
        self.os.check_known(&self.roster)?;
        self.check.settled()
    }

    /// Long after the last fault: the runtime knows the truth, and what it wants runs.
    fn check_quiet(&mut self) -> Checked {
        let Some(runtime) = self.runtime.as_ref().filter(|one| !one.unresponsive) else {
            return Err(HolderViolation::RuntimeAbsent);
        };
        for (name, view) in &runtime.views {
            // A new runtime does not know a process that was to be dropped and never dies.
            if view.running() != self.os.generation_of(name) && !self.os.never_dies(name) {
                return Err(HolderViolation::ViewDiffers(name.clone()));
            }
        }
        for number in 0..self.options.modules {
            let name = format!("m{number}");
            if self.os.generation_of(&name).is_none() {
                return Err(HolderViolation::NotRunning(name));
            }
        }
        Ok(())
    }

    fn start_sweep(&mut self) {
        if !self.sweeping && !self.to_sweep.is_empty() {
            self.sweeping = true;
            let ids = std::mem::take(&mut self.to_sweep);
            let delay = self.rng.span(Duration::from_millis(50));
            self.after(delay, Item::SweepDone(ids));
        }
    }

    fn runtime_reaped(&mut self, epoch: u32) -> Checked {
        let exit = RuntimeExit {
            code: Some(1),
            text: "exited".to_owned(),
        };
        // Something else has the other end of its channel, too: nothing closes it.
        let stays_open = !self.embedded && self.rng.permille(30);
        if stays_open {
            self.supervisor.runtime_exited(self.now, exit);
            return Ok(());
        }
        if self.exit_first && !self.embedded {
            self.supervisor.runtime_exited(self.now, exit);
            return self.read_rest(epoch);
        }
        self.read_rest(epoch)?;
        if self.exited.is_none() && !self.embedded {
            self.supervisor.runtime_exited(self.now, exit);
        }
        Ok(())
    }

    /// What a runtime wrote before it exited is read, then its channel is closed.
    fn read_rest(&mut self, epoch: u32) -> Checked {
        let mine = |item: &Item| matches!(item, Item::ToHolder(of, _) if *of == epoch);
        let keys = self
            .agenda
            .iter()
            .filter(|(_, item)| mine(item))
            .map(|(key, _)| *key);
        let keys: Vec<_> = keys.collect();
        for key in keys {
            if let Some(Item::ToHolder(_, request)) = self.agenda.remove(&key)
                && self.channel.is_some_and(|(open, ..)| open == epoch)
                && self.exited.is_none()
            {
                self.handle(request)?;
            }
        }
        if self.channel.is_some_and(|(open, ..)| open == epoch) && self.exited.is_none() {
            self.close_channel();
            self.supervisor.channel_closed(self.now);
        }
        Ok(())
    }
}

/// The name of an instance of the model.
fn named(name: &str) -> Instance {
    Instance::new(name, 1)
}
