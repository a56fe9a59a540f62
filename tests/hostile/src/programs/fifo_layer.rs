//! Lays fifos where others open files: whoever opens one waits for the other side for ever.
//! Owns nothing of it afterwards. Never opens the other side.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::words::{Words, say, under_way};

/// `fifo-layer PATHS…`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    for path in words.rest(0) {
        mkfifo(path.as_str(), Mode::S_IRWXU)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    under_way()?;
    say(&format!("{} fifos", words.rest(0).len()))
}
