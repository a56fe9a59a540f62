//! The process of the runtime, and what the holder needs to start it.
//! Owns that process, the signals of the holder and the program, which is opened once.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, Read, pipe};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, ProcessHandle, Program, Signals, TableThread};
use crate::messages::CHANNEL_FD;
use crate::process;
use crate::runtime_command::RuntimeCommand;
use crate::spawn::runtime_start;
use crate::threads::thread;
use crate::wait::{WaitResult, WaitTarget, wait_nohang};

/// The result of a start: the holder's end of the channel, and the process.
pub(crate) type RuntimeStart = io::Result<(OwnedFd, i32)>;

/// What the holder needs to start the runtime, and its process.
#[derive(Debug)]
pub(crate) struct RuntimeProcess {
    pub(crate) command: RuntimeCommand,
    pub(crate) program: Arc<Program>,
    /// Of the upgrade that is in flight, or was rolled back.
    pub(crate) new_program: Option<Arc<Program>>,
    pub(crate) signals: Signals,
    /// Started in the foreground of a terminal: SIGHUP means that the terminal was closed.
    pub(crate) terminal: bool,
    pub(crate) pid: Option<i32>,
    /// The same by descriptor, where a holder before this one has started it: it is no child.
    pub(crate) pinned: Option<ProcessHandle>,
    /// Brings the result of the start that is in flight.
    pub(crate) starting: Option<Receiver<RuntimeStart>>,
    /// By it the process in that start tells its number, before its program.
    starting_pid: Option<PipeReader>,
}

impl RuntimeProcess {
    pub(crate) fn new(command: RuntimeCommand) -> io::Result<RuntimeProcess> {
        let program = Program::open(&command.program)?;
        RuntimeProcess::with_program(command, program)
    }

    pub(crate) fn with_program(
        command: RuntimeCommand,
        program: Program,
    ) -> io::Result<RuntimeProcess> {
        reserve_channel_fd()?;
        Ok(RuntimeProcess {
            program: Arc::new(program),
            new_program: None,
            command,
            signals: take_signals()?,
            terminal: io::stdin().is_terminal() || io::stderr().is_terminal(),
            pid: None,
            pinned: None,
            starting: None,
            starting_pid: None,
        })
    }

    /// Has another thread start the runtime with a fresh channel, so that the loop does not wait
    /// for its exec; [`EngineEvent::RuntimeStarted`] says that there is a result. `bare`: the table
    /// of descriptors may be copied, for nothing but what the holder starts with is in it.
    pub(crate) fn start(
        &mut self,
        queue: &Arc<EngineQueue>,
        bare: bool,
        new_program: bool,
    ) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let tried = self.new_program.as_ref().filter(|_| new_program);
        let program = Arc::clone(tried.unwrap_or(&self.program));
        let command = self.command.clone();
        let (result, starting) = sync_channel(1);
        let (pid, tells_pid) = pipe()?;
        fcntl(&pid, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let queue = Arc::clone(queue);
        thread("runtime-start", move || {
            let mut fds = vec![theirs.as_fd(), tells_pid.as_fd()];
            fds.extend(program.fd());
            let started = match bare {
                true => runtime_start::start(&command, &program, &fds),
                false => TableThread::start("runtime-fork", true).and_then(|table| {
                    let program = Arc::clone(&program);
                    table.run(&fds, move |fds| {
                        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                        runtime_start::start(&command, &program, &fds)
                    })?
                }),
            };
            let _ = result.send(started.map(|pid| (ours.into(), pid))); // or the holder exits
            queue.send(EngineEvent::RuntimeStarted);
        })?;
        (self.starting, self.starting_pid) = (Some(starting), Some(pid));
        Ok(())
    }

    /// Its process, by descriptor or as a child that is not reaped yet.
    pub(crate) fn kill(&self) {
        match (&self.pinned, self.pid) {
            (Some(pinned), _) => drop(pinned.signal(libc::SIGKILL)),
            (None, Some(pid)) => process::kill(pid, libc::SIGKILL),
            (None, None) => {}
        }
    }

    /// Whether it has no process, which is reaped if it is a child.
    pub(crate) fn has_ended(&self) -> bool {
        match (&self.pinned, self.pid) {
            (Some(pinned), _) => pinned.has_ended(),
            (None, Some(pid)) => wait_nohang(WaitTarget::Pid(pid), true) != WaitResult::Alive,
            (None, None) => true,
        }
    }

    /// Later starts use the program of the last upgrade.
    pub(crate) fn keep_new_program(&mut self) {
        self.program = self
            .new_program
            .take()
            .unwrap_or_else(|| Arc::clone(&self.program));
    }

    /// Does not wait for the start in flight any longer; returns its process, if there is one. A
    /// program that it executes later finds no holder at its channel.
    pub(crate) fn abandon_start(&mut self) -> Option<i32> {
        self.starting.take()?;
        let mut number = [0; 4];
        self.starting_pid.take()?.read_exact(&mut number).ok()?;
        Some(i32::from_ne_bytes(number))
    }
}

/// Nothing that is opened later may get the number of the channel and be overwritten in the runtime
/// before its exec.
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
