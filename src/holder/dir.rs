//! Directories by descriptor: opened one component at a time, with a check who may rename in each.
//! Owns the descriptor of one directory; everything in it is created, opened and renamed relative
//! to that. Never follows a link that another user could have placed, never opens what may block.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat,
};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Links that are followed on the way to one directory.
const LINKS_MAX: usize = 40;
/// What only has to be searched is opened without the permission to read it, where that exists.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
const SEARCH: OFlag = OFlag::O_PATH;
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
const SEARCH: OFlag = OFlag::O_RDONLY;

/// Why a directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The system says so, about this path.
    #[error("{}: {}", .0.display(), io::Error::from(*.1))]
    System(PathBuf, Errno),
    /// Another user owns this directory and may rename what is in it.
    #[error("user {owner} owns {} and may replace what is in it", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Its mode lets others rename in it.
    #[error(
        "{who} may write in {} (mode {mode:o}, owner {owner})",
        path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// "any user" or which group.
        who: String,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
}

impl From<DirError> for io::Error {
    fn from(error: DirError) -> io::Error {
        match error {
            DirError::System(_, errno) => errno.into(),
            unsafe_dir => io::Error::other(unsafe_dir),
        }
    }
}

impl DirError {
    /// Returns the system's error number, if the system refused it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            DirError::System(_, errno) => Some(*errno),
            DirError::Owner { .. } | DirError::Writable { .. } => None,
        }
    }
}

/// Users and groups that may rename in an ancestor: this user, root, a group of one user.
#[derive(Debug, Clone, Copy)]
struct Trust {
    uid: u32,
    gid: u32,
    /// Stands for every user outside of this user namespace.
    unmapped: Option<u32>,
    /// A user that was named.
    also: Option<u32>,
}

impl Trust {
    fn of_process() -> Trust {
        Trust {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            unmapped: unmapped_user(),
            also: None,
        }
    }

    fn user(self, uid: u32) -> bool {
        uid == self.uid || uid == 0 || [self.unmapped, self.also].contains(&Some(uid))
    }

    /// A private group has the number of its user.
    fn group(self, gid: u32) -> bool {
        gid == 0 || (gid == self.gid && gid == self.uid) || Some(gid) == self.also
    }

    /// Checks that only trusted users may rename `entry`, or what this user creates, in `above`.
    fn check(
        self,
        (above, has_list): (&FileStat, bool),
        entry: Option<&FileStat>,
        path: &Path,
    ) -> Result<(), DirError> {
        let (mode, owner) = (mode_of(above) & 0o7777, above.st_uid);
        let path = path.to_owned();
        if !self.user(owner) {
            return Err(DirError::Owner { path, owner });
        }
        if mode & 0o1000 != 0 && entry.is_none_or(|entry| self.user(entry.st_uid)) {
            return Ok(()); // sticky: only the owners of both may
        }
        let who = if mode & 0o002 != 0 {
            "any user".to_owned()
        } else if mode & 0o020 != 0 && !self.group(above.st_gid) {
            format!("group {}", above.st_gid)
        } else if mode & 0o020 != 0 && has_list {
            "a user or group of its access control list".to_owned()
        } else {
            return Ok(());
        };
        Err(DirError::Writable {
            path,
            who,
            mode,
            owner,
        })
    }

    /// Checks that only trusted users may write in what is open.
    fn check_closed(self, open: &impl AsFd, path: &Path) -> Result<(), DirError> {
        let found = fstat(open);
        let mut found = found.map_err(|errno| DirError::System(path.to_owned(), errno))?;
        found.st_mode &= !0o1000; // sticky: yet anybody may be the first with a name
        self.check((&found, has_list(open)), None, path)
    }
}

/// Checks that only this user, root and the user `also` may exchange what is in a directory and
/// the directory itself: an absolute path, of which nothing is created.
///
/// # Errors
/// It cannot be opened, or another user may.
pub fn check_closed(path: &Path, also: Option<u32>) -> Result<(), DirError> {
    let trust = Trust {
        also,
        ..Trust::of_process()
    };
    let mut walk = Walk::new(None, trust)?;
    walk.follow(path)?;
    trust.check_closed(&walk.fd, path)
}

/// Checks that what this user creates in a directory can be exchanged by this user and root alone:
/// an absolute path, of which nothing is created. It may be one in which others create as well.
///
/// # Errors
/// It cannot be opened, or another user may.
pub fn check_keeps(path: &Path) -> Result<(), DirError> {
    let trust = Trust::of_process();
    let mut walk = Walk::new(None, trust)?;
    walk.follow(path)?;
    let found = fstat(&walk.fd).map_err(|errno| DirError::System(path.to_owned(), errno))?;
    trust.check((&found, has_list(&walk.fd)), None, path)
}

/// Checks that only this user, root and the user `also` may write in an open file.
///
/// # Errors
/// Another user may.
pub fn check_file(file: &File, path: &Path, also: Option<u32>) -> Result<(), DirError> {
    let trust = Trust {
        also,
        ..Trust::of_process()
    };
    trust.check_closed(file, path)
}

