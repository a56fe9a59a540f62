//! The holder as a process of its own: signals, and the runtime as a child that may die.
//! Owns the runtime's process and when it is started again.
//! Never lets modules notice that the runtime was away.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::engine::{Engine, poll_key};
use crate::kernel::{self, Program, Signals};
use crate::messages::{CHANNEL_FD, HolderMessage};
use crate::prepare::TREE_MARK_VAR;
use crate::process;
use crate::wait::{ReapedChild, WaitResult, WaitTarget, wait_nohang};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// In control this long, a runtime's earlier deaths are forgotten.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How long a runtime that closed its wire may take to end.
const RUNTIME_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How to start the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeCommand {
    /// The program; opened once, so that replacing the file changes nothing.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// Variables on top of the holder's own.
    pub env: Vec<(OsString, OsString)>,
}

/// State of the standalone holder.
#[derive(Debug)]
pub(crate) struct RuntimeSupervisor {
    command: RuntimeCommand,
    program: Program,
    signals: Signals,
    /// Started in the foreground of a terminal: SIGHUP means that it went away.
    terminal: bool,
    pid: Option<i32>,
    pub(crate) restarts: u32,
    deaths: u32,
    ready_at: Option<Instant>,
    /// Without a runtime in control since.
    runtime_down_since: Instant,
    start_at: Option<Instant>,
    kill_at: Option<Instant>,
    was_ready: bool,
    refused: Option<u8>,
    /// It was ended because it did not answer.
    unresponsive: bool,
    /// How the last runtime ended, in words.
    pub(crate) last_exit_text: Option<String>,
}

impl RuntimeSupervisor {
    fn new(command: RuntimeCommand) -> io::Result<RuntimeSupervisor> {
        reserve_channel_fd()?;
        let program = Program::open(&command.program)?;
        let signals = take_signals()?;
        let now = Instant::now();
        Ok(RuntimeSupervisor {
            command,
            program,
            signals,
            terminal: io::stdin().is_terminal() || io::stderr().is_terminal(),
            pid: None,
            restarts: 0,
            deaths: 0,
            ready_at: None,
            runtime_down_since: now,
            start_at: Some(now),
            kill_at: None,
            was_ready: false,
            refused: None,
            unresponsive: false,
            last_exit_text: None,
        })
    }

    pub(crate) fn runtime_pid(&self) -> Option<i32> {
        self.pid
    }

    pub(crate) fn away_ms(&self) -> u64 {
        let away = if self.was_ready {
            self.runtime_down_since.elapsed()
        } else {
            Duration::ZERO
        };
        u64::try_from(away.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn channel_lost(&mut self, now: Instant) {
        self.kill_at = self.pid.map(|_| now + RUNTIME_EXIT_TIMEOUT);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.start_at, self.kill_at].into_iter().flatten().min()
    }

    fn backoff(&self) -> Duration {
        let doubled = BACKOFF_MIN * 2u32.saturating_pow(self.deaths.saturating_sub(2).min(10));
        if self.deaths <= 1 {
            Duration::ZERO
        } else {
            doubled.min(BACKOFF_MAX)
        }
    }
}

/// Nothing that is opened later may get the wire's number and be overwritten in the runtime before
/// its exec.
fn reserve_channel_fd() -> io::Result<()> {
    // Closed standard descriptors are filled too; the last one opened lies above and goes.
    loop {
        let filler = File::open("/dev/null")?;
        if filler.as_raw_fd() > CHANNEL_FD {
            return Ok(());
        }
        let _ = filler.into_raw_fd(); // for the life of the holder
    }
}

/// The signals that are for us come by descriptor; threads started later inherit the mask.
fn take_signals() -> io::Result<Signals> {
    // An ignored SIGCHLD (inherited) would make children vanish without a status.
    default_disposition()?;
    Signals::open(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ])
}

#[expect(unsafe_code, reason = "sigaction")]
fn default_disposition() -> io::Result<()> {
    // SAFETY: no handler functions are installed.
    unsafe {
        signal(Signal::SIGCHLD, SigHandler::SigDfl)?;
        signal(Signal::SIGTERM, SigHandler::SigDfl)?;
        signal(Signal::SIGPIPE, SigHandler::SigIgn)?;
    }
    Ok(())
}

