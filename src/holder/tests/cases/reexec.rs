//! The holder executes another program: nothing of what it keeps notices.
//! Owns a holder for each case, and copies of this program.
//! Never executes what it has not written.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{BoundSocket, HolderMessage, HolderRequest};
use mainstay_process::{ActivationSocket, Output, ProcessEventKind, StdStream, Stdin};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::House;
use super::hanging::hang_a_close;
use crate::common::fuse::Fuse;
use crate::common::{Rig, eventually, has_python, lives, python, spawn_of};

/// Asks for this program; returns why it was not executed.
fn reexec(house: &mut House, program: &Path) -> Option<String> {
    let number = 7;
    let program = OwnedFd::from(File::open(program).unwrap());
    let request = HolderRequest::Reexec { number };
    house.line.ask_with(&request, vec![program]);
    house.line.until(|message| match message {
        HolderMessage::Reexecuted { number: 7, problem } => Some(problem.clone()),
        _ => None,
    })
}

fn program_of(house: &House) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{}/exe", house.holder.id())).unwrap()
}

/// A copy of this program, which can go on as a holder.
fn copy(house: &House, name: &str) -> std::path::PathBuf {
    let path = house.dir.path().join(name);
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path
}

/// Numbers, one a line, a hundred at once: more of them all the time than this test can read, on a
/// busy machine, would end it by its own deadline.
const COUNTS: &str =
    "i=0; while :; do echo $i; i=$((i+1)); case $i in *00) sleep 0.01;; esac; done";
/// Ends with what a client sends to its first socket.
const SERVES: &str = "
l = socket.socket(fileno=3)
r, w = os.pipe()
os.write(w, b'kept')
say('FDSTORE=1\\nFDPOLL=0\\nFDNAME=kept', [r])
say('READY=1')
c, _ = l.accept()
say('STATUS=asked')
sys.exit(c.recv(1)[0])";

/// Has another main process, which is no child of the holder.
const NAMES_ANOTHER: &str = "
pid = os.fork()
if pid == 0:
    time.sleep(60)
say('MAINPID=%d' % pid)
os.waitpid(pid, 0)
time.sleep(60)";
/// Stores a file, which may be of a server that does not answer.
const STORES_A_FILE: &str = "
say('FDSTORE=1\\nFDNAME=file', [os.open('/proc/self/status', os.O_RDONLY)])
say('READY=1')
time.sleep(60)";

fn counted(house: &House) -> Vec<u64> {
    let logs = house.dir.path().join("logs");
    let numbered = |number: u32| match number {
        0 => logs.join("counts.log"),
        number => logs.join(format!("counts.log.{number}")),
    };
    let files = (0..100).rev().map(numbered);
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    let text: String = texts.collect();
    text.lines().map(|line| line.parse().expect(line)).collect()
}

fn start_counting(house: &mut House) -> i32 {
    let tap = HolderRequest::Tap {
        instance: "counts".parse().unwrap(),
        on: true,
        replay: false,
    };
    house.line.ask(&tap);
    house.start("counts", 1, COUNTS)
}

/// Every number is there, in order.
fn check_counted(house: &mut House) {
    house.line.kill("counts", 1);
    house.line.exited("counts", 1);
    let flush = HolderRequest::FlushOutput {
        instance: "counts".parse().unwrap(),
        number: 3,
    };
    house.line.ask(&flush);
    house.line.until(|message| match message {
        HolderMessage::OutputFlushed { number: 3 } => Some(()),
        _ => None,
    });
    let numbers = counted(house);
    assert!(numbers.len() > 1000, "{}", numbers.len());
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
}

fn setup(house: &mut House) {
    let mut setup = house.setup();
    setup.live.log_keep = 90;
    house.configure(setup);
}

