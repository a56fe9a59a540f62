//! The command by which a holder starts its runtime.
//! Never starts it.

use std::ffi::OsString;
use std::path::PathBuf;

/// How to start the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeCommand {
    /// The program; on Linux opened once, so that replacing the file changes nothing.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// Variables on top of the holder's own.
    pub env: Vec<(OsString, OsString)>,
}
