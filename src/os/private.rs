//! Files that one user alone may read: the committed plan, modules' settings, the key, the journal.
//! Owns their modes, which hold from the moment a file is there. On Windows the folder decides.
//! Never leaves half a file under the name that is read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Replaces the file at `path` by one that `user` alone may read; None: the user of this process.
///
/// # Errors
/// What the system says, also when there is no such user.
pub(crate) fn write(path: &Path, bytes: &[u8], user: Option<&str>) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // One that is left over may be open to others.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create(&fresh)?;
    file.write_all(bytes)?;
    if let Some(user) = user {
        chown(&file, user)?;
    }
    drop(file);
    fs::rename(fresh, path)
}

/// Returns the owner of a path, if this is root and that is another user: what is written for
/// them there is to be theirs. A path that does not exist has the owner of the folder above it.
#[cfg(unix)]
pub(crate) fn other_owner(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let about = path.ancestors().find_map(|at| at.metadata().ok())?;
    let is_root = super::machine::own_uid() == 0;
    (is_root && about.uid() != 0).then(|| about.uid().to_string())
}

#[cfg(windows)]
pub(crate) fn other_owner(_: &Path) -> Option<String> {
    None
}

/// Makes a folder in one that exists, for this user; None: for the user of this process.
///
/// # Errors
/// What the system says, also when there is no such user.
pub(crate) fn shared_dir(path: &Path, user: Option<&str>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(_) if path.is_dir() => Ok(()),
        made => match user {
            Some(user) => made.and_then(|()| chown_dir(path, user)),
            None => made,
        },
    }
}

/// Makes an empty file for us alone where there is none, before it is opened by its name. What is
/// there, perhaps by a link, stays as it is: it may be a device that others need.
///
/// # Errors
/// What the system says.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    match create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Opens a regular file to read it. Nothing else is opened: a fifo would block, and a terminal or
/// a socket has no end.
///
/// # Errors
/// What the system says; it is no regular file.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        let kind = io::ErrorKind::IsADirectory;
        return Err(io::Error::new(kind, "it is a directory"));
    }
    if !about.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    Ok(file)
}

/// Reads a regular file, up to `limit` bytes of it.
///
/// # Errors
/// What the system says; it is no regular file.
pub(crate) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file that this user alone has access to.
///
/// # Errors
/// What the system says; `PermissionDenied` when others have access to it, or it is another's.
pub(crate) fn read_private(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let about = file.metadata()?;
        let own = nix::unistd::geteuid().as_raw();
        if about.mode() & 0o077 != 0 || ![own, 0].contains(&about.uid()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    }
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file to append to it, created for this user alone where there is none. Writes into
/// what could block fail instead: a fifo, or a terminal that is stopped.
///
/// # Errors
/// What the system says.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    create_private(path)?;
    let mut options = OpenOptions::new();
    options.append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Creates a file that was not there, for this user alone.
///
/// # Errors
/// What the system says; it is there.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    create(path)
}

/// Creates a file that did not exist, for this user alone.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a directory for this user alone where there is none, and what is missing above it; one
/// that is there stays as its owner wants it.
///
/// # Errors
/// What the system says; another user may exchange it or write in it.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    mainstay_holder::dir::Dir::claim_closed(&std::path::absolute(path)?, 0o700)?;
    Ok(())
}

/// Makes a folder that others may pass through and not look into, where there is none.
///
/// # Errors
/// What the system says.
pub(crate) fn traversable_dir(path: &Path) -> io::Result<()> {
    folder_of(path, 0o711)
}

fn folder_of(path: &Path, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => set_mode(path, mode), // whatever this process keeps from what it makes
        Err(_) if path.is_dir() => Ok(()),
        failed => failed,
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(windows)]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn chown(file: &File, user: &str) -> io::Result<()> {
    let uid = match user.parse() {
        Ok(uid) => uid,
        Err(_) => nix::unistd::User::from_name(user)?
            .ok_or_else(|| io::Error::other(format!("there is no user {user}")))?
            .uid
            .as_raw(),
    };
    if uid == super::machine::own_uid() {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(uid), None)
}

/// Changes the owner of a folder, not of what a link in its place names.
#[cfg(unix)]
fn chown_dir(path: &Path, user: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true);
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    chown(&options.open(path)?, user)
}

#[cfg(windows)]
fn chown_dir(_: &Path, _: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(windows)]
fn chown(_: &File, _: &str) -> io::Result<()> {
    Ok(()) // the configuration refuses to name a user
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn what_was_open_to_others_is_not_any_more() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plan.json");
        for name in ["plan.json", "plan.new"] {
            fs::write(dir.path().join(name), "old").expect("a file");
            set_mode(&dir.path().join(name), 0o666).expect("a mode");
        }
        write(&path, b"new", None).expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(mode(&path), 0o600);
        let missing = dir.path().join("journal.db");
        create_private(&missing).expect("made");
        assert_eq!(mode(&missing), 0o600);
        set_mode(&path, 0o640).expect("a mode");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        create_private(&link).expect("it is there");
        assert_eq!(mode(&path), 0o640, "somebody else's");
    }

    #[test]
    fn folders_are_made_for_us_alone_and_passages_for_who_knows_the_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("above/state");
        private_dir(&state).expect("made");
        assert_eq!(mode(&state), 0o700);
        let through = state.join("through");
        traversable_dir(&through).expect("made");
        assert_eq!(mode(&through), 0o711);
        private_dir(&through).expect("it is there");
        traversable_dir(&state).expect("it is there");
        assert_eq!((mode(&through), mode(&state)), (0o711, 0o700));
        fs::write(dir.path().join("file"), "").expect("a file");
        assert!(private_dir(&dir.path().join("file")).is_err());
    }

    #[test]
    fn a_user_that_is_not_there_gets_no_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("it.json");
        let error = write(&path, b"{}", Some("nobody-of-this-name")).expect_err("no such user");
        assert!(error.to_string().contains("nobody-of-this-name"), "{error}");
        assert!(!path.exists());
        let own = super::super::machine::own_uid();
        write(&path, b"{}", Some(&own.to_string())).expect("ours");
        assert_eq!(fs::metadata(&path).expect("there").uid(), own);
    }
}
