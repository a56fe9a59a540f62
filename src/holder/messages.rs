//! The messages between the holder and the runtime: length-prefixed JSON over a Unix socket pair.
//! Owns their shape. Fields are only added, with a default, and closed lists have a variant for
//! what a newer side sends, so that either side survives one that is newer.
//! Never interprets them.
//!
//! A frame is a 4-byte little-endian length and that many bytes of JSON. Descriptors travel with
//! the first byte of the frame that announces them (`fds` counts them).

use mainstay_process::{
    ActivationSocket, EarlierExit, Exit, Instance, ProcessEvent, RunLimits, Signal, SpawnRequest,
};
use serde::{Deserialize, Serialize};

/// Version of this channel. It is raised only when frames of the version before cannot be read, or
/// when they mean something else.
pub const VERSION: u32 = 3;
/// Longest frame in bytes.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Longest record of an instance in bytes.
pub const MAX_RECORD_BYTES: usize = 512;
/// Longest time in milliseconds that one `Freeze` stops a run.
pub const FREEZE_MAX_MS: u64 = 300;
/// The descriptor on which the runtime finds its end of the channel.
pub const CHANNEL_FD: i32 = 3;

/// From the runtime to the holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HolderRequest {
    /// First message of the first runtime: where things are. Answered by `Configured` or `Refused`.
    Configure(HolderSetup),
    /// Start a process. Answered by `Spawned` or `SpawnFailed`.
    Spawn(Box<SpawnRequest>),
    /// Send a signal to the main process.
    Signal {
        /// The instance.
        instance: Instance,
        /// The number of the run.
        generation: u64,
        /// The signal.
        signal: Signal,
        /// Send SIGCONT after it.
        cont: bool,
        /// It is a stop: what else is alive of the tree when the main process has exited gets the
        /// signal too, and the tree is killed when this has passed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within_ms: Option<u64>,
    },
    /// Kill the whole tree, escapees included. `Exited` follows when the main process has exited. A
    /// start in flight is aborted; one that has not begun is reported as `SpawnFailed`.
    Kill {
        /// The instance.
        instance: Instance,
        /// The number of the run.
        generation: u64,
    },
    /// Stop all processes of a run for this time, counted from now. They continue when it has
    /// passed, at a stop signal, and when the channel closes; 0: now.
    Freeze(FreezeRequest),
    /// Replace what a control group or job enforces on a run. A new run begins without limits.
    Limit(LimitRequest),
    /// Drain the notify socket of the instance; `NotifyDrained` is sent after the last message.
    DrainNotify {
        /// The instance.
        instance: Instance,
        /// The number of the run.
        generation: u64,
    },
    /// Keep this text for the next runtime.
    SaveRecord {
        /// The instance.
        instance: Instance,
        /// At most [`MAX_RECORD_BYTES`].
        record: String,
    },
    /// The instance left the plan: drop its record, sockets, stored descriptors and group.
    Forget {
        /// The instance.
        instance: Instance,
    },
    /// Keep these sockets for an instance and close its others; the runtime has bound them.
    Listen {
        /// For which.
        instance: Instance,
        /// All of them.
        sockets: Vec<BoundSocket>,
        /// Which of them travel with this frame, by their place; the holder has the others.
        #[serde(default)]
        passed: Vec<u32>,
        /// From here on, report `SocketActivated` when a client connects while the instance does
        /// not run; once, and again after its next run.
        #[serde(default)]
        activates: bool,
    },
    /// Send what the instance writes as `Output` too (bounded: what does not fit is counted).
    Tap {
        /// The instance.
        instance: Instance,
        /// Or stop it.
        on: bool,
        /// Begin with what was sent of its run already, for a runtime that did not receive it. At
        /// least the newest 32 KiB.
        #[serde(default)]
        replay: bool,
    },
    /// Answered by `OutputFlushed` when the output of the instance read so far is in its file.
    FlushOutput {
        /// The instance.
        instance: Instance,
        /// Comes back in the answer.
        number: u64,
    },
    /// The part of the setup that can change while it is in use.
    Reconfigure(LiveSetup),
    /// Execute the program that travels with this frame, with all that the holder has and under
    /// the same process number. Answered by `Reexecuted`.
    Reexec {
        /// Comes back in the answer.
        number: u64,
    },
    /// Send duplicates of all that the holder keeps, now and whenever it changes, so that another
    /// holder can go on in its place. Requests are counted from here on.
    Mirror {
        /// The number of this request.
        number: u64,
    },
    /// The runtime is in control.
    Ready,
    /// The runtime is alive; the answer to `HolderMessage::Ping`.
    Pong,
    /// An ordered stop of everything began; when it takes longer, the holder kills everything. A
    /// runtime that comes after this one continues it.
    Stopping {
        /// From now on.
        within_ms: u64,
    },
    /// Send this to the service manager that started the holder, in the form of sd_notify(3);
    /// dropped where there is none.
    NotifyServiceManager {
        /// Assignments, one a line.
        text: String,
    },
    /// Run the runtime with this program from now on; it has to be ready within 10 seconds, or the
    /// one before is used again. Answered by `UpgradeAnswered`.
    Upgrade {
        /// Absolute. On Linux its descriptor travels with the frame, and is what is executed.
        program: String,
        /// Kept for later runtimes, and never read.
        #[serde(default)]
        note: String,
    },
    /// Everything is stopped: kill what still runs, then exit.
    Exit {
        /// The exit code of the holder.
        code: u8,
    },
    /// What only a newer runtime asks for; it is ignored.
    #[serde(other)]
    Other,
}

