//! Whether a configuration may decide what this process runs, by who could have written it.
//! Owns the rule for root: its own files, and those of a user that it names.
//! Never reads the text of a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
use mainstay_holder::dir::DirError;

/// Names the user, beside root, whose configuration root uses.
#[cfg(unix)]
pub(crate) const OWNER_VARIABLE: &str = "MAINSTAY_TRUST_OWNER";

/// Another user could change what root would do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Untrusted(String);

impl Untrusted {
    /// What a person does about it.
    pub(crate) const HINT: &'static str = "root uses what root alone may change: change its owner \
                                           and mode, or set MAINSTAY_TRUST_OWNER to the user id \
                                           that may decide what root runs";
}

/// Checks that only root, and the user it names, could have written an open file of the
/// configuration and may exchange it.
///
/// # Errors
/// An [`Untrusted`], for root; other users may use anyone's configuration.
#[cfg(unix)]
pub(crate) fn check(file: &File, path: &Path) -> io::Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => check_program(file, path, named_owner()).map(drop),
        false => Ok(()),
    }
}

/// Checks that only root, this user and the user `also` could have written an open file, and may
/// exchange it: a program that is to run as this user, no matter which client requested it.
/// Returns its path after its links, which no other user may change.
///
/// # Errors
/// An [`Untrusted`].
#[cfg(unix)]
pub(crate) fn check_program(file: &File, path: &Path, also: Option<u32>) -> io::Result<PathBuf> {
    use mainstay_holder::dir::{check_closed, check_file};
    let path = std::path::absolute(path)?;
    let folder = |path: &Path| check_closed(path.parent().unwrap_or(path), also);
    let untrusted = |error: DirError| match error.errno() {
        Some(errno) => errno.into(),
        None => io::Error::other(Untrusted(error.to_string())),
    };
    check_file(file, &path, also).map_err(untrusted)?;
    folder(&path).map_err(untrusted)?;
    if !path.symlink_metadata()?.is_symlink() {
        return Ok(path);
    }
    // What a link leads to is in a folder of its own, in which another may be put in its place.
    let real = path.canonicalize()?;
    folder(&real).map_err(untrusted)?;
    Ok(real)
}

/// The access control of the folder decides who may write.
#[cfg(windows)]
pub(crate) fn check(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// As [`check`].
#[cfg(windows)]
pub(crate) fn check_program(_: &File, path: &Path, _: Option<u32>) -> io::Result<PathBuf> {
    Ok(path.to_owned())
}

/// Whether a folder that nobody named is of this user or root: what happens to lie in the current
/// folder is not run because a command was typed there.
#[cfg(unix)]
pub(crate) fn is_own(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = [
        Some(nix::unistd::geteuid().as_raw()),
        Some(0),
        named_owner(),
    ];
    let is_own = |path: &Path| {
        path.metadata()
            .is_ok_and(|it| own.contains(&Some(it.uid())))
    };
    is_own(folder) && is_own(&folder.join(super::sources::FILE))
}

/// The user, beside root, whose configuration root uses: one that is named, or who became root by
/// sudo and may do anything as root.
#[cfg(unix)]
pub(crate) fn named_owner() -> Option<u32> {
    let named = |name: &str| std::env::var(name).ok()?.parse().ok();
    let is_root = nix::unistd::geteuid().is_root();
    let named = is_root.then(|| named(OWNER_VARIABLE).or_else(|| named("SUDO_UID")));
    named.flatten()
}

/// The access control of the folder decides who may write.
#[cfg(windows)]
pub(crate) fn named_owner() -> Option<u32> {
    None
}

/// The access control of the folder decides who may write.
#[cfg(windows)]
pub(crate) fn is_own(_: &Path) -> bool {
    true
}
