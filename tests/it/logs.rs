//! `logs`: whole, in order, with the time and the run of each line, whatever happened meanwhile.
//! Owns what a person, a pipe and a program get of it. Never looks at the index itself.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use mainstay_protocol::method::{LineStamp, LogLines, name};
use mainstay_protocol::{ModuleState, Timestamp};

use crate::daemon::{Daemon, binary, kill, lives, misbehave, script, without_succession};

fn module(name: &str, text: &str, more: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n{more}\n", script(text))
}

fn said(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {err}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Module, text and stamp of each line that `logs --json` prints.
fn stamped(daemon: &Daemon, words: &[&str]) -> Vec<(String, String, LineStamp)> {
    let words = [&["logs", "--json"], words].concat();
    let text = said(&daemon.cli(&words));
    let read = |line: &str| {
        let read: LogLines = serde_json::from_str(line).expect("an object of the protocol");
        (read.module, read.lines[0].clone(), read.stamps[0])
    };
    text.lines().map(read).collect()
}

fn texts(lines: &[(String, String, LineStamp)]) -> Vec<&str> {
    lines.iter().map(|(_, text, _)| text.as_str()).collect()
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[test]
fn a_line_that_is_too_long_to_show_hides_none_before_it() {
    let text = "echo one; echo two; head -c 1100000 /dev/zero | tr '\\0' x; echo; echo end\n\
                exec sleep 60";
    let daemon = Daemon::start(&module("it", text, ""));
    daemon.wrote("it", "end");
    let shown = said(&daemon.cli(&["logs", "it"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("one", "two", "end"));
    assert!(lines[2].starts_with("xxx") && lines[2].ends_with("… [shortened: 1100000 bytes]"));
}

#[test]
fn a_prompt_ends_with_its_run_and_runs_are_told_apart() {
    let recovery = "required = false\nrecovery = { max_attempts = 0, backoff = { initial = \"0s\", \
                    max = \"1ms\", floor = \"0s\" } }";
    let text = "[ $MAINSTAY_GENERATION -gt 3 ] && exec sleep 60; printf 'no newline'; exit 3";
    let begin = now();
    let daemon = Daemon::start(&module("it", text, recovery));
    daemon.until_view("the fourth run", "it", |view| {
        view.generation == 4 && view.state == ModuleState::Running
    });
    assert_eq!(
        daemon.output("it"),
        "no newline".repeat(3),
        "the bytes are as they were"
    );
    let lines = daemon.wait("three lines", || {
        let lines = stamped(&daemon, &["it"]);
        (lines.len() == 3).then_some(lines)
    });
    for ((_, text, stamp), run) in lines.iter().zip(1..) {
        assert_eq!((text.as_str(), stamp.run), ("no newline", Some(run)));
        assert!(
            stamp.at.is_some_and(|at| at >= begin && at <= now()),
            "{stamp:?}"
        );
    }
    let shown = said(&daemon.cli(&["logs", "it"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        (lines.len(), lines[0], lines[2]),
        (5, "no newline", "no newline")
    );
    assert!(lines[1].starts_with("── it exited 3 after "), "{shown}");
    assert!(lines[1].contains("; run 2 started 20"), "{shown}");
    let one = |words: &[&str]| said(&daemon.cli(&[&["logs", "it"], words].concat()));
    assert_eq!(one(&["--run", "2"]), "no newline\n");
    assert_eq!(one(&["--run", "last"]), "no newline\n");
    assert_eq!(one(&["--run", "previous"]), "no newline\n");
    assert_eq!(one(&["--raw"]), "no newline\n".repeat(3));
    assert!(daemon.cli(&["logs", "it", "--run", "first"]).status.code() == Some(2));
}

#[test]
fn modules_are_merged_in_order_of_time_and_filtered() {
    let turn = |own: &str, next: &str| {
        format!(
            "for n in 1 2 3; do until [ -e {own}$n ]; do sleep 0.01; done; echo {own} $n\n\
             sleep 0.05; touch {next}$([ {own} = b ] && expr $n + 1 || echo $n); done\n\
             exec sleep 60"
        )
    };
    let modules = module("a", &turn("a", "b"), "") + &module("b", &turn("b", "a"), "");
    let silent = format!("[module.silent]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&(modules + &silent));
    let begin = now();
    daemon.touch("a1");
    daemon.wrote("b", "b 3");
    let lines = daemon.wait("six lines", || {
        let lines = stamped(&daemon, &[]);
        (lines.len() == 6).then_some(lines)
    });
    assert_eq!(texts(&lines), ["a 1", "b 1", "a 2", "b 2", "a 3", "b 3"]);
    let times: Vec<Timestamp> = lines.iter().filter_map(|(.., stamp)| stamp.at).collect();
    assert!(times.len() == 6 && times.is_sorted() && times[0] >= begin);
    let all = said(&daemon.cli(&["logs"]));
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 6, "{all}");
    assert!(lines[0].ends_with(" a      | a 1"), "{all}");
    let only = |words: &[&str]| {
        let lines = stamped(&daemon, words);
        texts(&lines).join(",")
    };
    assert_eq!(only(&["-n", "2"]), "a 3,b 3");
    assert_eq!(only(&["a", "-n", "1"]), "a 3");
    assert_eq!(only(&["--grep", "^a [12]$"]), "a 1,a 2");
    assert_eq!(only(&["--grep", "b", "-n", "1"]), "b 3");
    assert_eq!(only(&["--since", "1h", "b"]), "b 1,b 2,b 3");
    let third = times[2].to_string();
    assert_eq!(only(&["--since", &third]), "a 2,b 2,a 3,b 3");
    assert_eq!(only(&["--until", &third]), "a 1,b 1,a 2");
    assert_eq!(only(&["--until", "1h"]), "");
    for words in [
        &["--since", "soon"][..],
        &["--grep", "("],
        &["-f", "--until", "1h"],
    ] {
        let refused = daemon.cli(&[&["logs"], words].concat());
        assert_eq!(refused.status.code(), Some(2), "{words:?}");
    }
    assert_eq!(daemon.cli(&["logs", "nobody"]).status.code(), Some(4));
    // From the files alone it is the same.
    assert_eq!(daemon.cli(&["down"]).status.code(), Some(0));
    assert_eq!(only(&[]), "a 1,b 1,a 2,b 2,a 3,b 3");
}

#[test]
fn lines_of_before_are_told_from_new_ones_after_a_fix() {
    let old = "echo old traceback; exit 1";
    let more = "required = false\nrecovery.restart = \"never\"";
    let daemon = Daemon::start(&module("it", old, more));
    daemon.until("it", ModuleState::Failed);
    assert_eq!(daemon.cli(&["down"]).status.code(), Some(0));
    let path = daemon.path("config/mainstay.toml");
    let config = std::fs::read_to_string(&path).expect("a file");
    let fixed = config.replace("echo old traceback; exit 1", "echo new; exec sleep 60");
    std::fs::write(&path, fixed).expect("written");
    assert_eq!(daemon.cli(&["up", "-d"]).status.code(), Some(0));
    daemon.wrote("it", "new");
    let lines = daemon.wait("both lines", || {
        let lines = stamped(&daemon, &["it"]);
        (texts(&lines) == ["old traceback", "new"]).then_some(lines)
    });
    assert!(lines[0].2.at.is_some() && lines[0].2.at < lines[1].2.at);
    let shown = said(&daemon.cli(&["logs", "it"]));
    assert!(
        shown.starts_with("old traceback\n── it exited 1 after "),
        "{shown}"
    );
    assert!(shown.ends_with(" ──\nnew\n"), "{shown}");
    assert_eq!(said(&daemon.cli(&["logs", "it", "--run", "last"])), "new\n");
    assert_eq!(daemon.cli(&["down"]).status.code(), Some(0));
}

#[test]
fn a_log_without_an_index_is_read_and_its_lines_have_no_time() {
    let daemon = Daemon::start(&module("it", "echo new; exec sleep 60", ""));
    daemon.wrote("it", "new");
    let log = daemon.path("state/logs/it.log");
    let index = daemon.path("state/logs/it.log.idx");
    daemon.wait("an index", || index.exists().then_some(()));
    std::fs::write(daemon.path("state/logs/it.log.1"), "older\n").expect("written");
    for damage in ["", "this is no index"] {
        std::fs::write(&index, damage).expect("written");
        let lines = stamped(&daemon, &["it", "--since", "1h"]);
        assert_eq!(texts(&lines), ["older", "new"]);
        assert!(lines.iter().all(|(.., stamp)| stamp.at.is_none()));
    }
    assert!(log.exists());
}

#[test]
fn after_the_death_of_the_holder_no_line_is_hidden_and_no_time_is_wrong() {
    without_succession(); // what holds where no other one can go on
    let text = "while :; do date +%s%3N; sleep 0.005; done";
    let daemon = Daemon::start(&module("it", text, ""));
    daemon.wait("some lines", || {
        (daemon.output("it").lines().count() > 200).then_some(())
    });
    let runtime = daemon.status().pid;
    kill(daemon.holder(), libc::SIGKILL);
    daemon.wait("the end of its runtime", || (!lives(runtime)).then_some(()));
    let up = daemon.cli(&["up", "-d"]);
    assert!(up.status.success(), "{up:?}");
    let before = daemon.output("it").lines().count();
    daemon.wait("more lines", || {
        (daemon.output("it").lines().count() > before + 200).then_some(())
    });
    assert_eq!(daemon.cli(&["down"]).status.code(), Some(0));
    let lines = stamped(&daemon, &["it", "-n", "1000000"]);
    let output = daemon.output("it");
    assert_eq!(texts(&lines), output.lines().collect::<Vec<_>>());
    let timed = lines
        .iter()
        .filter_map(|(_, text, stamp)| Some((text, stamp.at?)));
    let timed: Vec<_> = timed.collect();
    assert!(
        timed.len() * 10 > lines.len() * 9,
        "{} of {}",
        timed.len(),
        lines.len()
    );
    for (text, at) in timed {
        let Ok(written) = text.parse::<u64>() else {
            continue; // cut by the death
        };
        // Read after it was written; how much later depends on the machine. Bytes of one second
        // may share a time.
        let since = i128::from(at.0) - i128::from(written);
        assert!(
            (-1100..20_000).contains(&since),
            "{text} has the time {}",
            at.0
        );
    }
}

#[test]
fn the_index_survives_the_death_of_the_runtime() {
    let text = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.005; done";
    let daemon = Daemon::start(&module("it", text, ""));
    daemon.wrote("it", "line 20");
    daemon.kill_runtime();
    let count = daemon.output("it").lines().count();
    daemon.wrote("it", &format!("line {}", count + 20));
    let lines = stamped(&daemon, &["it", "-n", "1000000"]);
    let numbered = (1..).map(|number| format!("line {number}"));
    assert!(
        lines.len() > count
            && lines
                .iter()
                .zip(numbered)
                .all(|(line, text)| line.1 == text)
    );
    let times: Vec<Timestamp> = lines.iter().filter_map(|(.., stamp)| stamp.at).collect();
    assert!(times.len() + 1 >= lines.len() && times.is_sorted());
    assert!(
        lines
            .iter()
            .all(|(.., stamp)| stamp.run.is_none_or(|run| run == 1))
    );
}

/// `logs -f` of this test.
struct Follower(Child, BufReader<std::process::ChildStdout>);

impl Follower {
    fn start(daemon: &Daemon, words: &[&str]) -> Follower {
        let mut child = Command::new(binary())
            .args([&["logs", "-f"], words].concat())
            .arg("--config")
            .arg(daemon.path("config"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command line runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Follower(child, out)
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_follower_sees_prompts_rotation_new_runs_and_the_end() {
    let text = "until [ -e prompt ]; do sleep 0.01; done; printf 'password: '\n\
                until [ -e flood ]; do sleep 0.01; done; echo; seq 1 3000; echo flooded\n\
                exec sleep 60";
    let config = "[logs]\nmax_bytes = \"8KiB\"\nkeep = 3\n".to_owned()
        + &module("it", text, "")
        + &module("other", "echo here; exec sleep 60", "");
    let daemon = Daemon::start(&config);
    daemon.wrote("other", "here");
    let mut follower = Follower::start(&daemon, &["--times"]);
    assert!(follower.next().ends_with(" other | here"));
    daemon.touch("prompt");
    assert!(follower.next().ends_with(" it    | password:"));
    daemon.touch("flood");
    let mut last = 0;
    loop {
        let line = follower.next();
        let text = line.split(" | ").nth(1).unwrap_or_default();
        match text.parse::<u32>() {
            Ok(number) => {
                assert!(number == last + 1, "{number} after {last}");
                last = number;
            }
            Err(_) if text == "flooded" => break,
            Err(_) => assert_eq!(text, "", "{line}"),
        }
    }
    assert_eq!(last, 3000);
    daemon.kill_runtime();
    daemon.change(name::MODULE_RESTART, "other");
    assert!(
        follower
            .next()
            .contains("── other was ended by SIGTERM after ")
    );
    assert!(follower.next().ends_with(" other | here"));
    assert_eq!(daemon.cli(&["down"]).status.code(), Some(0));
    let mut rest = String::new();
    follower.1.read_to_string(&mut rest).expect("the end");
    let mut err = String::new();
    let stderr = follower.0.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut err).expect("the end");
    assert!(err.contains("was stopped"), "{err}");
    assert_eq!(follower.0.wait().expect("ended").code(), Some(0));
    assert!(!rest.contains("flooded"), "{rest}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_times_and_no_style_that_a_module_left_open() {
    let text = "printf '\\033[31mred\\n'; printf '\\033[2Jcleared\\n'; echo plain; exec sleep 60";
    let daemon = Daemon::start(&module("it", text, ""));
    daemon.wrote("it", "plain");
    let shown = on_terminal(&daemon, &["logs", "it"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("── it: run 1 started "), "{shown:?}");
    assert!(lines[1].contains("\x1b[31mred\x1b[0m"), "{shown:?}");
    assert!(lines[2].contains("^[[2Jcleared"), "{shown:?}");
    let plain = lines[3].trim_end();
    assert!(plain.ends_with("plain"), "{shown:?}");
    let time = plain
        .trim_start_matches("\x1b[90m")
        .split(' ')
        .next()
        .expect("a time");
    assert!(time.len() == 8 && time.split(':').count() == 3, "{time:?}");
}

/// Runs the command line with a terminal as its output, and returns what that got.
#[cfg(target_os = "linux")]
fn on_terminal(daemon: &Daemon, words: &[&str]) -> String {
    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("its other end");
    let slave = ptsname_r(&master).expect("the name of that");
    let slave = std::fs::OpenOptions::new()
        .write(true)
        .open(slave)
        .expect("opened");
    let mut child = Command::new(binary())
        .args(words)
        .arg("--config")
        .arg(daemon.path("config"))
        .stdout(Stdio::from(slave))
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .spawn()
        .expect("the command line runs");
    let (mut shown, mut chunk) = (Vec::new(), [0; 4096]);
    // When the other end is closed, reading fails.
    while let Ok(count @ 1..) = nix::unistd::read(&master, &mut chunk) {
        shown.extend_from_slice(&chunk[..count]);
    }
    assert!(child.wait().expect("it ends").success());
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn what_a_module_writes_while_nobody_looks_costs_little_index() {
    let text = "seq 1 300000; echo end; exec sleep 60";
    let daemon =
        Daemon::start(&("[logs]\nmax_bytes = \"64MiB\"\n".to_owned() + &module("it", text, "")));
    daemon.wrote("it", "end");
    let size = |name: &str| std::fs::metadata(daemon.path(name)).map_or(0, |about| about.len());
    let log = size("state/logs/it.log");
    // What is held back follows within a second.
    let deadline = SystemTime::now() + Duration::from_secs(30);
    let last = || stamped(&daemon, &["it", "-n", "1"])[0].2.at;
    while last().is_none() {
        assert!(SystemTime::now() < deadline, "the last line has no time");
    }
    let index = size("state/logs/it.log.idx");
    assert!(
        index > 0 && index * 100 <= 3 * log,
        "{index} bytes for {log}"
    );
}
