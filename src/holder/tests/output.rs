//! Output: never lost at the end, never in the way of a module, bounded on disk.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{Rig, eventually, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::log_index::{BLOCK_BYTES, BlockEntries, IndexEntry, IndexEntryKind};
use mainstay_process::{Exit, Output, ProcessEvent, ProcessEventKind, SpawnRequest, StdStream};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn trailing_log_lost() {
    let mut rig = Rig::new(EngineOptions::default());
    let mut expected = String::new();
    for generation in 1..=300 {
        let script =
            format!("echo begin {generation}; echo error {generation} >&2; printf end{generation}");
        rig.start(spawn_of("a", generation, &["/bin/sh", "-c", &script]));
        rig.line.exited("a", generation);
        expected += &format!("begin {generation}\nerror {generation}\nend{generation}");
    }
    eventually("all of it is in the file", || {
        read(&rig.log("a")) == expected
    });
}

#[test]
fn an_escapee_with_the_pipe_does_not_hold_the_exit_back() {
    for options in common::both_trees() {
        let mut rig = Rig::new(options);
        let begin = std::time::Instant::now();
        let exited = rig.told("a", 1, "sleep 300 & echo told; exit 1");
        assert_eq!(
            (exited.exit.code(), exited.output.as_str()),
            (Some(1), "told\n")
        );
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }
}

#[test]
fn files_rotate_at_their_size_between_lines() {
    let mut rig = Rig::with(EngineOptions::default(), |setup| {
        (setup.live.log_max_bytes, setup.live.log_keep) = (10_000, 2);
    });
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo last";
    rig.start(spawn_of("r", 1, &["/bin/sh", "-c", script]));
    rig.line.exited("r", 1);
    eventually("all is written", || read(&rig.log("r")).ends_with("last\n"));
    let parts: Vec<String> = [".2", ".1", ""]
        .iter()
        .map(|end| read(Path::new(&format!("{}{end}", rig.log("r").display()))))
        .collect();
    assert!(
        parts
            .iter()
            .all(|part| part.len() <= 10_000 && part.ends_with('\n'))
    );
    let numbers: Vec<u32> = parts
        .concat()
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.parse().ok())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "no line lost or cut"
    );
    assert!(!Path::new(&format!("{}.3", rig.log("r").display())).exists());
}

#[test]
fn log_pipe_deadlock() {
    const BYTES: u64 = 64 << 20;
    let mut rig = Rig::with(EngineOptions::default(), |setup| {
        setup.live.log_max_bytes = 1 << 30
    });
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' x; echo; echo after");
    rig.start(spawn_of("flood", 1, &["/bin/sh", "-c", &script]));
    assert_eq!(rig.line.exited("flood", 1).exit.code(), Some(0));
    let mut text = Vec::new();
    let accounted = || {
        text = std::fs::read(rig.log("flood")).unwrap_or_default();
        let written = text.iter().filter(|byte| **byte == b'x').count() as u64;
        let notes = String::from_utf8_lossy(&text).into_owned();
        let dropped: u64 = notes
            .split("[mainstay: ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
            .sum();
        // The two lines at the end may have been dropped with it.
        (BYTES..=BYTES + 7).contains(&(written + dropped))
    };
    eventually("every byte is written or counted", accounted);
}

#[test]
fn a_disk_that_refuses_blocks_nobody_and_is_counted() {
    let mut rig = Rig::new(EngineOptions::default());
    let log = rig.log("full");
    std::fs::create_dir(&log).unwrap(); // cannot be opened as a file, by root neither
    rig.start(spawn_of("full", 1, &["/bin/sh", "-c", "echo lost"]));
    assert_eq!(rig.line.exited("full", 1).exit.code(), Some(0));
    let total = rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what:
                ProcessEventKind::OutputDropped {
                    total_bytes,
                    reason,
                    over: false,
                    ..
                },
            ..
        }) => Some((*total_bytes, reason.clone())),
        _ => None,
    });
    assert_eq!(total, (5, Some("full.log is a directory".to_owned())));
    std::fs::remove_dir(&log).unwrap();
    for generation in 2..4 {
        rig.start(spawn_of(
            "full",
            generation,
            &["/bin/sh", "-c", "echo kept"],
        ));
        rig.line.exited("full", generation);
    }
    rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::OutputDropped { over: true, .. },
            ..
        }) => Some(()),
        _ => None,
    });
    eventually("the gap is noted", || {
        read(&log).contains("bytes of output dropped]\n")
    });
}