pub(super) fn another_program_goes_on() {
    for walk in [false, true] {
        let mut house = House::new(walk);
        setup(&mut house);
        let counts = start_counting(&mut house);
        let go = house.dir.path().join("go");
        let script = format!(
            "until [ -e {} ]; do sleep 0.01; done; exit 42",
            go.display()
        );
        house.start("ends", 1, &script);
        // All that a run can have: it says that it is ready, and ends, when it is let.
        let eof = house.dir.path().join("eof");
        let (go_path, eof_path) = (go.display(), eof.display());
        let script = format!(
            "exec 6<&0; (cat <&6; touch {eof_path}) & until [ -e {go_path} ]; do sleep 0.01; done; echo >&5; \
             echo said; kill $!"
        );
        let mut spawn = spawn_of("all", 1, &["/bin/sh", "-c", &script]);
        (spawn.output, spawn.stdin, spawn.ready_fd) = (Output::Captured, Stdin::Open, Some(5));
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        house.line.spawned("all", 1);
        let old = program_of(&house);
        let holder = house.holder.id();
        for (round, program) in [copy(&house, "one"), copy(&house, "two"), old]
            .iter()
            .enumerate()
        {
            // Some of these end before, some while and some after it is executed.
            let names: Vec<String> = (0..20).map(|place| format!("s{round}-{place}")).collect();
            for (place, name) in names.iter().enumerate() {
                house.start(name, 1, &format!("sleep 0.{place:02}; exit {place}"));
            }
            assert_eq!(reexec(&mut house, program), None);
            assert_eq!(&program_of(&house), program);
            assert_eq!(house.holder.id(), holder);
            assert!(lives(counts) && house.holder.try_wait().unwrap().is_none());
            for (place, name) in names.iter().enumerate() {
                let code = house.line.exited(name, 1).exit.code();
                assert_eq!(code, Some(place as i32), "{name}");
            }
        }
        // It starts, stops and reports as before.
        assert!(!eof.exists(), "its input is open");
        File::create(go).unwrap();
        assert_eq!(house.line.said("all"), "READY=1");
        assert_eq!(house.line.exited("all", 1).output, "said\n");
        assert_eq!(house.line.exited("ends", 1).exit.code(), Some(42));
        let other = house.start("other", 5, "sleep 60");
        house.line.kill("other", 5);
        assert_eq!(house.line.exited("other", 5).pid, other as u32);
        check_counted(&mut house);
        let again = house.start("counts", 2, "sleep 60");
        house.kill_runtime();
        let world = house.line.world();
        let all = world.instances.iter();
        let info = |name: &str| all.clone().find(|one| &*one.instance == name).unwrap();
        assert_eq!(info("counts").pid, Some(again as u32));
        assert_eq!(info("ends").exit.and_then(|exit| exit.code()), Some(42));
        house.line.ask(&HolderRequest::Ready);
        house.leave(0);
        eventually("the module ends with the holder", || !lives(again));
    }
}

/// stdout and stderr stay apart, with what of each is no whole line.
pub(super) fn another_program_keeps_streams_apart() {
    for walk in [false, true] {
        let mut house = House::ready(walk);
        let (go, log) = (
            house.dir.path().join("go"),
            house.dir.path().join("logs/two.log"),
        );
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let instance = "two".parse().unwrap();
        house.line.ask(&HolderRequest::Tap {
            instance,
            on: true,
            replay: false,
        });
        let script = format!(
            "printf out; printf err >&2; read x < {}; echo put; echo or >&2",
            go.display()
        );
        let mut spawn = spawn_of("two", 1, &["/bin/sh", "-c", &script]);
        spawn.split_output = true;
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        house.line.spawned("two", 1);
        let both = || std::fs::read(&log).is_ok_and(|text| text.len() == 6);
        eventually("both have begun a line", both);
        let one = copy(&house, "one");
        assert_eq!(reexec(&mut house, &one), None);
        std::fs::write(&go, "go\n").unwrap();
        let mut said = [(); 2].map(|()| {
            house.line.until(|message| match message {
                HolderMessage::Process(event) => match &event.what {
                    ProcessEventKind::Output { text, stream, .. } => Some((text.clone(), *stream)),
                    _ => None,
                },
                _ => None,
            })
        });
        said.sort_by(|one, other| other.0.cmp(&one.0));
        let expected = [
            ("output\n", StdStream::Stdout),
            ("error\n", StdStream::Stderr),
        ];
        assert_eq!(
            said,
            expected.map(|(text, stream)| (text.to_owned(), stream))
        );
        assert_eq!(house.line.exited("two", 1).exit.code(), Some(0));
        house.leave(0);
    }
}

