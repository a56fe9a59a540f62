//! What must always hold for the holder, written down a second time.
//! Owns a shadow of each instance and of the runtime, from requests, effects and processes alone.
//! Never asks the roster or the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_holder::machines::roster::SPAWN_TIMEOUT;
use mainstay_holder::messages::{HolderMessage, InstanceInfo, MAX_RECORD_BYTES};
use mainstay_process::{ProcessEvent, ProcessEventKind};

use super::{Checked, HEARTBEAT_TIMEOUT, HolderViolation, REFUSED};

/// Time between a deadline and what follows from it.
const SLACK: Duration = Duration::from_millis(5);
/// Time a holder has to exit after it refused the setup.
const REFUSAL_MAX: Duration = Duration::from_secs(5);
/// Time without a runtime: several failed starts with their backoff.
const ABSENT_MAX: Duration = Duration::from_secs(20);
/// A runtime has heartbeat timeout, exit timeout and the wait for hung spawns.
const UNRESPONSIVE_MAX: Duration = Duration::from_secs(8 + 2 + 10 + 2);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Starting,
    Running,
    /// Its main process has exited in a stop; others of its tree are alive.
    Stopping,
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
    stop_deadline: Option<Duration>,
    kill_owed: bool,
    /// Its spawn was aborted.
    aborted: bool,
    signal_owed: bool,
    /// The signal was requested while the spawn was in flight.
    deferred: bool,
    forgotten: bool,
    record: Option<String>,
    /// Whether a signal of another process stops it, and what the runtime was sent of that.
    suspended: bool,
    sent_suspended: bool,
    /// The newest status text, and the newest that the runtime was sent.
    status: Option<String>,
    sent_status: Option<String>,
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
    /// The runtime reads too slowly to be sent status texts.
    lags: bool,
    refused: Option<Duration>,
}

/// It runs once, and is dropped with its end.
fn is_command(name: &str) -> bool {
    name.contains('#')
}

fn is_complete(phase: Phase) -> bool {
    let (sweep, output) = (false, false);
    phase == Phase::Exited { sweep, output }
}

fn has_run(phase: Phase) -> bool {
    matches!(phase, Phase::Starting | Phase::Running | Phase::Stopping)
}

fn has_process(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Stopping)
}

impl Checker {
    fn by_id(&mut self, id: u32) -> Option<&mut ShadowInstance> {
        self.instances.values_mut().find(|one| one.id == id)
    }

