//! Descriptors that a module leaves for its next run, and the answer to a barrier.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]

mod common;

use common::{Rig, both_trees, has_python, python, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{Instance, Output, ProcessEvent, ProcessEventKind, SpawnRequest, StartStep};

/// Prints what it was given: `NAME TARGET`, one a line, and whether LISTEN_PID is its own.
const SHOW: &str = "
s.close()
count = int(os.environ.get('LISTEN_FDS', '0'))
if count:
    print('mine', os.environ['LISTEN_PID'] == str(os.getpid()))
names = os.environ.get('LISTEN_FDNAMES', '').split(':')
for n in range(count):
    given = names[n] == 'socket' and socket.socket(fileno=os.dup(3 + n))
    print(names[n], os.read(3 + n, 100).decode() if names[n] != 'socket' else given.getsockname())
given = None
print('open', sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])
";

fn show(name: &str, generation: u64) -> SpawnRequest {
    let mut spawn = python(name, generation, SHOW);
    spawn.output = Output::Captured;
    spawn
}

/// A file with these words in it that nobody else has open.
const FILE: &str = "
def file(text):
    fd = os.memfd_create('x')
    os.write(fd, text.encode())
    os.lseek(fd, 0, 0)
    return fd
";

fn store(rig: &mut Rig, name: &str, generation: u64, script: &str) {
    let script = format!("{FILE}{script}\nsay('STATUS=done')\nos._exit(0)");
    rig.start(python(name, generation, &script));
    rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { text, .. },
            ..
        }) if text == "STATUS=done" => Some(()),
        _ => None,
    });
    assert_eq!(rig.line.exited(name, generation).exit.code(), Some(0));
}

#[test]
fn what_was_stored_is_given_to_the_next_runs() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        for plain_fork in [false, true] {
            let mut rig = Rig::new(EngineOptions {
                plain_fork,
                ..options.clone()
            });
            let script = "
s2 = socket.socket(socket.AF_UNIX)
s2.bind('\\0store-test-%d' % os.getpid())
s2.listen()
say('FDSTORE=1\\nFDNAME=one', [file('1')])
say('FDSTORE=1', [file('2'), file('3')])
say('FDSTORE=1\\nFDNAME=gone', [file('4')])
say('FDSTORE=1\\nFDNAME=socket', [s2.fileno()])
say('FDSTORE=1\\nFDNAME=again', [s2.fileno()])
say('STATUS=no store', [file('5')])
say('FDSTOREREMOVE=1\\nFDNAME=gone')";
            store(&mut rig, "n", 1, script);
            for generation in [2, 3] {
                rig.start(show("n", generation));
                let told = rig.line.exited("n", generation).output;
                let lines: Vec<_> = told.lines().collect();
                assert_eq!(lines[0], "mine True", "{told}");
                let words = if generation == 2 {
                    ["1", "2", "3"]
                } else {
                    [""; 3]
                };
                assert_eq!(lines[1], format!("one {}", words[0]), "{told}");
                assert_eq!(lines[2], format!("stored {}", words[1]), "{told}");
                assert_eq!(lines[3], format!("stored {}", words[2]), "{told}");
                assert!(lines[4].starts_with("socket b'\\x00store-test-"), "{told}");
                assert_eq!(lines[5], "open [0, 1, 2, 3, 4, 5, 6]", "{told}");
            }
            let instance = Instance::new("n", 1);
            rig.line.ask(&HolderRequest::Forget { instance });
            rig.start(show("n", 4));
            assert_eq!(rig.line.exited("n", 4).output, "open [0, 1, 2]\n");
        }
    }
}

#[test]
fn one_whose_other_end_is_gone_is_dropped_unless_it_asked_otherwise() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    let script = "
r, w = os.pipe()
os.write(w, b'kept')
say('FDSTORE=1\\nFDNAME=kept\\nFDPOLL=0', [r])
r2, w2 = os.pipe()
say('FDSTORE=1\\nFDNAME=dropped', [r2])";
    store(&mut rig, "n", 1, script);
    // The hang-up is seen before anything that is asked later, or with it: ask until it was.
    for generation in 2.. {
        rig.start(show("n", generation));
        let told = rig.line.exited("n", generation).output;
        assert!(told.contains("kept "), "{told}");
        if !told.contains("dropped") {
            assert!(told.contains("open [0, 1, 2, 3]"), "{told}");
            break;
        }
    }
}

#[test]
fn a_readiness_pipe_lies_behind_what_is_stored_or_is_refused() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    store(&mut rig, "n", 1, "say('FDSTORE=1', [file('1'), file('2')])");
    let mut spawn = spawn_of(
        "n",
        2,
        &["/bin/sh", "-c", "echo >&4; read it <&3; exit $it"],
    );
    spawn.ready_fd = Some(4);
    rig.line.ask(&HolderRequest::Spawn(Box::new(spawn.clone())));
    let (step, _, message) = rig.line.failed("n", 2);
    assert_eq!(step, StartStep::Descriptors);
    assert!(
        message.contains("descriptor 4") && message.contains("3 to 4"),
        "{message}"
    );
    (spawn.generation, spawn.ready_fd) = (3, Some(5));
    spawn.argv[2] = "echo >&5; cat <&3 <&4; ls /proc/self/fd | wc -l".to_owned();
    spawn.output = Output::Captured;
    rig.start(spawn);
    rig.line.until(|tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { text, .. },
            ..
        }) if text == "READY=1" => Some(()),
        _ => None,
    });
    let told = rig.line.exited("n", 3).output;
    assert!(told.starts_with('2'), "{told}");
}

#[test]
fn what_cannot_be_stored_is_said_and_the_number_is_bounded() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    let script = "
for n in range(70):
    say('FDSTORE=1\\nFDNAME=n%d' % n, [file(str(n))])
say('FDSTORE=1\\nFDNAME=a:b', [file('x')])
say('FDSTOREREMOVE=1\\nFDNAME=unknown')";
    store(&mut rig, "n", 1, script);
    let mut ignored = || {
        rig.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::NotifyRejected { message, .. },
                ..
            }) => Some(message.clone()),
            _ => None,
        })
    };
    for _ in 0..6 {
        assert!(ignored().contains("more than 64"));
    }
    assert!(ignored().contains("64") || ignored().contains("FDNAME"));
    assert!(ignored().contains("unknown"));
    rig.start(show("n", 2));
    let told = rig.line.exited("n", 2).output;
    assert!(told.contains("n63 63") && !told.contains("n64"), "{told}");
}

#[test]
fn a_barrier_is_answered_when_what_was_said_before_is_heard() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(EngineOptions::default());
    let script = "
say('STATUS=before')
br, bw = os.pipe()
say('BARRIER=1', [bw])
os.close(bw)
assert os.read(br, 1) == b''
say('STATUS=behind')
time.sleep(300)";
    rig.start(python("n", 1, script));
    assert_eq!(rig.line.said("n"), "STATUS=before");
    assert_eq!(rig.line.said("n"), "STATUS=behind");
}
