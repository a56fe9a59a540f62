//! What it prints about itself, for tests that look at what a supervisor hands down.
//! Owns the format of those lines.
//! Never changes what it shows.

use std::io::Write;

use crate::options::Options;

/// Writes one line to stdout at once; a closed stdout is part of the game.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Everything that was asked for.
pub(crate) fn show(options: &Options) {
    if options.print_signals {
        signals();
    }
    if options.print_fds {
        descriptors();
    }
    if options.print_env {
        environment();
    }
    if options.print_uid {
        identity();
    }
}

fn signals() {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => status
            .lines()
            .filter(|line| line.starts_with("Sig"))
            .for_each(say),
        Err(error) => eprintln!("misbehave: cannot read its signals: {error}"),
    }
}

fn descriptors() {
    let mut lines = Vec::new();
    match std::fs::read_dir("/proc/self/fd") {
        Ok(folder) => {
            for entry in folder.flatten() {
                let number = entry.file_name().to_string_lossy().parse::<i32>();
                // The folder itself is gone again when this is printed.
                let target = std::fs::read_link(entry.path());
                if let (Ok(number), Ok(target)) = (number, target) {
                    lines.push((number, target));
                }
            }
        }
        Err(error) => eprintln!("misbehave: cannot read its descriptors: {error}"),
    }
    let own = format!("/proc/{}/fd", std::process::id());
    lines.retain(|line| line.1.as_os_str() != own.as_str());
    lines.sort();
    for (number, target) in lines {
        say(&format!("fd {number} {}", target.display()));
    }
}

fn environment() {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        say(&format!("env {}={}", name.display(), value.display()));
    }
}

fn identity() {
    use nix::unistd::{getegid, geteuid, getgid, getuid};
    let groups = groups().join(",");
    say(&format!(
        "uid {} euid {} gid {} egid {} groups {groups}",
        getuid(),
        geteuid(),
        getgid(),
        getegid()
    ));
}

#[cfg(not(target_vendor = "apple"))]
fn groups() -> Vec<String> {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    let mut numbers: Vec<_> = groups.iter().map(|group| group.as_raw()).collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect()
}

/// macOS does not tell a process its own groups this way.
#[cfg(target_vendor = "apple")]
fn groups() -> Vec<String> {
    Vec::new()
}
