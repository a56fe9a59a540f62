//! What must always hold for the holder, written down a second time.
//! Owns a shadow of each instance and of the runtime, from requests, effects and processes alone.
//! Never asks the roster or the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_holder::machines::roster::SPAWN_TIMEOUT;
use mainstay_holder::messages::{HolderMessage, InstanceInfo, MAX_RECORD_BYTES};
use mainstay_process::{ProcessEvent, ProcessEventKind};

use super::{Checked, HEARTBEAT_TIMEOUT};

/// Time between a deadline and what follows from it.
const SLACK: Duration = Duration::from_millis(5);
/// Time without a runtime: several failed starts with their backoff.
const ABSENT_MAX: Duration = Duration::from_secs(40);
/// A runtime has heartbeat timeout, exit timeout and the wait for hung spawns.
const UNRESPONSIVE_MAX: Duration = Duration::from_secs(8 + 2 + 10 + 2);

/// What must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderViolation {
    /// Two processes of an instance exist.
    TwoRuns(String),
    /// A generation was started that is not newer.
    OldGeneration(String, u64),
    /// A spawn was refused as stale though its generation is new.
    RefusedSpawn(String, u64),
    /// A process exists whose spawn was reported, and the roster does not know it.
    UnknownProcess(String),
    /// A process survived the holder.
    LeftAlive(String),
    /// A runtime was not sent the exit of a run, though it is connected.
    ExitNotSent(String, u64),
    /// A runtime was sent an exit a second time.
    ExitSentTwice(String, u64),
    /// A runtime was sent an exit that has not happened, or is not complete.
    ExitInvented(String, u64),
    /// Something was sent before the takeover state, or without a channel.
    SentToNobody,
    /// The takeover state was sent twice on a channel.
    TakeoverTwice,
    /// The takeover state is wrong about an instance.
    WrongTakeover(String),
    /// A record is not the one that was saved last.
    RecordLost(String),
    /// A run that was to be killed was not.
    KillLost(String),
    /// A run was not sent a signal that was requested.
    SignalLost(String),
    /// A run has timed out and is not killed.
    TimeoutIgnored(String),
    /// An instance was dropped although no runtime ordered it, or while it has a process.
    WronglyRemoved(String),
    /// The holder still runs after the deadline of a stop.
    StopTooLong,
    /// A runtime was not sent that a stop has started.
    StopNotSent,
    /// Two runtimes run.
    TwoRuntimes,
    /// No runtime was started for too long.
    RuntimeAbsent,
    /// A runtime that does not answer was not killed.
    UnresponsiveKept,
    /// A runtime that answers was killed.
    ResponsiveKilled,
    /// Long after the last fault a runtime believes something else than the machine shows.
    ViewDiffers(String),
    /// Long after the last fault a module does not run.
    NotRunning(String),
    /// A deadline has passed and nothing comes of it: the holder would spin.
    Spins,
    /// One input has effects without end.
    Endless,
}

impl HolderViolation {
    /// How many there are.
    pub const COUNT: usize = 26;

    /// The name of the variant, for a list of those that were found.
    #[must_use]
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let end = text.find('(').unwrap_or(text.len());
        text[..end].to_owned()
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Starting,
    Running,
    /// Its exit is complete once neither sweep nor output is pending.
    Exited {
        sweep: bool,
        output: bool,
    },
}

#[derive(Debug, Default)]
struct ShadowInstance {
    id: u32,
    generation: u64,
    phase: Phase,
    processes: u32,
    deadline: Option<Duration>,
    kill_owed: bool,
    signal_owed: bool,
    /// The signal was requested while the spawn was in flight.
    deferred: bool,
    forgotten: bool,
    record: Option<String>,
}

/// The shadow of everything.
#[derive(Debug, Default)]
pub(super) struct Checker {
    instances: BTreeMap<String, ShadowInstance>,
    /// The runtime that has been sent the takeover state last, and the exits it was sent.
    epoch: Option<u32>,
    sent: BTreeSet<(String, u64)>,
    replaying: bool,
    stop_deadline: Option<Duration>,
    stop_sent: Option<u32>,
    absent_since: Option<Duration>,
    unresponsive_since: Option<(u32, Duration)>,
}

fn is_complete(phase: Phase) -> bool {
    let (sweep, output) = (false, false);
    phase == Phase::Exited { sweep, output }
}

impl Checker {
    fn by_id(&mut self, id: u32) -> Option<&mut ShadowInstance> {
        self.instances.values_mut().find(|one| one.id == id)
    }

    fn current(&mut self, name: &str, generation: u64) -> Option<&mut ShadowInstance> {
        let instance = self.instances.get_mut(name)?;
        let has_run = matches!(instance.phase, Phase::Starting | Phase::Running);
        (instance.generation == generation && has_run).then_some(instance)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.instances.contains_key(name)
    }

