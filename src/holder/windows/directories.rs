//! Directories, the lock, the names of the pipes and `holder.json`.
//! Owns the files it holds open from the setup on, and removes what is not to stay.
//! Never takes a state or runtime directory that another holder has.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::messages::HolderSetup;
use crate::status_file::HolderStatus;

/// Others may read meanwhile, but neither write nor take it for themselves.
const SHARE_READ: u32 = 1;
/// What Windows says to those who try.
const SHARING_VIOLATION: i32 = 32;

/// Where things are.
#[derive(Debug)]
pub(crate) struct SystemDirs {
    runtime_dir: PathBuf,
    /// Open for as long as this holder lives: nobody else can open them for writing.
    held: Vec<(PathBuf, File)>,
}

impl SystemDirs {
    /// Makes and takes everything.
    ///
    /// # Errors
    /// In a sentence: a directory cannot be made, or another mainstay has it.
    pub(crate) fn claim(setup: &HolderSetup) -> Result<SystemDirs, String> {
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if setup.name.is_empty() || !setup.name.chars().all(name_ok) {
            let why = "the name may only hold letters, digits, - _ and .; change mainstay.name";
            return Err(why.to_owned());
        }
        for folder in [&setup.state_dir, &setup.runtime_dir, &setup.log_dir] {
            fs::create_dir_all(folder)
                .map_err(|problem| format!("cannot use the directory {folder}: {problem}"))?;
        }
        let owner = format!("{} {}\n", std::process::id(), setup.name);
        let runtime_dir = PathBuf::from(&setup.runtime_dir);
        let mut held = vec![hold(
            &Path::new(&setup.state_dir).join("lock"),
            &owner,
            "state_dir",
        )?];
        for door in ["control", "module"] {
            let chance = RandomState::new().build_hasher().finish();
            let pipe = format!(
                "\\\\.\\pipe\\mainstay-{}-{chance:016x}-{door}\n",
                std::process::id()
            );
            let file = runtime_dir.join(format!("{door}.sock"));
            held.push(hold(&file, &pipe, "runtime_dir")?);
        }
        Ok(SystemDirs { runtime_dir, held })
    }

    /// Replaces `holder.json`: information for people, which a full disk may cost.
    pub(crate) fn write_status(&self, status: &HolderStatus<'_>) {
        let path = self.runtime_dir.join("holder.json");
        let aside = self.runtime_dir.join("holder.json.new");
        let _ = fs::write(&aside, status.to_json()).and_then(|()| fs::rename(aside, path));
    }

    /// Removes what is not to stay.
    pub(crate) fn release(self) {
        for (path, file) in self.held {
            drop(file);
            let _ = fs::remove_file(path); // gone is what we want
        }
        let _ = fs::remove_file(self.runtime_dir.join("holder.json"));
    }
}

/// Writes a file and keeps it open.
fn hold(path: &Path, text: &str, key: &str) -> Result<(PathBuf, File), String> {
    let say = |problem: io::Error| match problem.raw_os_error() {
        Some(SHARING_VIOLATION) => {
            let holder = fs::read_to_string(path.with_file_name("lock")).unwrap_or_default();
            let mut words = holder.split_whitespace();
            let pid = words.next().unwrap_or("unknown");
            let name = words.next().unwrap_or("NAME");
            format!(
                "another mainstay (pid {pid}) holds {}; stop it with `mainstay --name {name} down` \
                 or choose another mainstay.{key}",
                path.display()
            )
        }
        _ => format!("cannot use {}: {problem}", path.display()),
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let mut file = options.share_mode(SHARE_READ).open(path).map_err(say)?;
    file.set_len(0).map_err(say)?;
    file.write_all(text.as_bytes()).map_err(say)?;
    Ok((path.to_owned(), file))
}
