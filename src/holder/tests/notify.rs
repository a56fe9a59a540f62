//! Readiness and other news from modules: by notify socket and by pipe.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::{Rig, both_trees, eventually, has_python, notify_socket, python, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{ProcessEvent, ProcessEventKind};

#[test]
fn messages_come_before_the_exit_and_in_order() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        for generation in 1..=10 {
            let script = "say('READY=1'); say('READY=1'); say('STATUS=x'); os._exit(3)";
            rig.start(python("n", generation, script));
            let mut seen = Vec::new();
            loop {
                let (text, end) = rig.line.until(|tell| match tell {
                    HolderMessage::Process(ProcessEvent {
                        generation: g,
                        what: ProcessEventKind::Notify { text, .. },
                        ..
                    }) if *g == generation => Some((text.clone(), false)),
                    HolderMessage::Process(ProcessEvent {
                        what: ProcessEventKind::Exited(_),
                        ..
                    }) => Some((String::new(), true)),
                    _ => None,
                });
                if end {
                    break;
                }
                seen.push(text);
            }
            assert_eq!(seen, ["READY=1", "READY=1", "STATUS=x"]);
        }
    }
}

#[test]
fn a_helper_may_speak_and_a_stranger_may_not() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let script = "
if os.fork() == 0:
    os.setsid()
    say('STATUS=helper')
    time.sleep(300)
time.sleep(300)";
        rig.start(python("n", 1, script));
        assert_eq!(rig.line.said("n"), "STATUS=helper");
        let socket = UnixDatagram::unbound().unwrap();
        let path = notify_socket(rig.dir.path());
        socket.send_to(b"READY=1", &path).unwrap();
        let none = rig.line.until_within(Duration::from_millis(200), |tell| {
            matches!(
                tell,
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Notify { .. },
                    ..
                })
            )
            .then_some(())
        });
        assert_eq!(none, None, "this test is no module");
    }
}

#[test]
fn a_runtime_that_does_not_read_loses_no_readiness() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    rig.line.ask(&HolderRequest::Tap {
        instance: "n".parse().unwrap(),
        on: true,
        replay: false,
    });
    let script = "
for n in range(400):
    print('x' * 60000)
    say('STATUS=' + 'y' * 30000 + str(n))
say('READY=1')
open(sys.argv[1], 'w').close()
time.sleep(300)";
    let done = rig.dir.path().join("done");
    let mut spawn = python("n", 1, script);
    spawn.argv.push(done.display().to_string());
    rig.start(spawn);
    // Nothing is read meanwhile, and still the module is not held up.
    eventually("the module gets through", || done.exists());
    rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { text, .. },
            ..
        }) if text.contains("READY=1") => Some(()),
        _ => None,
    });
}

#[test]
fn a_newline_on_the_ready_pipe_is_readiness() {
    for fd in [3, 9] {
        let mut rig = Rig::new(EngineOptions::default());
        let mut spawn = spawn_of(
            "r",
            1,
            &[
                "/bin/sh",
                "-c",
                &format!("echo ready >&{fd}; echo more >&{fd} || :; sleep 300"),
            ],
        );
        spawn.ready_fd = Some(fd);
        rig.start(spawn);
        assert_eq!(rig.line.said("r"), "READY=1");
        let mut spawn = spawn_of(
            "quick",
            1,
            &["/bin/sh", "-c", &format!("echo >&{fd}; exit 2")],
        );
        spawn.ready_fd = Some(fd);
        rig.start(spawn);
        assert_eq!(rig.line.said("quick"), "READY=1");
        assert_eq!(rig.line.exited("quick", 1).exit.code(), Some(2));
    }
}

#[test]
fn a_ready_pipe_without_a_newline_is_closed_after_so_many_bytes() {
    let mut rig = Rig::new(EngineOptions::default());
    let script = "trap '' PIPE; while printf xxxxxxxxxxxxxxxx >&3; do :; done 2>&-; exit 7";
    let mut spawn = spawn_of("r", 1, &["/bin/sh", "-c", script]);
    spawn.ready_fd = Some(3);
    rig.start(spawn);
    let message = rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::NotifyRejected { message },
            ..
        }) => Some(message.clone()),
        _ => None,
    });
    assert!(
        message.contains("4096 bytes without a newline"),
        "{message}"
    );
    // Its end is closed: nothing wakes the loop for it any more.
    assert_eq!(rig.line.exited("r", 1).exit.code(), Some(7));
}

#[test]
fn an_idle_engine_does_not_wake_up() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    rig.start(python("n", 1, "say('READY=1'); time.sleep(300)"));
    rig.line.said("n");
    let switches = || -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let ours = ["holder", "spawn", "log-read", "log-write"];
        let of = |path: std::path::PathBuf| {
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            if !ours.contains(&name.trim()) {
                return None;
            }
            let text = std::fs::read_to_string(path.join("status")).ok()?;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        tasks.filter_map(|task| of(task.path())).sum()
    };
    // Other tests of this binary run engines too: one quiet moment of all of them is enough.
    eventually("a moment without a wake-up", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(300));
        before > 0 && switches() == before
    });
}
