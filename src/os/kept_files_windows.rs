//! Files of a module that a reset sets aside, and puts back if the reset did not help, on Windows.
//! Owns their names. Never follows a link: a rename moves the link itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A file or folder: the directory that it is inside of, and the path from there.
type Named = (PathBuf, PathBuf);

/// Moves files aside, into the folder `keep` of `state_dir`. Returns how many were there.
///
/// # Errors
/// The path, and what the system says about it.
pub(crate) fn set_aside(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<usize> {
    fs::create_dir_all(state_dir.join(keep))?;
    let mut count = 0;
    for file in files {
        let (path, kept) = (file.0.join(&file.1), kept_path(state_dir, keep, file));
        if path.symlink_metadata().is_err() {
            continue;
        }
        match kept.symlink_metadata().is_ok() {
            true => remove(&path),
            false => fs::rename(&path, kept),
        }
        .map_err(|error| about(&path, &error))?;
        count += 1;
    }
    Ok(count)
}

/// Puts files back where they were, instead of what is there by now. Returns how many.
///
/// # Errors
/// The path, and what the system says about it.
pub(crate) fn put_back(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<usize> {
    let mut count = 0;
    for file in files {
        let (path, kept) = (file.0.join(&file.1), kept_path(state_dir, keep, file));
        if kept.symlink_metadata().is_ok() {
            let moved = remove(&path).and_then(|()| fs::rename(kept, &path));
            moved.map_err(|error| about(&path, &error))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Removes what was set aside.
///
/// # Errors
/// What the system says.
pub(crate) fn drop_kept(state_dir: &Path, keep: &Path, files: &[Named]) -> io::Result<()> {
    for file in files {
        remove(&kept_path(state_dir, keep, file))?;
    }
    Ok(())
}

fn kept_path(state_dir: &Path, keep: &Path, (root, path): &Named) -> PathBuf {
    let hash = Sha256::digest(root.join(path).to_string_lossy().as_bytes());
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    state_dir.join(keep).join(hash)
}

/// Removes a file, a link or a folder with all that is in it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
