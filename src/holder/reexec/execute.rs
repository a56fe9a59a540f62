//! Executing a program with a state: the sealed file that holds it, and the words of the call.
//! Never returns when the program was executed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The verb by which a program is told to go on as a holder, and what follows it: the number of
/// the descriptor of the state, or that only is to be said whether it could.
pub(crate) const VERB: &str = "holder";
const STATE: &str = "--state";
pub(crate) const CHECK: &str = "--check";

/// A file in memory with this content, which no process can change.
pub(crate) fn sealed(state: &[u8]) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"mainstay-holder", flags)?);
    file.write_all(state)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file)
}

/// How this process was called: people look for that name.
pub(crate) fn own_name() -> OsString {
    std::env::args_os()
        .next()
        .unwrap_or_else(|| "mainstay".into())
}

/// Executes the program at this descriptor in this process.
pub(crate) fn execute(program: RawFd, state: &[u8]) -> io::Error {
    let called = || -> io::Result<(CString, [CString; 4], File)> {
        let state = sealed(state)?;
        fcntl(&state, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::from);
        let words = [
            text(own_name())?,
            text(VERB.into())?,
            text(STATE.into())?,
            text(state.as_raw_fd().to_string().into())?,
        ];
        Ok((text(path(program).into())?, words, state))
    };
    match called() {
        Ok((path, words, _state)) => match nix::unistd::execv(&path, &words) {
            Err(errno) => errno.into(),
        },
        Err(problem) => problem,
    }
}

/// The path of a program in a process that has it at this descriptor.
pub(crate) fn path(program: RawFd) -> String {
    format!("/proc/self/fd/{program}")
}

/// The program that runs, at a number out of the way of those that children get.
pub(crate) fn own_program() -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_PATH);
    let program = options.open("/proc/self/exe")?;
    let raw = fcntl(&program, FcntlArg::F_DUPFD_CLOEXEC(10))?;
    Ok(crate::fds::own_fd(raw))
}
