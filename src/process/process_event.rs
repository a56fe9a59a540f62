//! What happens to a process.
//! Owns the one type in which the holder reports it and the runtime passes it on.
//! Never says what follows from it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Exit, Instance, Signal, StartFailure, StdStream};

/// What happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// The instance.
    pub instance: Instance,
    /// Its run; 0 for what belongs to no run.
    #[serde(default)]
    pub generation: u64,
    /// What happened.
    pub what: ProcessEventKind,
}

/// What can happen to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ProcessEventKind {
    /// A process runs: the exec succeeded.
    Spawned {
        /// Its process id; 0 for a task of an embedding application.
        pid: u32,
        /// Its start time in clock ticks since boot: with the pid, its identity.
        #[serde(default)]
        start_time: u64,
    },
    /// It does not run.
    SpawnFailed {
        /// How it failed.
        failure: StartFailure,
        /// Why, as a message with the next step.
        #[serde(default)]
        message: String,
    },
    /// MAINPID: another process of the tree is the main process from now on.
    MainChanged {
        /// Its process id.
        pid: u32,
        /// Its start time, in the unit of the kernel; 0 from an older holder.
        #[serde(default)]
        start_time: u64,
    },
    /// The main process exited. Sent after everything the process had sent by sd_notify.
    Exited(Exited),
    /// The main process has exited in a stop, and the rest of its tree got the stop signal too: it
    /// has the rest of the time of the stop. `Exited` follows when all of it is gone.
    TreeSignalled {
        /// The signal.
        signal: Signal,
        /// The processes, a few of them at most.
        processes: Vec<TreeProcess>,
        /// How many there were.
        total: u32,
    },
    /// The main process was stopped by a signal of another process, and has been for a while.
    Suspended {
        /// The signal: SIGSTOP, for instance.
        signal: Signal,
    },
    /// It was continued.
    Continued,
    /// One sd_notify datagram of a sender that belongs to the run.
    Notify {
        /// The sender; 0: the kernel does not say.
        #[serde(default)]
        pid: u32,
        /// The datagram.
        text: String,
    },
    /// A request by sd_notify was not granted (reported a few times a run at most).
    NotifyRejected {
        /// Which, and why.
        message: String,
    },
    /// Everything the instance had sent by sd_notify has been reported.
    NotifyDrained,
    /// What a tapped instance wrote.
    Output {
        /// The text.
        text: String,
        /// Where it was written to.
        #[serde(default, skip_serializing_if = "StdStream::is_both")]
        stream: StdStream,
        /// Bytes that were dropped before it.
        #[serde(default)]
        dropped_bytes: u64,
    },
    /// Output was lost (reported at most once a second per instance), or is written again.
    OutputDropped {
        /// Since the holder started.
        total_bytes: u64,
        /// What the system said to a write that failed; None: the disk was too slow.
        #[serde(default)]
        errno: Option<i32>,
        /// Why the file cannot be written where no system call failed: it is a fifo, for instance.
        #[serde(default)]
        reason: Option<String>,
        /// It is written again.
        #[serde(default)]
        over: bool,
    },
    /// A connection arrived on this socket while the instance does not run.
    SocketActivated {
        /// Its name.
        socket: String,
    },
    /// What only a newer mainstay knows.
    #[serde(other)]
    Other,
}

/// A process of a tree that is not its main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeProcess {
    /// Its process id.
    pub pid: u32,
    /// The name of its program, as the kernel shows it.
    #[serde(default)]
    pub command: String,
}

/// How a run ended that is not the last one of its instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierExit {
    /// The run.
    pub generation: u64,
    /// How it ended, without what it wrote.
    pub exited: Exited,
}

/// How a main process ended, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The process; 0 for a task of an embedding application.
    #[serde(default)]
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
    /// Whether it was killed because `timeout_ms` had passed.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub timed_out: bool,
    /// What it wrote, with [`Output::Captured`](crate::Output::Captured).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Nanoseconds on the monotonic clock when it was seen.
    #[serde(default)]
    pub at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ProcessEvent {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn events_have_one_flat_form() {
        let json = r#"{"instance":"web","generation":3,"what":{"event":"exited","pid":7,"exit":{"code":1},"at":5}}"#;
        let event = read(json);
        assert_eq!(serde_json::to_string(&event).expect("it is JSON"), json);
        let ProcessEventKind::Exited(exited) = event.what else {
            panic!("it exited");
        };
        assert_eq!((exited.exit, exited.timed_out), (Exit::Code(1), false));
    }

    #[test]
    fn what_only_a_newer_side_knows_is_another_event() {
        let newer = read(
            r#"{"instance":"web","generation":3,"since":1,"what":{"event":"frozen","by":{"user":1}}}"#,
        );
        assert_eq!(newer.what, ProcessEventKind::Other);
        let newer = read(
            r#"{"instance":"web","generation":3,"what":{"event":"spawned","pid":7,"cgroup":"a"}}"#,
        );
        let spawned = ProcessEventKind::Spawned {
            pid: 7,
            start_time: 0,
        };
        assert_eq!(newer.what, spawned);
    }
}
