//! How it goes wrong: crash, abort, panic, hang, flood, burn.
//! Owns each failure's way of doing it.
//! Never decides when.

use std::io::Write;
use std::time::Instant;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};

use crate::options::Options;

/// Does what ends or freezes the process; a number is an exit code, None means it goes on.
pub(crate) fn meet(options: &Options) -> Option<i32> {
    if options.hang {
        die_by(Signal::SIGSTOP);
    }
    if options.busy_hang {
        let start = Instant::now();
        while start.elapsed() < options.life {
            std::hint::spin_loop();
        }
        return Some(1);
    }
    if options.crash || options.abort {
        // A core file would be left behind.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    }
    if options.crash {
        die_by(Signal::SIGSEGV);
    }
    if options.abort {
        std::process::abort();
    }
    assert!(!options.panic, "misbehave panics, as it was asked to");
    options.exit_code
}

fn die_by(signal: Signal) {
    if let Err(error) = raise(signal) {
        eprintln!("misbehave: cannot send itself {signal}: {error}");
    }
}

/// Keeps threads spinning until the process ends.
pub(crate) fn burn(threads: usize) {
    for _ in 0..threads {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

/// Opens files and starts idle threads; they last as long as the result.
pub(crate) fn keep_busy(options: &Options) -> Vec<std::fs::File> {
    for _ in 0..options.threads {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    let mut files = Vec::new();
    for number in 0..options.open_files {
        match std::fs::File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                eprintln!("misbehave: cannot open file {number}: {error}");
                break;
            }
        }
    }
    if options.open_files > 0 {
        crate::show::say(&format!("opened {} files", files.len()));
    }
    files
}

/// Gives up stdout and stderr; the numbers stay taken, so that no later file gets them.
pub(crate) fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // What cannot be replaced stays; the test that asked will see it.
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Much output.
pub(crate) struct Flood {
    bytes: u64,
    newlines: bool,
}

impl Flood {
    const LINE: usize = 100;
    const BLOCK: usize = 64 * 1024;

    pub(crate) fn of(options: &Options) -> Flood {
        Flood {
            bytes: options.flood_stdout,
            newlines: !options.no_newlines,
        }
    }

    /// Writes it all; numbered lines, so that a lost one can be told. Without newlines there is
    /// nothing to tell apart: it goes as fast as it is taken.
    pub(crate) fn pour(&self) {
        let mut out = std::io::BufWriter::with_capacity(Flood::BLOCK, std::io::stdout().lock());
        let mut left = self.bytes;
        let mut block = vec![b'x'; Flood::BLOCK];
        let mut number = 0u64;
        while left > 0 {
            if self.newlines {
                block = format!("flood {number:010} ").into_bytes();
                block.resize(Flood::LINE - 1, b'x');
                block.push(b'\n');
            }
            block.truncate(usize::try_from(left).unwrap_or(Flood::BLOCK));
            if out.write_all(&block).is_err() {
                return;
            }
            left -= block.len() as u64;
            number += 1;
        }
        // Nothing is left to do about an error here.
        let _ = out.flush();
    }
}