/// Runs the holder in the foreground until all is stopped; the exit code of the process.
#[must_use]
pub fn run(runtime: RuntimeCommand) -> u8 {
    match begin(runtime) {
        Ok(engine) => engine.run(),
        Err(problem) => {
            eprintln!("cannot start the holder: {problem}");
            1
        }
    }
}

fn begin(runtime: RuntimeCommand) -> io::Result<Engine> {
    let nofile = raise_limit()?;
    // SIGTERM to the holder must find a holder: signals are taken before anything is started.
    let alone = RuntimeSupervisor::new(runtime)?;
    kernel::become_subreaper();
    let no_groups = std::env::var_os("MAINSTAY_CGROUP").is_some_and(|value| value == "off");
    let options = crate::engine::EngineOptions {
        no_groups,
        plain_fork: false,
    };
    let mut engine = Engine::new(options, nofile)?;
    engine.watch(&alone.signals, poll_key::SIGNALS)?;
    engine.supervisor = Some(Box::new(alone));
    engine.on_supervisor_deadline(Instant::now());
    Ok(engine)
}

/// Soft limit of open files to the hard one; the old limits are for the children.
pub(crate) fn raise_limit() -> io::Result<libc::rlimit> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (rlim_cur, rlim_max) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(
        Resource::RLIMIT_NOFILE,
        kernel::max_open_files(rlim_max),
        rlim_max,
    )?;
    Ok(libc::rlimit { rlim_cur, rlim_max })
}

impl Engine {
    pub(crate) fn write_status(&self, state: &str) {
        let (pid, restarts) = match &self.supervisor {
            Some(alone) => (alone.pid.map(i32::unsigned_abs), alone.restarts),
            None => (Some(std::process::id()), 0),
        };
        let state = if self.stop_by.is_some() {
            "stopping"
        } else {
            state
        };
        if let Some(places) = &self.places {
            places.write_status(state, pid, restarts, self.tree());
        }
    }

    pub(crate) fn refused(&mut self, exit: u8) {
        match &mut self.supervisor {
            Some(alone) => {
                alone.refused = Some(exit);
                alone.kill_at = Some(Instant::now() + RUNTIME_EXIT_TIMEOUT);
            }
            None => self.end = self.end.or(Some(exit)),
        }
    }

    pub(crate) fn runtime_ready(&mut self) {
        if let Some(alone) = &mut self.supervisor {
            alone.was_ready = true;
            alone.ready_at = Some(Instant::now());
        }
        self.write_status("running");
    }

    pub(crate) fn read_signals(&mut self) {
        while let Some(alone) = &mut self.supervisor {
            let Some(signal) = alone.signals.next() else {
                return;
            };
            match signal {
                libc::SIGCHLD => self.reap_again = true,
                libc::SIGHUP if !alone.terminal => self.send(&HolderMessage::ReloadRequested),
                // A shell that ends says so beside the kernel: that is no second Ctrl-C.
                libc::SIGHUP if self.stop_by.is_some() => {}
                _ => {
                    let left_ms = None;
                    self.send(&HolderMessage::StopRequested {
                        signal,
                        time_left_ms: left_ms,
                    });
                    self.stopping(self.stop_within());
                }
            }
        }
    }