/// Whether a file has an access control list. Where it has one that lets anybody else write, its
/// mode says that the group may.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "getxattr")]
fn has_list(open: &impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    // Also of what was opened for searching alone.
    let path = format!("/proc/self/fd/{}\0", open.as_fd().as_raw_fd());
    let (path, none) = (path.as_ptr().cast(), std::ptr::null_mut());
    // SAFETY: NUL-terminated strings; no value is written, its length is returned.
    unsafe { libc::getxattr(path, c"system.posix_acl_access".as_ptr(), none, 0) > 0 }
}

/// The lists of these systems are not read.
#[cfg(not(target_os = "linux"))]
fn has_list(_: &impl AsFd) -> bool {
    false
}

/// Returns the number that stands for all users without a mapping, inside a user namespace.
fn unmapped_user() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let number = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
    unmapped_in(&map, number.trim().parse().ok()?)
}

/// None: this user namespace has a user of that number, such as `nobody` of a container.
fn unmapped_in(map: &str, number: u32) -> Option<u32> {
    let is_mapped = |line: &str| {
        let mut words = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (words.next(), words.next(), words.next())
        else {
            return true; // it cannot be told
        };
        (first..first.saturating_add(count)).contains(&u64::from(number))
    };
    (!map.lines().any(is_mapped)).then_some(number)
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens the absolute `path`; what is missing of it is created with `mode`. Every directory
    /// above it is checked: only this user and root may rename in it.
    ///
    /// # Errors
    /// The path cannot be opened or created, or another user may rename in a directory above it.
    pub fn claim(path: &Path, mode: u32) -> Result<Dir, DirError> {
        let trust = Trust::of_process();
        let mut walk = Walk::new(Some(mode), trust)?;
        walk.follow(path)?;
        let found = fstat(&walk.fd).map_err(|errno| DirError::System(path.to_owned(), errno))?;
        if !trust.user(found.st_uid) {
            return Err(DirError::Owner {
                path: walk.path,
                owner: found.st_uid,
            });
        }
        walk.read(path)
    }

    /// The same of a directory in which no other user may create anything either: what is opened
    /// in it by its name is what this user or root has put there.
    ///
    /// # Errors
    /// As `claim`; another user may write in it.
    pub fn claim_closed(path: &Path, mode: u32) -> Result<Dir, DirError> {
        let dir = Dir::claim(path, mode)?;
        Trust::of_process().check_closed(&dir.fd, path)?;
        Ok(dir)
    }

    /// Returns the path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of an entry, for messages and for sockets.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the owner's number.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(fstat(&self.fd)?.st_uid)
    }

    /// Returns whether the path still names this directory.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let identity = |found: FileStat| (found.st_dev, found.st_ino);
        let there = nix::sys::stat::stat(&self.path).map(identity);
        there.is_ok() && there == fstat(&self.fd).map(identity)
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.fd, permissions(mode))?)
    }

    /// Opens or creates a directory in this one. A link is not followed.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn subdir(&self, name: &str, mode: u32) -> io::Result<Dir> {
        let made = mkdirat(&self.fd, name, permissions(mode));
        match made {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty())?;
        if made.is_ok() {
            fchmod(&fd, permissions(mode))?; // whatever the umask keeps from it
        }
        Ok(Dir {
            fd,
            path: self.join(name),
        })
    }

    /// Creates a file that was not there.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, permissions(mode))?;
        Ok(fd.into())
    }

    /// Opens a file to append to it, created for this user alone where it is missing.
    ///
    /// # Errors
    /// The error of the system call; the path is no regular file.
    pub fn append(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT)
    }

    /// Opens a file to read and write, created for this user alone where it is missing.
    ///
    /// # Errors
    /// The error of the system call; the path is no regular file.
    pub fn read_write(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// The error of the system call; the path is no regular file.
    pub fn read(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlag::O_RDONLY)
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, permissions(0o600));
        let fd = opened.map_err(|errno| match errno {
            // Of a fifo without a reader, and of a socket.
            Errno::ENXIO | Errno::EOPNOTSUPP => irregular(name, self.kind(name)),
            Errno::ELOOP | Errno::EMLINK => irregular(name, "a symbolic link"),
            Errno::EISDIR => irregular(name, "a directory"),
            errno => errno.into(),
        })?;
        let found = fstat(&fd)?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFREG {
            return Err(irregular(name, kind_name(kind)));
        }
        let own = nix::unistd::geteuid().as_raw();
        if found.st_uid != own && !Trust::of_process().user(found.st_uid) {
            return Err(irregular(name, &format!("of user {}", found.st_uid)));
        }
        Ok(fd.into())
    }

    fn kind(&self, name: &str) -> &'static str {
        let found = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let mode = found.map_or(0, |found| found.st_mode);
        kind_name(SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()))
    }

    /// Replaces a file by one with this content; half of it is never there under its name.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn replace(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let aside = format!("{name}.new");
        self.remove(&aside)?; // one that is left over may be open to others
        let mut file = self.create(&aside, mode)?;
        file.write_all(content)?;
        self.rename(&aside, name)
    }

    /// Renames an entry inside this directory.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a file or a socket; returns whether it was there.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns device and number of an entry; a link is not followed.
    #[must_use]
    pub fn identity(&self, name: &str) -> Option<(u64, u64)> {
        let found = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((device(&found), found.st_ino))
    }

    /// Sets the mode of an entry.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn set_entry_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        let follow = FchmodatFlags::FollowSymlink; // only this user can place a link here
        Ok(fchmodat(&self.fd, name, permissions(mode), follow)?)
    }

    /// Removes a directory in this one and the files and sockets in it; others stay.
    pub fn remove_flat(&self, name: &str) {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(mut inner) = nix::dir::Dir::openat(&self.fd, name, flags, Mode::empty()) else {
            return;
        };
        let entries: Vec<_> = inner.iter().flatten().collect();
        for entry in entries {
            let _ = unlinkat(&inner, entry.file_name(), UnlinkatFlags::NoRemoveDir); // . and ..
        }
        let _ = unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir); // stays if it is not empty
    }
}

