//! A program that is to take the place of the runtime, opened before it is checked.
//! Owns how it is opened, and whether its path still leads to it.
//! Never executes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::private;

/// The request to replace the program of the runtime.
#[derive(Debug)]
pub(crate) struct UpgradeRequest {
    /// Its absolute path.
    pub(crate) program: String,
    /// The same, opened.
    #[cfg_attr(windows, expect(dead_code, reason = "the path alone is used there"))]
    pub(crate) file: File,
    /// What the holder keeps of it for later runtimes.
    pub(crate) note: String,
}

/// Opens a program for its execution: on Linux it needs not be readable.
///
/// # Errors
/// It is not there, or is no file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_PATH);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    // The interpreter of a script could not open it: it is executed by its descriptor.
    let mut start = [0; 2];
    let readable = private::open_regular(path).and_then(|mut it| it.read_exact(&mut start));
    if readable.is_ok() && &start == b"#!" {
        let text = "it is a script; name the program that it starts";
        return Err(io::Error::other(text));
    }
    Ok(file)
}

/// Whether the path leads to the open file still.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(there)) = (file.metadata(), path.metadata()) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// A program that runs cannot be replaced there.
#[cfg(windows)]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true
}
