//! The state and runtime directory of a system: created, locked, with the listening sockets.
//! Owns their descriptors and both locks, and creates again what was removed while it runs.
//! Never uses a directory in which another user may rename, nor one that another mainstay has.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockType, UnixAddr, bind, listen, socket};
use serde::{Deserialize, Serialize};

use crate::dir::{Dir, DirError};
use crate::fds::own_fd;
use crate::kernel::{self, SOCKET};
use crate::messages::HolderSetup;
use crate::status_file::rfc3339;

/// How long a lock is awaited whose holder has exited.
const STALE_LOCK_WAIT: Duration = Duration::from_secs(1);
/// `sun_path` with its NUL.
const SOCKET_PATH_BYTES: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path);
const LOCK: &str = "lock";
const STATUS: &str = "holder.json";
const CONTROL_SOCKET: &str = "control.sock";
/// For clients, and for modules.
pub(crate) const SOCKETS: [&str; 2] = [CONTROL_SOCKET, "module.sock"];
const NOTIFY: &str = "notify";
/// The longest lock file that is read.
const LOCK_BYTES_MAX: u64 = 16 * 1024;

/// A directory with its lock.
#[derive(Debug)]
pub(crate) struct LockedDir {
    pub(crate) dir: Dir,
    pub(crate) lock: File,
}

/// A listening socket and the file that it is bound to.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) fd: OwnedFd,
    pub(crate) name: &'static str,
    pub(crate) file: (u64, u64),
}

/// Everything that is claimed.
#[derive(Debug)]
pub(crate) struct ClaimedDirs {
    pub(crate) setup: HolderSetup,
    pub(crate) state: LockedDir,
    pub(crate) run: LockedDir,
    pub(crate) sockets: [BoundSocket; 2],
}

/// What a lock file says about the system that holds it.
#[derive(Debug, Serialize, Deserialize)]
struct LockOwner {
    pid: i32,
    name: String,
    since: String,
    config_dir: String,
    state_dir: String,
    runtime_dir: String,
}

impl ClaimedDirs {
    /// Creates, locks and binds everything.
    ///
    /// # Errors
    /// In a sentence: a directory cannot be created or is not safe, a lock is held, a path is too
    /// long.
    pub(crate) fn claim(setup: &HolderSetup) -> Result<ClaimedDirs, String> {
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if setup.name.is_empty() || !setup.name.chars().all(name_ok) {
            let why = "cannot use its name: it may only hold letters, digits, - _ and .; change \
                       mainstay.name";
            return Err(why.to_owned());
        }
        let state = claim_state(setup)?;
        let run = claim_run(setup)?;
        make_dir(Path::new(&setup.log_dir), "logs.directory")?;
        let control = listen_at(&run.dir, SOCKETS[0], setup.live.control_mode)?;
        let module = listen_at(&run.dir, SOCKETS[1], 0o666)?;
        Ok(ClaimedDirs {
            setup: setup.clone(),
            state,
            run,
            sockets: [control, module],
        })
    }

    pub(crate) fn notify_folder(&self) -> PathBuf {
        self.run.dir.join(NOTIFY)
    }

    /// Returns the watched directories.
    pub(crate) fn paths(&self) -> [&Path; 2] {
        [self.state.dir.path(), self.run.dir.path()]
    }

