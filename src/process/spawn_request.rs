//! What to start: one process, whole.
//! Owns the shape of the request; the runtime fills it, the holder carries it out.
//! Never looks anything up.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Instance, Limits};

/// What to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// The name it runs under.
    pub instance: Instance,
    /// The number of the run; refused when a run is alive or this is not newer than the last one.
    pub generation: u64,
    /// Program and arguments; looked up in the child's PATH when it has no slash.
    pub argv: Vec<String>,
    /// Absolute working directory.
    pub directory: String,
    /// Variables set in addition to the inherited ones (or alone, with `clear_env`).
    pub env: Vec<(String, String)>,
    /// Start from an empty environment (PATH, HOME, LANG, TZ, USER stay out too).
    #[serde(default)]
    pub clear_env: bool,
    /// User name or number, which the runtime looks up. On the channel it is the number that stands
    /// in `credentials`: a holder that does not know those must not start it as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group name or number; default: the user's. As `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who it becomes; only root may. None: it stays who mainstay is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Give it a notify socket (the holder sets `NOTIFY_SOCKET`). What earlier runs stored with
    /// FDSTORE is passed to it on descriptors from 3 on, with `LISTEN_FDS`.
    #[serde(default)]
    pub notify: bool,
    /// `WATCHDOG_USEC` (with `WATCHDOG_PID`, set in the child) when it has a watchdog.
    #[serde(default)]
    pub watchdog_usec: Option<u64>,
    /// Give it a pipe on this descriptor; a newline on it is reported as `READY=1`.
    #[serde(default)]
    pub ready_fd: Option<i32>,
    /// Sockets passed to it on descriptors from 3 on, before what was stored. They are bound at
    /// the first start that names them, and closed by a start that does not.
    #[serde(default)]
    pub sockets: Vec<ActivationSocket>,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Stdin::is_null")]
    pub stdin: Stdin,
    /// Where stdout and stderr go.
    #[serde(default)]
    pub output: Output,
    /// stdout and stderr have a pipe each, for [`Output::Log`]. Their order is that of the reads
    /// then; by one pipe it is exact.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub split_output: bool,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    #[serde(default)]
    pub no_new_privileges: bool,
    /// What it sees and may change of the system.
    #[serde(default, skip_serializing_if = "Isolation::is_none")]
    pub isolation: Isolation,
    /// Kill its tree after this many milliseconds (probes, hooks); 0 = never.
    #[serde(default)]
    pub timeout_ms: u64,
}

impl SpawnRequest {
    /// Runs `argv` in `directory` as mainstay itself: its output is captured, nothing is set up.
    #[must_use]
    pub fn command(instance: Instance, argv: Vec<String>, directory: String) -> SpawnRequest {
        SpawnRequest {
            instance,
            generation: 0,
            argv,
            directory,
            env: Vec::new(),
            clear_env: false,
            user: None,
            group: None,
            credentials: None,
            limits: Limits::default(),
            notify: false,
            watchdog_usec: None,
            ready_fd: None,
            sockets: Vec::new(),
            stdin: Stdin::Null,
            output: Output::Captured,
            split_output: false,
            no_new_privileges: false,
            isolation: Isolation::default(),
            timeout_ms: 0,
        }
    }
}

/// What a process sees and may change of the system, beside what its user may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// The capabilities that it may have, a bit each; None: those of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<u64>,
    /// Paths that it can only read, with all below them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<String>,
    /// `/tmp` and `/var/tmp` are its own, and empty.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub private_tmp: bool,
}

impl Isolation {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Isolation::default()
    }
}

/// Who a process becomes, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups it is in.
    pub groups: Vec<u32>,
}

/// A socket that listens for an instance before it starts and over all its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationSocket {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// `address:port`, or an absolute path.
    pub address: String,
}

/// What a process reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// A pipe to which nothing is written: it has no end while the process runs.
    Open,
    /// /dev/null; also what only a newer mainstay knows.
    #[default]
    #[serde(other)]
    Null,
}

impl Stdin {
    fn is_null(&self) -> bool {
        *self == Stdin::Null
    }
}

/// Where a process's output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// `NAME.log`, through a pipe that the holder always drains.
    #[default]
    Log,
    /// Up to 4 KiB are reported with the exit (probes and hooks).
    Captured,
    /// /dev/null; also a place that only a newer mainstay knows.
    #[serde(other)]
    Null,
}

/// Which of its outputs a process wrote to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdStream {
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
    /// One pipe for both, or it is not known; also what only a newer mainstay knows.
    #[default]
    #[serde(other)]
    Both,
}

impl StdStream {
    /// Whether it is not known which of the two.
    #[must_use]
    pub fn is_both(&self) -> bool {
        *self == StdStream::Both
    }
}
