//! Lines with a time, appended to a file that many processes share.
//! Owns their format: `<CLOCK_MONOTONIC ns> <pid> <label>`.
//! Never writes a line in two pieces: one write, appended.

use std::io::Write;
use std::path::Path;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC: the same for every process of the machine.
pub(crate) fn now() -> u128 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| now.as_nanos())
}

/// One line with its newline.
pub(crate) fn line(at: u128, label: &str, suffix: &str) -> String {
    format!("{at} {} {label}{suffix}\n", std::process::id())
}

/// Appends to the file, making it if needed.
pub(crate) fn append(file: &Path, line: &str) -> Result<(), String> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(line.as_bytes()))
        .map_err(|error| format!("cannot append to {}: {error}", file.display()))
}
