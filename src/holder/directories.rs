//! Directories, the lock, the listening sockets and `holder.json`.
//! Owns them from the setup on and removes what is not to stay.
//! Never uses a runtime directory that belongs to someone else.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, listen};

use crate::frame::own_fd;
use crate::kernel::{self, SOCKET};
use crate::messages::HolderSetup;
use crate::status_file::HolderStatus;

/// How long a lock is awaited whose holder is dead.
const STALE_LOCK_WAIT: Duration = Duration::from_secs(1);
/// `sun_path` with its NUL.
const SOCKET_PATH_BYTES: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path);

/// Where things are.
#[derive(Debug)]
pub(crate) struct SystemDirs {
    runtime_dir: PathBuf,
    lock: File,
    pub(crate) control: OwnedFd,
    pub(crate) module: OwnedFd,
}

impl SystemDirs {
    /// Makes and takes everything.
    ///
    /// # Errors
    /// In a sentence: a directory cannot be made or is someone else's, the lock is held, a path
    /// is too long.
    pub(crate) fn claim(setup: &HolderSetup) -> Result<SystemDirs, String> {
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if setup.name.is_empty() || !setup.name.chars().all(name_ok) {
            let why = "cannot use its name: it may only hold letters, digits, - _ and .; change \
                       mainstay.name";
            return Err(why.to_owned());
        }
        directory(&setup.state_dir, 0o700, "mainstay.state_dir")?;
        let lock = take_lock(setup)?;
        open_directory(&setup.runtime_dir, 0o711)?;
        directory(&setup.log_dir, 0o700, "logs.directory")?;
        let runtime_dir = PathBuf::from(&setup.runtime_dir);
        let notify = runtime_dir.join("notify");
        open_directory(&notify.to_string_lossy(), 0o711)?;
        let control = bind(&runtime_dir.join("control.sock"), setup.control_mode)?;
        let module = bind(&runtime_dir.join("module.sock"), 0o666)?;
        Ok(SystemDirs {
            runtime_dir,
            lock,
            control,
            module,
        })
    }

    pub(crate) fn notify_folder(&self) -> PathBuf {
        self.runtime_dir.join("notify")
    }

    /// Duplicates of the listeners, for a runtime.
    pub(crate) fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![self.control.try_clone()?, self.module.try_clone()?])
    }

    /// Replaces `holder.json`.
    pub(crate) fn write_status(
        &self,
        state: &str,
        runtime_pid: Option<u32>,
        restarts: u32,
        tree: &str,
    ) {
        HolderStatus::now(state, runtime_pid, restarts, tree).write(&self.runtime_dir);
    }

    /// Removes what is not to stay.
    pub(crate) fn release(mut self) {
        for name in ["control.sock", "module.sock", "holder.json"] {
            let _ = fs::remove_file(self.runtime_dir.join(name)); // gone is what we want
        }
        let _ = fs::remove_dir_all(self.notify_folder());
        let _ = self.lock.set_len(0).and_then(|()| self.lock.flush());
    }
}

/// One that others may look into: it and the folder it lies in must be in trusted hands.
fn open_directory(path: &str, mode: u32) -> Result<(), String> {
    const KEY: &str = "mainstay.runtime_dir";
    directory(path, mode, KEY)?;
    let us = nix::unistd::geteuid().as_raw();
    let say = |problem: io::Error| unusable("use the folder", Path::new(path), KEY, &problem);
    let seen = fs::symlink_metadata(path).map_err(say)?;
    if !seen.is_dir() {
        return Err(format!(
            "{path} is no directory (a link is not followed); move it away"
        ));
    }
    let above = Path::new(path).parent().unwrap_or(Path::new("/"));
    let above_owner = fs::metadata(above).map_err(say)?.uid();
    if seen.uid() != us || (above_owner != us && above_owner != 0) {
        let owner = if seen.uid() == us {
            above_owner
        } else {
            seen.uid()
        };
        return Err(format!(
            "the directory {path} or the one above it belongs to user {owner}; set another \
             mainstay.runtime_dir"
        ));
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(say)
}

/// Made if it is missing; one that is there, perhaps by a link, stays as its owner wants it.
pub(crate) fn directory(path: &str, mode: u32, key: &str) -> Result<(), String> {
    let path = Path::new(path);
    let say = |problem: io::Error| unusable("make the folder", path, key, &problem);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(say)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => Err(say(problem)),
        Err(_) if !path.is_dir() => Err(say(io::Error::from_raw_os_error(libc::ENOTDIR))),
        _ => Ok(()),
    }
}