    /// Returns duplicates of the listeners: control, module.
    pub(crate) fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.sockets.iter();
        sockets.map(|socket| socket.fd.try_clone()).collect()
    }

    /// Returns whether everything is where clients and other holders look for it.
    pub(crate) fn is_in_place(&self) -> bool {
        self.state.is_in_place()
            && self.run.is_in_place()
            && self.run.dir.identity(NOTIFY).is_some()
            && self
                .sockets
                .iter()
                .all(|socket| self.run.dir.identity(socket.name) == Some(socket.file))
    }

    /// Creates again what is missing, with the checks and locks of the first time.
    ///
    /// # Errors
    /// In a sentence: as `claim`.
    pub(crate) fn restore(&mut self) -> Result<(), String> {
        if !self.state.is_in_place() {
            self.state = claim_state(&self.setup)?;
        }
        if !self.run.is_in_place() {
            self.run = claim_run(&self.setup)?;
        }
        let notify = self.run.dir.subdir(NOTIFY, 0o711);
        notify.map_err(|problem| unusable(&self.notify_folder(), RUNTIME_DIR, &problem))?;
        let modes = [self.setup.live.control_mode, 0o666];
        for (socket, mode) in self.sockets.iter_mut().zip(modes) {
            if self.run.dir.identity(socket.name) != Some(socket.file) {
                *socket = listen_at(&self.run.dir, socket.name, mode)?;
            }
        }
        Ok(())
    }

    /// Changes who can connect to `control.sock`, also when it is created again.
    pub(crate) fn set_control_mode(&mut self, mode: u32) {
        self.setup.live.control_mode = mode;
        let _created_again_with_it = self.run.dir.set_entry_mode(CONTROL_SOCKET, mode);
    }

    /// Replaces `holder.json`: information for people, which a full disk may cost.
    pub(crate) fn write_status(&self, json: &[u8]) {
        let _ = self.run.dir.replace(STATUS, json, 0o644);
    }

    /// Removes what must not stay.
    pub(crate) fn release(self) {
        for socket in &self.sockets {
            let _ = self.run.dir.remove(socket.name); // gone is what is wanted
        }
        let _ = self.run.dir.remove(STATUS);
        self.run.dir.remove_flat(NOTIFY);
        // The lock itself goes with the descriptor; who takes a removed one looks for another.
        let _ = self.run.dir.remove(LOCK);
        let _ = self.state.lock.set_len(0); // it names no holder
    }
}

const STATE_DIR: &str = "mainstay.state_dir";
const RUNTIME_DIR: &str = "mainstay.runtime_dir";

fn claim_state(setup: &HolderSetup) -> Result<LockedDir, String> {
    let path = Path::new(&setup.state_dir);
    let dir = Dir::claim_closed(path, 0o700).map_err(|error| refused(path, STATE_DIR, error))?;
    let lock = take_lock(&dir, setup, "state directory", STATE_DIR)?;
    Ok(LockedDir { dir, lock })
}

fn claim_run(setup: &HolderSetup) -> Result<LockedDir, String> {
    let path = Path::new(&setup.runtime_dir);
    let dir = Dir::claim(path, 0o711).map_err(|error| refused(path, RUNTIME_DIR, error))?;
    let say = |problem: io::Error| unusable(dir.path(), RUNTIME_DIR, &problem);
    dir.set_mode(0o711).map_err(say)?; // one that was there may have been open to others
    let lock = take_lock(&dir, setup, "runtime directory", RUNTIME_DIR)?;
    dir.remove_flat(NOTIFY); // sockets of an earlier holder
    let notify = dir.subdir(NOTIFY, 0o711).map_err(say)?;
    notify.set_mode(0o711).map_err(say)?;
    Ok(LockedDir { dir, lock })
}

impl LockedDir {
    fn is_in_place(&self) -> bool {
        self.dir.is_in_place() && is_locked_file(&self.dir, &self.lock)
    }
}

fn is_locked_file(dir: &Dir, lock: &File) -> bool {
    let about = lock.metadata().map(|about| (about.dev(), about.ino())).ok();
    about.is_some() && dir.identity(LOCK) == about
}

/// Creates a directory for this user alone; one that is there stays as it is. Other users may
/// neither exchange it nor write in it.
///
/// # Errors
/// In a sentence, with the next step; `key` names the directory in the configuration.
pub fn make_dir(path: &Path, key: &str) -> Result<(), String> {
    let made = Dir::claim_closed(path, 0o700).map(drop);
    made.map_err(|error| refused(path, key, error))
}

fn refused(path: &Path, key: &str, error: DirError) -> String {
    match error {
        DirError::System(_, errno) => unusable(path, key, &errno.into()),
        unsafe_dir => format!(
            "cannot use the directory {}: {unsafe_dir}; set another {key}, or let only this user \
             and root write there",
            path.display()
        ),
    }
}

/// What is wrong with a path, which part of it is in the way, and what to do about it.
fn unusable(path: &Path, key: &str, problem: &io::Error) -> String {
    let errno = Errno::from_raw(problem.raw_os_error().unwrap_or(0));
    let there = path
        .ancestors()
        .find(|part| part.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("/")).display();
    let next = match errno {
        Errno::EACCES | Errno::EPERM => {
            let us = nix::unistd::geteuid();
            format!("let user {us} write to {there}")
        }
        Errno::EROFS => format!("{there} is on a file system that is read-only"),
        Errno::ENOSPC | Errno::EDQUOT => {
            format!("the disk that holds {there} is full: make room on it")
        }
        Errno::ENOTDIR | Errno::EEXIST => format!("{there} is no directory: move it away"),
        _ => format!("check {there}"),
    };
    let path = path.display();
    let text = match errno {
        Errno::UnknownErrno => problem.to_string(),
        errno => format!("{} ({errno:?})", errno.desc()),
    };
    format!("cannot use {path}: {text}; {next}, or set another {key}")
}

