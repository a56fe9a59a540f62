//! What modules write: kept whole, rotated, shown, whatever they and the runtime do.
//! Owns that no line is lost and none stands in anybody's way. Never looks inside.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;

use crate::daemon::{Daemon, binary, in_both_ways, kill, misbehave, script};

/// One module named `it`.
fn one(command: &str, more: &str) -> String {
    format!("[module.it]\ncommand = {command}\n{more}\n")
}

/// The sizes of its files, the current one first.
fn sizes(daemon: &Daemon) -> Vec<u64> {
    let names = std::iter::once("it.log".to_owned()).chain((1..).map(|n| format!("it.log.{n}")));
    let sizes = names.map(|name| std::fs::metadata(daemon.path("state/logs").join(name)));
    sizes.map_while(Result::ok).map(|one| one.len()).collect()
}

/// The most memory a process ever had, in MiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        / 1024
}

#[test]
fn output_is_rotated_and_its_newest_end_is_kept() {
    let logs = "[logs]\nmax_bytes = \"32KiB\"\nkeep = 2\n";
    let command = script("seq 1 100000; echo end; exec sleep 60");
    let daemon = Daemon::start(&(logs.to_owned() + &one(&command, "")));
    daemon.wrote("it", "end");
    let sizes = sizes(&daemon);
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 32 * 1024), "{sizes:?}");
    let shown = daemon.cli(&["logs", "it", "-n", "9000"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 9000, "across the files");
    assert_eq!((lines[0], lines[8999]), ("91002", "end"));
}

/// Longer than this nobody may wait because another module floods.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_gigabyte_without_a_newline_blocks_nobody_and_fills_no_memory() {
    let flood = "until [ -e go ]; do sleep 0.02; done\n\
                 $misbehave --flood-stdout 1073741824 --no-newlines --exit-code 0\n\
                 touch poured; echo; echo end; exec sleep 60";
    let beside = format!("[module.beside]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&(one(&script(flood), "") + &beside));
    let status = daemon.status();
    daemon.touch("go");
    let (began, mut rounds, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let poured = || daemon.path("poured").exists();
    while !poured() {
        let asked = Instant::now();
        daemon.status();
        daemon.change(name::MODULE_RESTART, "beside");
        slowest = slowest.max(asked.elapsed());
        rounds += 1;
        // More often would meet the limit of changes.
        daemon.wait("the next round", || {
            (poured() || asked.elapsed() > Duration::from_millis(500)).then_some(())
        });
    }
    let took = began.elapsed();
    eprintln!("{took:?}, {rounds} rounds, the slowest {slowest:?}");
    assert!(
        slowest < PATIENCE,
        "a status and a restart took {slowest:?}"
    );
    daemon.wrote("it", "end");
    for (who, pid) in [("holder", status.holder_pid), ("runtime", status.pid)] {
        eprintln!("the {who} took {} MiB", peak(pid));
        assert!(peak(pid) < 64, "the {who} took {} MiB", peak(pid));
    }
    let total: u64 = sizes(&daemon).iter().sum();
    assert!(total <= 6 * 10 * 1024 * 1024, "{total} bytes are kept");
    // Looking at it is bounded too, and says what there is.
    let shown = daemon.cli(&["logs", "it", "-n", "3"]);
    assert!(
        shown.status.success(),
        "{:?}",
        String::from_utf8_lossy(&shown.stderr)
    );
    assert!(
        shown.stdout.len() <= 1024 * 1024,
        "{} bytes",
        shown.stdout.len()
    );
    assert!(shown.stdout.ends_with(b"end\n"));
    assert_eq!(daemon.status().pid, status.pid, "the runtime lives");
}

#[test]
fn a_flood_under_the_eyes_of_a_reader_blocks_nobody() {
    let flood = "until [ -e go ]; do sleep 0.02; done\n\
                 $misbehave --flood-stdout 67108864 --no-newlines --exit-code 0\n\
                 echo; echo end; exec sleep 60";
    let daemon = Daemon::start(&one(&script(flood), ""));
    let status = daemon.status();
    let mut reader = follow(&daemon);
    daemon.touch("go");
    daemon.wrote("it", "end");
    for (who, pid) in [("holder", status.holder_pid), ("runtime", status.pid)] {
        assert!(peak(pid) < 128, "the {who} took {} MiB", peak(pid));
    }
    assert_eq!(daemon.status().pid, status.pid, "the runtime lives");
    reader.kill().expect("it is ours");
    reader.wait().expect("it is ours");
}

#[test]
fn the_last_line_before_the_end_is_never_lost() {
    let recovery = "required = false\nrecovery = { max_attempts = 0, backoff = { initial = \"0s\", \
                    max = \"1ms\", floor = \"0s\" } }";
    let command = script(
        "[ $MAINSTAY_GENERATION -gt 200 ] && exec sleep 60\n\
                          printf 'word %s' $MAINSTAY_GENERATION; echo",
    );
    let daemon = Daemon::start(&one(&command, recovery));
    daemon.until_view("200 runs", "it", |view| {
        view.generation > 200 && view.pid.is_some()
    });
    daemon.wrote("it", "word 200");
    let output = daemon.output("it");
    let words: Vec<String> = (1..=200).map(|n| format!("word {n}")).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), words);
}