/// Which run is stopped, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRequest {
    /// The instance.
    pub instance: Instance,
    /// The number of the run.
    pub generation: u64,
    /// At most [`FREEZE_MAX_MS`].
    pub ms: u64,
    /// Where the run has no control group: its processes, each with its start time. One that a
    /// signal has stopped already is not among them: it is not continued.
    #[serde(default)]
    pub processes: Vec<(u32, u64)>,
}

/// What holds for a run from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRequest {
    /// The instance.
    pub instance: Instance,
    /// The number of the run.
    pub generation: u64,
    /// All limits.
    pub limits: RunLimits,
}

/// Where things are; kept by the holder for later runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HolderSetup {
    /// The system's name.
    pub name: String,
    /// Absolute; the directory of the configuration, for messages; empty when there is none.
    #[serde(default)]
    pub config_dir: String,
    /// Absolute; created 0700 if missing; `lock` in it is held for the holder's life.
    pub state_dir: String,
    /// Absolute; created 0711 if missing; `lock` in it is held too, `control.sock`, `module.sock`
    /// and `notify/` are in it. No other user may rename in a directory above it or the other one.
    pub runtime_dir: String,
    /// Absolute; created 0700 if missing; module output goes to `NAME.log` in it.
    pub log_dir: String,
    /// Kill the runtime and start it again when it was silent this long; `Ping` is sent when three
    /// quarters of it have passed. 0 = never.
    pub heartbeat_timeout_ms: u64,
    /// What can change later, as it was at first.
    #[serde(flatten)]
    pub live: LiveSetup,
}

/// The part of a [`HolderSetup`] that can change while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSetup {
    /// Rotate at this size.
    pub log_max_bytes: u64,
    /// Rotated files kept beside the current one (`NAME.log.1` is the newest).
    pub log_keep: u32,
    /// Mode of `control.sock`, for instance 0o600.
    pub control_mode: u32,
    /// How long an ordered stop may take in all, before the holder ends everything itself.
    pub stop_timeout_ms: u64,
}

/// A socket that listens for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSocket {
    /// Its name and where it listens.
    #[serde(flatten)]
    pub socket: ActivationSocket,
    /// Device and number of the file of a Unix socket, which is removed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<(u64, u64)>,
}

/// The sockets that the holder keeps for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSockets {
    /// For which.
    pub instance: Instance,
    /// All of them.
    pub sockets: Vec<BoundSocket>,
}

