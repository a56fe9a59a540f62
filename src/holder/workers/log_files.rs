//! The log files of instances: opened in their directory, appended to, rotated.
//! Owns the descriptors of the directory and of the files that are open.
//! Never opens what may block: a name that is no regular file is an error.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use mainstay_process::Instance;

use crate::dir::Dir;

/// Files kept open.
const OPEN_MAX: usize = 256;

/// The files of one directory.
#[derive(Debug)]
pub(crate) struct LogFiles {
    folder: PathBuf,
    dir: Option<Dir>,
    open: HashMap<Instance, File>,
}

impl LogFiles {
    /// The directory is opened by the first write.
    pub(crate) fn new(folder: PathBuf) -> LogFiles {
        LogFiles {
            folder,
            dir: None,
            open: HashMap::new(),
        }
    }

    /// Closes everything: the next write opens it again.
    pub(crate) fn close(&mut self) {
        self.dir = None;
        self.open.clear();
    }

    /// Appends to `NAME.log`, which is rotated at `max_bytes` (0: never); `keep` old files stay.
    ///
    /// # Errors
    /// What the system says; the file is no regular one. The file is opened again next time.
    pub(crate) fn append(
        &mut self,
        name: &Instance,
        bytes: &[u8],
        limits: (u64, u32),
    ) -> io::Result<()> {
        if self.open.len() > OPEN_MAX {
            self.open.clear();
        }
        let written = self.write(name, bytes, limits);
        if written.is_err() {
            self.open.remove(name);
        }
        written
    }

    fn write(
        &mut self,
        name: &Instance,
        mut bytes: &[u8],
        (max_bytes, keep): (u64, u32),
    ) -> io::Result<()> {
        let max = if max_bytes == 0 { u64::MAX } else { max_bytes };
        while !bytes.is_empty() {
            let (file, size) = self.file(name)?;
            let room = usize::try_from(max.saturating_sub(size)).unwrap_or(usize::MAX);
            let part = fitting(bytes, room, size == 0);
            if part == 0 {
                self.open.remove(name);
                self.rotate(&format!("{name}.log"), keep)?;
                continue;
            }
            file.write_all(&bytes[..part])?;
            bytes = &bytes[part..];
        }
        Ok(())
    }

    /// Returns the file and its size; opens it if it is not open or was removed.
    fn file(&mut self, name: &Instance) -> io::Result<(&mut File, u64)> {
        let about = self.open.get(name).map(File::metadata).transpose()?;
        let size = match about.filter(is_there) {
            Some(about) => about.len(),
            None => {
                let file = self.dir()?.append(&format!("{name}.log"))?;
                let size = file.metadata()?.len();
                self.open.insert(name.clone(), file);
                size
            }
        };
        let file = self.open.get_mut(name);
        file.map(|file| (file, size))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn dir(&mut self) -> io::Result<&Dir> {
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => Dir::claim_closed(&self.folder, 0o700)?,
        };
        Ok(self.dir.insert(dir))
    }

    /// NAME.log becomes .1, .1 becomes .2 and so on; what is older than `keep` is removed.
    fn rotate(&mut self, file: &str, keep: u32) -> io::Result<()> {
        let dir = self.dir()?;
        let numbered = |number: u32| format!("{file}.{number}");
        for old in keep.max(1)..keep.saturating_add(16) {
            if !dir.remove(&numbered(old)).is_ok_and(|there| there) {
                break;
            }
        }
        for number in (1..keep).rev() {
            match dir.rename(&numbered(number), &numbered(number + 1)) {
                Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
                _ => {}
            }
        }
        if keep == 0 {
            dir.remove(file).map(drop)
        } else {
            dir.rename(file, &numbered(1))
        }
    }
}

/// How much goes into the current file: whole lines, unless one line alone is too long for a file.
fn fitting(bytes: &[u8], room: usize, empty: bool) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    match bytes[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if empty => room.max(1),
        None => 0,
    }
}

#[cfg(unix)]
fn is_there(about: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(about) > 0
}

/// Windows does not say: what is written after a log was taken away is lost.
#[cfg(windows)]
fn is_there(_: &fs::Metadata) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_bad_file_costs_the_others_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("logs");
        fs::create_dir(&folder).unwrap();
        nix::unistd::mkfifo(&folder.join("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(folder.join("folder.log")).unwrap();
        fs::write(home.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("../target", folder.join("link.log")).unwrap();
        let mut files = LogFiles::new(folder.clone());
        for (name, text) in [
            ("fifo", "fifo.log is a fifo"),
            ("folder", "folder.log is a directory"),
            ("link", "link.log is a symbolic link"),
        ] {
            let error = files
                .append(&name.parse().unwrap(), b"y\n", (2, 2))
                .unwrap_err();
            assert!(error.to_string().to_lowercase().contains(text), "{error}");
            files
                .append(&"good".parse().unwrap(), b"y\n", (0, 2))
                .unwrap();
        }
        assert_eq!(fs::read(folder.join("good.log")).unwrap(), b"y\ny\ny\n");
        assert_eq!(fs::read(home.path().join("target")).unwrap(), b"");
        fs::remove_file(folder.join("fifo.log")).unwrap();
        files
            .append(&"fifo".parse().unwrap(), b"y\n", (2, 2))
            .unwrap();
        // A folder that was removed is there again after it was closed.
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            files
                .append(&"good".parse().unwrap(), b"z\n", (0, 2))
                .is_err()
        );
        files.close();
        files
            .append(&"good".parse().unwrap(), b"z\n", (0, 2))
            .unwrap();
        assert_eq!(fs::read(folder.join("good.log")).unwrap(), b"z\n");
    }
}
