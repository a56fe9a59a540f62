//! The ways to misbehave that Windows has, under the names they have elsewhere.
//! Owns the command line, the console's events and the waiting.
//! Never accepts an option that it would ignore.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Parser;
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, SetConsoleCtrlHandler};

/// A module that fails on request. Without options it runs until CTRL_BREAK and exits with 0.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// (failure) Exit with this code
    #[arg(long, value_name = "N")]
    exit_code: Option<i32>,
    /// (failure) Abort
    #[arg(long)]
    abort: bool,
    /// (failure) Panic: message on stderr, exit code 101
    #[arg(long)]
    panic: bool,
    /// When it goes wrong, counted from the start (with --until-file: from then)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    after: Duration,
    /// Behave well until this file exists
    #[arg(long, value_name = "PATH")]
    until_file: Option<PathBuf>,
    /// Write this many bytes to stdout at start, as lines of 100 bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    flood_stdout: usize,
    /// Drop CTRL_BREAK
    #[arg(long)]
    ignore_sigterm: bool,
    /// Take this long from CTRL_BREAK to the exit
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    slow_stop: Duration,
    /// Start this many children, which drop CTRL_BREAK, and print `child PID` for each
    #[arg(long, value_name = "N", default_value_t = 0)]
    children: usize,
    /// How long any process it starts lives at most
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    life: Duration,
    /// How to say ready: file:PATH, log:TEXT or never
    #[arg(long, value_name = "HOW", default_value = "never")]
    ready: String,
    /// When to say it, counted from the start
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    ready_after: Duration,
    /// Print the environment: `env NAME=VALUE`, sorted
    #[arg(long)]
    print_env: bool,
    /// Append a line that ends in the module's name to this file at start, and at the exit one
    /// that ends in ` exit`
    #[arg(long, value_name = "FILE")]
    stamp: Option<PathBuf>,
    /// The label
    #[arg(long, env = "MAINSTAY_MODULE", default_value = "misbehave")]
    label: String,
    /// Exit with 0 after this long; how children have a bounded life
    #[arg(long, hide = true, value_parser = duration)]
    end_after: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("cannot read the duration ({error}); write it as 250ms or 10s"))
}

/// Windows calls a function and passes nothing of ours along.
static ASKED: OnceLock<SyncSender<()>> = OnceLock::new();

#[expect(unsafe_code, reason = "the form that Windows calls")]
unsafe extern "system" fn on_event(event: u32) -> i32 {
    if event == CTRL_BREAK_EVENT
        && let Some(asked) = ASKED.get()
    {
        let _asked_already = asked.try_send(());
    }
    1
}

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let options = Options::parse();
    match live(&options) {
        Ok(code) => {
            // The whole number: an ExitCode has eight bits of it.
            std::process::exit(code)
        }
        Err(error) => {
            eprintln!("misbehave: {error}");
            ExitCode::FAILURE
        }
    }
}

fn live(options: &Options) -> Result<i32, String> {
    let (asked, asks) = sync_channel(1);
    let _only_once = ASKED.set(asked);
    #[expect(unsafe_code, reason = "a system call")]
    // SAFETY: the function is there for the process's life.
    unsafe {
        SetConsoleCtrlHandler(Some(on_event), 1);
    }
    let start = Instant::now();
    begin(options)?;
    let mut ready = Some(start + options.ready_after);
    let mut fate = options.until_file.is_none().then(|| start + options.after);
    let mut end = options.end_after.map(|life| start + life);
    loop {
        let now = Instant::now();
        if ready.is_some_and(|at| at <= now) {
            ready = None;
            say_ready(&options.ready)?;
        }
        if fate.is_none()
            && options
                .until_file
                .as_ref()
                .is_some_and(|file| file.exists())
        {
            fate = Some(now + options.after);
        }
        if fate.is_some_and(|at| at <= now) {
            assert!(!options.panic, "misbehave panics, as it was asked to");
            if options.abort {
                std::process::abort();
            }
            if let Some(code) = options.exit_code {
                return Ok(code);
            }
        }
        if end.is_some_and(|at| at <= now) {
            stamp(options, " exit")?;
            return Ok(0);
        }
        match asks.recv_timeout(Duration::from_millis(10)) {
            Ok(()) if !options.ignore_sigterm => {
                end = Some(Instant::now() + options.slow_stop);
            }
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(1),
        }
    }
}

fn begin(options: &Options) -> Result<(), String> {
    stamp(options, "")?;
    if options.print_env {
        let mut all: Vec<String> = std::env::vars()
            .map(|(name, value)| format!("env {name}={value}"))
            .collect();
        all.sort();
        all.iter().for_each(|line| println!("{line}"));
    }
    for number in 0..options.flood_stdout / 100 {
        println!("{:x<99}", format!("flood {number:010} "));
    }
    let own = std::env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    for _ in 0..options.children {
        let life = humantime::format_duration(options.life).to_string();
        let child = Command::new(&own)
            .args(["--ignore-sigterm", "--end-after", &life.replace(' ', "")])
            .spawn()
            .map_err(|error| format!("cannot start a child: {error}"))?;
        println!("child {}", child.id());
    }
    Ok(())
}

fn say_ready(how: &str) -> Result<(), String> {
    match how.split_once(':').unwrap_or((how, "")) {
        ("never", "") => Ok(()),
        ("log", text) if !text.is_empty() => {
            println!("{text}");
            Ok(())
        }
        ("file", path) if !path.is_empty() => {
            std::fs::write(path, "ready\n").map_err(|error| format!("cannot write {path}: {error}"))
        }
        _ => Err(format!(
            "cannot say ready by '{how}' on Windows: use file:PATH, log:TEXT or never"
        )),
    }
}

fn stamp(options: &Options, suffix: &str) -> Result<(), String> {
    let Some(file) = &options.stamp else {
        return Ok(());
    };
    let line = format!("{} {}{suffix}\n", std::process::id(), options.label);
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(line.as_bytes()))
        .map_err(|error| format!("cannot append to {}: {error}", file.display()))
}
