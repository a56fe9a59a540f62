//! The log files of instances and their indexes: opened in their directory, appended to, rotated.
//! Owns the descriptors of the directory and of the files that are open.
//! Never opens what may block: a name that is no regular file is an error.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use mainstay_process::Instance;
use mainstay_process::log_index::IndexEncoder;

use crate::dir::Dir;
use crate::workers::log_index::{LogIndex, LogMark, is_there, name_of, remove_index};

/// Logs kept open.
const OPEN_MAX: usize = 256;
/// Closed logs whose index is continued without a gap.
const CLOSED_MAX: usize = 4096;

/// The files of one directory.
#[derive(Debug)]
pub(crate) struct LogFiles {
    folder: PathBuf,
    dir: Option<Dir>,
    open: HashMap<Instance, OpenLog>,
    closed: HashMap<Instance, IndexEncoder>,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    index: LogIndex,
}

impl LogFiles {
    /// The directory is opened by the first write.
    pub(crate) fn new(folder: PathBuf) -> LogFiles {
        LogFiles {
            folder,
            dir: None,
            open: HashMap::new(),
            closed: HashMap::new(),
        }
    }

    /// Closes everything: the next write opens it again.
    pub(crate) fn close(&mut self) {
        self.dir = None;
        self.open.clear();
        self.closed.clear();
    }

    /// Whether the index of a log waits for [`LogFiles::flush_indexes`].
    pub(crate) fn is_deferred(&self, name: &str) -> bool {
        let log = self.open.get(name);
        log.is_some_and(|log| log.index.is_deferred())
    }

    /// Writes what indexes hold back to stay small.
    pub(crate) fn flush_indexes(&mut self) {
        for log in self.open.values_mut().filter(|log| log.index.is_deferred()) {
            self.dir.iter().for_each(|dir| log.index.flush(dir));
        }
    }

    /// Appends to `NAME.log`, which is rotated at `max_bytes` (0: never); `keep` old files stay.
    /// The marks say when which bytes were read, in order.
    ///
    /// # Errors
    /// What the system says; the file is no regular one. The file is opened again next time.
    pub(crate) fn append(
        &mut self,
        name: &Instance,
        bytes: &[u8],
        marks: &[LogMark],
        limits: (u64, u32),
    ) -> io::Result<()> {
        if self.open.len() > OPEN_MAX {
            self.flush_indexes();
            let known = self
                .open
                .drain()
                .map(|(name, log)| (name, log.index.into_known()));
            self.closed.extend(known);
        }
        if self.closed.len() > CLOSED_MAX {
            self.closed.clear();
        }
        let written = self.write(name, bytes, marks, limits);
        if written.is_err() {
            self.open.remove(name);
        }
        written
    }

    fn write(
        &mut self,
        name: &Instance,
        bytes: &[u8],
        marks: &[LogMark],
        (max_bytes, keep): (u64, u32),
    ) -> io::Result<()> {
        let max = if max_bytes == 0 { u64::MAX } else { max_bytes };
        let mut done = 0;
        while done < bytes.len() {
            let (log, dir, size) = self.log(name)?;
            let room = usize::try_from(max.saturating_sub(size)).unwrap_or(usize::MAX);
            let part = fitting(&bytes[done..], room, size == 0);
            if part == 0 {
                log.index.flush(dir);
                self.open.remove(name);
                self.rotate(&format!("{name}.log"), keep)?;
                continue;
            }
            log.file.write_all(&bytes[done..done + part])?;
            log.index.append(dir, size, done..done + part, marks);
            done += part;
        }
        let after = marks.partition_point(|mark| mark.at < bytes.len());
        if after < marks.len() {
            let (log, dir, _) = self.log(name)?;
            log.index.append_marks(dir, &marks[after..]);
        }
        Ok(())
    }

    /// Returns the log, its directory and its size; opens it if it is not open or was removed.
    fn log(&mut self, name: &Instance) -> io::Result<(&mut OpenLog, &Dir, u64)> {
        let about = self
            .open
            .get(name)
            .map(|log| log.file.metadata())
            .transpose()?;
        let size = match about.filter(is_there) {
            Some(about) => about.len(),
            None => {
                let before = self.closed.remove(name);
                let dir = self.dir()?;
                let log = format!("{name}.log");
                let file = dir.append(&log)?;
                let size = file.metadata()?.len();
                let index = LogIndex::open(dir, &log, size, before);
                self.open.insert(name.clone(), OpenLog { file, index });
                size
            }
        };
        match (self.open.get_mut(name), &self.dir) {
            (Some(log), Some(dir)) => Ok((log, dir, size)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir(&mut self) -> io::Result<&Dir> {
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => Dir::claim_closed(&self.folder, 0o700)?,
        };
        Ok(self.dir.insert(dir))
    }

    /// NAME.log becomes .1, .1 becomes .2 and so on; what is older than `keep` is removed. An index
    /// is removed before and renamed after its log: none is ever beside another log.
    fn rotate(&mut self, file: &str, keep: u32) -> io::Result<()> {
        let dir = self.dir()?;
        let numbered = |number: u32| match number {
            0 => file.to_owned(),
            number => format!("{file}.{number}"),
        };
        for old in keep.max(1)..keep.saturating_add(16) {
            remove_index(dir, &numbered(old));
            if !dir.remove(&numbered(old)).is_ok_and(|there| there) {
                break;
            }
        }
        for number in (0..keep).rev() {
            let (from, to) = (numbered(number), numbered(number + 1));
            remove_index(dir, &to);
            match dir.rename(&from, &to) {
                Err(problem) if number == 0 || problem.kind() != io::ErrorKind::NotFound => {
                    return Err(problem);
                }
                _ => {}
            }
            // Without it lines have no time.
            let _ = dir.rename(&name_of(&from), &name_of(&to));
        }
        if keep == 0 {
            remove_index(dir, file);
            dir.remove(file)?;
        }
        Ok(())
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

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs;

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
                .append(&name.parse().unwrap(), b"y\n", &[], (2, 2))
                .unwrap_err();
            assert!(error.to_string().to_lowercase().contains(text), "{error}");
            files
                .append(&"good".parse().unwrap(), b"y\n", &[], (0, 2))
                .unwrap();
        }
        assert_eq!(fs::read(folder.join("good.log")).unwrap(), b"y\ny\ny\n");
        assert_eq!(fs::read(home.path().join("target")).unwrap(), b"");
        fs::remove_file(folder.join("fifo.log")).unwrap();
        files
            .append(&"fifo".parse().unwrap(), b"y\n", &[], (2, 2))
            .unwrap();
        // A folder that was removed is there again after it was closed.
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            files
                .append(&"good".parse().unwrap(), b"z\n", &[], (0, 2))
                .is_err()
        );
        files.close();
        files
            .append(&"good".parse().unwrap(), b"z\n", &[], (0, 2))
            .unwrap();
        assert_eq!(fs::read(folder.join("good.log")).unwrap(), b"z\n");
    }
}
