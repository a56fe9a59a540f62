//! The service manager of this platform.
//! Owns which one it is.
//! Never decides what is installed.

use std::path::PathBuf;

use super::perform::{FileState, ServiceManager, file_state};
use super::{Installation, Scope, ServiceSpec};

/// Everything that an installation does here.
///
/// # Errors
/// A path that cannot be in a definition.
pub(crate) fn installation(spec: &ServiceSpec) -> Result<Installation, super::PathError> {
    #[cfg(target_os = "macos")]
    return super::launchd::installation(spec, uid());
    #[cfg(windows)]
    return super::windows::installation(spec);
    #[cfg(not(any(target_os = "macos", windows)))]
    super::systemd::installation(spec)
}

/// The service manager that runs here.
///
/// # Errors
/// In a sentence: there is none, or this user may not use it.
pub(crate) fn manager(scope: Scope) -> Result<Box<dyn ServiceManager>, String> {
    #[cfg(target_os = "macos")]
    return Ok(Box::new(super::launchd_manager::Launchd::find(
        scope,
        uid(),
    )?));
    #[cfg(windows)]
    return Ok(Box::new(super::windows_service::Scm::find(scope)?));
    #[cfg(not(any(target_os = "macos", windows)))]
    Ok(Box::new(super::systemd_manager::Systemd::find(
        scope,
        is_privileged(),
    )?))
}

/// Whether this user may install a service of the machine.
pub(crate) fn is_privileged() -> bool {
    #[cfg(unix)]
    return uid() == 0;
    #[cfg(windows)]
    true
}

#[cfg(unix)]
fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// What is there of a definition.
pub(crate) fn definition_state(installation: &Installation) -> FileState {
    let mut states = installation.files.iter().map(file_state);
    let first = states.next().unwrap_or(FileState::Missing);
    match states.all(|state| state == first) {
        true => first,
        false => FileState::Stale,
    }
}

/// Variables that decide where mainstay keeps its state, and that a service would not have.
pub(crate) fn variables() -> Vec<(String, String)> {
    let value = std::env::var("XDG_STATE_HOME").ok();
    let value = value.filter(|value| PathBuf::from(value).is_absolute());
    let variable = value.map(|value| ("XDG_STATE_HOME".to_owned(), value));
    variable.into_iter().collect()
}
