//! A directory with the names that `dir` has on Unix; here its path is all there is to it.
//! Owns that path. Never follows a rename of the directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A directory.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    /// Creates the directory where it is missing; whoever may write in it decides its folder.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn claim_closed(path: &Path, _mode: u32) -> io::Result<Dir> {
        fs::create_dir_all(path)?;
        Ok(Dir {
            path: path.to_owned(),
        })
    }

    /// Opens a file to append to it, created where it is missing.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn append(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        options.open(self.path.join(name))
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    /// Renames an entry inside this directory.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    /// Removes a file; returns whether it was there.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }
}
