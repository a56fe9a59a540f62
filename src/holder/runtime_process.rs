//! The holder as a process of its own: its signals, and the process of the runtime.
//! Owns that process; performs what the supervisor returns.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mainstay_process::Exit;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::engine::{Engine, poll_key};
use crate::kernel::{self, Program, Signals};
use crate::machines::runtime_supervisor::RUNTIME_EXIT_TIMEOUT;
use crate::machines::{RuntimeExit, RuntimeSupervisor, SupervisorEffect, SystemState, millis};
use crate::messages::{CHANNEL_FD, HolderMessage};
use crate::prepare::TREE_MARK_VAR;
use crate::process::{self, monotonic};
use crate::status_file::HolderStatus;
use crate::wait::{ReapedChild, WaitResult, WaitTarget, wait_nohang};

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

/// What the holder needs to start the runtime, and its process.
#[derive(Debug)]
pub(crate) struct RuntimeProcess {
    command: RuntimeCommand,
    program: Program,
    signals: Signals,
    /// Started in the foreground of a terminal: SIGHUP means that the terminal was closed.
    terminal: bool,
    pub(crate) pid: Option<i32>,
}

impl RuntimeProcess {
    fn new(command: RuntimeCommand) -> io::Result<RuntimeProcess> {
        reserve_channel_fd()?;
        Ok(RuntimeProcess {
            program: Program::open(&command.program)?,
            command,
            signals: take_signals()?,
            terminal: io::stdin().is_terminal() || io::stderr().is_terminal(),
            pid: None,
        })
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

/// Runs the holder in the foreground until all is stopped; returns the exit code of the process.
///
/// # Errors
/// In a sentence: the holder or its first runtime cannot be started. Nothing runs then.
pub fn run(runtime: RuntimeCommand) -> Result<u8, String> {
    let mut engine =
        begin(runtime).map_err(|problem| format!("cannot start the holder: {problem}"))?;
    engine.supervise();
    match engine.supervisor.last_exit_text() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(engine.run()),
    }
}

fn begin(runtime: RuntimeCommand) -> io::Result<Engine> {
    let nofile = raise_limit()?;
    // SIGTERM to the holder must find a holder: signals are taken before anything is started.
    let runtime = RuntimeProcess::new(runtime)?;
    kernel::become_subreaper();
    let no_groups = std::env::var_os("MAINSTAY_CGROUP").is_some_and(|value| value == "off");
    let options = crate::engine::EngineOptions {
        no_groups,
        plain_fork: false,
    };
    let supervisor = RuntimeSupervisor::standalone(monotonic());
    let mut engine = Engine::new(supervisor, options, nofile)?;
    let inherited = kernel::orphans().unwrap_or_default().into_iter();
    let seen = inherited.filter_map(kernel::process);
    engine.inherited_children = seen.map(|one| (one.pid, one.start_time)).collect();
    engine.watch(&runtime.signals, poll_key::SIGNALS)?;
    engine.runtime = Some(Box::new(runtime));
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
    /// Performs what is due for the runtime, after everything that has happened is applied.
    pub(crate) fn supervise(&mut self) {
        self.perform_effects();
        while let Some(effect) = self.supervisor.next_effect(monotonic()) {
            match effect {
                SupervisorEffect::StartRuntime => self.start_runtime(),
                SupervisorEffect::KillRuntime => {
                    if let Some(pid) = self.runtime_pid() {
                        process::kill(pid, libc::SIGKILL); // a child that is not reaped yet
                    }
                }
                SupervisorEffect::CloseChannel => self.close_channel(),
                SupervisorEffect::SendPing => self.send(&HolderMessage::Ping),
                SupervisorEffect::SendStopRequest { signal, time_left } => {
                    let time_left_ms = time_left.map(millis);
                    self.send(&HolderMessage::StopRequested {
                        signal,
                        time_left_ms,
                    });
                }
                SupervisorEffect::WriteStatus(state) => self.write_status(state),
            }
            self.perform_effects();
        }
    }

    pub(crate) fn runtime_pid(&self) -> Option<i32> {
        self.runtime.as_ref()?.pid
    }

    fn write_status(&self, state: SystemState) {
        let pid = match &self.runtime {
            Some(runtime) => runtime.pid.map(i32::unsigned_abs),
            None => Some(std::process::id()),
        };
        let config_dir = self.setup.as_ref().map_or("", |setup| &setup.config_dir);
        let supervisor = &self.supervisor;
        if let Some(dirs) = &self.places {
            dirs.write_status(&HolderStatus::now(
                state.as_str(),
                pid,
                supervisor.restarts(),
                self.tree(),
                config_dir,
                supervisor.last_exit_text(),
            ));
        }
    }

    pub(crate) fn read_signals(&mut self) {
        while let Some(runtime) = &mut self.runtime {
            let Some(signal) = runtime.signals.next() else {
                return;
            };
            match signal {
                libc::SIGCHLD => self.reap_again = true,
                libc::SIGHUP if !runtime.terminal => self.send(&HolderMessage::ReloadRequested),
                // A shell that exits sends it beside the kernel: that is no second Ctrl-C.
                libc::SIGHUP if self.supervisor.is_stopping() => {}
                _ => {
                    let signal = mainstay_process::Signal(signal);
                    self.supervisor.stop_requested(monotonic(), signal);
                }
            }
        }
    }

    fn start_runtime(&mut self) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        match start_runtime(&runtime.command, &runtime.program) {
            Ok((pid, socket)) => {
                runtime.pid = Some(pid);
                self.supervisor.runtime_started(monotonic());
                if self.connect(socket).is_err() {
                    self.supervisor.channel_closed(monotonic());
                }
            }
            Err(problem) => {
                let text = format!("cannot start the runtime: {problem}");
                self.supervisor.start_failed(monotonic(), text);
            }
        }
    }

    /// The runtime was reaped. The rest of its channel counts: `Exit` may be the last request.
    pub(crate) fn runtime_ended(&mut self, ended: ReapedChild) {
        if let Some(runtime) = &mut self.runtime {
            runtime.pid = None;
        }
        while self.supervisor.exit_code().is_none() && self.read_wire_once() {}
        self.drop_channel();
        let text = match ended.exit {
            Exit::Signal { signal, .. } => Signal::try_from(signal.0).map_or_else(
                |_| format!("it was killed by {signal}"),
                |signal| format!("it was killed by {signal}"),
            ),
            Exit::Code(code) => format!("it ended with exit code {code}"),
            Exit::Oom | Exit::Stuck | Exit::Unknown => "how it ended is unknown".to_owned(),
        };
        let code = ended.exit.code();
        let exit = RuntimeExit { code, text };
        self.supervisor.runtime_exited(monotonic(), exit);
    }

    /// Ends all, cleans up, waits a moment for the runtime.
    pub(crate) fn shut_down(mut self, code: u8) -> u8 {
        self.write_status(SystemState::Stopping);
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
        if let Some(pid) = self.runtime_pid() {
            let end = monotonic() + RUNTIME_EXIT_TIMEOUT;
            while wait_nohang(WaitTarget::Pid(pid), true) == WaitResult::Alive {
                if monotonic() > end {
                    process::kill(pid, libc::SIGKILL); // a child that is not reaped yet
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