#[test]
fn a_closed_stdout_is_no_end() {
    let daemon = Daemon::start(&one(
        &misbehave("--close-stdout --notify STATUS=closed"),
        "",
    ));
    let before = daemon.until("it", ModuleState::Running);
    daemon.wait("its output to be closed", || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", before.pid?)).ok()?;
        let pipes = fds
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        (!pipes
            .into_iter()
            .any(|to| to.to_string_lossy().starts_with("pipe:")))
        .then_some(())
    });
    daemon.kill_runtime();
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!((after.pid, after.generation), (before.pid, 1));
    assert_eq!(
        daemon.change("module.stop", "it").state,
        ModuleState::Stopped
    );
}

#[test]
fn output_of_one_that_escaped_does_not_hold_up_the_end() {
    in_both_ways(|| {
        let text = "(trap '' TERM HUP; setsid sleep 60) & echo main; exit 3";
        let more = "required = false\nrecovery.restart = \"never\"";
        let daemon = Daemon::start(&one(&script(text), more));
        assert_eq!(
            daemon
                .until("it", ModuleState::Failed)
                .last_exit
                .expect("it ended")
                .code,
            Some(3)
        );
        assert_eq!(daemon.wrote("it", "main"), "main\n");
    });
}

fn follow(daemon: &Daemon) -> std::process::Child {
    Command::new(binary())
        .args(["logs", "it", "-f", "-n", "1", "--config"])
        .arg(daemon.path("config"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command line runs")
}

#[test]
fn lines_arrive_while_they_are_written_and_after_a_new_runtime_too() {
    let command = script(
        "echo old; echo first\n\
         for n in 1 2; do until [ -e go$n ]; do sleep 0.02; done; echo line $n; done; exec sleep 60",
    );
    let daemon = Daemon::start(&one(&command, ""));
    daemon.wrote("it", "first");
    let mut child = follow(&daemon);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "first", "the newest of the past");
    daemon.touch("go1");
    assert_eq!(next(), "line 1");
    daemon.kill_runtime();
    // It connects again by itself; a line that is written meanwhile may be shown or not.
    daemon.wait("the reader to be back", || {
        let status = daemon.cli(&["logs", "it", "-n", "1"]);
        status.status.success().then_some(())
    });
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    daemon.touch("go2");
    daemon.wrote("it", "line 2");
}

#[test]
fn no_line_is_lost_when_the_runtime_dies() {
    let text = "n=0; while [ ! -e enough ]; do n=$((n+1)); echo $n; done; echo end; exec sleep 60";
    let daemon = Daemon::start(&one(&script(text), "env = { X = \"1\" }"));
    for _ in 0..3 {
        daemon.kill_runtime();
    }
    daemon.touch("enough");
    daemon.wrote("it", "end");
    let output = every_file(&daemon);
    let numbers: Vec<u64> = output
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    let first = numbers[0];
    let last = numbers[numbers.len() - 1];
    assert!(numbers.len() > 1000, "{} lines", numbers.len());
    assert_eq!(
        last - first + 1,
        numbers.len() as u64,
        "lines are missing or doubled"
    );
    assert!(numbers.is_sorted());
    assert_eq!(daemon.module("it").restarts, 0);
}

/// All that is kept, oldest first.
fn every_file(daemon: &Daemon) -> String {
    let count = sizes(daemon).len();
    let folder = daemon.path("state/logs");
    let names = (1..count)
        .rev()
        .map(|n| format!("it.log.{n}"))
        .chain(["it.log".to_owned()]);
    names
        .map(|name| std::fs::read_to_string(folder.join(name)).expect("a log"))
        .collect()
}

#[test]
fn a_full_disk_of_logs_does_not_stop_a_module() {
    // A folder where the log should be: nothing can be written there.
    let dir = crate::daemon::prepare(
        "",
        &one(&script("seq 1 50000; touch done; exec sleep 60"), ""),
    );
    std::fs::create_dir_all(dir.path().join("state/logs/it.log")).expect("a folder");
    let daemon = Daemon::launch_in(dir);
    daemon.wait("it to have written all", || {
        daemon.path("done").exists().then_some(())
    });
    let view = daemon.until("it", ModuleState::Running);
    kill(view.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("it to come back", "it", |view| view.generation == 2);
}
