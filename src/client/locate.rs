//! Where an instance keeps its control socket unless its configuration says otherwise.
//! Owns the defaults of `runtime_dir`, for clients and for the runtime itself.
//! Never creates a folder and never reads a configuration.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::Error;

/// The control socket's file name inside the runtime folder.
pub const SOCKET_FILE: &str = "control.sock";

/// The control socket of the instance whose runtime folder this is.
#[must_use]
pub fn control_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(SOCKET_FILE)
}

/// The default runtime folder of the instance `name`: `$XDG_RUNTIME_DIR/mainstay/NAME`, without
/// that variable or where it names a folder of another user (su and sudo -E keep it)
/// `/run/mainstay/NAME` for root, else `mainstay-UID/NAME` in the temporary folder. Root's folder
/// of a login (`/run/user/0`) counts as none: it ends with the login, and no service has it.
///
/// # Errors
/// [`Error::NotOwner`] when `mainstay-UID` in the temporary folder belongs to another user.
pub fn runtime_dir(name: &str) -> Result<PathBuf, Error> {
    let uid = own_uid();
    let temporary = std::env::temp_dir();
    let xdg = std::env::var_os("XDG_RUNTIME_DIR");
    let dir = choose(
        name,
        xdg.as_deref().filter(|dir| !is_foreign(dir, uid)),
        uid,
        &temporary,
    );
    if let Some(shared) = dir
        .parent()
        .filter(|parent| parent.parent() == Some(&temporary))
    {
        check_owner(shared, uid)?;
    }
    Ok(dir)
}

/// A variable that is not an absolute path is as good as none, as its specification says.
fn choose(name: &str, xdg: Option<&OsStr>, uid: Option<u32>, temporary: &Path) -> PathBuf {
    let shared = Path::new("/run/mainstay").join(name);
    match (xdg.map(Path::new), uid) {
        (Some(xdg), Some(0)) if xdg.starts_with("/run/user") => shared,
        (Some(xdg), _) if xdg.is_absolute() => xdg.join("mainstay").join(name),
        (_, Some(0)) => shared,
        (_, Some(uid)) => temporary.join(format!("mainstay-{uid}")).join(name),
        (_, None) => temporary.join("mainstay").join(name),
    }
}

/// Returns whether another user owns the folder.
#[cfg(unix)]
fn is_foreign(folder: &OsStr, uid: Option<u32>) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).is_ok_and(|found| Some(found.uid()) != uid)
}

#[cfg(not(unix))]
fn is_foreign(_folder: &OsStr, _uid: Option<u32>) -> bool {
    false
}

/// Checks that nobody else owns the folder; one that is not there is nobody's.
#[cfg(unix)]
fn check_owner(folder: &Path, uid: Option<u32>) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() || Some(found.uid()) != uid => Err(Error::NotOwner {
            path: folder.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_owner(_folder: &Path, _uid: Option<u32>) -> Result<(), Error> {
    Ok(())
}

#[cfg(unix)]
fn own_uid() -> Option<u32> {
    Some(nix::unistd::geteuid().as_raw())
}

#[cfg(not(unix))]
fn own_uid() -> Option<u32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_folder_follows_the_variable_then_the_user() {
        let folder = |xdg: Option<&str>, uid| {
            choose("app", xdg.map(OsStr::new), uid, Path::new("/tmp"))
                .display()
                .to_string()
        };
        assert_eq!(
            folder(Some("/run/user/7"), Some(7)),
            "/run/user/7/mainstay/app"
        );
        assert_eq!(folder(Some("/run/user/0"), Some(0)), "/run/mainstay/app");
        assert_eq!(folder(Some("/tmp/own"), Some(0)), "/tmp/own/mainstay/app");
        assert_eq!(folder(Some("relative"), Some(0)), "/run/mainstay/app");
        assert_eq!(folder(Some(""), Some(7)), "/tmp/mainstay-7/app");
        assert_eq!(folder(None, Some(7)), "/tmp/mainstay-7/app");
        assert_eq!(folder(None, None), "/tmp/mainstay/app");
    }

    #[test]
    fn a_variable_that_names_a_folder_of_another_user_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().as_os_str();
        assert!(!is_foreign(path, own_uid()));
        assert!(is_foreign(path, own_uid().map(|uid| uid + 1)));
        let missing = folder.path().join("none");
        assert!(!is_foreign(missing.as_os_str(), own_uid()));
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_trusted() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("mainstay-7");
        assert!(check_owner(&folder, own_uid()).is_ok(), "not there");
        std::fs::create_dir(&folder).expect("created");
        assert!(check_owner(&folder, own_uid()).is_ok(), "our own");
        let other = own_uid().map(|uid| uid + 1);
        assert!(matches!(
            check_owner(&folder, other),
            Err(Error::NotOwner { .. })
        ));
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).expect("linked");
        assert!(
            check_owner(&link, own_uid()).is_err(),
            "a link can be bent later"
        );
    }
}
