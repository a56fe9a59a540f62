//! The words between the holder and the runtime: length-prefixed JSON over a Unix socket pair.
//! Owns their shape; an older holder must understand a newer runtime, so fields are only added.
//! Never interprets them.
//!
//! A frame is a 4-byte little-endian length and that many bytes of JSON. Descriptors travel with
//! the first byte of the frame that announces them (`fds` counts them).

#![expect(
    missing_docs,
    reason = "the fields of messages are described at Spawn, Exited and Known"
)]

use serde::{Deserialize, Serialize};

/// Version of this wire.
pub const VERSION: u32 = 2;
/// Longest frame in bytes.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Longest record of an instance in bytes.
pub const MAX_RECORD_BYTES: usize = 512;
/// The descriptor on which the runtime finds its end of the wire.
pub const CHANNEL_FD: i32 = 3;

/// From the runtime to the holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HolderRequest {
    /// First message of the first runtime: where things are. Answered by `Configured` or `Refused`.
    Configure(HolderSetup),
    /// Start a process. Answered by `Spawned` or `SpawnFailed`.
    Spawn(Box<SpawnRequest>),
    /// Send a signal to the main process (and SIGCONT behind it when `cont`).
    Signal {
        instance: String,
        generation: u64,
        signal: i32,
        cont: bool,
    },
    /// Kill the whole tree, escapees included. `Exited` follows when the main process is gone. A
    /// start that goes on is ended as well; one whose turn had not come is told as `SpawnFailed`.
    Kill { instance: String, generation: u64 },
    /// Read what the instance said and nobody read yet; `NotifyDrained` follows behind all of it.
    DrainNotify { instance: String, generation: u64 },
    /// Keep these bytes for the next runtime.
    SaveRecord { instance: String, record: String },
    /// The instance left the plan: drop its record, sockets, stored descriptors and group.
    Forget { instance: String },
    /// Listen on these for an instance, and tell `SocketActivated` when somebody connects while it does not
    /// run; once, and again after its next run.
    Listen {
        instance: String,
        sockets: Vec<ActivationSocket>,
    },
    /// Send what the instance writes as `Output` too (bounded: what does not fit is counted).
    Tap {
        instance: String,
        on: bool,
        /// Begin with what was sent of its run already: the runtime that heard it may be gone. At
        /// least the newest 32 KiB.
        #[serde(default)]
        replay: bool,
    },
    /// Answered by `OutputFlushed` when what was read of the instance's output so far is in its file.
    FlushOutput { instance: String, number: u64 },
    /// The log limits changed.
    Logs { max_bytes: u64, keep: u32 },
    /// The runtime is in control.
    Ready,
    /// The runtime is alive; the answer to `HolderMessage::Pong`.
    Pong,
    /// An ordered stop of everything began; when it takes longer, end everything. A runtime that
    /// comes after this one is told to go on with it.
    Stopping { within_ms: u64 },
    /// All is stopped: end yourself with this exit code (whatever still lives is killed first).
    Exit { code: u8 },
}