    pub(super) fn spawn_accepted(
        &mut self,
        now: Duration,
        name: &str,
        id: u32,
        generation: u64,
        timeout: Duration,
    ) -> Checked {
        let instance = self.instances.entry(name.to_owned()).or_default();
        let is_free = instance.phase == Phase::Idle || is_complete(instance.phase);
        if !is_free || instance.processes > 0 {
            return Err(HolderViolation::TwoRuns(name.to_owned()));
        }
        if generation <= instance.generation {
            return Err(HolderViolation::OldGeneration(name.to_owned(), generation));
        }
        let deadline = (!timeout.is_zero()).then(|| now + timeout + SPAWN_TIMEOUT);
        *instance = ShadowInstance {
            id,
            generation,
            phase: Phase::Starting,
            deadline,
            record: instance.record.take(),
            ..ShadowInstance::default()
        };
        Ok(())
    }

    /// A process exists from its fork on.
    pub(super) fn created(&mut self, name: &str) -> Checked {
        let instance = self.instances.entry(name.to_owned()).or_default();
        instance.processes += 1;
        match instance.processes {
            1 => Ok(()),
            _ => Err(HolderViolation::TwoRuns(name.to_owned())),
        }
    }

    pub(super) fn started(&mut self, now: Duration, name: &str, timeout: Duration) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.phase = Phase::Running;
            instance.deadline = (!timeout.is_zero()).then(|| now + timeout);
        }
    }

    pub(super) fn spawn_failed(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.phase = Phase::Idle;
            (instance.kill_owed, instance.signal_owed) = (false, false);
            instance.deadline = None;
        }
    }

    pub(super) fn signal_requested(&mut self, name: &str, generation: u64) {
        if let Some(instance) = self.current(name, generation) {
            instance.signal_owed = true;
            instance.deferred = instance.phase == Phase::Starting;
        }
    }

    pub(super) fn was_deferred(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(|one| one.deferred)
    }

    pub(super) fn signalled(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            (instance.signal_owed, instance.deferred) = (false, false);
        }
    }

    pub(super) fn kill_requested(&mut self, name: &str, generation: u64) {
        if let Some(instance) = self.current(name, generation) {
            instance.kill_owed = true;
        }
    }

    pub(super) fn killed(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            (instance.kill_owed, instance.deadline) = (false, None);
        }
    }

    pub(super) fn forgotten(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.forgotten = true;
            let has_run = matches!(instance.phase, Phase::Starting | Phase::Running);
            instance.kill_owed |= has_run;
        }
    }

    pub(super) fn removed(&mut self, name: &str) -> Checked {
        let epoch = self.epoch;
        let Some(instance) = self.instances.remove(name) else {
            return Ok(());
        };
        let is_free = instance.phase == Phase::Idle || is_complete(instance.phase);
        if !instance.forgotten || !is_free || instance.processes > 0 {
            return Err(HolderViolation::WronglyRemoved(name.to_owned()));
        }
        let key = (name.to_owned(), instance.generation);
        let owed = epoch.is_some() && is_complete(instance.phase);
        // Its generations may be used again.
        let was_sent = self.sent.remove(&key);
        match owed && !was_sent {
            true => Err(HolderViolation::ExitNotSent(key.0, key.1)),
            false => Ok(()),
        }
    }

    pub(super) fn saved(&mut self, name: &str, record: &str) {
        if record.len() <= MAX_RECORD_BYTES {
            let instance = self.instances.entry(name.to_owned()).or_default();
            instance.record = Some(record.to_owned());
            instance.forgotten = false;
        }
    }

    pub(super) fn reaped(&mut self, name: &str, (sweep, output): (bool, bool)) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.processes -= 1;
            instance.phase = Phase::Exited { sweep, output };
            (instance.kill_owed, instance.signal_owed) = (false, false);
            instance.deadline = None;
        }
    }

    pub(super) fn swept(&mut self, id: u32, again: bool) {
        if let Some(ShadowInstance {
            phase: Phase::Exited { sweep, .. },
            ..
        }) = self.by_id(id)
        {
            *sweep &= again;
        }
    }

    pub(super) fn collected(&mut self, id: u32, generation: u64) {
        let instance = self.by_id(id).filter(|one| one.generation == generation);
        if let Some(Phase::Exited { output, .. }) = instance.map(|one| &mut one.phase) {
            *output = false;
        }
    }

    pub(super) fn takeover(&mut self, epoch: u32, infos: &[InstanceInfo]) -> Checked {
        if self.epoch == Some(epoch) {
            return Err(HolderViolation::TakeoverTwice);
        }
        self.epoch = Some(epoch);
        self.sent.clear();
        self.replaying = true;
        let listed: BTreeMap<&str, &InstanceInfo> = infos
            .iter()
            .map(|info| (info.instance.as_str(), info))
            .collect();
        for (name, instance) in self.instances.iter().filter(|(_, one)| !one.forgotten) {
            let record = listed
                .get(name.as_str())
                .and_then(|info| info.record.as_ref());
            if record != instance.record.as_ref() {
                return Err(HolderViolation::RecordLost(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether what is sent now is the replay that follows the takeover state.
    pub(super) fn is_replaying(&self) -> bool {
        self.replaying
    }

    pub(super) fn channel_closed(&mut self) {
        self.epoch = None;
    }

    pub(super) fn sent(&mut self, epoch: Option<u32>, message: &HolderMessage) -> Checked {
        if epoch.is_none() || epoch != self.epoch {
            return Err(HolderViolation::SentToNobody);
        }
        let HolderMessage::Process(ProcessEvent {
            instance,
            generation,
            what: ProcessEventKind::Exited(_),
        }) = message
        else {
            return Ok(());
        };
        let (name, generation) = (instance.to_string(), *generation);
        let instance = self.instances.get(&name);
        let is_real =
            instance.is_some_and(|one| one.generation == generation && is_complete(one.phase));
        if !is_real {
            return Err(HolderViolation::ExitInvented(name, generation));
        }
        match self.sent.insert((name.clone(), generation)) {
            true => Ok(()),
            false => Err(HolderViolation::ExitSentTwice(name, generation)),
        }
    }

    /// After each input: what has happened is sent, what was requested is done.
    pub(super) fn settled(&mut self) -> Checked {
        self.replaying = false;
        for (name, instance) in &self.instances {
            let key = (name.clone(), instance.generation);
            let owed = self.epoch.is_some() && is_complete(instance.phase) && !instance.forgotten;
            if owed && !self.sent.contains(&key) {
                return Err(HolderViolation::ExitNotSent(key.0, key.1));
            }
            if instance.phase == Phase::Running && instance.kill_owed {
                return Err(HolderViolation::KillLost(key.0));
            }
            if instance.phase == Phase::Running && instance.signal_owed {
                return Err(HolderViolation::SignalLost(key.0));
            }
        }
        match self.stop_deadline.is_some() && self.epoch.is_some() && self.stop_sent != self.epoch {
            true => Err(HolderViolation::StopNotSent),
            false => Ok(()),
        }
    }

    /// A stop has started; the runtime that started it knows.
    pub(super) fn stop_started(&mut self, deadline: Duration, by: Option<u32>) {
        let earlier = self.stop_deadline.filter(|at| *at < deadline);
        self.stop_deadline = earlier.or(Some(deadline));
        self.stop_sent = by.or(self.stop_sent);
    }

    pub(super) fn stop_sent(&mut self, epoch: Option<u32>) {
        self.stop_sent = epoch;
    }

    pub(super) fn on_time(&self, now: Duration) -> Checked {
        let late = |at: Duration| at + SLACK < now;
        if self.stop_deadline.is_some_and(late) {
            return Err(HolderViolation::StopTooLong);
        }
        let timed_out = |one: &ShadowInstance| {
            one.deadline.is_some_and(late) && matches!(one.phase, Phase::Running)
        };
        let found = self.instances.iter().find(|(_, one)| timed_out(one));
        found.map_or(Ok(()), |(name, _)| {
            Err(HolderViolation::TimeoutIgnored(name.clone()))
        })
    }

    pub(super) fn runtime_started(&mut self, is_running: bool) -> Checked {
        match is_running {
            true => Err(HolderViolation::TwoRuntimes),
            false => Ok(()),
        }
    }

    pub(super) fn unresponsive(&mut self, epoch: u32, now: Duration) {
        self.unresponsive_since = Some((epoch, now));
    }

    /// The holder was suspended: nothing could be in time.
    pub(super) fn slept(&mut self, lasted: Duration) {
        for since in [
            self.absent_since.as_mut(),
            self.unresponsive_since.as_mut().map(|(_, since)| since),
        ]
        .into_iter()
        .flatten()
        {
            *since += lasted;
        }
    }

    pub(super) fn runtime(&mut self, now: Duration, running: Option<u32>) -> Checked {
        if running.is_some() {
            self.absent_since = None;
        }
        let absent = running
            .is_none()
            .then(|| *self.absent_since.get_or_insert(now));
        if absent.is_some_and(|since| since + ABSENT_MAX < now) {
            return Err(HolderViolation::RuntimeAbsent);
        }
        let unresponsive = self
            .unresponsive_since
            .filter(|(epoch, _)| Some(*epoch) == running);
        match unresponsive.is_some_and(|(_, since)| since + UNRESPONSIVE_MAX < now) {
            true => Err(HolderViolation::UnresponsiveKept),
            false => Ok(()),
        }
    }
}

const _: () = assert!(
    HEARTBEAT_TIMEOUT.as_secs() == 8,
    "UNRESPONSIVE_MAX counts with it"
);
