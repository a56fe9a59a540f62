//! The runtime's view of the machine: processes, the clock, who is who.
//! Owns the trait `Os` and the facts it tells: `held` acts through the holder, `direct` in here.
//! Never decides: it does what it is told and says what it saw.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mainstay_holder::messages::{ActivationSocket, Exited, SpawnRequest, SpawnStep};
use mainstay_policy::MonoTime;
use mainstay_protocol::Timestamp;

pub(crate) mod command;
pub(crate) mod embedded;
mod grpc;
pub(crate) mod handshake;
pub(crate) mod holder_client;
#[cfg(target_os = "linux")]
mod listeners;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
pub(crate) mod machine;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd.rs"]
pub(crate) mod machine;
#[cfg(windows)]
#[path = "windows.rs"]
pub(crate) mod machine;
#[cfg(unix)]
mod orphans;
mod peer;
pub(crate) mod private;
pub(crate) mod probe;
pub(crate) mod tail;
#[cfg(unix)]
#[path = "unix_transport.rs"]
pub(crate) mod transport;
#[cfg(windows)]
#[path = "windows_transport.rs"]
pub(crate) mod transport;
#[cfg(target_os = "linux")]
mod tree_sampler;
pub(crate) mod trim;

pub(crate) use command::{CommandResult, command_name};
pub(crate) use peer::PeerCredentials;

/// The verbs of the machine. None of them blocks; what comes of them arrives as a [`OsEvent`].
pub(crate) trait Os: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> MonoTime;
    /// The wall clock, for people.
    fn wall_clock(&self) -> Timestamp;
    /// Starts a process; `Spawned` or `SpawnFailed` follows.
    fn spawn(&self, spawn: SpawnRequest);
    /// Sends a signal to a main process, and SIGCONT behind it when `cont`.
    fn signal(&self, instance: &str, generation: u64, signal: i32, cont: bool);
    /// Kills a whole tree; `Exited` follows.
    fn kill(&self, instance: &str, generation: u64);
    /// Asks for what an instance said and nobody read yet; `NotifyDrained` follows behind all of it.
    fn drain_notify(&self, instance: &str, generation: u64);
    /// Keeps a text for the next runtime; the same text again costs nothing.
    fn save_record(&self, instance: &str, record: String);
    /// Asks for what an instance writes, as `Output` facts; `again`: and first for those of its run
    /// that were told before.
    fn tap(&self, instance: &str, on: bool, again: bool);
    /// Done when all that was asked before holds, and what the instance wrote before is in its
    /// file; or after 2 seconds.
    fn flush_output(&self, instance: &str) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Listens for an instance; `SocketActivated` follows when somebody connects while it does not run.
    fn listen(&self, instance: &str, sockets: Vec<ActivationSocket>);
    /// Runs a short-lived command to its end (hooks, probes); it is killed at `kill_after_ms`.
    /// With a generation it can be signalled under its [`command_name`] meanwhile.
    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>>;
    /// Says that the runtime is in control.
    fn ready(&self);
    /// Says that the runtime is alive.
    fn pong(&self);
    /// Says that an ordered stop of everything began, and how long it may take at most.
    fn stopping(&self, _within: Duration) {}
    /// What is left of the time that the last word of that gave; None: nothing is being stopped.
    fn stop_time_left(&self) -> Option<Duration> {
        None
    }
    /// Ends everything: the holder leaves with this exit code.
    fn exit_holder(&self, code: u8);
    /// The living main process of an instance.
    fn live_process(&self, instance: &str) -> Option<LiveProcess>;
    /// How the last run of an instance ended, if that was seen.
    fn last_exit(&self, instance: &str) -> Option<Exited>;
    /// The text that is kept for the next runtime.
    fn saved_record(&self, instance: &str) -> Option<String>;
}

/// A living main process, or a task of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveProcess {
    /// Its run.
    pub(crate) generation: u64,
    /// Its process id; 0 for a task, which has none of its own.
    pub(crate) pid: u32,
    /// Its start time in clock ticks since boot: with the pid, its identity.
    pub(crate) start_time: u64,
}

impl LiveProcess {
    /// Its process, unless it is a task: what is true of the application is not true of a task.
    pub(crate) fn process(self) -> Option<u32> {
        (self.pid != 0).then_some(self.pid)
    }
}

/// What the machine tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OsEvent {
    /// A process runs.
    Spawned {
        instance: String,
        generation: u64,
        pid: u32,
    },
    /// It does not, and why.
    SpawnFailed {
        instance: String,
        generation: u64,
        step: SpawnStep,
        errno: i32,
        message: String,
    },
    /// Another process of the run is its main process from now on.
    MainChanged {
        instance: String,
        generation: u64,
        pid: u32,
    },
    /// A module asked by sd_notify for something that is not done, and why.
    NotifyRejected { instance: String, message: String },
    /// Its main process ended.
    Exited(Exited),
    /// It was to be ended and is not: nothing else can be done from inside a process.
    Stuck { instance: String, generation: u64 },
    /// One sd_notify message.
    Notify {
        instance: String,
        generation: u64,
        pid: u32,
        text: String,
    },
    /// All that an instance said before it was asked for has been told.
    NotifyDrained { instance: String, generation: u64 },
    /// What a tapped instance wrote.
    Output {
        instance: String,
        generation: u64,
        text: String,
        dropped_bytes: u64,
    },
    /// Output was lost; total since the holder started, and why if the system said so.
    OutputDropped {
        instance: String,
        total_bytes: u64,
        errno: Option<i32>,
    },
    /// Somebody connected to this socket of an instance that does not run.
    SocketActivated { instance: String, socket: String },
    /// Stop everything in order.
    StopRequested {
        /// What is left of a stop that a runtime before had begun.
        left: Option<Duration>,
    },
    /// Read the configuration again.
    ReloadRequested,
    /// Say that the runtime is alive.
    PingReceived,
    /// The holder is gone: what runs must be stopped by us, in order.
    HolderGone,
}

impl OsEvent {
    /// The module a fact is about.
    pub(crate) fn instance(&self) -> Option<&str> {
        match self {
            OsEvent::Spawned { instance, .. }
            | OsEvent::SpawnFailed { instance, .. }
            | OsEvent::Stuck { instance, .. }
            | OsEvent::MainChanged { instance, .. }
            | OsEvent::NotifyRejected { instance, .. }
            | OsEvent::Exited(Exited { instance, .. })
            | OsEvent::Notify { instance, .. }
            | OsEvent::NotifyDrained { instance, .. }
            | OsEvent::Output { instance, .. }
            | OsEvent::SocketActivated { instance, .. }
            | OsEvent::OutputDropped { instance, .. } => Some(instance),
            OsEvent::StopRequested { .. }
            | OsEvent::ReloadRequested
            | OsEvent::PingReceived
            | OsEvent::HolderGone => None,
        }
    }
}
