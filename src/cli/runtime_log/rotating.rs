//! A file that is rotated when it is full: `mainstay.log`, `.1`, `.2`, as the logs of modules.
//! Owns the file and its size. Never exceeds its limit by more than one line.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::os::private;

/// A file that is rotated.
pub(in crate::cli) struct RotatingFile {
    path: PathBuf,
    file: File,
    written: u64,
    limits: Arc<RotationLimits>,
}

/// When files are rotated and how many are kept; shared by those of this process.
#[derive(Debug, Default)]
pub(in crate::cli) struct RotationLimits {
    max_bytes: AtomicU64,
    keep: AtomicU32,
}

impl RotationLimits {
    /// Changes them.
    pub(in crate::cli) fn set(&self, max_bytes: u64, keep: u32) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.keep.store(keep, Ordering::Relaxed);
    }
}

impl RotatingFile {
    /// Opens the file for appending; creates its folder if missing.
    ///
    /// # Errors
    /// The error of the system.
    pub(in crate::cli) fn open(
        path: &Path,
        limits: Arc<RotationLimits>,
    ) -> io::Result<RotatingFile> {
        if let Some(folder) = path.parent() {
            private::private_dir(folder)?;
        }
        let file = private::append(path)?;
        Ok(RotatingFile {
            written: file.metadata()?.len(),
            path: path.to_owned(),
            file,
            limits,
        })
    }

    /// Writes one line; rotates first if the file is full.
    ///
    /// # Errors
    /// The error of the system; the line is lost.
    pub(in crate::cli) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if is_removed(&self.file) {
            *self = RotatingFile::open(&self.path, Arc::clone(&self.limits))?;
        }
        let max_bytes = self.limits.max_bytes.load(Ordering::Relaxed);
        if self.written > 0 && self.written + length > max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.written += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.limits.keep.load(Ordering::Relaxed);
        for number in (1..keep).rev() {
            let _missing = fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        if keep > 0 {
            fs::rename(&self.path, self.numbered(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = private::append(&self.path)?;
        self.written = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// With its folder, perhaps, which is there again.
#[cfg(unix)]
fn is_removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|about| about.nlink() == 0)
}

#[cfg(windows)]
fn is_removed(_: &File) -> bool {
    false
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn full_files_are_turned_and_only_so_many_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/mainstay.log");
        let limits = Arc::new(RotationLimits::default());
        limits.set(20, 2);
        for number in 0..3 {
            // Opened again each time: what is there counts.
            let mut log = RotatingFile::open(&path, Arc::clone(&limits)).unwrap();
            for line in 0..4 {
                log.write_line(format!("line {number}{line}\n").as_bytes())
                    .unwrap();
            }
        }
        let read = |name: &str| fs::read_to_string(path.with_file_name(name)).unwrap();
        assert_eq!(read("mainstay.log"), "line 22\nline 23\n");
        assert_eq!(read("mainstay.log.1"), "line 20\nline 21\n");
        assert_eq!(read("mainstay.log.2"), "line 12\nline 13\n");
        assert!(!path.with_file_name("mainstay.log.3").exists());
        let mut log = RotatingFile::open(&path, Arc::clone(&limits)).unwrap();
        limits.set(1000, 2);
        log.write_line(b"line 23 and more\n").unwrap();
        assert_eq!(read("mainstay.log.1"), "line 20\nline 21\n");
    }
}
