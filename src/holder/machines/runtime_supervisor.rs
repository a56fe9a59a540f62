//! When the runtime is started, pinged, killed and started again, and when the holder exits.
//! Owns backoff, heartbeat, the deadline of an ordered stop and how the last runtime exited.
//! Never touches a process or a clock: time is an argument, `next_effect` returns what is due.

use std::time::Duration;

use mainstay_process::Signal;
use serde::{Deserialize, Serialize};

use crate::messages::UpgradeReport;
use upgrade::{REPLACED, RETIRE_TIMEOUT, TRIAL_UNREADY, Upgrades};

mod upgrade;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A runtime that was ready this long resets the count of failures.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Time a runtime has to exit after its channel closed, and its channel to close after its exit.
pub const RUNTIME_EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time a runtime has from its start to its exec.
pub const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// The same until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const UNRESPONSIVE: &str = "it did not answer, and was killed";
const UNREADY: &str = "it was not ready within 120s, and was killed";
/// Timeout of an ordered stop until the setup names one.
const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What the engine does for the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupervisorEffect {
    /// Start the runtime on a new channel; followed by `runtime_started` or `start_failed`.
    StartRuntime {
        /// With the program of the upgrade in flight.
        new_program: bool,
    },
    /// The program of the upgrade is the one in use from now on.
    KeepNewProgram,
    /// Kill the process of the runtime, or abandon its start if that has no result yet.
    KillRuntime,
    /// Close the channel without reading the rest of it.
    CloseChannel,
    /// Send `Ping`.
    SendPing,
    /// Send `StopRequested`.
    SendStopRequest {
        /// The signal that requested it.
        signal: Signal,
        /// What is left of a stop that an earlier runtime started.
        time_left: Option<Duration>,
    },
    /// Replace the status file.
    WriteStatus(SystemState),
}

/// The state of the system in the status file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemState {
    /// No runtime has been ready yet.
    Starting,
    /// The runtime is ready.
    Running,
    /// A runtime was ready and exited; the next one is not ready yet.
    Returning,
    /// An ordered stop has started.
    Stopping,
}

impl SystemState {
    /// The word in the status file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SystemState::Starting => "starting",
            SystemState::Running => "running",
            SystemState::Returning => "returning",
            SystemState::Stopping => "stopping",
        }
    }
}