fn take_lock(dir: &Dir, setup: &HolderSetup, what: &str, key: &str) -> Result<File, String> {
    let say = |problem: io::Error| unusable(&dir.join(LOCK), key, &problem);
    let deadline = Instant::now() + STALE_LOCK_WAIT;
    let mut file = loop {
        let mut file = dir.read_write(LOCK).map_err(say)?;
        match file.try_lock() {
            // Not one that was removed between both calls.
            Ok(()) if is_locked_file(dir, &file) => break file,
            Ok(()) if Instant::now() < deadline => {}
            Err(TryLockError::WouldBlock) => {
                let owner = read_owner(&mut file);
                if Instant::now() > deadline || !owner.as_ref().is_none_or(has_exited) {
                    return Err(held_by_another(dir, owner, what, key));
                }
            }
            Err(TryLockError::Error(problem)) => return Err(say(problem)),
            Ok(()) => return Err(say(Errno::ESTALE.into())),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let owner = LockOwner {
        pid: std::process::id().try_into().unwrap_or(i32::MAX),
        name: setup.name.clone(),
        since: rfc3339(SystemTime::now()),
        config_dir: setup.config_dir.clone(),
        state_dir: setup.state_dir.clone(),
        runtime_dir: setup.runtime_dir.clone(),
    };
    let json = serde_json::to_vec(&owner).unwrap_or_default();
    file.set_len(0).and_then(|()| file.rewind()).map_err(say)?;
    file.write_all(&json).map_err(say)?;
    Ok(file)
}

fn read_owner(file: &mut File) -> Option<LockOwner> {
    let mut text = Vec::new();
    file.take(LOCK_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A child that the holder started last has its lock until its exec.
fn has_exited(owner: &LockOwner) -> bool {
    kernel::process(owner.pid).is_none_or(|found| found.zombie)
}

fn held_by_another(dir: &Dir, owner: Option<LockOwner>, what: &str, key: &str) -> String {
    let path = dir.path().display();
    let Some(owner) = owner else {
        return format!("another mainstay has the {what} {path}; set another {key}");
    };
    let LockOwner {
        pid,
        name,
        since,
        config_dir,
        state_dir,
        runtime_dir,
    } = owner;
    let (config, stop) = match config_dir.as_str() {
        "" => (String::new(), format!("mainstay down --name {name}")),
        dir => (
            format!("configuration {dir}, "),
            format!("mainstay down --config {dir}"),
        ),
    };
    format!(
        "another mainstay has the {what} {path}: '{name}', pid {pid}, since {since}, \
         {config}state directory {state_dir}, runtime directory {runtime_dir}; stop it with \
         `{stop}`, or set another {key}"
    )
}

fn listen_at(dir: &Dir, name: &'static str, mode: u32) -> Result<BoundSocket, String> {
    let path = dir.join(name);
    let length = path.as_os_str().len();
    if length >= SOCKET_PATH_BYTES {
        return Err(format!(
            "cannot use the socket path {}: it has {length} bytes, the system allows {}; set a \
             shorter mainstay.runtime_dir",
            path.display(),
            SOCKET_PATH_BYTES - 1
        ));
    }
    let bound = || -> io::Result<BoundSocket> {
        dir.remove(name)?; // the lock is held: its owner is gone
        let fd = socket(AddressFamily::Unix, SockType::Stream, SOCKET, None)?;
        let fd = std::os::unix::net::UnixListener::from(own_fd(fd.into_raw_fd()));
        fd.set_nonblocking(true)?;
        // Connections inherit it. Nothing of a client's has to be closed by the thread that reads.
        kernel::accept_descriptors(&fd, false);
        bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
        dir.set_entry_mode(name, mode)?; // before anybody can connect
        listen(&fd, Backlog::new(1024)?)?;
        let file = dir.identity(name).ok_or(Errno::ENOENT)?;
        let fd = fd.into();
        Ok(BoundSocket { fd, name, file })
    };
    bound().map_err(|problem| unusable(&path, RUNTIME_DIR, &problem))
}
