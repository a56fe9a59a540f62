//! One instance of the roster: its newest run, its record and what a new runtime is sent of it.
//! Owns the phase of that run: no run, spawn in flight, running, exit not reported yet.
//! Never changes by itself: the roster applies each input.

use std::time::Duration;

use mainstay_process::{
    EarlierExit, Exit, Exited, Instance, ProcessEvent, ProcessEventKind, Signal,
};

use serde::{Deserialize, Serialize};

use crate::machines::NotifyState;
use crate::messages::{HolderMessage, InstanceInfo};

/// Ends that are kept of the runs before the last one.
const EARLIER_MAX: usize = 4;

/// A run with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningProcess {
    /// The main process.
    pub pid: u32,
    /// Its start time, in the unit of the kernel.
    pub start_time: u64,
    /// It has exited; the rest of its tree is being stopped.
    pub main_exited: bool,
    /// The signal that it is stopped by, as it was reported.
    pub(super) suspended: Option<i32>,
    pub(super) limits: RunDeadlines,
}

/// How long a run may last, its spawn included.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunDeadlines {
    pub(super) deadline: Option<Duration>,
    pub(super) timed_out: bool,
    pub(super) stop: Option<StopOrder>,
}

impl RunDeadlines {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let stop = self.stop.map(|stop| stop.deadline);
        [self.deadline, stop].into_iter().flatten().min()
    }
}

/// The stop of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StopOrder {
    pub(super) signal: i32,
    /// When its tree is killed.
    pub(super) deadline: Duration,
}

/// An exit that is not reported yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PendingExit {
    pub(super) exited: Exited,
    pub(super) sweep_pending: bool,
    pub(super) output_pending: bool,
}

/// Requests for a run whose spawn is in flight.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct DeferredRequests {
    pub(super) kill: bool,
    pub(super) signal: Option<(i32, bool)>,
    pub(super) limits: RunDeadlines,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) enum InstancePhase {
    #[default]
    Idle,
    Starting(DeferredRequests),
    Running(RunningProcess),
    Exiting(Box<PendingExit>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RosterInstance {
    pub(super) name: Instance,
    pub(super) generation: u64,
    pub(super) phase: InstancePhase,
    pub(super) record: Option<String>,
    /// How the last run ended, until the next one starts: a runtime may exit before it reads that.
    pub(super) last_exit: Option<Exited>,
    /// How those before it ended: see [`InstanceInfo::earlier`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<EarlierExit>,
    pub(super) notify_state: NotifyState,
    pub(super) forgotten: bool,
}

/// One instance, as it is passed on to a holder that goes on in the place of this one.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct RosterEntry(pub(super) RosterInstance);

impl RosterInstance {
    pub(super) fn new(name: Instance) -> RosterInstance {
        RosterInstance {
            name,
            generation: 0,
            phase: InstancePhase::Idle,
            record: None,
            last_exit: None,
            earlier: Vec::new(),
            notify_state: NotifyState::default(),
            forgotten: false,
        }
    }

    /// A new run has passed the fence.
    pub(super) fn start(&mut self, generation: u64, deadline: Option<Duration>) {
        if let Some(mut exited) = self.last_exit.take() {
            exited.output = String::new();
            let generation = self.generation;
            self.earlier.push(EarlierExit { generation, exited });
            let excess = self.earlier.len().saturating_sub(EARLIER_MAX);
            self.earlier.drain(..excess);
        }
        self.generation = generation;
        let mut deferred = DeferredRequests::default();
        deferred.limits.deadline = deadline;
        self.phase = InstancePhase::Starting(deferred);
        self.notify_state = NotifyState::default();
        self.forgotten = false;
    }

    pub(super) fn exit_of(
        now: Duration,
        process: &RunningProcess,
        exit: Exit,
        output: String,
    ) -> Exited {
        Exited {
            pid: process.pid,
            exit,
            timed_out: process.limits.timed_out,
            output,
            at: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The limits of a run that is starting or has a process.
    pub(super) fn limits(&mut self) -> Option<&mut RunDeadlines> {
        match &mut self.phase {
            InstancePhase::Starting(deferred) => Some(&mut deferred.limits),
            InstancePhase::Running(process) => Some(&mut process.limits),
            InstancePhase::Idle | InstancePhase::Exiting(_) => None,
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
            instance: self.name.clone(),
            generation: self.generation,
            pid: process.map(|process| process.pid),
            start_time: process.map_or(0, |process| process.start_time),
            record: self.record.clone(),
            exit: self.exited().map(|exited| exited.exit),
            earlier: self.earlier.clone(),
        }
    }

    /// What happened to the newest run, as a message.
    pub(super) fn event(&self, what: ProcessEventKind) -> HolderMessage {
        HolderMessage::Process(ProcessEvent {
            instance: self.name.clone(),
            generation: self.generation,
            what,
        })
    }

    /// The notify state of the running process.
    pub(super) fn notify_replay(&self) -> Option<HolderMessage> {
        let (process, text) = self.running().zip(self.notify_state.text())?;
        let pid = process.pid;
        Some(self.event(ProcessEventKind::Notify { pid, text }))
    }

    /// By what signal the running process is stopped.
    pub(super) fn suspension(&self) -> Option<HolderMessage> {
        let signal = Signal(self.running()?.suspended?);
        Some(self.event(ProcessEventKind::Suspended { signal }))
    }

    /// What a runtime has to be sent of a run that ended before it connected.
    pub(super) fn exit_replay(&self) -> impl Iterator<Item = HolderMessage> {
        let exited = self.exited().filter(|_| self.is_idle());
        let reason = exited.and_then(|exited| {
            let (pid, text) = (exited.pid, self.notify_state.exit_text()?);
            Some(ProcessEventKind::Notify { pid, text })
        });
        let exited = exited.cloned().map(ProcessEventKind::Exited);
        let events = reason.into_iter().chain(exited);
        events.map(|what| self.event(what))
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, InstancePhase::Idle)
    }
}
