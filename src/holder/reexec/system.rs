//! The directories of the system and its runtime in the state.
//! Never opens a path: what is passed on are descriptors, and no disk has to answer.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::kept_fds::{KeptFd, KeptFds};
use crate::dir::Dir;
use crate::kernel::{ProcessHandle, Program};
use crate::messages::HolderSetup;
use crate::runtime_command::RuntimeCommand;
use crate::runtime_process::RuntimeProcess;
use crate::threads::lock;
use crate::workers::claimed_dirs::{BoundSocket, ClaimedDirs, LockedDir, SOCKETS};
use crate::workers::dir_keeper::{DirKeeper, State};

/// What is claimed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DirsState {
    setup: HolderSetup,
    state: LockedDirState,
    run: LockedDirState,
    /// Each with device and number of its file.
    control: (KeptFd, (u64, u64)),
    module: (KeptFd, (u64, u64)),
}

/// A directory with its lock, which the descriptor holds.
#[derive(Debug, Serialize, Deserialize)]
struct LockedDirState {
    dir: KeptFd,
    path: PathBuf,
    lock: KeptFd,
}

impl LockedDirState {
    fn of(one: &LockedDir, kept: &mut KeptFds) -> LockedDirState {
        LockedDirState {
            dir: kept.keep(&one.dir.fd),
            path: one.dir.path.clone(),
            lock: kept.keep(&one.lock),
        }
    }

    fn restore(self) -> io::Result<LockedDir> {
        Ok(LockedDir {
            dir: Dir {
                fd: self.dir.take()?,
                path: self.path,
            },
            lock: File::from(self.lock.take()?),
        })
    }
}

impl DirsState {
    pub(crate) fn of(dirs: &ClaimedDirs, kept: &mut KeptFds) -> DirsState {
        let [control, module] = &dirs.sockets;
        DirsState {
            setup: dirs.setup.clone(),
            state: LockedDirState::of(&dirs.state, kept),
            run: LockedDirState::of(&dirs.run, kept),
            control: (kept.keep(&control.fd), control.file),
            module: (kept.keep(&module.fd), module.file),
        }
    }

    pub(crate) fn restore(self) -> io::Result<ClaimedDirs> {
        let socket = |(fd, file): (KeptFd, _), name| -> io::Result<BoundSocket> {
            let fd = fd.take()?;
            Ok(BoundSocket { fd, name, file })
        };
        Ok(ClaimedDirs {
            setup: self.setup,
            state: self.state.restore()?,
            run: self.run.restore()?,
            sockets: [
                socket(self.control, SOCKETS[0])?,
                socket(self.module, SOCKETS[1])?,
            ],
        })
    }
}

impl DirKeeper {
    /// What is claimed, with nothing left to write, while the thread waits.
    pub(crate) fn pause(&self, within: Duration) -> Option<MutexGuard<'_, Option<ClaimedDirs>>> {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Ok(dirs) = self.0.dirs.try_lock()
                && is_done(&lock(&self.0.state))
            {
                return Some(dirs);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

fn is_done(state: &State) -> bool {
    state.status.is_none() && state.control_mode.is_none() && state.dropped.is_empty()
}

/// The process of the runtime, and how the next one is started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeState {
    name: OsString,
    args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    program: KeptFd,
    pid: i32,
    /// Where it is no child of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<KeptFd>,
}

impl RuntimeState {
    /// None while it is not there.
    pub(crate) fn of(runtime: &RuntimeProcess, kept: &mut KeptFds) -> Option<RuntimeState> {
        let pid = runtime.pid.filter(|_| runtime.starting.is_none())?;
        let command = &runtime.command;
        Some(RuntimeState {
            name: command.program.clone().into(),
            args: command.args.clone(),
            env: command.env.clone(),
            program: kept.keep(&runtime.program.fd()?),
            pid,
            pinned: runtime.pinned.as_ref().map(|one| kept.keep(&one.0)),
        })
    }

    /// With this descriptor of it.
    pub(crate) fn with_handle(self, pinned: Option<KeptFd>) -> RuntimeState {
        RuntimeState { pinned, ..self }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn restore(self) -> io::Result<RuntimeProcess> {
        let command = RuntimeCommand {
            program: self.name.into(),
            args: self.args,
            env: self.env,
        };
        let program = Program::from(self.program.take()?);
        let mut runtime = RuntimeProcess::with_program(command, program)?;
        runtime.pid = Some(self.pid);
        let pinned = self.pinned.map(KeptFd::take).transpose()?;
        runtime.pinned = pinned.map(ProcessHandle);
        Ok(runtime)
    }
}