#[test]
fn a_tap_gets_whole_lines() {
    let mut rig = Rig::new(EngineOptions::default());
    rig.line.ask(&HolderRequest::Tap {
        instance: "t".parse().unwrap(),
        on: true,
        replay: false,
    });
    let script = "printf 'one\\ntw'; sleep 0.05; printf 'o\\nrest'";
    rig.start(spawn_of("t", 1, &["/bin/sh", "-c", script]));
    let mut seen = Vec::new();
    while seen.concat() != "one\ntwo\nrest" {
        seen.push(rig.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::Output { text, .. },
                ..
            }) => Some(text.clone()),
            _ => None,
        }));
    }
    assert_eq!(seen, ["one\n", "two\n", "rest"]);
    assert_eq!(rig.line.exited("t", 1).exit.code(), Some(0));
}

#[test]
fn what_a_run_wrote_into_its_tap_is_told_again_on_request() {
    let mut rig = Rig::new(EngineOptions::default());
    let tap = |again| HolderRequest::Tap {
        instance: "t".parse().unwrap(),
        on: true,
        replay: again,
    };
    let output = |tell: &HolderMessage| match tell {
        HolderMessage::Process(ProcessEvent {
            generation,
            what: ProcessEventKind::Output { text, .. },
            ..
        }) => Some((*generation, text.clone())),
        _ => None,
    };
    rig.line.ask(&tap(false));
    rig.start(spawn_of("t", 1, &["/bin/sh", "-c", "echo old"]));
    assert_eq!(rig.line.until(output), (1, "old\n".to_owned()));
    rig.line.exited("t", 1);
    let go = rig.dir.path().join("go");
    let script = format!(
        "printf 'one\\ntw'; read x < {}; echo o; exec sleep 60",
        go.display()
    );
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    rig.start(spawn_of("t", 2, &["/bin/sh", "-c", &script]));
    assert_eq!(rig.line.until(output), (2, "one\n".to_owned()));
    rig.line.ask(&tap(true));
    assert_eq!(rig.line.until(output), (2, "one\n".to_owned()));
    std::fs::write(&go, "go\n").expect("it reads");
    assert_eq!(rig.line.until(output), (2, "two\n".to_owned()));
    rig.line.ask(&tap(true));
    assert_eq!(rig.line.until(output), (2, "one\ntwo\n".to_owned()));
}

#[test]
fn what_was_read_before_a_settle_is_in_the_file_after_it() {
    let mut rig = Rig::new(EngineOptions::default());
    rig.line.ask(&HolderRequest::Tap {
        instance: "t".parse().unwrap(),
        on: true,
        replay: false,
    });
    rig.start(spawn_of("t", 1, &["/usr/bin/env", "seq", "20000"]));
    let mut read = 0;
    for number in 1..=20 {
        read += rig.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::Output { text, .. },
                ..
            }) => Some(text.len()),
            _ => None,
        });
        let instance = "t".parse().unwrap();
        rig.line
            .ask(&HolderRequest::FlushOutput { instance, number });
        rig.line
            .until(|tell| (*tell == HolderMessage::OutputFlushed { number }).then_some(()));
        let written = std::fs::read(rig.log("t")).expect("a log").len();
        assert!(written >= read, "{written} of {read} bytes are written");
        if written == 108_894 {
            break;
        }
    }
    // Nothing waits: the answer comes all the same.
    let (instance, number) = ("nobody".parse().unwrap(), 99);
    rig.line
        .ask(&HolderRequest::FlushOutput { instance, number });
    rig.line
        .until(|tell| (*tell == HolderMessage::OutputFlushed { number }).then_some(()));
}

