//! Uses up the numbers of processes as fast as it can, so that a number that was just free belongs
//! to one of its own; and the stage for that: a namespace with few numbers.
//! Owns the processes that it starts, one after the other. Never more than a few at once.

use std::env;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// `pid-recycler SOCKET THREADS MILLISECONDS`: each of its processes forges a notify message
/// and is gone, so that its number is another's when the message is read.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, threads, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let recycle = || -> io::Result<u64> {
        let mut started = 0;
        while !left(end).is_zero() {
            let mut once = Command::new(env::current_exe()?);
            once.args(["notify-once", path, "READY=1\nSTATUS=forged"]);
            once.stdout(Stdio::null()).stderr(Stdio::null());
            if once.status().is_ok() {
                started += 1;
            }
        }
        Ok(started)
    };
    Sender::to(path)?.send("STATUS=forged", &[])?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(recycle)).collect();
        under_way()?;
        let mut started = 0;
        for thread in threads {
            started += thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))??;
        }
        say(&format!("used {started} numbers"))
    })
}

/// `small-namespace NUMBERS PROGRAM WORDS…`: runs it as the first process of a namespace of its
/// own that has this many numbers, as far as the kernel lets a namespace have a limit.
pub(crate) fn small_namespace(words: &Words) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    let mut stage = Command::new(env::current_exe()?);
    stage.arg("small-namespace-stage").args(words.rest(0));
    let status = stage.status()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Inside: `/proc` shows this namespace.
pub(crate) fn stage(words: &Words) -> io::Result<()> {
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        nothing,
    )?;
    limit_numbers(words.text(0)?)?;
    let program = words.rest(1);
    let name = program
        .first()
        .ok_or_else(|| io::Error::other("no program"))?;
    let status = Command::new(name).args(&program[1..]).status()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Older kernels have one limit for the whole machine: that one is left as it is.
fn limit_numbers(most: &str) -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 14) {
        return say("the numbers are those of the whole machine");
    }
    fs::write("/proc/sys/kernel/pid_max", most)
}
