//! MAINPID: a run whose main process is not the one that was started.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Rig, both_trees, eventually, has_python, lives, python};
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{ProcessEvent, ProcessEventKind, Signal};

fn changed(rig: &mut Rig) -> i32 {
    rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::MainChanged { pid, .. },
            ..
        }) => Some(*pid as i32),
        _ => None,
    })
}

fn signal(rig: &mut Rig, name: &str, signal: i32) {
    rig.line.ask(&HolderRequest::Signal {
        instance: name.parse().unwrap(),
        generation: 1,
        signal: Signal(signal),
        cont: false,
        within_ms: None,
    });
}

/// A child names itself; the parent waits for it, or not.
fn script(parent: &str) -> String {
    format!(
        "
import signal
child = os.fork()
if child == 0:
    os.setsid()
    signal.signal(signal.SIGUSR1, lambda *_: say('STATUS=signalled'))
    say('MAINPID=%d\\nREADY=1' % os.getpid())
    while True: time.sleep(300)
{parent}"
    )
}

#[test]
fn the_one_that_was_named_is_the_run() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        let first = rig.start(python("n", 1, &script("time.sleep(0.2)\nos._exit(7)")));
        let main = changed(&mut rig);
        assert_ne!(main, first);
        assert_eq!(rig.line.said("n"), format!("MAINPID={main}\nREADY=1"));
        eventually("the first one ends and is nobody's zombie", || {
            !std::path::Path::new(&format!("/proc/{first}")).exists()
        });
        let none = rig.line.until_within(Duration::from_millis(100), |tell| {
            matches!(
                tell,
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Exited(_),
                    ..
                })
            )
            .then_some(())
        });
        assert_eq!(none, None, "{options:?}: the run goes on");
        assert!(lives(main), "{options:?}: it was not taken along");
        signal(&mut rig, "n", libc::SIGUSR1);
        assert_eq!(rig.line.said("n"), "STATUS=signalled");
        rig.line.kill("n", 1);
        let exited = rig.line.exited("n", 1);
        assert_eq!(exited.pid as i32, main);
        assert_eq!(exited.exit.code(), None);
        eventually("it is gone", || !lives(main));
    }
}

#[test]
fn the_end_of_the_one_that_was_named_ends_all() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        let first = rig.start(python("n", 1, &script("time.sleep(300)")));
        let main = changed(&mut rig);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(main),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let exited = rig.line.exited("n", 1);
        assert_eq!(exited.pid as i32, main);
        // Its parent is another one of the module: nobody tells us how it ended.
        assert_eq!(
            (exited.exit.code(), exited.exit.signal()),
            (None, None),
            "{options:?}"
        );
        eventually("what is left is killed", || !lives(first));
    }
}

#[test]
fn it_may_go_back_and_forth() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        let text = "
child = os.fork()
if child == 0:
    while True: time.sleep(300)
for n in range(50):
    say('MAINPID=%d' % child)
    say('MAINPID=%d' % os.getpid())
os._exit(5)";
        let first = rig.start(python("n", 1, text));
        let exited = rig.line.exited("n", 1);
        assert_eq!(
            (exited.pid as i32, exited.exit.code()),
            (first, Some(5)),
            "{options:?}"
        );
    }
}

#[test]
fn a_process_outside_the_tree_is_refused_and_that_is_said() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        let me = std::process::id();
        let text = format!(
            "
for pid in ('{me}', '1', '0', '-1', 'x', '99999999'):
    say('MAINPID=' + pid)
gone = os.fork()
if gone == 0: os._exit(0)
os.waitpid(gone, 0)
say('MAINPID=%d' % gone)
say('STATUS=done')
time.sleep(300)"
        );
        let first = rig.start(python("n", 1, &text));
        let mut ignored = 0;
        loop {
            let done = rig.line.until(|tell| match tell {
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::NotifyRejected { message, .. },
                    ..
                }) => {
                    assert!(message.starts_with("cannot make MAINPID="), "{message}");
                    assert!(message.ends_with(&format!("it stays {first}")), "{message}");
                    Some(false)
                }
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Notify { text, .. },
                    ..
                }) if text == "STATUS=done" => Some(true),
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::MainChanged { pid, .. },
                    ..
                }) => panic!("{pid} was taken"),
                _ => None,
            });
            if done {
                break;
            }
            ignored += 1;
        }
        assert_eq!(ignored, 7, "{options:?}");
    }
}
