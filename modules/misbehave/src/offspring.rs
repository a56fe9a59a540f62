//! The processes it starts: plain children, an escaped one, a daemon, a tree.
//! Owns their command lines; each carries the end of its life with it.
//! Never waits for one, except for the short process in the middle of a double fork.

use std::os::fd::RawFd;
use std::process::{Child, Command, Stdio};

use crate::options::{Hop, Options};
use crate::show;

/// The children and the escaped one, as asked for at start.
pub(crate) fn start(options: &Options) {
    for _ in 0..options.children {
        let mut command = ourselves(options);
        report(options, "child", command.spawn());
    }
    if options.escape {
        let mut command = ourselves(options);
        run_hop(options, command.args(["--hop", "escape"]));
    }
    branch(options, options.tree);
}

/// The tree of `--fork-bomb`.
pub(crate) fn bomb(options: &Options) {
    branch(options, options.fork_bomb);
}

/// Two children at most, which make the rest.
fn branch(options: &Options, descendants: usize) {
    let left = descendants / 2;
    for share in [left, descendants - left] {
        if share > 0 {
            let mut command = ourselves(options);
            command.arg("--tree").arg((share - 1).to_string());
            report(options, "branch", command.spawn());
        }
    }
}

/// Leaves a daemon that does all that was asked for; the result is this process's exit code.
pub(crate) fn daemonise(options: &Options) -> i32 {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    arguments.retain(|argument| argument != "--double-fork");
    let mut command = Command::new(program());
    command.args(["--hop", "daemon"]).args(arguments);
    i32::from(!run_hop(options, &mut command))
}

/// The process in the middle: a session of its own, one child, gone.
pub(crate) fn hop(hop: Hop, options: &Options) -> i32 {
    if let Err(error) = nix::unistd::setsid() {
        eprintln!("misbehave: cannot start a session: {error}");
        return 1;
    }
    let mut command = match hop {
        Hop::Escape => {
            let mut command = ourselves(options);
            command
                .arg("--close-all")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        }
        Hop::Daemon => {
            let mut arguments = std::env::args_os().skip(1);
            // `--hop daemon` came first.
            arguments.nth(1);
            let mut command = Command::new(program());
            command
                .args(["--end-after", &life(options)])
                .args(arguments);
            command
        }
    };
    let what = if hop == Hop::Escape {
        "escaped"
    } else {
        "daemon"
    };
    let spawned = command.spawn();
    if let (Hop::Daemon, true, Ok(child)) = (hop, options.name_daemon, &spawned)
        && let Err(error) = crate::ready::notify(&format!("MAINPID={}\nREADY=1", child.id()))
    {
        eprintln!("misbehave: {error}");
    }
    i32::from(!report(options, what, spawned))
}

/// Closes every descriptor, the standard ones included.
pub(crate) fn close_all() {
    let Ok(folder) = std::fs::read_dir("/dev/fd") else {
        return;
    };
    let open: Vec<RawFd> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open {
        if descriptor > 2 {
            // The folder's own descriptor is closed already.
            let _ = nix::unistd::close(descriptor);
        }
    }
    // The standard numbers lead nowhere since the spawn; they stay taken.
}

fn run_hop(options: &Options, command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => report(options, "hop", Err(error)),
    }
}

fn ourselves(options: &Options) -> Command {
    let mut command = Command::new(program());
    let life = life(options);
    command.args(["--end-after", &life, "--life", &life]);
    if options.ignore_sigterm {
        command.arg("--ignore-sigterm");
    }
    if let Some(file) = &options.pids {
        command.arg("--pids").arg(file);
    }
    command
}

fn program() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "misbehave".into())
}

fn life(options: &Options) -> String {
    humantime::format_duration(options.life).to_string()
}

fn report(options: &Options, what: &str, spawned: std::io::Result<Child>) -> bool {
    match spawned {
        Ok(child) => {
            let line = format!("{what} {}", child.id());
            show::say(&line);
            if let Some(file) = &options.pids
                && let Err(error) = crate::stamp::append(file, &format!("{line}\n"))
            {
                eprintln!("misbehave: {error}");
            }
            true
        }
        Err(error) => {
            eprintln!("misbehave: cannot start a process ({what}): {error}");
            false
        }
    }
}
