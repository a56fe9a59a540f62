//! The default state and runtime directories of a system.
//! Owns the choice of the platform's folders.
//! Never creates one.

use std::path::{Path, PathBuf};

use super::problem::Problem;

/// Returns the state directory of the system `name`.
///
/// # Errors
/// This user has no home folder.
pub(crate) fn state_dir(name: &str) -> Result<PathBuf, Box<Problem>> {
    let said = std::env::var_os("XDG_STATE_HOME");
    if let Some(said) = said.filter(|said| Path::new(said).is_absolute()) {
        return Ok(Path::new(&said).join("mainstay").join(name));
    }
    let user = directories::BaseDirs::new().ok_or_else(|| {
        let problem = Problem::new("cannot choose a state directory: this user has no home folder");
        Box::new(problem.hint("say it: `state_dir = \"…\"` in [mainstay]"))
    })?;
    let folder = user.state_dir().unwrap_or_else(|| user.data_local_dir());
    Ok(folder.join("mainstay").join(name))
}

/// Returns the runtime directory of the system `name`.
///
/// # Errors
/// A problem when the folder belongs to another user.
pub(crate) fn runtime_dir(name: &str) -> Result<PathBuf, Box<Problem>> {
    mainstay_client::locate::runtime_dir(name).map_err(|error| {
        let problem = Problem::new(error.to_string());
        Box::new(problem.hint("say another: `runtime_dir = \"…\"` in [mainstay]"))
    })
}
