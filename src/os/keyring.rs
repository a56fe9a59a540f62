//! The keyring of the kernel: keys of this user in memory, on no disk, until the machine ends.
//! Owns how a key gets there and who may read it: this user, from every session.
//! Never creates a key by itself. Linux alone.

use std::io;

/// Longest name of a key.
#[cfg(target_os = "linux")]
const NAME_BYTES_MAX: usize = 200;

/// Returns the key of that name; `NotFound`: there is none.
///
/// # Errors
/// What the kernel says; also when this process may not use keyrings.
#[cfg(target_os = "linux")]
pub(crate) fn read(name: &str) -> io::Result<Vec<u8>> {
    let found = user_keyring()?.search(&description(name)?);
    let key = found.map_err(failed)?;
    key.read_to_vec().map_err(failed)
}

/// Puts a key under that name into the keyring of this user, instead of the one that is there.
///
/// # Errors
/// What the kernel says; also when this process may not use keyrings.
#[cfg(target_os = "linux")]
pub(crate) fn store(name: &str, bytes: &[u8]) -> io::Result<()> {
    use linux_keyutils::{KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
    let ring = user_keyring()?;
    // Only who possesses a key may open it to the other sessions of its user, such as a service.
    let own = KeyRing::from_special_id(KeyRingIdentifier::Process, true).map_err(failed)?;
    let key = own.add_key(&description(name)?, bytes).map_err(failed)?;
    // A process that only inherited a session of this user may not use it.
    let use_it = Permission::VIEW | Permission::READ | Permission::SEARCH | Permission::LINK;
    let access = KeyPermissionsBuilder::builder().posessor(Permission::VIEW);
    key.set_perms(access.user(use_it).build()).map_err(failed)?;
    ring.link_key(key).map_err(failed)?;
    own.unlink_key(key).map_err(failed)
}

/// Whether this process may use the keyring of its user.
#[cfg(target_os = "linux")]
pub(crate) fn is_usable() -> bool {
    user_keyring().is_ok()
}

#[cfg(target_os = "linux")]
fn user_keyring() -> io::Result<linux_keyutils::KeyRing> {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    KeyRing::from_special_id(KeyRingIdentifier::User, true).map_err(failed)
}

#[cfg(target_os = "linux")]
fn description(name: &str) -> io::Result<String> {
    match name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        true => Err(io::ErrorKind::InvalidInput.into()),
        false => Ok(format!("mainstay:{name}")),
    }
}

#[cfg(target_os = "linux")]
fn failed(error: linux_keyutils::KeyError) -> io::Error {
    use linux_keyutils::KeyError;
    match error {
        KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked => {
            io::ErrorKind::NotFound.into()
        }
        KeyError::AccessDenied | KeyError::PermissionDenied => {
            io::Error::other("this process may not use it")
        }
        KeyError::QuotaExceeded => io::Error::other("this user has too many keys in it"),
        error => io::Error::other(format!("{error}")),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read(_: &str) -> io::Result<Vec<u8>> {
    Err(unsupported())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn store(_: &str, _: &[u8]) -> io::Result<()> {
    Err(unsupported())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_usable() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn unsupported() -> io::Error {
    let text = "only that of Linux is supported; the key has to be a file here";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