/// A way down from the root, one component at a time.
struct Walk {
    trust: Trust,
    /// Of what is created; None: nothing is.
    mode: Option<u32>,
    fd: OwnedFd,
    path: PathBuf,
    links: usize,
}

impl Walk {
    fn new(mode: Option<u32>, trust: Trust) -> Result<Walk, DirError> {
        Ok(Walk {
            trust,
            mode,
            fd: root()?,
            path: PathBuf::from("/"),
            links: 0,
        })
    }

    /// Opens what was reached for reading: what was opened for searching cannot change its mode.
    fn read(&self, path: &Path) -> Result<Dir, DirError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, ".", flags, Mode::empty());
        let fd = fd.map_err(|errno| DirError::System(path.to_owned(), errno))?;
        Ok(Dir {
            fd,
            path: path.to_owned(),
        })
    }

    fn check(&self, above: &FileStat, entry: Option<&FileStat>) -> Result<(), DirError> {
        self.trust
            .check((above, has_list(&self.fd)), entry, &self.path)
    }

    fn follow(&mut self, path: &Path) -> Result<(), DirError> {
        for component in path.components() {
            match component {
                Component::RootDir | Component::Prefix(_) => {
                    (self.fd, self.path) = (root()?, PathBuf::from("/"));
                }
                Component::CurDir => {}
                Component::ParentDir => self.enter(Path::new(".."))?,
                Component::Normal(name) => self.enter(Path::new(name))?,
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &Path) -> Result<(), DirError> {
        let path = self.path.join(name);
        let failed = |errno| DirError::System(path.clone(), errno);
        let above = fstat(&self.fd).map_err(failed)?;
        let find = || fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let (entry, made) = match find() {
            Ok(entry) => (entry, false),
            Err(Errno::ENOENT) => {
                self.check(&above, None)?; // nothing is created in it otherwise
                let mode = self.mode.ok_or_else(|| failed(Errno::ENOENT))?;
                match mkdirat(&self.fd, name, permissions(mode)) {
                    Ok(()) => (find().map_err(failed)?, true),
                    Err(Errno::EEXIST) => (find().map_err(failed)?, false),
                    Err(errno) => return Err(failed(errno)),
                }
            }
            Err(errno) => return Err(failed(errno)),
        };
        self.check(&above, Some(&entry))?;
        if entry.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() {
            self.links += 1;
            if self.links > LINKS_MAX {
                return Err(failed(Errno::ELOOP));
            }
            let target = readlinkat(&self.fd, name).map_err(failed)?;
            return self.follow(Path::new(&target));
        }
        let flags = SEARCH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        if let (true, Some(mode)) = (made, self.mode) {
            // Whatever the umask keeps from it; `fchmod` refuses what was opened for searching.
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let own = openat(&fd, ".", flags, Mode::empty()).map_err(failed)?;
            fchmod(&own, permissions(mode)).map_err(failed)?;
        }
        self.fd = fd;
        match name == Path::new("..") {
            true => drop(self.path.pop()),
            false => self.path = path,
        }
        Ok(())
    }
}

fn root() -> Result<OwnedFd, DirError> {
    let flags = SEARCH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open("/", flags, Mode::empty());
    opened.map_err(|errno| DirError::System(PathBuf::from("/"), errno))
}

#[cfg(target_os = "linux")]
fn device(found: &FileStat) -> u64 {
    found.st_dev
}

#[cfg(not(target_os = "linux"))]
fn device(found: &FileStat) -> u64 {
    found.st_dev as u64
}

#[cfg(target_os = "linux")]
fn mode_of(found: &FileStat) -> u32 {
    found.st_mode
}

#[cfg(not(target_os = "linux"))]
fn mode_of(found: &FileStat) -> u32 {
    u32::from(found.st_mode)
}

/// The types differ between systems.
fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode as libc::mode_t)
}

fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFIFO => "a fifo",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
        _ => "not a regular file",
    }
}

fn irregular(name: &str, kind: &str) -> io::Error {
    io::Error::other(format!("{name} is {kind}"))
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
