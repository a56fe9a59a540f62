//! The command line: every way to misbehave, combinable.
//! Owns the words and their defaults.
//! Never does any of it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

/// A module that fails on request. Without options it runs until SIGTERM and exits with 0.
///
/// `--after`, `--until-file` and `--once-file` say when it goes wrong; what can go wrong is
/// marked (failure) and can be combined.
#[derive(Debug, Clone, Default, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// (failure) Exit with this code
    #[arg(long, value_name = "N")]
    pub(crate) exit_code: Option<i32>,
    /// When it goes wrong, counted from the start (with --until-file: from then)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) after: Duration,
    /// Behave well until this file exists
    #[arg(long, value_name = "PATH")]
    pub(crate) until_file: Option<PathBuf>,
    /// Go wrong only if this file does not exist, and create it: fails once
    #[arg(long, value_name = "PATH")]
    pub(crate) once_file: Option<PathBuf>,
    /// (failure) Send SIGSEGV to itself
    #[arg(long)]
    pub(crate) crash: bool,
    /// (failure) Abort
    #[arg(long)]
    pub(crate) abort: bool,
    /// (failure) Panic: message on stderr, exit code 101
    #[arg(long)]
    pub(crate) panic: bool,
    /// (failure) Send SIGSTOP to itself
    #[arg(long)]
    pub(crate) hang: bool,
    /// (failure) Spin and hear nothing, for --life at most
    #[arg(long)]
    pub(crate) busy_hang: bool,
    /// (failure) Take this many MB of memory a second, up to --leak-max
    #[arg(long, value_name = "MB_PER_S", default_value_t = 0)]
    pub(crate) leak: usize,
    /// Stop leaking at this many MB
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    pub(crate) leak_max: usize,
    /// (failure) Keep this many threads spinning
    #[arg(long, value_name = "THREADS", default_value_t = 0)]
    pub(crate) burn_cpu: usize,
    /// (failure) Make a tree of this many processes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) fork_bomb: usize,
    /// (failure) Write this many bytes to stdout, as lines of 100 bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) flood_stdout: u64,
    /// Flood without any newline
    #[arg(long)]
    pub(crate) no_newlines: bool,
    /// (failure) Close stdout and stderr
    #[arg(long)]
    pub(crate) close_stdout: bool,
    /// On SIGHUP, send this to NOTIFY_SOCKET; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) on_hup: Vec<String>,
    /// Drop SIGTERM (its children too)
    #[arg(long)]
    pub(crate) ignore_sigterm: bool,
    /// Take this long from SIGTERM to the exit
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) slow_stop: Duration,
    /// Start this many plain children
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) children: usize,
    /// Start a child in a session of its own, orphaned, without any descriptor
    #[arg(long)]
    pub(crate) escape: bool,
    /// Go on as a daemon: the first process exits with 0
    #[arg(long)]
    pub(crate) double_fork: bool,
    /// With --double-fork: its parent names the daemon as the main process, says that it is
    /// ready (MAINPID and READY by sd_notify), and exits
    #[arg(long)]
    pub(crate) name_daemon: bool,
    /// How long any process it starts lives at most
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) life: Duration,
    /// How to say ready: notify, fd:N, file:PATH, tcp:ADDR, unix:PATH, http:ADDR
    /// (it answers 200), grpc:ADDR (`bad` is not served), log:TEXT or never
    #[arg(long, value_name = "HOW", default_value = "never")]
    pub(crate) ready: Ready,
    /// When to say it, counted from the start
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) ready_after: Duration,
    /// Say it twice (a listening socket is opened once all the same)
    #[arg(long)]
    pub(crate) ready_twice: bool,
    /// Answer each connection on the sockets it was handed (LISTEN_FDS) with `NAME PID`
    #[arg(long)]
    pub(crate) serve: bool,
    /// Keep each of these connections open until the client closes it
    #[arg(long)]
    pub(crate) keep_connections: bool,
    /// Print `stored TEXT` for each stored descriptor it was handed (FDSTORE), or store one that
    /// holds its pid
    #[arg(long)]
    pub(crate) store: bool,
    /// Send this text by sd_notify at start; `{pid}` becomes the pid (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub(crate) notify: Vec<String>,
    /// Feed the watchdog (WATCHDOG_USEC) this long only; without it for ever
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) watchdog_stop_after: Option<Duration>,
    /// Keep this many files open
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) open_files: usize,
    /// Keep this many idle threads
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Print the environment: `env NAME=VALUE`, sorted
    #[arg(long)]
    pub(crate) print_env: bool,
    /// Print the open descriptors: `fd N TARGET`
    #[arg(long)]
    pub(crate) print_fds: bool,
    /// Print the inherited signal mask and dispositions: `SigBlk: …`, `SigIgn: …`
    #[arg(long)]
    pub(crate) print_signals: bool,
    /// Print who it runs as: `uid N euid N gid N egid N groups N,N`
    #[arg(long)]
    pub(crate) print_uid: bool,
    /// Append `<CLOCK_MONOTONIC ns> <pid> <label>` to this file at start
    #[arg(long, value_name = "FILE")]
    pub(crate) stamp: Option<PathBuf>,
    /// The label; default the module's name
    #[arg(
        long,
        value_name = "TEXT",
        env = "MAINSTAY_MODULE",
        default_value = "misbehave"
    )]
    pub(crate) label: String,
    /// Append a line that ends in ` exit` when it exits after SIGTERM
    #[arg(long, requires = "stamp")]
    pub(crate) stamp_exit: bool,
    /// Append `<what> <pid>` to this file for every process it starts
    #[arg(long, value_name = "FILE")]
    pub(crate) pids: Option<PathBuf>,

    /// Exit with 0 after this long; how children have a bounded life
    #[arg(long, hide = true, value_parser = duration)]
    pub(crate) end_after: Option<Duration>,
    /// Only start a process of this role in a new session and exit
    #[arg(long, hide = true)]
    pub(crate) hop: Option<Hop>,
    /// Make this many descendants
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) tree: usize,
    /// Close every descriptor
    #[arg(long, hide = true)]
    pub(crate) close_all: bool,
}