/// Where things are; kept by the holder for later runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HolderSetup {
    /// The system's name.
    pub name: String,
    /// Absolute; created 0700 if missing; `lock` in it is held for the holder's life.
    pub state_dir: String,
    /// Absolute; created 0711 if missing, its owner checked; `control.sock`, `module.sock` and
    /// `notify/` live in it.
    pub runtime_dir: String,
    /// Absolute; created 0700 if missing; module output goes to `NAME.log` in it.
    pub log_dir: String,
    /// Rotate at this size.
    pub log_max_bytes: u64,
    /// Rotated files kept beside the current one (`NAME.log.1` is the newest).
    pub log_keep: u32,
    /// Mode of `control.sock`, for instance 0o600.
    pub control_mode: u32,
    /// Kill the runtime and start it again when it was silent this long; it is asked with `Pong`
    /// when three quarters of it are over. 0 = never.
    pub heartbeat_timeout_ms: u64,
    /// How long an ordered stop may take in all, before the holder ends everything itself.
    pub stop_timeout_ms: u64,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// The module, or `storage@2`, or `storage#probe` for short-lived commands.
    pub instance: String,
    /// Refused when one lives or this is not newer than the last.
    pub generation: u64,
    /// Program and arguments; looked up in the child's PATH when it has no slash.
    pub argv: Vec<String>,
    /// Absolute working directory.
    pub directory: String,
    /// Variables set on top of the inherited ones (or alone, with `clear_env`).
    pub env: Vec<(String, String)>,
    /// Start from an empty environment (PATH, HOME, LANG, TZ, USER stay out too).
    #[serde(default)]
    pub clear_env: bool,
    /// User name or number; only root may.
    #[serde(default)]
    pub user: Option<String>,
    /// Group name or number; default: the user's.
    #[serde(default)]
    pub group: Option<String>,
    /// RLIMIT_NOFILE, soft and hard.
    #[serde(default)]
    pub file_handles: Option<u64>,
    /// Give it a notify socket (`NOTIFY_SOCKET` is set by the holder). What earlier runs stored
    /// with FDSTORE is given to it on descriptors from 3 on, with `LISTEN_FDS` and its company.
    #[serde(default)]
    pub notify: bool,
    /// `WATCHDOG_USEC` (with `WATCHDOG_PID`, set in the child) when it has a watchdog.
    #[serde(default)]
    pub watchdog_usec: Option<u64>,
    /// Give it a pipe on this descriptor; a newline on it is told as `Notify { text: "READY=1" }`.
    #[serde(default)]
    pub ready_fd: Option<i32>,
    /// Sockets it is given on descriptors from 3 on, before what was stored. They are bound at the
    /// first start that names them, and closed when one comes that does not.
    #[serde(default)]
    pub sockets: Vec<ActivationSocket>,
    /// Where stdout and stderr go.
    #[serde(default)]
    pub output: Output,
    /// nice value added, for work at idle priority.
    #[serde(default)]
    pub nice: i32,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Kill its tree by itself after this many milliseconds (probes, hooks); 0 = never.
    #[serde(default)]
    pub timeout_ms: u64,
}

/// A socket that listens for an instance before it starts and over all its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationSocket {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// `address:port`, or an absolute path.
    pub address: String,
}

/// Where a process's output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// `NAME.log`, by a pipe that is always drained.
    #[default]
    Log,
    /// Kept up to 4 KiB and told with the exit (probes and hooks).
    Captured,
    /// /dev/null.
    Null,
}

