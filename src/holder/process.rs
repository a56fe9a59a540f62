//! A process as the kernel shows it, and signals by number.
//! Never looks a process up: the kernel's folder does.

/// A process as the kernel shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// In the kernel's own unit: with the pid, the identity.
    pub(crate) start_time: u64,
    pub(crate) zombie: bool,
    /// A thread of the kernel, which has no program.
    pub(crate) kernel: bool,
}

/// Why the environment of a process is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// It has none in the moment of an exec: it will soon.
    Executing,
    /// It does not let itself be read in time.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux lets a read wait for an exec")
    )]
    Hidden,
}

/// What a process says of the run it is of, whatever it has executed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The tag that a run was given.
    Of(u64),
    /// It was never given one: it has what this process has.
    Untouched,
    /// It had one and has changed it.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux has tags")
    )]
    Forged,
}

/// The name of a program, which may be any bytes, as one line of text.
pub(crate) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.trim_end_matches('\n').replace(char::is_control, "?")
}

/// Signals a process, or with a minus a group, whose number cannot mean anyone else.
#[expect(unsafe_code, reason = "kill, with every signal number there is")]
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: numbers only.
    unsafe { libc::kill(pid, signal) };
}
