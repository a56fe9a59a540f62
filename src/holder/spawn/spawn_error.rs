//! Why a process is not started.
//! Owns the step, the errno and, where the runtime cannot know it, the message.
//! Never advises: the runtime puts an errno into words.

use mainstay_process::{StartFailure, StartStep};

/// Why it does not start.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) failure: StartFailure,
    pub(crate) message: String,
}

impl SpawnError {
    pub(crate) fn new(step: StartStep, errno: i32, what: &str) -> SpawnError {
        let name = nix::errno::Errno::from_raw(errno);
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        SpawnError {
            failure: StartFailure { step, errno },
            message: format!("cannot {what}: {text} ({name:?})"),
        }
    }

    /// What the runtime puts into words: it knows what was requested.
    pub(crate) fn without_text(step: StartStep, errno: i32) -> SpawnError {
        SpawnError {
            failure: StartFailure { step, errno },
            message: String::new(),
        }
    }
}
