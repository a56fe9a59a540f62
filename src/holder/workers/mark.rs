//! The secret of a state directory, by which processes of this mainstay are recognised.
//! Owns the file that keeps it for later holders, and draws the mark of each run.
//! Never uses a secret that another user could read or write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::random::random;

/// The file, beside the lock.
const FILE: &str = "mark";
/// There while a holder knows its trees by marks alone, and until the next one has swept them.
const WALKED: &str = "walked";
/// Random bytes of the secret, of which the first ones are its public name.
const SECRET_BYTES: usize = 24;
const PUBLIC_BYTES: usize = 8;

/// Variable by which a process is recognised as one of an instance's tree.
pub(crate) const TREE_MARK_VAR: &str = "MAINSTAY_MARK";

/// The variable with this value, as it lies in an environment.
pub(crate) fn mark_variable(mark: &str) -> Vec<u8> {
    format!("{TREE_MARK_VAR}={mark}").into_bytes()
}

/// What is known of a state directory to its own processes alone.
#[derive(Debug)]
pub(crate) struct MarkSecret(pub(crate) String);

impl MarkSecret {
    /// Reads the secret of a state directory, or draws one.
    ///
    /// # Errors
    /// The file can neither be read nor made.
    pub(crate) fn open(state_dir: &Path) -> io::Result<MarkSecret> {
        let path = state_dir.join(FILE);
        match read(&path)? {
            Some(secret) => Ok(MarkSecret(secret)),
            None => draw(&path).map(MarkSecret),
        }
    }

    /// A name for the state directory that tells nothing of the secret.
    pub(crate) fn public_name(&self) -> &str {
        &self.0[..2 * PUBLIC_BYTES]
    }

    /// The mark of a new run: what it shares with all runs of this state directory, and its own.
    pub(crate) fn draw_mark(&self) -> io::Result<String> {
        Ok(format!("{}{}", self.prefix(), random::<16>()?))
    }

    /// How all marks of this state directory begin.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:", &self.0[2 * PUBLIC_BYTES..])
    }
}

/// Whether an earlier holder of a state directory may have left trees that no control group has.
pub(crate) fn was_walked(state_dir: &Path) -> bool {
    state_dir.join(WALKED).symlink_metadata().is_ok()
}

/// Says the same to the next holder, as far as the disk lets it.
pub(crate) fn note_walk(state_dir: &Path, walks: bool) {
    let path = state_dir.join(WALKED);
    let mut options = OpenOptions::new();
    let _noted = match walks {
        true => options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map(drop),
        false => fs::remove_file(path),
    };
}

/// None: there is none, or none that only this user could read.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(problem) => match problem.raw_os_error() {
            Some(libc::ENOENT | libc::ELOOP | libc::EACCES | libc::ENXIO) => return Ok(None),
            _ => return Err(problem),
        },
    };
    let seen = file.metadata()?;
    let own = seen.uid() == nix::unistd::geteuid().as_raw() && seen.mode() & 0o077 == 0;
    if !seen.is_file() || !own {
        return Ok(None);
    }
    let mut text = String::new();
    let length = 2 * SECRET_BYTES;
    let read = file.take(length as u64 + 1).read_to_string(&mut text);
    let whole = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok((read.is_ok() && whole).then_some(text))
}

fn draw(path: &Path) -> io::Result<String> {
    let secret = random::<SECRET_BYTES>()?;
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path)?;
    }
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file: File = options.open(path)?;
    file.write_all(secret.as_bytes())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_lasts_and_is_for_its_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let first = MarkSecret::open(dir.path()).unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = MarkSecret::open(dir.path()).unwrap();
        assert_eq!(first.0, again.0);
        assert_ne!(first.draw_mark().unwrap(), first.draw_mark().unwrap());
        assert!(first.draw_mark().unwrap().starts_with(&again.prefix()));
        assert!(!first.draw_mark().unwrap().contains(first.public_name()));
        // One that others could read, a link, or what is no secret is replaced.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let second = MarkSecret::open(dir.path()).unwrap();
        assert_ne!(first.0, second.0);
        fs::rename(&file, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        let third = MarkSecret::open(dir.path()).unwrap();
        assert_ne!(second.0, third.0);
        fs::write(&file, "0".repeat(7)).unwrap();
        assert_ne!(third.0, MarkSecret::open(dir.path()).unwrap().0);
    }

    #[test]
    fn two_directories_have_two_secrets() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let secrets = dirs
            .each_ref()
            .map(|dir| MarkSecret::open(dir.path()).unwrap());
        assert_ne!(secrets[0].prefix(), secrets[1].prefix());
        assert_ne!(secrets[0].public_name(), secrets[1].public_name());
    }
}