/// From the holder to the runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HolderMessage {
    /// First message to every runtime.
    Takeover(Box<TakeoverState>),
    /// Directories are made, the lock is held, sockets listen.
    Configured {
        /// The control and the module listener travel with this frame.
        fds: u32,
    },
    /// The setup failed.
    Refused {
        /// Why, as text.
        message: String,
        /// The exit code to end with.
        exit: u8,
    },
    /// What happened to an instance.
    Process(ProcessEvent),
    /// See `FlushOutput`.
    OutputFlushed {
        /// That of the request.
        number: u64,
    },
    /// Directories of the system had been removed while it ran: they are there again, or cannot be
    /// created.
    Directories {
        /// The new control and module listener travel with this frame.
        fds: u32,
        /// Why they cannot be created.
        #[serde(default)]
        problem: Option<String>,
    },
    /// SIGTERM or SIGINT arrived, or an earlier runtime had begun to stop: stop all in order.
    StopRequested {
        /// The signal.
        signal: Signal,
        /// What is left of a stop that had begun, in milliseconds: then everything is killed.
        #[serde(default)]
        time_left_ms: Option<u64>,
    },
    /// See `Reexec`: the holder is another program now, or goes on as it was.
    Reexecuted {
        /// That of the request.
        number: u64,
        /// Why the program was not executed, or could not go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// See `Mirror`.
    Mirrored(MirrorRecord),
    /// See `Mirror`: the requests up to this one are performed, and what they changed was sent.
    Performed {
        /// Its number.
        requests: u64,
    },
    /// SIGHUP arrived.
    ReloadRequested,
    /// The answer to `Upgrade`. Without a problem the runtime has to exit now: the new program is
    /// started next.
    UpgradeAnswered {
        /// Why the program is not replaced.
        #[serde(default)]
        problem: Option<String>,
    },
    /// The runtime has been silent for long: it is to send `Pong`.
    Ping,
    /// What only a newer holder sends; it is ignored.
    #[serde(other)]
    Other,
}

/// A part of what the holder keeps, for the one that goes on in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// The number of the part; 0: what belongs to no instance.
    pub id: u32,
    /// What only a holder understands. None: there is no such part any more; of part 0: the holder
    /// exits on purpose, or has too many descriptors to pass them on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// So many descriptors travel with this frame.
    #[serde(default)]
    pub fds: u32,
    /// It came by the socket that went with `Mirror`: a part of what the thread of sd_notify has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notify: bool,
}

/// What the holder knows, for a runtime that takes over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TakeoverState {
    /// Version of the channel: a runtime that speaks another one refuses it.
    pub version: u32,
    /// None: the first runtime, `Configure` is expected.
    #[serde(default)]
    pub setup: Option<HolderSetup>,
    /// The holder.
    pub holder_pid: u32,
    /// How often the runtime was started before.
    #[serde(default)]
    pub restarts: u32,
    /// When the last runtime in control exited: nanoseconds on the monotonic clock; 0: there was
    /// none.
    #[serde(default)]
    pub runtime_down_since: u64,
    /// How the runtime before ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// When `up` began: nanoseconds on the monotonic clock.
    #[serde(default)]
    pub up_since: u64,
    /// Every instance that lives or left a record. The lasting part of what each said by notify,
    /// and the last exit of each whose run is over, follow as ordinary `Notify` and `Exited`: the
    /// runtime before may have been lost with that news, so they may come a second time.
    #[serde(default)]
    pub instances: Vec<InstanceInfo>,
    /// The sockets that listen for instances: the runtime does not bind these again.
    #[serde(default)]
    pub sockets: Vec<InstanceSockets>,
    /// Control and module listener travel with this frame when `setup` is there.
    #[serde(default)]
    pub fds: u32,
    /// How trees are killed here: `cgroup2`, `walk` or `job`.
    #[serde(default)]
    pub tree: String,
    /// A stop was asked for and is not finished.
    #[serde(default)]
    pub stopping: bool,
    /// It answers `Reexec`, and takes the descriptor that comes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub can_reexec: bool,
    /// It drops a command by itself when its end was reported, and reports no start of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drops_commands: bool,
    /// The last upgrade of the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeReport>,
}

/// An upgrade of the runtime, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// Upgrades of this holder are counted from 1.
    pub number: u32,
    /// What became of it.
    pub state: UpgradeState,
    /// What came with the request.
    #[serde(default)]
    pub note: String,
}

/// What became of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UpgradeState {
    /// The runtime that reads this is the new program: the upgrade is done when it is ready.
    Pending,
    /// The new program is in use.
    Done,
    /// The old program is in use again.
    RolledBack {
        /// How the new one ended.
        problem: String,
    },
    /// What only a newer holder knows.
    #[serde(other)]
    Other,
}

/// An instance the holder knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// The instance.
    pub instance: Instance,
    /// Its last run.
    pub generation: u64,
    /// Its main process, while it lives.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Start time of that process (clock ticks since boot).
    #[serde(default)]
    pub start_time: u64,
    /// What the last runtime saved.
    #[serde(default)]
    pub record: Option<String>,
    /// How that run ended, if it did. The whole of it is reported after the takeover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How the runs before it ended, the last few: a runtime may start the next run and be gone
    /// before it has written down how the last one ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierExit>,
}