/// What is wrong with a place, where exactly, and what a person does about it.
fn unusable(what: &str, path: &Path, key: &str, problem: &io::Error) -> String {
    let errno = nix::errno::Errno::from_raw(problem.raw_os_error().unwrap_or(0));
    // What is there of the path is what stands in the way.
    let there = path
        .ancestors()
        .find(|part| part.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("/")).display();
    let next = match errno {
        nix::errno::Errno::EACCES | nix::errno::Errno::EPERM => {
            let us = nix::unistd::geteuid();
            format!("let user {us} write to {there}")
        }
        nix::errno::Errno::EROFS => format!("{there} is on a file system that is read-only"),
        nix::errno::Errno::ENOSPC | nix::errno::Errno::EDQUOT => {
            format!("the disk that holds {there} is full: make room on it")
        }
        nix::errno::Errno::ENOTDIR | nix::errno::Errno::EEXIST => {
            format!("{there} is no folder: move it away")
        }
        _ => format!("look at {there}"),
    };
    let path = path.display();
    let text = match errno {
        nix::errno::Errno::UnknownErrno => problem.to_string(),
        errno => format!("{} ({errno:?})", errno.desc()),
    };
    format!("cannot {what} {path}: {text}; {next}, or set another {key}")
}

fn take_lock(setup: &HolderSetup) -> Result<File, String> {
    let path = Path::new(&setup.state_dir).join("lock");
    let say = |problem: io::Error| unusable("use the lock", &path, "mainstay.state_dir", &problem);
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&path).map_err(say)?;
    let until = Instant::now() + STALE_LOCK_WAIT;
    let taken = loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock)
                if Instant::now() < until && is_stale_lock(&mut file) =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            taken => break taken,
        }
    };
    match taken {
        Ok(()) => {}
        Err(fs::TryLockError::Error(problem)) => return Err(say(problem)),
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text); // then the number is missing in the message
            let mut words = text.split_whitespace();
            let pid = words.next().unwrap_or("unknown");
            let name = words.next().unwrap_or(&setup.name);
            let place = path.display();
            return Err(format!(
                "another mainstay (pid {pid}) holds {place}; stop it with `mainstay --name {name} \
                 down` or choose another mainstay.state_dir"
            ));
        }
    }
    let text = format!("{} {}\n", std::process::id(), setup.name);
    file.set_len(0).and_then(|()| file.rewind()).map_err(say)?;
    file.write_all(text.as_bytes()).map_err(say)?;
    Ok(file)
}

/// Whether the holder that is named there is dead: a child that it bore last has its lock until the
/// exec is done.
fn is_stale_lock(file: &mut File) -> bool {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let _ = file.rewind(); // what is read next begins there, or says nothing
    let pid = text
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    let dead = |pid| kernel::process(pid).is_none_or(|seen| seen.zombie);
    read.is_ok() && pid.is_some_and(dead)
}

fn bind(path: &Path, mode: u32) -> Result<OwnedFd, String> {
    let length = path.as_os_str().len();
    if length >= SOCKET_PATH_BYTES {
        return Err(format!(
            "the socket path {} has {length} bytes, the system allows {}; set a shorter \
             mainstay.runtime_dir",
            path.display(),
            SOCKET_PATH_BYTES - 1
        ));
    }
    let say =
        |problem: io::Error| unusable("open the socket", path, "mainstay.runtime_dir", &problem);
    let _ = fs::remove_file(path); // we hold the lock: whoever made it is gone
    let socket = bind_closed(path).map_err(say)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(say)?;
    let backlog = Backlog::new(1024).map_err(|errno| say(errno.into()))?;
    listen(&socket, backlog).map_err(|errno| say(errno.into()))?;
    Ok(socket)
}

/// Bound and not listening: nobody can connect before its mode is set.
fn bind_closed(path: &Path) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockType, UnixAddr, bind, socket};
    let socket = socket(AddressFamily::Unix, SockType::Stream, SOCKET, None)?;
    let socket = UnixListener::from(own_fd(socket.into_raw_fd()));
    socket.set_nonblocking(true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_used_comes_with_where_why_and_the_next_step() {
        let said = |errno| {
            let problem = io::Error::from_raw_os_error(errno);
            unusable(
                "make the folder",
                Path::new("/no/such"),
                "mainstay.state_dir",
                &problem,
            )
        };
        for (errno, words) in [
            (libc::EACCES, "Permission denied (EACCES); let user "),
            (
                libc::EROFS,
                "Read-only file system (EROFS); / is on a file system",
            ),
            (
                libc::ENOSPC,
                "No space left on device (ENOSPC); the disk that holds / is full",
            ),
            (
                libc::ENOTDIR,
                "Not a directory (ENOTDIR); / is no folder: move it away",
            ),
        ] {
            let said = said(errno);
            let begin = format!("cannot make the folder /no/such: {words}");
            assert!(said.starts_with(&begin), "{said}");
            assert!(
                said.ends_with(", or set another mainstay.state_dir"),
                "{said}"
            );
        }
    }
}
