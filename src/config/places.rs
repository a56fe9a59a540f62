//! Where the state and the sockets of a system are when nobody says so.
//! Owns the choice of the platform's folders.
//! Never creates one.

use std::path::{Path, PathBuf};

use super::problem::Problem;

/// The state folder of the system `name`.
///
/// # Errors
/// A problem when this user has no home folder.
pub(crate) fn state_dir(name: &str) -> Result<PathBuf, Box<Problem>> {
    let said = std::env::var_os("XDG_STATE_HOME");
    if let Some(said) = said.filter(|said| Path::new(said).is_absolute()) {
        return Ok(Path::new(&said).join("mainstay").join(name));
    }
    let user = directories::BaseDirs::new().ok_or_else(|| {
        let problem = Problem::new("cannot tell where to keep state: this user has no home folder");
        Box::new(problem.hint("say it: `state_dir = \"…\"` in [mainstay]"))
    })?;
    let folder = user.state_dir().unwrap_or_else(|| user.data_local_dir());
    Ok(folder.join("mainstay").join(name))
}

/// The runtime folder of the system `name`.
///
/// # Errors
/// A problem when the folder belongs to somebody else.
pub(crate) fn runtime_dir(name: &str) -> Result<PathBuf, Box<Problem>> {
    mainstay_client::locate::runtime_dir(name).map_err(|error| {
        let problem = Problem::new(error.to_string());
        Box::new(problem.hint("say another: `runtime_dir = \"…\"` in [mainstay]"))
    })
}
