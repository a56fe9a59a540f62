//! The runtime's view of the machine: processes, clocks, users.
//! Owns the trait `Os` and its events: `holder_client` acts through the holder, `embedded` in this
//! process. Never decides: it performs what it is asked for and reports what happened.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mainstay_policy::MonoTime;
use mainstay_process::{
    ActivationSocket, Exited, Instance, ProcessEvent, RunLimits, Signal, SpawnRequest,
};
use mainstay_protocol::Timestamp;

#[cfg(unix)]
pub(crate) mod accounts;
#[cfg(unix)]
mod activation;
#[cfg(unix)]
mod client_stream;
pub(crate) mod command;
pub(crate) mod embedded;
pub(crate) mod enforcement;
pub(crate) mod folder_watch;
pub(crate) mod forensics;
#[cfg(unix)]
mod governor;
mod grpc;
pub(crate) mod handshake;
pub(crate) mod holder_client;
#[cfg_attr(windows, path = "kept_files_windows.rs")]
pub(crate) mod kept_files;
pub(crate) mod keyring;
#[cfg(target_os = "linux")]
mod listeners;
pub(crate) mod log_index;
pub(crate) mod log_names;
pub(crate) mod log_reader;
#[cfg(feature = "cli")]
pub(crate) mod log_watch;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
pub(crate) mod machine;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd.rs"]
pub(crate) mod machine;
#[cfg(windows)]
#[path = "windows.rs"]
pub(crate) mod machine;
pub(crate) mod machine_id;
pub(crate) mod machine_report;
#[cfg(unix)]
mod orphans;
mod peer;
#[cfg(unix)]
pub(crate) mod preflight;
#[cfg(unix)]
mod priority;
pub(crate) mod private;
pub(crate) mod probe;
#[cfg(unix)]
pub(crate) mod process_limit;
#[cfg(windows)]
#[path = "process_limit_windows.rs"]
pub(crate) mod process_limit;
pub(crate) mod program;
mod sampler;
#[cfg(target_os = "linux")]
mod socket_use;
pub(crate) mod source_watch;
#[cfg(unix)]
mod start_failure;
pub(crate) mod succession;
pub(crate) mod tail;
#[cfg(unix)]
#[path = "unix_transport.rs"]
pub(crate) mod transport;
#[cfg(windows)]
#[path = "windows_transport.rs"]
pub(crate) mod transport;
#[cfg(target_os = "linux")]
mod tree_sampler;
pub(crate) mod usage;

pub(crate) use command::CommandResult;
pub(crate) use enforcement::Enforcement;
pub(crate) use mainstay_holder::messages::{
    HolderSetup, LiveSetup, MAX_RECORD_BYTES, UpgradeReport, UpgradeState,
    VERSION as CHANNEL_VERSION,
};
#[cfg(windows)]
pub(crate) use mainstay_holder::preflight;
pub(crate) use peer::PeerCredentials;
pub(crate) use program::UpgradeRequest;
#[cfg(test)]
pub(crate) use usage::MachineSample;
pub(crate) use usage::{Sample, SampleRequest, TreeUsage};