    pub(crate) fn runtime_ended(&mut self, ended: ReapedChild) {
        let Some(alone) = &mut self.supervisor else {
            return;
        };
        let now = Instant::now();
        alone.pid = None;
        alone.kill_at = None;
        let deaf = std::mem::take(&mut alone.unresponsive);
        alone.last_exit_text = Some(match (ended.signal, ended.code) {
            _ if deaf => "it did not answer, and was killed".to_owned(),
            (Some(signal), _) => Signal::try_from(signal).map_or_else(
                |_| format!("it was killed by signal {signal}"),
                |signal| format!("it was killed by {signal}"),
            ),
            (None, Some(code)) => format!("it ended with exit code {code}"),
            (None, None) => "nobody knows how it ended".to_owned(),
        });
        if let Some(exit) = alone.refused {
            self.end = self.end.or(Some(exit));
            return;
        }
        // What it still had said counts: an order to leave may be the last of it.
        self.drain_channel();
        let Some(alone) = &mut self.supervisor else {
            return;
        };
        if !alone.was_ready {
            let code = ended
                .code
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1);
            self.end = self.end.or(Some(code));
            return;
        }
        if let Some(at) = alone.ready_at.take() {
            alone.runtime_down_since = now;
            if now.duration_since(at) >= STABLE_AFTER {
                alone.deaths = 0;
            }
        }
        alone.deaths += 1;
        alone.start_at = Some(now + alone.backoff());
        self.write_status("returning");
    }

    fn drain_channel(&mut self) {
        while self.end.is_none() && self.read_wire_once() {}
        self.drop_channel();
        if let Some(alone) = &mut self.supervisor {
            alone.kill_at = None; // it is gone
        }
    }

    /// It was asked whether it lives, and did not answer.
    pub(crate) fn kill_unresponsive_runtime(&mut self) {
        if let Some(alone) = &mut self.supervisor {
            alone.unresponsive = true;
        }
        self.drop_channel();
        self.kill_runtime();
    }

    pub(crate) fn kill_runtime(&mut self) {
        if let Some(alone) = &mut self.supervisor {
            alone.kill_at = None;
            if let Some(pid) = alone.pid {
                process::kill(pid, libc::SIGKILL); // our own child that nobody has reaped
            }
        }
    }

    pub(crate) fn on_supervisor_deadline(&mut self, now: Instant) {
        let Some(alone) = &mut self.supervisor else {
            return;
        };
        if alone.kill_at.is_some_and(|at| at <= now) {
            self.kill_runtime();
            return;
        }
        if alone.start_at.is_none_or(|at| at > now) || self.end.is_some() {
            return;
        }
        alone.start_at = None;
        let again = alone.was_ready;
        match start_runtime(&alone.command, &alone.program) {
            Ok((pid, socket)) => {
                alone.pid = Some(pid);
                alone.restarts += u32::from(again);
                if self.connect(socket).is_err() {
                    self.kill_runtime();
                }
                self.write_status(if again { "returning" } else { "starting" });
            }
            Err(problem) if again => {
                alone.deaths += 1;
                alone.start_at = Some(now + alone.backoff().max(BACKOFF_MIN));
                eprintln!("cannot start the runtime, trying again: {problem}");
            }
            Err(problem) => {
                eprintln!("cannot start the runtime: {problem}");
                self.end = Some(1);
            }
        }
    }

    /// Ends all, cleans up, waits a moment for the runtime.
    pub(crate) fn shut_down(mut self, code: u8) -> u8 {
        self.stop_by = Some(Instant::now());
        self.write_status("stopping");
        // Blocked in this thread since its start: a signal now changes nothing.
        self.end_all();
        self.flush();
        if let Some(ground) = self.ground.take() {
            if let Some(groups) = &ground.groups {
                groups.remove_all();
            }
            ground.logs.quit(RUNTIME_EXIT_TIMEOUT);
        }
        self.wire = None;
        if let Some(pid) = self.supervisor.as_ref().and_then(|alone| alone.pid) {
            let end = Instant::now() + RUNTIME_EXIT_TIMEOUT;
            while wait_nohang(WaitTarget::Pid(pid), true) == WaitResult::Alive {
                if Instant::now() > end {
                    process::kill(pid, libc::SIGKILL); // our own child that nobody has reaped
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if let Some(places) = self.places.take() {
            places.release();
        }
        code
    }
}

/// The runtime on its end of a fresh socket pair, in a process group of its own: what a terminal
/// sends goes to the holder, which tells it in order.
fn start_runtime(command: &RuntimeCommand, program: &Program) -> io::Result<(i32, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(program.path());
    child
        .arg0(&command.program)
        .args(&command.args)
        .process_group(0);
    child.env_remove(TREE_MARK_VAR); // of an earlier holder, whose leftovers are swept
    child.envs(command.env.iter().map(|(name, value)| (name, value)));
    let end = theirs.as_raw_fd();
    #[expect(unsafe_code, reason = "descriptor 3 is set between fork and exec")]
    // SAFETY: only dup2 and fcntl, which are async-signal-safe.
    unsafe {
        child.pre_exec(move || install_channel(end));
    }
    let started = child.spawn()?;
    let pid = i32::try_from(started.id()).unwrap_or(i32::MAX);
    Ok((pid, ours.into()))
}

#[expect(unsafe_code, reason = "dup2, fcntl, sigprocmask")]
fn install_channel(end: RawFd) -> io::Result<()> {
    // SAFETY: numbers and a local mask; called in the child alone.
    let failed = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if end == CHANNEL_FD {
            libc::fcntl(end, libc::F_SETFD, 0) < 0
        } else {
            libc::dup2(end, CHANNEL_FD) < 0
        }
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
