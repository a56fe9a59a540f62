//! Whether a program can go on from the state of this holder: a child of it reads the state.
//! Owns that child's descriptors.
//! Never lets the loop wait, and never lets the child last longer than its time.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::execute::{CHECK, VERB, own_name, path, sealed};
use super::state::HolderState;
use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::TableThread;
use crate::threads::thread;

/// How long a program may take to read a state, in seconds.
const CHECK_SECONDS: u32 = 5;
/// The answer of one that can go on from it.
const GOOD: &str = "good";
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Starts the check; [`EngineEvent::ReexecChecked`] follows.
pub(crate) fn start(program: OwnedFd, state: &[u8], queue: &Arc<EngineQueue>) -> io::Result<()> {
    let (state, queue) = (sealed(state)?, Arc::clone(queue));
    thread("reexec-check", move || {
        let problem = check(&program, &state).err();
        queue.send(EngineEvent::ReexecChecked { problem });
    })
}

fn check(program: &OwnedFd, state: &File) -> Result<(), String> {
    let cannot = |problem: io::Error| format!("it cannot be executed: {problem}");
    let (answer, answers) = pipe().map_err(cannot)?;
    let table = TableThread::start("reexec-fork", true).map_err(cannot)?;
    let fds = [program.as_fd(), state.as_fd(), answers.as_fd()];
    let started = table
        .run(&fds, |fds| start_child(fds))
        .and_then(|started| started);
    started.map_err(cannot)?;
    drop(answers);
    let text = read_answer(answer).map_err(cannot)?;
    match text.trim() {
        GOOD => Ok(()),
        "" => Err("it ended without an answer, or had none within 5s".to_owned()),
        problem => Err(problem.to_owned()),
    }
}

/// In a table that has the program, the state and the writing end of the answer.
fn start_child(fds: &[OwnedFd]) -> io::Result<()> {
    let [program, state, answers] = fds else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut child = Command::new(path(program.as_raw_fd()));
    child.arg0(own_name()).args([VERB, CHECK]);
    child.stdin(Stdio::from(state.try_clone()?));
    child.stdout(Stdio::from(answers.try_clone()?));
    child.stderr(Stdio::null());
    #[expect(unsafe_code, reason = "the signal mask and the alarm of the child")]
    // SAFETY: only system calls, which are async-signal-safe.
    unsafe {
        child.pre_exec(|| {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::alarm(CHECK_SECONDS); // it lasts over the exec, and ends what hangs in it
            Ok(())
        });
    }
    child.spawn().map(drop) // the loop reaps it, as it does any child
}

fn read_answer(mut answer: PipeReader) -> io::Result<String> {
    let end = Instant::now() + Duration::from_secs(u64::from(CHECK_SECONDS) + 1);
    let mut text = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut one = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if left.is_zero() || text.len() as u64 > ANSWER_BYTES_MAX {
            break;
        }
        if poll(&mut one, timeout).is_ok_and(|count| count > 0) {
            let mut bytes = [0; 512];
            match answer.read(&mut bytes)? {
                0 => break,
                length => text.extend_from_slice(&bytes[..length]),
            }
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// In a child of the holder: reads a state from the standard input, and says on the standard output
/// whether this program can go on from it.
///
/// # Errors
/// The answer cannot be written.
pub fn check_state() -> io::Result<()> {
    let mut state = Vec::new();
    io::stdin().lock().read_to_end(&mut state)?;
    let answer = match HolderState::parse(&state) {
        Ok(_) => GOOD.to_owned(),
        Err(problem) => problem,
    };
    io::stdout().lock().write_all(answer.as_bytes())
}