/// What the process in the middle of a double fork starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Hop {
    /// An orphan without descriptors.
    Escape,
    /// The program itself, as a daemon.
    Daemon,
}

/// How to say ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Ready {
    #[default]
    Never,
    Notify,
    Fd(i32),
    File(PathBuf),
    Tcp(String),
    Unix(PathBuf),
    Http(String),
    Grpc(String),
    Log(String),
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Ready, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("never", "") => Ok(Ready::Never),
            ("notify", "") => Ok(Ready::Notify),
            ("fd", number) => match number.parse::<i32>() {
                Ok(number) if number >= 0 => Ok(Ready::Fd(number)),
                _ => Err(format!(
                    "cannot use '{number}' as a descriptor: give a number"
                )),
            },
            ("file", path) if !path.is_empty() => Ok(Ready::File(path.into())),
            ("tcp", address) if !address.is_empty() => Ok(Ready::Tcp(address.to_owned())),
            ("unix", path) if !path.is_empty() => Ok(Ready::Unix(path.into())),
            ("http", address) if !address.is_empty() => Ok(Ready::Http(address.to_owned())),
            ("grpc", address) if !address.is_empty() => Ok(Ready::Grpc(address.to_owned())),
            ("log", line) if !line.is_empty() => Ok(Ready::Log(line.to_owned())),
            _ => Err(format!(
                "cannot say ready by '{text}': use notify, fd:N, file:PATH, tcp:ADDR, \
                 unix:PATH, http:ADDR, grpc:ADDR, log:TEXT or never"
            )),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("cannot read the duration ({error}); write it as 250ms or 10s"))
}

impl Options {
    /// True when one of the failures ends or freezes the process.
    pub(crate) fn has_failure(&self) -> bool {
        self.is_terminal()
            || self.hang
            || self.leak > 0
            || self.burn_cpu > 0
            || self.fork_bomb > 0
            || self.flood_stdout > 0
            || self.close_stdout
    }

    /// True when one of the failures ends the process.
    pub(crate) fn is_terminal(&self) -> bool {
        self.exit_code.is_some() || self.crash || self.abort || self.panic || self.busy_hang
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_read_or_refused() {
        for (text, expected) in [
            ("never", Some(Ready::Never)),
            ("notify", Some(Ready::Notify)),
            ("fd:3", Some(Ready::Fd(3))),
            ("file:/tmp/a:b", Some(Ready::File("/tmp/a:b".into()))),
            ("tcp:127.0.0.1:0", Some(Ready::Tcp("127.0.0.1:0".into()))),
            ("http:127.0.0.1:0", Some(Ready::Http("127.0.0.1:0".into()))),
            ("unix:/x", Some(Ready::Unix("/x".into()))),
            (
                "log:up: and running",
                Some(Ready::Log("up: and running".into())),
            ),
            ("fd:-1", None),
            ("fd:three", None),
            ("file:", None),
            ("soon", None),
        ] {
            assert_eq!(text.parse::<Ready>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
