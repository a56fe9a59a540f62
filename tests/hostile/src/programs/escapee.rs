//! Leaves its module's tree as far as a process can: a session of its own, no environment, no
//! parent, no open file in common; some without their main thread, some with other limits.
//! Owns the process that stays behind, which ends by itself after some time.
//! Never does anything but wait.

use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::setsid;

use super::words::{Words, under_way};

/// `escapee COUNT SECONDS`: lets that many go and waits for its own end.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    for number in 0..words.number(0)? {
        let mut middle = Command::new(env::current_exe()?);
        let way = (number % 4).to_string();
        middle.args(["escapee-middle", words.text(1)?, &way]);
        middle.env_clear();
        middle
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        middle.status()?;
    }
    under_way()?;
    loop {
        thread::park();
    }
}

/// The parent that ends at once, in a session of its own.
pub(crate) fn middle(words: &Words) -> io::Result<()> {
    setsid()?;
    let mut last = Command::new(env::current_exe()?);
    last.args(["escapee-last", words.text(0)?, words.text(1)?]);
    last.env_clear();
    last.current_dir("/").spawn()?;
    Ok(())
}

/// The one that is out.
pub(crate) fn last(words: &Words) -> io::Result<()> {
    setsid()?;
    let time = Duration::from_secs(words.number(0)?);
    match words.number(1)? {
        1 => without_main_thread(time),
        // The tag of a run lies in these limits: another value, as far as the kernel lets it.
        2 => {
            for value in [i64::MAX as u64, u64::MAX - 1] {
                let (_, hard) = getrlimit(Resource::RLIMIT_RTTIME)?;
                let _refused = setrlimit(Resource::RLIMIT_RTTIME, value, hard);
                let _refused = setrlimit(Resource::RLIMIT_RTTIME, value, value);
            }
        }
        3 => {
            for resource in [Resource::RLIMIT_RTTIME, Resource::RLIMIT_LOCKS] {
                setrlimit(resource, 1 << 40, 1 << 40)?;
            }
        }
        _ => {}
    }
    thread::sleep(time);
    Ok(())
}

/// What is left is a process that looks like a zombie and runs.
#[expect(unsafe_code, reason = "exit of a thread alone")]
fn without_main_thread(time: Duration) {
    thread::spawn(move || {
        thread::sleep(time);
        std::process::exit(0);
    });
    // SAFETY: a number. What this thread owns stays as it is until the process ends.
    unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
}
