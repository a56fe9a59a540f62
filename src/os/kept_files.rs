//! Files of a module that a reset sets aside, and puts back if the reset did not help.
//! Owns the way to each: one component at a time by descriptor; no link is followed.
//! Never touches what was not named, and removes nothing before `drop_kept`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use sha2::{Digest, Sha256};

/// A file or folder: the directory that it is inside of, and the path from there.
type Named = (PathBuf, PathBuf);

/// Folders in each other that are removed at most.
const DEPTH_MAX: u32 = 512;

const OPEN_DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Moves files aside, into the folder `keep` of `state_dir`, or beside each where that is another
/// file system. What an earlier call set aside stays, and what is there since is removed. Returns
/// how many were there.
///
/// # Errors
/// The path, and what the system says about it.
pub(crate) fn set_aside(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<usize> {
    let folder = keep_folder(state_dir, keep)?;
    let mut count = 0;
    for file in files {
        let done = set_one_aside(state_dir, &folder, file);
        count += usize::from(done.map_err(|errno| about(file, errno))?);
    }
    Ok(count)
}

fn set_one_aside(state_dir: &Path, folder: &OwnedFd, file: &Named) -> Result<bool, Errno> {
    let Some((parent, name)) = parent_of(state_dir, file)? else {
        return Ok(false);
    };
    let (kept, beside) = kept_names(file);
    if exists(folder, &kept) || exists(&parent, &beside) {
        return remove_tree(&parent, &name, 0);
    }
    let moved = match renameat(&parent, &*name, folder, &*kept) {
        Err(Errno::EXDEV) => renameat(&parent, &*name, &parent, &*beside),
        moved => moved,
    };
    match moved {
        Err(Errno::ENOENT) => Ok(false),
        moved => moved.map(|()| true),
    }
}

/// Puts files back where they were, instead of what is there by now. Returns how many.
///
/// # Errors
/// The path, and what the system says about it.
pub(crate) fn put_back(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<usize> {
    let folder = keep_folder(state_dir, keep)?;
    let mut count = 0;
    for file in files {
        let done = put_one_back(state_dir, &folder, file);
        count += usize::from(done.map_err(|errno| about(file, errno))?);
    }
    Ok(count)
}

fn put_one_back(state_dir: &Path, folder: &OwnedFd, file: &Named) -> Result<bool, Errno> {
    let Some((parent, name)) = parent_of(state_dir, file)? else {
        return Ok(false);
    };
    let (kept, beside) = kept_names(file);
    for (from, aside) in [(folder, kept), (&parent, beside)] {
        if exists(from, &aside) {
            remove_tree(&parent, &name, 0)?;
            return renameat(from, &*aside, &parent, &*name).map(|()| true);
        }
    }
    Ok(false)
}

/// Removes what was set aside.
///
/// # Errors
/// What the system says.
pub(crate) fn drop_kept(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<()> {
    let folder = keep_folder(state_dir, keep)?;
    for file in files {
        let (kept, beside) = kept_names(file);
        let dropped =
            remove_tree(&folder, &kept, 0).and_then(|_| match parent_of(state_dir, file)? {
                Some((parent, _)) => remove_tree(&parent, &beside, 0),
                None => Ok(false),
            });
        dropped.map_err(|errno| about(file, errno))?;
    }
    Ok(())
}

/// The names of what was set aside: in the folder for it, and beside the original.
fn kept_names((root, path): &Named) -> (OsString, OsString) {
    let hash = Sha256::digest(root.join(path).as_os_str().as_bytes());
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let beside = format!(".mainstay-kept-{hash}");
    (hash.into(), beside.into())
}

fn keep_folder(state_dir: &Path, keep: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open(state_dir, flags, Mode::empty())?;
    for name in keep {
        match mkdirat(&at, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        at = openat(&at, name, OPEN_DIR, Mode::empty())?;
    }
    Ok(at)
}

/// The directory that holds a file, and its name there; None: there is no such directory. The way
/// to the state directory is mainstay's own; another may belong to the module's user, who could
/// place a link.
fn parent_of(state_dir: &Path, (root, path): &Named) -> Result<Option<(OwnedFd, OsString)>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Some(name) = path.file_name() else {
        return Err(Errno::EINVAL);
    };
    let (from, way) = match root.as_path() == state_dir {
        true => (state_dir, path.clone()),
        false => {
            let whole = root.join(path);
            let way = whole.strip_prefix("/").map_err(|_| Errno::EINVAL)?;
            (Path::new("/"), way.to_path_buf())
        }
    };
    let mut at = match open(from, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        at => at?,
    };
    for part in way.parent().into_iter().flatten() {
        at = match openat(&at, part, OPEN_DIR, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            at => at?,
        };
    }
    Ok(Some((at, name.to_owned())))
}

fn exists(dir: &OwnedFd, name: &OsStr) -> bool {
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::sys::stat::fstatat(dir, name, flags).is_ok()
}

/// Removes a file, a link or a folder with all that is in it; false: it was not there.
fn remove_tree(parent: &OwnedFd, name: &OsStr, depth: u32) -> Result<bool, Errno> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => return Ok(true),
        Err(Errno::ENOENT) => return Ok(false),
        Err(Errno::EISDIR | Errno::EPERM) if depth < DEPTH_MAX => {}
        Err(errno) => return Err(errno),
    }
    let folder = openat(parent, name, OPEN_DIR, Mode::empty())?;
    let mut listing = Dir::from_fd(folder.try_clone().map_err(|_| Errno::EMFILE)?)?;
    let names: Vec<OsString> = listing
        .iter()
        .flatten()
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    drop(listing);
    for inner in names {
        remove_tree(&folder, &inner, depth + 1)?;
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)?;
    Ok(true)
}

fn about((root, path): &Named, errno: Errno) -> io::Error {
    let why = match errno {
        Errno::ELOOP | Errno::EMLINK | Errno::ENOTDIR => {
            "a part of the path is a link, or no directory".to_owned()
        }
        errno => io::Error::from(errno).to_string(),
    };
    io::Error::other(format!("{}: {why}", root.join(path).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A state directory with `cache/` (two files), `data` and `link`, which points to `data`.
    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("cache/deep")).expect("made");
        fs::write(dir.path().join("cache/one"), "1").expect("written");
        fs::write(dir.path().join("cache/deep/two"), "2").expect("written");
        fs::write(dir.path().join("data"), "precious").expect("written");
        symlink("data", dir.path().join("link")).expect("linked");
        dir
    }

    fn named(dir: &tempfile::TempDir, paths: &[&str]) -> Vec<Named> {
        let path = |path: &&str| (dir.path().to_owned(), PathBuf::from(path));
        paths.iter().map(path).collect()
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).expect("readable").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "recovery")
            .collect();
        names.sort();
        names
    }

    const KEEP: &str = "recovery/web";

    #[test]
    fn exactly_what_is_named_is_set_aside_and_a_link_is_not_followed() {
        let dir = state();
        let files = named(&dir, &["cache", "link", "missing", "missing/too"]);
        let keep = Path::new(KEEP);
        assert_eq!(set_aside(dir.path(), keep, &files).expect("done"), 2);
        assert_eq!(names(&dir), ["data"]);
        assert_eq!(
            fs::read_to_string(dir.path().join("data")).expect("there"),
            "precious"
        );
        drop_kept(dir.path(), keep, &files).expect("dropped");
        assert_eq!(put_back(dir.path(), keep, &files).expect("nothing"), 0);
    }

    #[test]
    fn what_was_set_aside_first_comes_back() {
        let dir = state();
        let files = named(&dir, &["cache"]);
        let keep = Path::new(KEEP);
        set_aside(dir.path(), keep, &files).expect("done");
        fs::create_dir(dir.path().join("cache")).expect("made anew");
        fs::write(dir.path().join("cache/new"), "n").expect("written");
        assert_eq!(set_aside(dir.path(), keep, &files).expect("again"), 1);
        fs::write(dir.path().join("cache"), "a file now").expect("written");
        assert_eq!(put_back(dir.path(), keep, &files).expect("back"), 1);
        let two = fs::read_to_string(dir.path().join("cache/deep/two"));
        assert_eq!(two.expect("as it was"), "2");
        assert!(!dir.path().join("cache/new").exists());
    }

    #[test]
    fn the_way_to_a_directory_of_the_module_has_no_link_either() {
        let (dir, victim) = (state(), state());
        let way = dir.path().join("way");
        symlink(victim.path(), &way).expect("linked");
        let files = [(way, PathBuf::from("cache"))];
        let error = set_aside(dir.path(), Path::new(KEEP), &files).expect_err("refused");
        assert!(error.to_string().contains("link"), "{error}");
        assert!(victim.path().join("cache/one").exists());
        let real = dir.path().canonicalize().expect("there");
        let files = [(real.join("cache"), PathBuf::from("one"))];
        assert_eq!(
            set_aside(dir.path(), Path::new(KEEP), &files).expect("done"),
            1
        );
    }

    #[test]
    fn a_link_on_the_way_stops_a_reset() {
        let dir = state();
        let outside = state();
        symlink(outside.path(), dir.path().join("way")).expect("linked");
        let files = named(&dir, &["way/data"]);
        let error = set_aside(dir.path(), Path::new(KEEP), &files).expect_err("refused");
        assert!(error.to_string().contains("way/data"), "{error}");
        assert!(outside.path().join("data").exists());
    }
}
