//! One instance of the roster: its newest run, its record and what a new runtime is sent of it.
//! Owns the phase of that run: no run, spawn in flight, running, exit not reported yet.
//! Never changes by itself: the roster applies each input.

use std::sync::Arc;
use std::time::Duration;

use crate::machines::NotifyState;
use crate::messages::{ExitSummary, Exited, HolderMessage, InstanceInfo};

/// How the main process of a run exited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessExit {
    /// Exit code.
    pub code: Option<i32>,
    /// Signal.
    pub signal: Option<i32>,
    /// Whether it dumped a core.
    pub core: bool,
    /// Whether the kernel killed it for memory.
    pub oom: bool,
}

/// A run with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningProcess {
    /// The main process.
    pub pid: u32,
    /// Its start time, in the unit of the kernel.
    pub start_time: u64,
    pub(super) deadline: Option<Duration>,
    pub(super) timed_out: bool,
}

/// An exit that is not reported yet.
#[derive(Debug)]
pub(super) struct PendingExit {
    pub(super) exited: Exited,
    pub(super) sweep_pending: bool,
    pub(super) output_pending: bool,
}

/// Requests for a run whose spawn is in flight.
#[derive(Debug, Default)]
pub(super) struct DeferredRequests {
    pub(super) kill: bool,
    pub(super) signal: Option<(i32, bool)>,
    pub(super) deadline: Option<Duration>,
    pub(super) timed_out: bool,
}

#[derive(Debug, Default)]
pub(super) enum InstancePhase {
    #[default]
    Idle,
    Starting(DeferredRequests),
    Running(RunningProcess),
    Exiting(Box<PendingExit>),
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: Arc<str>,
    pub(super) generation: u64,
    pub(super) phase: InstancePhase,
    pub(super) record: Option<String>,
    /// How the last run ended, until the next one starts: a runtime may exit before it reads that.
    pub(super) last_exit: Option<Exited>,
    pub(super) notify_state: NotifyState,
    pub(super) forgotten: bool,
}

impl Instance {
    pub(super) fn new(name: Arc<str>) -> Instance {
        Instance {
            name,
            generation: 0,
            phase: InstancePhase::Idle,
            record: None,
            last_exit: None,
            notify_state: NotifyState::default(),
            forgotten: false,
        }
    }

    /// A new run has passed the fence.
    pub(super) fn start(&mut self, generation: u64, deadline: Option<Duration>) {
        self.generation = generation;
        self.phase = InstancePhase::Starting(DeferredRequests {
            deadline,
            ..DeferredRequests::default()
        });
        self.last_exit = None;
        self.notify_state = NotifyState::default();
        self.forgotten = false;
    }

    pub(super) fn exit_of(
        &self,
        now: Duration,
        process: &RunningProcess,
        exit: ProcessExit,
        output: String,
    ) -> Exited {
        Exited {
            instance: self.name.to_string(),
            generation: self.generation,
            pid: process.pid,
            code: exit.code,
            signal: exit.signal,
            core: exit.core,
            oom: exit.oom,
            overdue: process.timed_out,
            output,
            at: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn running(&self) -> Option<RunningProcess> {
        match &self.phase {
            InstancePhase::Running(process) => Some(*process),
            _ => None,
        }
    }

    /// How the newest run ended, reported or not.
    pub(super) fn exited(&self) -> Option<&Exited> {
        match &self.phase {
            InstancePhase::Exiting(pending) => Some(&pending.exited),
            InstancePhase::Idle => self.last_exit.as_ref(),
            InstancePhase::Starting(_) | InstancePhase::Running(_) => None,
        }
    }

    pub(super) fn info(&self) -> InstanceInfo {
        let process = self.running();
        InstanceInfo {
            instance: self.name.to_string(),
            generation: self.generation,
            pid: process.map(|process| process.pid),
            start_time: process.map_or(0, |process| process.start_time),
            record: self.record.clone(),
            end: self.exited().map(ExitSummary::from),
        }
    }

    pub(super) fn notify(&self, generation: u64, pid: u32, text: String) -> HolderMessage {
        HolderMessage::Notify {
            instance: self.name.to_string(),
            generation,
            pid,
            text,
        }
    }

    /// The notify state of the running process.
    pub(super) fn notify_replay(&self) -> Option<HolderMessage> {
        let (process, text) = self.running().zip(self.notify_state.text())?;
        Some(self.notify(self.generation, process.pid, text))
    }

    /// What a runtime has to be sent of a run that ended before it connected.
    pub(super) fn exit_replay(&self) -> impl Iterator<Item = HolderMessage> {
        let exited = self.exited().filter(|_| self.is_idle());
        let reason = exited.and_then(|exited| {
            let text = self.notify_state.exit_text()?;
            Some(self.notify(exited.generation, exited.pid, text))
        });
        let exited = exited.cloned().map(HolderMessage::Exited);
        reason.into_iter().chain(exited)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, InstancePhase::Idle)
    }
}