#[test]
fn told_output_is_the_end_of_it() {
    let mut rig = Rig::new(EngineOptions::default());
    let exited = rig.told("p", 1, "head -c 500000 /dev/zero | tr '\\0' x; echo why");
    assert_eq!(exited.output.len(), 4096);
    assert!(exited.output.ends_with("xxwhy\n"));
    let mut spawn = spawn_of("p", 2, &["/bin/echo", "nobody"]);
    spawn.output = Output::Null;
    rig.start(spawn);
    assert_eq!(rig.line.exited("p", 2).output, "");
}

/// Time, run and text of a line.
type Line = (Option<u64>, u64, String);

/// What the index of a log says of its lines, and the starts and ends of runs.
fn indexed(log: &Path) -> (Vec<Line>, Vec<IndexEntry>) {
    let text = std::fs::read(log).unwrap_or_default();
    let index = std::fs::read(format!("{}.idx", log.display())).unwrap_or_default();
    let blocks = index.chunks(BLOCK_BYTES).filter_map(BlockEntries::of);
    let entries: Vec<IndexEntry> = blocks.flatten().collect();
    let of_byte = |at: u64| {
        entries.iter().find_map(|entry| match entry.what {
            IndexEntryKind::Bytes(length)
                if (entry.offset..entry.offset + length).contains(&at) =>
            {
                Some((entry.time, entry.run))
            }
            _ => None,
        })
    };
    let (mut lines, mut at) = (Vec::new(), 0);
    for line in String::from_utf8_lossy(&text).split_inclusive('\n') {
        let (time, run) = of_byte(at).unwrap_or((None, 0));
        lines.push((time, run, line.trim_end().to_owned()));
        at += line.len() as u64;
    }
    let events = entries.into_iter();
    let events = events.filter(|entry| !matches!(entry.what, IndexEntryKind::Bytes(_)));
    (lines, events.collect())
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn every_line_has_its_time_and_every_run_its_bounds() {
    let mut rig = Rig::new(EngineOptions::default());
    let begin = now();
    for generation in 1..=3 {
        let script = format!("echo one; sleep 0.2; echo two; exit {generation}");
        rig.start(spawn_of("a", generation, &["/bin/sh", "-c", &script]));
        rig.line.exited("a", generation);
    }
    let ended = |entry: &IndexEntry| matches!(entry.what, IndexEntryKind::Ended(_));
    eventually("all is indexed", || {
        indexed(&rig.log("a"))
            .1
            .iter()
            .filter(|entry| ended(entry))
            .count()
            == 3
    });
    let (lines, events) = indexed(&rig.log("a"));
    let times: Vec<u64> = lines.iter().filter_map(|(time, ..)| *time).collect();
    assert_eq!((times.len(), lines.len()), (6, 6), "{lines:?}");
    assert!(times.is_sorted() && times[0] >= begin && times[5] <= now());
    for (pair, run) in times.chunks(2).zip(1..) {
        assert!(pair[1] - pair[0] >= 150, "{times:?}");
        let own = lines.iter().filter(|line| line.1 == run);
        assert_eq!(own.map(|line| &*line.2).collect::<Vec<_>>(), ["one", "two"]);
    }
    let said: Vec<_> = events.iter().map(|event| (event.run, event.what)).collect();
    let expected = (1..=3).flat_map(|run| {
        let exit = Exit::Code(i32::try_from(run).unwrap());
        [
            (run, IndexEntryKind::Started),
            (run, IndexEntryKind::Ended(exit)),
        ]
    });
    assert_eq!(said, expected.collect::<Vec<_>>());
}

#[test]
fn an_index_follows_its_log_through_rotation_and_truncation() {
    let mut rig = Rig::with(EngineOptions::default(), |setup| {
        (setup.live.log_max_bytes, setup.live.log_keep) = (10_000, 2);
    });
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo last";
    let begin = now();
    rig.start(spawn_of("r", 1, &["/bin/sh", "-c", script]));
    rig.line.exited("r", 1);
    let part = |end: &str| std::path::PathBuf::from(format!("{}{end}", rig.log("r").display()));
    eventually("all is written", || read(&rig.log("r")).ends_with("last\n"));
    let timed = |lines: &[Line]| {
        let timed = |line: &&Line| line.0.is_some_and(|at| at >= begin);
        lines
            .iter()
            .filter(timed)
            .filter(|line| line.1 == 1)
            .count()
    };
    for end in [".2", ".1", ""] {
        eventually("its index is written", || {
            let (lines, _) = indexed(&part(end));
            !lines.is_empty() && timed(&lines) == lines.len()
        });
    }
    assert!(!part(".3.idx").exists());
    // A log that a person emptied has a new index.
    std::fs::File::options()
        .write(true)
        .open(rig.log("r"))
        .unwrap()
        .set_len(0)
        .unwrap();
    let emptied = now();
    rig.start(spawn_of("r", 2, &["/bin/sh", "-c", "echo again"]));
    rig.line.exited("r", 2);
    eventually("the new line is indexed", || {
        let (lines, _) = indexed(&rig.log("r"));
        let [(Some(at), 2, text)] = &lines[..] else {
            return false;
        };
        *at >= emptied && text == "again"
    });
}

#[test]
fn an_index_that_cannot_be_written_costs_no_line() {
    let mut rig = Rig::with(EngineOptions::default(), |setup| {
        (setup.live.log_max_bytes, setup.live.log_keep) = (4_000, 2);
    });
    let index = format!("{}.idx", rig.log("a").display());
    std::fs::create_dir(&index).unwrap();
    let script = "i=0; while [ $i -lt 900 ]; do echo line $i; i=$((i+1)); done; echo last";
    rig.start(spawn_of("a", 1, &["/bin/sh", "-c", script]));
    rig.line.exited("a", 1);
    eventually("all is written", || read(&rig.log("a")).ends_with("last\n"));
    assert!(Path::new(&format!("{}.2", rig.log("a").display())).exists());
}

#[test]
fn what_was_written_without_an_index_has_no_time() {
    let mut rig = Rig::new(EngineOptions::default());
    std::fs::write(rig.log("a"), "old\n").unwrap();
    std::fs::write(format!("{}.idx", rig.log("a").display()), "no index").unwrap();
    rig.start(spawn_of("a", 7, &["/bin/sh", "-c", "echo new"]));
    rig.line.exited("a", 7);
    eventually("the new line is indexed", || {
        let lines = indexed(&rig.log("a")).0;
        let said: Vec<_> = lines
            .iter()
            .map(|line| (line.0.is_some(), line.1))
            .collect();
        said == [(false, 0), (true, 7)]
    });
}

/// A run whose stdout and stderr have a pipe each.
fn split(name: &str, generation: u64, script: &str) -> SpawnRequest {
    let mut spawn = spawn_of(name, generation, &["/bin/sh", "-c", script]);
    spawn.split_output = true;
    spawn
}

/// What the index of a log says was written to a stream.
fn written_to(log: &Path, stream: StdStream) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let index = std::fs::read(format!("{}.idx", log.display())).unwrap_or_default();
    let blocks = index.chunks(BLOCK_BYTES).filter_map(BlockEntries::of);
    let mut bytes = Vec::new();
    for entry in blocks.flatten().filter(|entry| entry.stream == stream) {
        if let IndexEntryKind::Bytes(length) = entry.what {
            let (from, length) = (entry.offset as usize, length as usize);
            bytes.extend_from_slice(&text[from..from + length]);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn has_ended(log: &Path) -> bool {
    let (_, events) = indexed(log);
    let ended = |entry: &IndexEntry| matches!(entry.what, IndexEntryKind::Ended(_));
    events.iter().any(ended)
}

#[test]
fn stdout_and_stderr_are_kept_apart_where_that_is_asked_for() {
    let mut rig = Rig::new(EngineOptions::default());
    rig.line.ask(&HolderRequest::Tap {
        instance: "s".parse().unwrap(),
        on: true,
        replay: false,
    });
    // A file for each step: a fifo may still be open from the step before.
    let go = |step: usize| rig.dir.path().join(format!("go{step}"));
    let wait = |step| format!("until [ -e {} ]; do sleep 0.01; done", go(step).display());
    let script = format!(
        "printf 'one\\nhal'; {}; printf 'two\\nen' >&2; {}; echo f; {}; printf d >&2",
        wait(0),
        wait(1),
        wait(2)
    );
    let steps = [0, 1, 2].map(go);
    rig.start(split("s", 1, &script));
    let output = |tell: &HolderMessage| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Output { text, stream, .. },
            ..
        }) => Some((*stream, text.clone())),
        _ => None,
    };
    let (out, err) = (StdStream::Stdout, StdStream::Stderr);
    let expected = [
        (out, "one\n"),
        (err, "two\n"),
        (out, "half\n"),
        (err, "end"),
    ];
    for (step, (stream, text)) in expected.into_iter().enumerate() {
        assert_eq!(rig.line.until(output), (stream, text.to_owned()));
        if let Some(go) = steps.get(step) {
            std::fs::write(go, "").expect("a file");
        }
    }
    assert_eq!(rig.line.exited("s", 1).exit.code(), Some(0));
    let log = rig.log("s");
    eventually("all is indexed", || has_ended(&log));
    assert_eq!(read(&log), "one\nhaltwo\nenf\nd", "as it came");
    assert_eq!(written_to(&log, out), "one\nhalf\n");
    assert_eq!(written_to(&log, err), "two\nend");
}