/// How a runtime exited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeExit {
    /// Its exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The same for people.
    pub text: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum Process {
    /// The runtime is a thread of the application that embeds the holder.
    Embedded,
    Down {
        start_at: Duration,
    },
    /// `StartRuntime` was returned and has no result yet.
    Starting {
        abandon_at: Duration,
    },
    Running {
        /// Until it is ready, when that would be too late; later, when it had to exit.
        kill_at: Option<Duration>,
    },
    /// Its channel may still hold requests.
    Exited {
        exit: RuntimeExit,
        close_at: Duration,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Channel {
    last_heard: Duration,
    /// A ping without an answer: when a part of its time began, and how many parts are left.
    ping: Option<(Duration, u32)>,
    takeover_sent: bool,
}

/// The time of a ping is waited for in parts: a suspension of the holder, and of the runtime
/// perhaps, uses up one of them, however long it lasts.
const PING_PARTS: u32 = 4;

/// Supervises the one runtime of a holder.
#[derive(Debug, Serialize, Deserialize)]
pub struct RuntimeSupervisor {
    process: Process,
    channel: Option<Channel>,
    configured: bool,
    heartbeat_timeout: Option<Duration>,
    /// How long an ordered stop may take.
    pub stop_timeout: Duration,
    stop_deadline: Option<Duration>,
    /// A stop request that no runtime has been sent: its signal, and whether it is new.
    unsent_stop: Option<(Signal, bool)>,
    restarts: u32,
    /// Exits in a row without a stable run between them.
    failures: u32,
    ready_at: Option<Duration>,
    was_ready: bool,
    /// Since when no runtime is ready.
    down_since: Duration,
    refused: Option<u8>,
    /// Why it is killed.
    #[serde(skip)]
    fault: Option<&'static str>,
    last_exit_text: Option<String>,
    #[serde(skip)]
    status_written: Option<(SystemState, u32, bool)>,
    exit_code: Option<u8>,
    #[serde(default, skip_serializing_if = "Upgrades::is_empty")]
    upgrades: Upgrades,
}

impl RuntimeSupervisor {
    /// Starts the runtime at once, and again whenever it exits.
    #[must_use]
    pub fn standalone(now: Duration) -> RuntimeSupervisor {
        RuntimeSupervisor::new(now, Process::Down { start_at: now })
    }

    /// Serves one runtime that lives in the same process: the holder exits after its channel.
    #[must_use]
    pub fn embedded(now: Duration) -> RuntimeSupervisor {
        RuntimeSupervisor::new(now, Process::Embedded)
    }

    fn new(now: Duration, process: Process) -> RuntimeSupervisor {
        RuntimeSupervisor {
            process,
            channel: None,
            configured: false,
            heartbeat_timeout: None,
            stop_timeout: STOP_TIMEOUT_DEFAULT,
            stop_deadline: None,
            unsent_stop: None,
            restarts: 0,
            failures: 0,
            ready_at: None,
            was_ready: false,
            down_since: now,
            refused: None,
            fault: None,
            last_exit_text: None,
            status_written: None,
            exit_code: None,
            upgrades: Upgrades::default(),
        }
    }

    /// Number of starts after the first ready runtime.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When the last ready runtime exited; zero while one is ready, and before the first one.
    #[must_use]
    pub fn down_since(&self) -> Duration {
        match self.was_ready && self.ready_at.is_none() {
            true => self.down_since,
            false => Duration::ZERO,
        }
    }

    /// How the last runtime exited, or why it could not be started.
    #[must_use]
    pub fn last_exit_text(&self) -> Option<&str> {
        self.last_exit_text.as_deref()
    }

    /// Whether an ordered stop has started.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_deadline.is_some()
    }

    /// Whether the holder serves an application that embeds it.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.process, Process::Embedded)
    }

    /// The exit code of the holder, once it has to exit.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        self.exit_code
    }

    /// The process of the runtime runs, and its channel is open.
    pub fn runtime_started(&mut self, now: Duration) {
        self.restarts += u32::from(self.was_ready);
        let kill_at = self.upgrades.ready_by().unwrap_or(now + READY_TIMEOUT);
        let kill_at = Some(kill_at);
        self.process = Process::Running { kill_at };
        self.channel_opened(now);
    }

    /// The runtime cannot be started; before the first ready runtime that is the end.
    pub fn start_failed(&mut self, now: Duration, text: String) {
        if self.last_exit_text.as_ref() != Some(&text) {
            self.status_written = None; // it names the cause
        }
        let rolled_back = self.upgrades.roll_back(&text);
        self.last_exit_text = Some(text);
        if !self.was_ready {
            return self.exit(1);
        }
        if rolled_back {
            self.process = Process::Down { start_at: now };
            return;
        }
        self.failures += 1;
        let start_at = now + self.backoff().max(BACKOFF_MIN);
        self.process = Process::Down { start_at };
    }

    /// A channel to a runtime is open; nothing has been sent on it.
    pub fn channel_opened(&mut self, now: Duration) {
        self.channel = Some(Channel {
            last_heard: now,
            ping: None,
            takeover_sent: false,
        });
    }

    /// The takeover state was sent: from here on the runtime has to answer.
    pub fn takeover_sent(&mut self, now: Duration) {
        if let Some(channel) = &mut self.channel {
            (channel.last_heard, channel.takeover_sent) = (now, true);
        }
        if self.stop_deadline.is_some() {
            let signal = self
                .unsent_stop
                .map_or(Signal::TERMINATE, |(signal, _)| signal);
            self.unsent_stop = Some((signal, false));
        }
    }

    /// A request was read from the channel.
    pub fn request_received(&mut self, now: Duration) {
        if let Some(channel) = &mut self.channel {
            (channel.last_heard, channel.ping) = (now, None);
        }
    }

    /// The channel is closed; every request that was on it has been handled or is lost.
    pub fn channel_closed(&mut self, now: Duration) {
        self.channel = None;
        match &mut self.process {
            Process::Embedded => self.exit(0),
            Process::Running { kill_at } => {
                let deadline = now + RUNTIME_EXIT_TIMEOUT;
                *kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline)));
            }
            Process::Exited { .. } => self.finish_exit(now),
            Process::Down { .. } | Process::Starting { .. } => {}
        }
    }

    /// The process of the runtime exited; it counts once its channel is closed as well.
    pub fn runtime_exited(&mut self, now: Duration, exit: RuntimeExit) {
        let close_at = now + RUNTIME_EXIT_TIMEOUT;
        self.process = Process::Exited { exit, close_at };
        if self.channel.is_none() {
            self.finish_exit(now);
        }
    }

    fn finish_exit(&mut self, now: Duration) {
        let down = Process::Down { start_at: now };
        let Process::Exited { exit, .. } = std::mem::replace(&mut self.process, down) else {
            return;
        };
        let retired = self.upgrades.is_retiring().then_some(REPLACED);
        let fault = self.fault.take().or(retired).map(str::to_owned);
        let text = fault.unwrap_or(exit.text);
        let rolled_back = self.upgrades.roll_back(&text);
        self.last_exit_text = Some(text);
        if let Some(code) = self.refused {
            return self.exit(code);
        }
        if !self.was_ready {
            let code = exit.code.and_then(|code| u8::try_from(code).ok());
            return self.exit(code.unwrap_or(1));
        }
        if let Some(at) = self.ready_at.take() {
            self.down_since = now;
            if now.saturating_sub(at) >= STABLE_AFTER {
                self.failures = 0;
            }
        }
        if retired.is_some() {
            self.upgrades.retired(now);
        }
        if retired.is_some() || rolled_back {
            return; // no failure of the program in use: the next one starts at once
        }
        self.failures += 1;
        let start_at = now + self.backoff();
        self.process = Process::Down { start_at };
    }

    fn backoff(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            failures => (BACKOFF_MIN * 2u32.pow((failures - 2).min(10))).min(BACKOFF_MAX),
        }
    }

    /// The directories are claimed; zero turns the heartbeat off.
    pub fn setup_accepted(&mut self, heartbeat_timeout: Duration, stop_timeout: Duration) {
        self.configured = true;
        self.heartbeat_timeout = Some(heartbeat_timeout).filter(|timeout| !timeout.is_zero());
        self.stop_timeout = stop_timeout;
    }

    /// The setup cannot be used: the holder exits with `code` after the runtime.
    pub fn setup_refused(&mut self, now: Duration, code: u8) {
        if self.is_embedded() {
            return self.exit(code);
        }
        self.refused = Some(code);
        if let Process::Running { kill_at } = &mut self.process {
            *kill_at = Some(now + RUNTIME_EXIT_TIMEOUT);
        }
    }

    /// The runtime is ready.
    pub fn runtime_ready(&mut self, now: Duration) {
        if let Process::Running { kill_at } = &mut self.process
            && self.ready_at.is_none()
            && self.channel.is_some()
            && self.refused.is_none()
        {
            *kill_at = None;
        }
        self.was_ready = true;
        self.ready_at = Some(now);
        self.upgrades.ready();
    }

    /// The runtime requests that another program takes its place: it has to exit then.
    ///
    /// # Errors
    /// Why that is not possible now.
    pub fn upgrade_requested(&mut self, now: Duration, note: String) -> Result<(), &'static str> {
        if self.upgrades.is_in_flight() {
            return Err("another upgrade is in flight");
        }
        if self.is_stopping() {
            return Err("the system is stopping");
        }
        let Process::Running { kill_at } = &mut self.process else {
            return Err("the runtime is a part of an application");
        };
        if self.ready_at.is_none() {
            return Err("the runtime is not ready yet");
        }
        *kill_at = Some(now + RETIRE_TIMEOUT);
        self.upgrades.begin(note);
        Ok(())
    }

    /// Whether the program of the runtime is being replaced.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.upgrades.is_in_flight()
    }

    /// The last upgrade, and what became of it.
    #[must_use]
    pub fn last_upgrade(&self) -> Option<UpgradeReport> {
        self.upgrades.last()
    }

    /// A signal requested a stop: the runtime is to stop everything in order.
    pub fn stop_requested(&mut self, now: Duration, signal: Signal) {
        self.unsent_stop = Some((signal, true));
        self.stop_started(now, self.stop_timeout);
    }

    /// An ordered stop has started; after `timeout` the holder stops the rest by force. A later
    /// stop never moves the deadline back.
    pub fn stop_started(&mut self, now: Duration, timeout: Duration) {
        let deadline = now + timeout;
        self.stop_deadline = Some(self.stop_deadline.map_or(deadline, |at| at.min(deadline)));
    }

    /// The holder has to exit; the first code counts.
    pub fn exit(&mut self, code: u8) {
        self.exit_code = self.exit_code.or(Some(code));
    }

    /// When `next_effect` has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let process = match &self.process {
            Process::Down { start_at } => Some(*start_at),
            Process::Starting { abandon_at } => Some(*abandon_at),
            Process::Running { kill_at } => *kill_at,
            Process::Exited { close_at, .. } => Some(*close_at),
            Process::Embedded => None,
        };
        let deadlines = [process, self.heartbeat_deadline(), self.stop_deadline];
        deadlines.into_iter().flatten().min()
    }

    /// When a silent runtime is sent a ping; after that, when it counts as unresponsive.
    fn heartbeat_deadline(&self) -> Option<Duration> {
        let quarter = self.heartbeat_quarter()?;
        let channel = self.channel.as_ref().filter(|one| one.takeover_sent)?;
        let part_over = channel.ping.map(|(since, _)| since + quarter / PING_PARTS);
        Some(part_over.unwrap_or(channel.last_heard + 3 * quarter))
    }

    fn heartbeat_quarter(&self) -> Option<Duration> {
        Some(self.heartbeat_timeout.filter(|_| !self.is_embedded())? / 4)
    }

    /// Returns what is due; to be called until it returns none, once all that has happened is
    /// applied: a request that was not read yet may be the answer to a ping.
    pub fn next_effect(&mut self, now: Duration) -> Option<SupervisorEffect> {
        if self.stop_deadline.is_some_and(|at| at <= now) {
            self.exit(1);
        }
        if self.exit_code.is_some() {
            return None;
        }
        if self.upgrades.take_keep() {
            return Some(SupervisorEffect::KeepNewProgram);
        }
        self.stop_request(now)
            .or_else(|| self.heartbeat(now))
            .or_else(|| self.process_effect(now))
            .or_else(|| self.status())
    }

    fn stop_request(&mut self, now: Duration) -> Option<SupervisorEffect> {
        self.channel.as_ref().filter(|one| one.takeover_sent)?;
        let (signal, is_new) = self.unsent_stop.take()?;
        let deadline = self.stop_deadline.filter(|_| !is_new);
        Some(SupervisorEffect::SendStopRequest {
            signal,
            time_left: deadline.map(|at| at.saturating_sub(now)),
        })
    }

    fn heartbeat(&mut self, now: Duration) -> Option<SupervisorEffect> {
        self.heartbeat_deadline().filter(|at| *at <= now)?;
        let channel = self.channel.as_mut()?;
        let parts_left = channel.ping.map(|(_, parts)| parts);
        if parts_left != Some(1) {
            channel.ping = Some((now, parts_left.map_or(PING_PARTS, |parts| parts - 1)));
            return parts_left.is_none().then_some(SupervisorEffect::SendPing);
        }
        self.channel = None;
        if let Process::Running { kill_at } = &mut self.process {
            self.fault = Some(UNRESPONSIVE);
            *kill_at = Some(now);
        }
        Some(SupervisorEffect::CloseChannel)
    }

    fn process_effect(&mut self, now: Duration) -> Option<SupervisorEffect> {
        match &mut self.process {
            Process::Down { start_at } if *start_at <= now => {
                let ready_by = self.upgrades.ready_by();
                let abandon_at = ready_by.unwrap_or(now + EXEC_TIMEOUT);
                self.process = Process::Starting { abandon_at };
                let new_program = ready_by.is_some();
                Some(SupervisorEffect::StartRuntime { new_program })
            }
            Process::Starting { abandon_at } if *abandon_at <= now => {
                let limit = self.upgrades.ready_by().map_or("30s", |_| "10s");
                let text = "cannot start the runtime: it did not execute its program within ";
                self.start_failed(now, format!("{text}{limit}"));
                Some(SupervisorEffect::KillRuntime)
            }
            Process::Running { kill_at } if kill_at.is_some_and(|at| at <= now) => {
                *kill_at = None;
                if self.ready_at.is_none() && self.channel.is_some() && self.refused.is_none() {
                    let trial = self.upgrades.ready_by().map(|_| TRIAL_UNREADY);
                    self.fault = Some(trial.unwrap_or(UNREADY));
                }
                Some(SupervisorEffect::KillRuntime)
            }
            Process::Exited { close_at, .. } if *close_at <= now => {
                self.channel = None;
                self.finish_exit(now);
                Some(SupervisorEffect::CloseChannel)
            }
            _ => None,
        }
    }

    fn status(&mut self) -> Option<SupervisorEffect> {
        let state = match (self.stop_deadline, self.ready_at) {
            (Some(_), _) => SystemState::Stopping,
            (None, Some(_)) => SystemState::Running,
            (None, None) if self.was_ready => SystemState::Returning,
            (None, None) => SystemState::Starting,
        };
        let runs = matches!(self.process, Process::Embedded | Process::Running { .. });
        let status = Some((state, self.restarts, runs));
        if !self.configured || self.status_written == status {
            return None;
        }
        self.status_written = status;
        Some(SupervisorEffect::WriteStatus(state))
    }
}

#[cfg(test)]
mod tests;
