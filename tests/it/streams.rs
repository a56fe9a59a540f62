//! stdout and stderr of a module: in one order, or told apart where the configuration says so.
//! Owns what readers of logs get of both. Never looks at the index itself.

use std::process::Output;

use mainstay_protocol::ModuleState;
use mainstay_protocol::enums::LogStream;
use mainstay_protocol::method::{LogLines, LogsParams};

use crate::daemon::{Daemon, script};

const SPLIT: &str = "[logs]\nstreams = \"split\"\n";

fn module(name: &str, text: &str, more: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n{more}\n", script(text))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Text and stream of each line that `logs --json` prints.
fn lines(daemon: &Daemon, words: &[&str]) -> Vec<(String, Option<LogStream>)> {
    let words = [&["logs", "it", "--json"], words].concat();
    let read = |line: &str| {
        let read: LogLines = serde_json::from_str(line).expect("an object of the protocol");
        (read.lines[0].clone(), read.stamps[0].stream)
    };
    said(&daemon.cli(&words)).lines().map(read).collect()
}

#[test]
fn streams_are_told_apart_also_when_the_runtime_dies_between_two_halves_of_a_line() {
    let run = "echo ready >&2; printf out; printf err >&2\n\
               until [ -e go ]; do sleep 0.01; done; echo put; echo or >&2\n\
               until [ -e more ]; do sleep 0.01; done; echo hidden; echo shown >&2; exec sleep 60";
    let ready = "ready = { log = \"ready\" }";
    let daemon = Daemon::start(&(module("it", run, ready) + SPLIT));
    daemon.until("it", ModuleState::Running);
    let begun = || (daemon.output("it").len() == "ready\nouterr".len()).then_some(());
    daemon.wait("the halves of two lines", begun);
    daemon.kill_runtime();
    daemon.touch("go");
    let read = daemon.wait("whole lines", || {
        let mut read = lines(&daemon, &[]);
        read.sort();
        (read.last()?.0 == "ready" && read[0].0 == "error").then_some(read)
    });
    let (out, err) = (Some(LogStream::Stdout), Some(LogStream::Stderr));
    let line = |text: &str, stream| (text.to_owned(), stream);
    let expected = [line("error", err), line("output", out), line("ready", err)];
    assert_eq!(read, expected);
    assert_eq!(
        lines(&daemon, &["--stream", "stdout"]),
        [line("output", out)]
    );
    let errors = daemon.cli(&["logs", "it", "--stream", "stderr", "--raw"]);
    assert_eq!(said(&errors), "ready\nerror\n");
    assert_eq!(text(&errors.stderr), "", "every stream is known");
    // The same by the socket, and what follows.
    let mut client = daemon.client();
    let params = LogsParams {
        module: "it".to_owned(),
        stream: Some(LogStream::Stderr),
        follow: true,
        ..LogsParams::default()
    };
    let read = client.logs(&params).expect("read");
    assert_eq!(read.lines, ["ready", "error"]);
    assert!(read.stamps.iter().all(|stamp| stamp.stream == err));
    daemon.touch("more");
    let mut following = client.follow::<LogLines>();
    let next = following.next().expect("a notification").expect("read");
    assert_eq!(
        (&*next.lines, next.stamps[0].stream),
        (&["shown".to_owned()][..], err)
    );
}

#[test]
fn a_module_writes_into_one_pipe_until_it_starts_with_two() {
    let text_of = "echo out; echo err >&2; exec sleep 60";
    let daemon = Daemon::start(&module("it", text_of, ""));
    daemon.wrote("it", "err");
    assert_eq!(daemon.output("it"), "out\nerr\n", "the order is exact");
    let errors = daemon.cli(&["logs", "it", "--stream", "stderr"]);
    assert_eq!(said(&errors), "");
    let note = text(&errors.stderr);
    assert!(
        note.contains("it: lines whose stream is not known are not shown"),
        "{note}"
    );
    let path = daemon.path("config/mainstay.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, config + SPLIT).expect("written");
    said(&daemon.cli(&["reload"]));
    let pid = daemon.module("it").pid;
    assert_eq!(
        daemon.module("it").generation,
        1,
        "it is told with the next start"
    );
    said(&daemon.cli(&["restart", "it"]));
    assert_ne!(daemon.module("it").pid, pid);
    let known = daemon.wait("two known streams", || {
        let lines = lines(&daemon, &["--run", "2"]);
        (lines.len() == 2).then_some(lines)
    });
    assert!(
        known.contains(&("out".to_owned(), Some(LogStream::Stdout))),
        "{known:?}"
    );
    assert!(
        known.contains(&("err".to_owned(), Some(LogStream::Stderr))),
        "{known:?}"
    );
}

#[test]
fn a_task_that_is_run_writes_to_the_streams_of_the_person() {
    let task = module("it", "echo done; echo careful >&2", "kind = \"task\"");
    let daemon = Daemon::start(&(task + SPLIT));
    daemon.until("it", ModuleState::Stopped);
    let ran = daemon.cli(&["run", "it"]);
    assert_eq!(said(&ran), "done\n");
    assert_eq!(text(&ran.stderr), "careful\n");
}