/// Connections, messages and stored descriptors outlast it.
pub(super) fn another_program_keeps_sockets() {
    if !has_python() {
        return;
    }
    for walk in [false, true] {
        let mut house = House::ready(walk);
        let path = house.dir.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let found = path.symlink_metadata().unwrap();
        let socket = ActivationSocket {
            name: "http".to_owned(),
            address: path.display().to_string(),
        };
        let listen = HolderRequest::Listen {
            instance: "serves".parse().unwrap(),
            sockets: vec![BoundSocket {
                socket: socket.clone(),
                file: Some((found.dev(), found.ino())),
            }],
            passed: vec![0],
            activates: true,
        };
        house.line.ask_with(&listen, vec![listener.into()]);
        let mut spawn = python("serves", 1, SERVES);
        spawn.sockets = vec![socket.clone()];
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        house.line.spawned("serves", 1);
        while house.line.said("serves") != "READY=1" {}
        house.line.ask(&HolderRequest::Spawn(Box::new(python(
            "mains",
            1,
            NAMES_ANOTHER,
        ))));
        house.line.spawned("mains", 1);
        let main = house.line.until(|message| match message {
            HolderMessage::Process(event) => match &event.what {
                ProcessEventKind::MainChanged { pid, .. } => Some(pid.cast_signed()),
                _ => None,
            },
            _ => None,
        });
        let one = copy(&house, "one");
        assert_eq!(reexec(&mut house, &one), None);
        kill(Pid::from_raw(main), Signal::SIGKILL).unwrap();
        assert_eq!(house.line.exited("mains", 1).pid, main.unsigned_abs());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&[42]).unwrap();
        assert_eq!(house.line.said("serves"), "STATUS=asked");
        assert_eq!(house.line.exited("serves", 1).exit.code(), Some(42));
        // While it does not run.
        let two = copy(&house, "two");
        assert_eq!(reexec(&mut house, &two), None);
        let _waits = UnixStream::connect(&path).unwrap();
        house.line.until(|message| match message {
            HolderMessage::Process(event) => match &event.what {
                ProcessEventKind::SocketActivated { socket } => (socket == "http").then_some(()),
                _ => None,
            },
            _ => None,
        });
        let script = "echo $LISTEN_FDNAMES; head -c 4 <&4";
        let mut spawn = spawn_of("serves", 2, &["/bin/sh", "-c", script]);
        (spawn.output, spawn.sockets) = (Output::Captured, vec![socket]);
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        house.line.spawned("serves", 2);
        assert_eq!(house.line.exited("serves", 2).output, "http:kept\nkept");
        house.leave(0);
        assert!(!path.exists());
    }
}

/// A program that cannot go on is not executed, or executes the one before.
pub(super) fn a_program_that_cannot_go_on_is_refused() {
    let mut house = House::new(false);
    setup(&mut house);
    let counts = start_counting(&mut house);
    let text = house.dir.path().join("text");
    std::fs::write(&text, "no program").unwrap();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (fails, hangs) = (copy(&house, "fails"), copy(&house, "hangs"));
    let old = program_of(&house);
    for (program, expected) in [
        (Path::new("/bin/true"), "ended without an answer"),
        (&text, "ended without an answer"),
        (&hangs, "none within 5s"),
        (&fails, "cannot go on as the holder"),
    ] {
        let problem = reexec(&mut house, program).expect("it is refused");
        assert!(problem.contains(expected), "{problem}");
        assert!(lives(counts));
        assert_eq!(program_of(&house), old);
    }
    house.line.ask(&HolderRequest::Reexec { number: 8 });
    house.line.until(|message| match message {
        HolderMessage::Reexecuted { number: 8, problem } => problem.clone(),
        _ => None,
    });
    let one = copy(&house, "one");
    if has_python() {
        house.line.ask(&HolderRequest::Spawn(Box::new(python(
            "file",
            1,
            STORES_A_FILE,
        ))));
        while house.line.said("file") != "READY=1" {}
        let problem = reexec(&mut house, &one).expect("it is refused");
        assert!(problem.contains("stored a descriptor (file)"), "{problem}");
        let instance = "file".parse().unwrap();
        house.line.ask(&HolderRequest::Forget { instance });
        house.line.exited("file", 1);
    }
    assert_eq!(reexec(&mut house, &one), None);
    check_counted(&mut house);
    house.leave(0);
    // The holder of an application is not its own program.
    let mut rig = Rig::new(EngineOptions::default());
    let program = OwnedFd::from(File::open("/bin/true").unwrap());
    rig.line
        .ask_with(&HolderRequest::Reexec { number: 9 }, vec![program]);
    let problem = rig.line.until(|message| match message {
        HolderMessage::Reexecuted { number: 9, problem } => problem.clone(),
        _ => None,
    });
    assert!(problem.contains("part of an application"), "{problem}");
}

/// An exec waits for all threads: one that closes a file of a server that does not answer never
/// ends, also when the instance that was sent the descriptor is gone.
pub(super) fn nothing_is_executed_while_a_close_hangs() {
    let mut house = House::ready(false);
    let Some(fuse) = Fuse::mount() else {
        return house.leave(0);
    };
    hang_a_close(&mut house, &fuse);
    let instance = "n".parse().unwrap();
    house.line.ask(&HolderRequest::Forget { instance });
    house.line.exited("n", 1);
    let other = house.start("other", 1, "sleep 60");
    let one = copy(&house, "one");
    let problem = reexec(&mut house, &one).expect("it is refused");
    assert!(problem.contains("are being closed"), "{problem}");
    assert!(lives(other));
    drop(fuse);
    assert_eq!(reexec(&mut house, &one), None);
    house.leave(0);
}