/// From the holder to the runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HolderMessage {
    /// First message to every runtime.
    Takeover(TakeoverState),
    /// Directories are made, the lock is held, sockets listen: `fds` are the control and the
    /// module listener.
    Configured { fds: u32 },
    /// The setup failed; `exit` is what to end with.
    Refused { message: String, exit: u8 },
    /// A process runs: the exec succeeded.
    Spawned {
        instance: String,
        generation: u64,
        pid: u32,
        start_time: u64,
    },
    /// It does not run, and why.
    SpawnFailed {
        instance: String,
        generation: u64,
        step: SpawnStep,
        errno: i32,
        message: String,
    },
    /// MAINPID: another process of the tree is the main process from now on.
    MainChanged {
        instance: String,
        generation: u64,
        pid: u32,
        start_time: u64,
    },
    /// Something a module asked for by sd_notify is not done, and why (a few times a run at most).
    NotifyRejected { instance: String, message: String },
    /// The main process ended. Told after everything it had sent by notify.
    Exited(Exited),
    /// One sd_notify datagram of a sender that belongs to the run; pid 0: the kernel does not say
    /// whose.
    Notify {
        instance: String,
        generation: u64,
        pid: u32,
        text: String,
    },
    /// All that the instance said before `DrainNotify` was read has been told.
    NotifyDrained { instance: String, generation: u64 },
    /// What a tapped instance wrote.
    Output {
        instance: String,
        generation: u64,
        text: String,
        dropped_bytes: u64,
    },
    /// See `FlushOutput`.
    OutputFlushed { number: u64 },
    /// Output was lost because the disk could not keep up (told at most once a second per
    /// instance).
    OutputDropped {
        instance: String,
        total_bytes: u64,
        /// What the system said to a write that failed; none when the disk was too slow.
        #[serde(default)]
        errno: Option<i32>,
    },
    /// Somebody connected to this socket of an instance that does not run.
    SocketActivated { instance: String, socket: String },
    /// SIGTERM or SIGINT arrived, or a runtime before this one had begun: stop everything in order.
    StopRequested {
        signal: i32,
        /// What is left of a stop that had begun, in milliseconds: then everything is ended.
        #[serde(default)]
        time_left_ms: Option<u64>,
    },
    /// SIGHUP arrived.
    ReloadRequested,
    /// Nothing was heard of the runtime for long: it is to say `Pong`.
    Ping,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The instance.
    pub instance: String,
    /// Its run.
    pub generation: u64,
    /// Its main process.
    pub pid: u32,
    /// Exit code, if it exited. Neither code nor signal: it is gone, and the kernel told how to
    /// its parent alone, which is not us.
    pub code: Option<i32>,
    /// Signal, if one ended it.
    pub signal: Option<i32>,
    /// Whether a core was dumped.
    #[serde(default)]
    pub core: bool,
    /// Whether the kernel killed it for memory (known only with a control group).
    #[serde(default)]
    pub oom: bool,
    /// Whether `timeout_ms` ended it.
    #[serde(default)]
    pub overdue: bool,
    /// What it wrote, with `Output::Captured`.
    #[serde(default)]
    pub output: String,
    /// Nanoseconds on the monotonic clock when it was seen.
    pub at: u64,
}

/// What the holder knows, for a runtime that takes over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TakeoverState {
    /// Version of the wire.
    pub version: u32,
    /// None: the first runtime, `Configure` is expected.
    #[serde(default)]
    pub setup: Option<HolderSetup>,
    /// The holder.
    pub holder_pid: u32,
    /// How often the runtime was started before.
    #[serde(default)]
    pub restarts: u32,
    /// Milliseconds without a runtime in control.
    #[serde(default)]
    pub runtime_down_ms: u64,
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
    /// Control and module listener travel with this frame when `setup` is there.
    #[serde(default)]
    pub fds: u32,
    /// How trees are killed here: `cgroup2`, `walk` or `job`.
    #[serde(default)]
    pub tree: String,
    /// A stop was asked for and is not finished.
    #[serde(default)]
    pub stopping: bool,
}

/// An instance the holder knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// The instance.
    pub instance: String,
    /// Its last run.
    pub generation: u64,
    /// Its main process, while it lives.
    pub pid: Option<u32>,
    /// Start time of that process (clock ticks since boot).
    #[serde(default)]
    pub start_time: u64,
    /// What the last runtime wanted kept.
    #[serde(default)]
    pub record: Option<String>,
    /// How that run ended, if it did. The whole of it is told after the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ExitSummary>,
}

/// How a process ended, in few bytes: the world holds one of each instance, in one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitSummary {
    /// As in [`Exited`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// As in [`Exited`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// As in [`Exited`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub core: bool,
    /// As in [`Exited`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom: bool,
}

impl From<&Exited> for ExitSummary {
    fn from(exited: &Exited) -> ExitSummary {
        let Exited {
            code,
            signal,
            core,
            oom,
            ..
        } = *exited;
        ExitSummary {
            code,
            signal,
            core,
            oom,
        }
    }
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnStep {
    /// One lives already, or the generation is not newer.
    Fence,
    /// Pipes, sockets.
    Pipe,
    /// fork, clone.
    Fork,
    /// setsid.
    Session,
    /// The working directory.
    Directory,
    /// Limits.
    Limits,
    /// The group.
    Group,
    /// The user.
    User,
    /// Descriptors.
    Descriptors,
    /// execve.
    Exec,
}