/// What the runtime can ask of the machine. No method blocks; results arrive as an [`OsEvent`].
pub(crate) trait Os: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> MonoTime;
    /// The wall clock, for people.
    fn wall_clock(&self) -> Timestamp;
    /// Starts a process; `Spawned` or `SpawnFailed` follows.
    fn spawn(&self, spawn: SpawnRequest);
    /// Sends the stop signal to a main process, and SIGCONT after it; `Exited` follows when its
    /// whole tree is gone. When the main process exits first, `TreeSignalled` comes before that.
    /// What has not ended `within` this time is killed.
    fn stop(&self, instance: &Instance, generation: u64, signal: Signal, within: Duration);
    /// Kills a whole tree; `Exited` follows.
    fn kill(&self, instance: &Instance, generation: u64);
    /// Reads what a run is doing, within [`forensics::CAPTURE_TIMEOUT`]; None: too many are being
    /// read.
    fn capture(
        &self,
        request: forensics::CaptureRequest,
    ) -> Pin<Box<dyn Future<Output = Option<forensics::Bundle>> + Send>>;
    /// Sends a signal to the main process; nothing follows from it.
    fn signal(&self, instance: &Instance, generation: u64, signal: Signal);
    /// Measures what whole trees, mainstay and the machine use; None: it cannot be measured now.
    fn sample(
        &self,
        request: SampleRequest,
    ) -> Pin<Box<dyn Future<Output = Option<Sample>> + Send>>;
    /// Which mechanism enforces which limit here.
    fn enforcement(&self) -> &Enforcement;
    /// Replaces the limits of a run, by the mechanism that there is; what none can enforce is left
    /// out.
    fn limit(&self, instance: &Instance, generation: u64, limits: RunLimits);
    /// Stops all processes of a run for this time, 300 ms at most; they continue by themselves,
    /// whatever becomes of mainstay. Zero: they continue now.
    fn freeze(&self, instance: &Instance, generation: u64, span: Duration, reason: FreezeReason);
    /// Why a run could not answer at some time since then, or cannot now: a debugger holds its main
    /// process, or mainstay had stopped it for a moment to hold it at its limit.
    fn held_since(&self, instance: &Instance, since: MonoTime) -> Option<RunHold>;
    /// How long the machine has slept since it was booted.
    fn sleep_time(&self) -> Duration;
    /// Drains the notify socket of an instance; `NotifyDrained` follows after the last message.
    fn drain_notify(&self, instance: &Instance, generation: u64);
    /// Keeps a text for the next runtime; the same text again costs nothing.
    fn save_record(&self, instance: &Instance, record: String);
    /// Reports what an instance writes as `Output` events; `replay`: first what was reported of its
    /// run before.
    fn tap(&self, instance: &Instance, on: bool, replay: bool);
    /// Completes when every earlier request holds and the output of the instance so far is in its
    /// file; or after 2 seconds.
    fn flush_output(&self, instance: &Instance) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Listens for an instance; `SocketActivated` follows when a client connects while it does not
    /// run. Completes when that is requested; it is, whether the result is awaited or not.
    fn listen(
        &self,
        instance: &Instance,
        sockets: Vec<ActivationSocket>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Drops the record, sockets, stored descriptors and group of an instance that left the plan.
    fn forget(&self, instance: &Instance);
    /// Runs a short-lived command of `spawn.instance` to its end (hooks, probes); it is killed
    /// after `timeout_ms`. With a generation it can be signalled as the command of that number.
    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>>;
    /// Reports that the runtime is in control.
    fn ready(&self);
    /// Reports that the runtime is alive.
    fn pong(&self);
    /// Changes what of the holder's setup follows the configuration.
    fn reconfigure(&self, live: LiveSetup);
    /// Reports that an ordered stop of everything began, and how long it may take at most.
    fn stopping(&self, within: Duration);
    /// What is left of the shortest time that `stopping` was given; None: nothing is being stopped.
    fn stop_time_left(&self) -> Option<Duration>;
    /// Requests that another program takes the place of this runtime; when that is accepted, this
    /// runtime ends.
    fn upgrade(
        &self,
        upgrade: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
    /// Ends everything: the holder exits with this code.
    fn exit_holder(&self, code: u8);
    /// The living main process of an instance.
    fn live_process(&self, instance: &Instance) -> Option<LiveProcess>;
    /// How the last run of an instance ended, if that was seen.
    fn last_exit(&self, instance: &Instance) -> Option<RunExit>;
    /// The text that is kept for the next runtime.
    fn saved_record(&self, instance: &Instance) -> Option<String>;
}

/// The wall clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the room of the clocks")]
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunExit {
    /// The number of the run.
    pub(crate) generation: u64,
    /// How it exited.
    pub(crate) exited: Exited,
}

/// A living main process, or a task of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveProcess {
    /// The number of the run.
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

/// Why mainstay stops a run for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreezeReason {
    /// It exceeds a limit: probes that fail meanwhile are excused.
    Limit,
    /// A fault on request: probes have to notice it, as if the module hung by itself.
    Fault,
}

/// Why a run cannot answer, without being at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunHold {
    /// A debugger holds its main process.
    Debugger,
    /// The governor or the throttle ladder stops it for a moment; nothing is stopped on Windows.
    #[cfg_attr(windows, expect(dead_code, reason = "nothing is stopped there"))]
    Frozen,
}

impl RunHold {
    /// As text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            RunHold::Debugger => "a debugger holds its main process",
            RunHold::Frozen => "it is stopped for a part of the time, to hold it at its limit",
        }
    }
}

/// What arrives from the machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OsEvent {
    /// Something happened to an instance.
    Process(ProcessEvent),
    /// The directories of the system had been removed: they are there again, or why they are not.
    DirectoriesRestored { problem: Option<String> },
    /// Stop everything in order.
    StopRequested {
        /// What is left of a stop that an earlier runtime had begun.
        left: Option<Duration>,
    },
    /// Read the configuration again.
    ReloadRequested,
    /// The holder executes the program of this runtime, or why it keeps its own.
    HolderExecuted {
        problem: Option<String>,
        /// It is not requested again.
        is_last: bool,
    },
    /// Another holder goes on in the place of one that has died.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux has successors")
    )]
    HolderReplaced {
        /// Its process.
        pid: u32,
    },
    /// Report that the runtime is alive.
    PingReceived,
    /// The holder is gone: the runtime has to stop what runs, in order.
    HolderGone,
}
