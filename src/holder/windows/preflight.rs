//! Where a command's program is on this machine, and what keeps it from being used, in words.
//! Owns the order in which files are looked for.
//! Never executes anything; what it does not see may still be wrong.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The PATH that a program with this environment is looked for in, if it is started from this one;
/// without one it is in no folder.
#[must_use]
pub fn search_path(env: &[(String, String)], clear_env: bool) -> String {
    let is_it = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("PATH");
    let own = env.iter().rfind(is_it).map(|(_, path)| path.clone());
    let kept = || std::env::var("PATH").ok().filter(|_| !clear_env);
    own.or_else(kept).unwrap_or_default()
}

/// The file that is meant: as it is said or with `.exe`, in `directory`, or in the folders of
/// `path` when it has no slash.
pub(crate) fn find(program: &str, directory: &Path, path: &OsStr) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = match program.contains(['/', '\\']) {
        true => vec![directory.to_owned()],
        false => std::env::split_paths(path)
            .map(|folder| directory.join(folder))
            .collect(),
    };
    let named = [program.to_owned(), format!("{program}.exe")];
    let mut candidates = folders
        .iter()
        .flat_map(|folder| named.iter().map(|name| folder.join(name)));
    candidates.find(|path| !program.is_empty() && path.is_file())
}

/// Whether a file is a script of cmd.exe, which takes words apart by rules that cannot be quoted
/// for.
pub(crate) fn is_batch(file: &Path) -> bool {
    let ending = file.extension().map(OsStr::to_ascii_lowercase);
    ending.is_some_and(|ending| ending == "bat" || ending == "cmd")
}

/// Returns why `program` cannot be executed in `directory`, with `path` searched; none if no
/// reason is found.
#[must_use]
pub fn check_program(program: &str, directory: &Path, path: &str) -> Option<String> {
    match find(program, directory, OsStr::new(path)) {
        Some(file) if is_batch(&file) => {
            Some("it is a script; name its shell: [\"cmd.exe\", \"/c\", …]".to_owned())
        }
        Some(_) => None,
        None if program.contains(['/', '\\']) => Some(format!(
            "there is no such file in {}, with or without .exe; build it there, or correct the \
             path",
            directory.display()
        )),
        None => Some(format!(
            "it is in no folder of PATH ({path}); install it, or name it with its path"
        )),
    }
}

/// Makes a folder; one that is there stays as it is.
///
/// # Errors
/// In a sentence; `key` is what in the configuration names the folder.
pub fn make_folder(path: &Path, key: &str) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|problem| {
        let path = path.display();
        format!("cannot make the folder {path}: {problem}; set another {key}")
    })
}

/// There are no users to look for: the configuration refuses to name one.
#[must_use]
pub fn has_user(_name: &str) -> bool {
    true
}

/// There are no groups to look for: the configuration refuses to name one.
#[must_use]
pub fn has_group(_name: &str) -> bool {
    true
}