#[test]
fn a_stream_that_ends_leaves_the_other() {
    for options in common::both_trees() {
        let mut rig = Rig::new(options);
        let script = "echo out; exec >&-; echo first >&2; sleep 0.1; echo last >&2";
        rig.start(split("s", 1, script));
        assert_eq!(rig.line.exited("s", 1).exit.code(), Some(0));
        // A process that has only one of them open is not waited for.
        rig.start(split(
            "e",
            1,
            "sleep 300 >/dev/null & echo out; echo err >&2",
        ));
        assert_eq!(rig.line.exited("e", 1).exit.code(), Some(0));
        for (name, errors) in [("s", "first\nlast\n"), ("e", "err\n")] {
            let log = rig.log(name);
            eventually("its end is recorded", || has_ended(&log));
            assert_eq!(written_to(&log, StdStream::Stdout), "out\n");
            assert_eq!(written_to(&log, StdStream::Stderr), errors);
        }
    }
}

#[test]
fn both_streams_of_a_flood_are_written_or_counted() {
    const BYTES: u64 = 16 << 20;
    let mut rig = Rig::with(EngineOptions::default(), |setup| {
        setup.live.log_max_bytes = 1 << 30
    });
    let flood = |letter| format!("head -c {BYTES} /dev/zero | tr '\\0' {letter}");
    let script = format!("{} & {} >&2; wait", flood('x'), flood('y'));
    rig.start(split("flood", 1, &script));
    assert_eq!(rig.line.exited("flood", 1).exit.code(), Some(0));
    let accounted = || {
        let text = std::fs::read(rig.log("flood")).unwrap_or_default();
        let written = text.iter().filter(|byte| b"xy".contains(byte)).count() as u64;
        let notes = String::from_utf8_lossy(&text).into_owned();
        let dropped = notes.split("[mainstay: ").skip(1);
        let dropped = dropped.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        // A note has two of these letters itself.
        let (dropped, notes): (u64, u64) =
            dropped.fold((0, 0), |(sum, count), one| (sum + one, count + 1));
        written - notes * 2 + dropped == 2 * BYTES
    };
    eventually("every byte is written or counted", accounted);
}