    fn current(&mut self, name: &str, generation: u64) -> Option<&mut ShadowInstance> {
        let instance = self.instances.get_mut(name)?;
        let has_run = has_run(instance.phase);
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
            (instance.deadline, instance.stop_deadline) = (None, None);
        }
    }

    pub(super) fn signal_requested(&mut self, name: &str, generation: u64) {
        if let Some(instance) = self.current(name, generation)
            && instance.phase != Phase::Stopping
        {
            instance.signal_owed = true;
            instance.deferred = instance.phase == Phase::Starting;
        }
    }

    /// A stop may be shortened, never lengthened.
    pub(super) fn stop_ordered(&mut self, name: &str, generation: u64, deadline: Duration) {
        self.signal_requested(name, generation);
        if let Some(instance) = self.current(name, generation) {
            let earlier = instance.stop_deadline.filter(|at| *at < deadline);
            instance.stop_deadline = earlier.or(Some(deadline));
        }
    }

    pub(super) fn aborted(&mut self, now: Duration, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.aborted = true;
            instance.stop_deadline = instance.stop_deadline.filter(|at| *at > now);
        }
    }

    pub(super) fn was_deferred(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(|one| one.deferred)
    }

    /// It is sent a signal; each that is requested here continues it as well.
    pub(super) fn signalled(&mut self, name: &str, cont: bool) {
        if let Some(instance) = self.instances.get_mut(name).filter(|_| cont) {
            (instance.signal_owed, instance.deferred) = (false, false);
        }
    }

    pub(super) fn kill_requested(&mut self, name: &str, generation: u64) {
        if let Some(instance) = self.current(name, generation) {
            instance.kill_owed = true;
        }
    }

    /// The tree of a run is killed, for a reason.
    pub(super) fn killed(&mut self, now: Duration, name: &str) -> Checked {
        let Some(instance) = self.instances.get_mut(name) else {
            return Ok(());
        };
        let later = |at: &Duration| *at > now;
        let deadlines = [instance.deadline, instance.stop_deadline];
        let passed = !deadlines.iter().flatten().all(later);
        let is_owed = std::mem::take(&mut instance.kill_owed);
        if !is_owed {
            instance.deadline = instance.deadline.filter(later);
            instance.stop_deadline = instance.stop_deadline.filter(later);
        }
        match is_owed || passed || std::mem::take(&mut instance.aborted) {
            true => Ok(()),
            false => Err(HolderViolation::KilledWithoutCause(name.to_owned())),
        }
    }

    pub(super) fn forgotten(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.forgotten = true;
            instance.kill_owed |= has_run(instance.phase);
        }
    }

    pub(super) fn removed(&mut self, name: &str) -> Checked {
        let epoch = self.epoch;
        let Some(instance) = self.instances.remove(name) else {
            return Ok(());
        };
        let is_free = instance.phase == Phase::Idle || is_complete(instance.phase);
        let may_go = instance.forgotten || is_command(name);
        if !may_go || !is_free || instance.processes > 0 {
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

    /// A process of an instance is no more.
    pub(super) fn process_gone(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.processes = instance.processes.saturating_sub(1);
        }
    }

    /// The main process is gone, the run goes on.
    pub(super) fn main_exited(&mut self, name: &str) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.phase = Phase::Stopping;
            (instance.signal_owed, instance.deferred) = (false, false);
        }
    }

    pub(super) fn exited(&mut self, name: &str, (sweep, output): (bool, bool)) {
        if let Some(instance) = self.instances.get_mut(name) {
            instance.phase = Phase::Exited { sweep, output };
            (instance.kill_owed, instance.signal_owed) = (false, false);
            (instance.deadline, instance.stop_deadline) = (None, None);
        }
    }

    pub(super) fn suspended(&mut self, id: u32, suspended: bool) {
        if let Some(instance) = self.by_id(id) {
            instance.suspended = suspended;
        }
    }

    /// What is known of another process does not hold for this one.
    pub(super) fn main_changed(&mut self, id: u32) {
        self.suspended(id, false);
    }

    pub(super) fn notified(&mut self, id: u32, status: String, lags: bool) {
        self.lags |= lags;
        if let Some(instance) = self.by_id(id) {
            instance.status = Some(status);
        }
    }

    pub(super) fn reads(&mut self) {
        self.lags = false;
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
        self.lags = false;
        for instance in self.instances.values_mut() {
            (instance.sent_suspended, instance.sent_status) = (false, None);
        }
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
        let HolderMessage::Process(event) = message else {
            return Ok(());
        };
        let (name, generation) = (event.instance.to_string(), event.generation);
        self.note_sent(&name, event);
        if !matches!(event.what, ProcessEventKind::Exited(_)) {
            return Ok(());
        }
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

    /// Whether the runtime that is connected was sent the exit of this run.
    pub(super) fn was_sent(&self, name: &str, generation: u64) -> bool {
        self.sent.contains(&(name.to_owned(), generation))
    }

    /// What was sent of this run did not arrive.
    pub(super) fn not_sent(&mut self, name: &str, generation: u64) {
        self.sent.remove(&(name.to_owned(), generation));
        if let Some(instance) = self.instances.get_mut(name) {
            (instance.sent_suspended, instance.sent_status) = (false, None);
        }
    }

    fn note_sent(&mut self, name: &str, event: &ProcessEvent) {
        let instance = self.instances.get_mut(name);
        let Some(instance) = instance.filter(|one| one.generation == event.generation) else {
            return;
        };
        match &event.what {
            ProcessEventKind::Suspended { .. } => instance.sent_suspended = true,
            ProcessEventKind::Continued => instance.sent_suspended = false,
            ProcessEventKind::Notify { text, .. } => {
                let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
                instance.sent_status = status.map(str::to_owned);
            }
            _ => {}
        }
    }

    /// What a connected runtime knows of a run is true.
    fn runtime_knows(&self, name: &str, instance: &ShadowInstance) -> Checked {
        if self.epoch.is_none() || instance.phase != Phase::Running {
            return Ok(());
        }
        if instance.suspended != instance.sent_suspended {
            return Err(HolderViolation::SuspensionNotSent(name.to_owned()));
        }
        match !self.lags && instance.status != instance.sent_status {
            true => Err(HolderViolation::StatusNotSent(name.to_owned())),
            false => Ok(()),
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
            self.runtime_knows(name, instance)?;
            if has_process(instance.phase) && instance.kill_owed {
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

    pub(super) fn stop_sent(&mut self, epoch: Option<u32>) -> Checked {
        if epoch.is_none() || epoch != self.epoch {
            return Err(HolderViolation::SentToNobody);
        }
        self.stop_sent = epoch;
        Ok(())
    }

    pub(super) fn on_time(&self, now: Duration) -> Checked {
        let late = |at: Duration| at + SLACK < now;
        if self.stop_deadline.is_some_and(late) {
            return Err(HolderViolation::StopTooLong);
        }
        // The runtime exits by itself or is killed, then its channel is closed.
        let refused_long_ago = |at: Duration| at + REFUSAL_MAX < now;
        if self.refused.is_some_and(refused_long_ago) {
            return Err(HolderViolation::RefusalIgnored);
        }
        for (name, one) in self.instances.iter().filter(|(_, one)| has_run(one.phase)) {
            if one.deadline.is_some_and(late) && has_process(one.phase) {
                return Err(HolderViolation::TimeoutIgnored(name.clone()));
            }
            if one.stop_deadline.is_some_and(late) {
                return Err(HolderViolation::StopIgnored(name.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, now: Duration) {
        self.refused = Some(now);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The holder exits.
    pub(super) fn exits_with(&self, code: u8) -> Checked {
        let must_refuse = self.refused.is_some() && self.stop_deadline.is_none();
        match must_refuse && code != REFUSED {
            true => Err(HolderViolation::RefusalIgnored),
            false => Ok(()),
        }
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
            self.refused.as_mut(),
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
