//! Starting processes: what a child finds, and how failures are named.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Rig, both_trees, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::HolderRequest;
use mainstay_process::{Credentials, Limits, Output, Signal, StartStep, Stdin};

fn plain() -> Vec<EngineOptions> {
    vec![
        EngineOptions::default(),
        EngineOptions {
            plain_fork: true,
            ..EngineOptions::default()
        },
    ]
}

#[test]
fn a_process_starts_and_its_end_is_told() {
    for options in plain().into_iter().chain(both_trees()) {
        let mut rig = Rig::new(options);
        let exited = rig.told("a", 1, "echo hello; exit 7");
        assert_eq!((exited.exit.code(), exited.exit.signal()), (Some(7), None));
        assert_eq!(exited.output, "hello\n");
        let exited = rig.told("a", 2, "kill -9 $$");
        assert_eq!(
            (exited.exit.code(), exited.exit.signal()),
            (None, Some(Signal::KILL))
        );
    }
}

#[test]
fn spawn_exec_error_invisible() {
    for options in plain() {
        let mut rig = Rig::new(options);
        let file = rig.dir.path().join("plain.txt");
        std::fs::write(&file, "no program").unwrap();
        let text = rig.dir.path().join("text");
        std::fs::write(&text, "echo no interpreter line").unwrap();
        std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (file, text) = (file.to_str().unwrap(), text.to_str().unwrap());
        let cases = [
            ("target/x", libc::ENOENT),
            ("no-such-command-anywhere", libc::ENOENT),
            (file, libc::EACCES),
            ("/tmp", libc::EACCES),
            (text, libc::ENOEXEC),
        ];
        for (generation, (program, errno)) in (1..).zip(cases) {
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn_of(
                "e",
                generation,
                &[program],
            ))));
            let (step, seen, message) = rig.line.failed("e", generation);
            assert_eq!((step, seen), (StartStep::Exec, errno));
            assert_eq!(message, "", "the runtime knows why");
        }
        let mut spawn = spawn_of("e", 10, &["true"]);
        spawn.directory = "/no/such/directory".into();
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        let (step, errno, _) = rig.line.failed("e", 10);
        assert_eq!((step, errno), (StartStep::Directory, libc::ENOENT));
        let mut spawn = spawn_of("e", 11, &["true"]);
        spawn.user = Some("nobody".into()); // by name: it was not looked up
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        assert_eq!(rig.line.failed("e", 11).0, StartStep::User);
        let mut spawn = spawn_of("e", 12, &["true"]);
        spawn.output = Output::Null;
        rig.start(spawn);
        assert_eq!(rig.line.exited("e", 12).exit.code(), Some(0));
    }
}

#[test]
fn a_group_is_used_again_over_restarts() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        for generation in 1..=30 {
            let exited = rig.told("a", generation, "exit 3");
            assert_eq!(
                (exited.exit.code(), exited.exit.signal()),
                (Some(3), None),
                "generation {generation}"
            );
        }
        for generation in 31..=50 {
            rig.start(spawn_of("a", generation, &["sleep", "100"]));
            rig.line.kill("a", generation);
            assert_eq!(
                rig.line.exited("a", generation).exit.signal(),
                Some(Signal::KILL)
            );
        }
        assert_eq!(rig.told("a", 51, "exit 3").exit.code(), Some(3));
    }
}

#[test]
fn fd_leaks_no_cloexec() {
    for options in plain() {
        let mut rig = Rig::new(options);
        // `ls` itself opens the folder: the lowest number that is free.
        let mut spawn = spawn_of("f", 1, &["/bin/ls", "-m", "/proc/self/fd"]);
        spawn.output = Output::Captured;
        rig.start(spawn.clone());
        assert_eq!(rig.line.exited("f", 1).output, "0, 1, 2, 3\n");
        (spawn.generation, spawn.ready_fd) = (2, Some(7));
        rig.start(spawn);
        assert_eq!(rig.line.exited("f", 2).output, "0, 1, 2, 3, 7\n");
        let links = "readlink /proc/self/fd/0; readlink /proc/self/fd/1 | cut -c1-4";
        assert_eq!(rig.told("f", 3, links).output, "/dev/null\npipe\n");
    }
}

#[test]
fn inherited_signal_mask_and_ignored_signals() {
    for options in plain() {
        let mut rig = Rig::new(options);
        let exited = rig.told("s", 1, "exec grep -E 'Sig(Blk|Ign)' /proc/self/status");
        let none = "0".repeat(16);
        assert_eq!(exited.output, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
        let exited = rig.told("s", 2, "cut -d' ' -f5,6 /proc/$$/stat; echo $$");
        let numbers: Vec<&str> = exited.output.split_whitespace().collect();
        assert_eq!(numbers[0], numbers[2], "leads its group");
        assert_eq!(numbers[1], numbers[2], "leads its session");
    }
}

#[test]
fn env_leaks() {
    let mut rig = Rig::new(EngineOptions::default());
    let folder = rig.dir.path().join("run/notify");
    let mut spawn = spawn_of("env", 1, &["/usr/bin/env"]);
    spawn.env = vec![("B".into(), "2".into()), ("A".into(), "one two".into())];
    (spawn.clear_env, spawn.notify, spawn.output) = (true, true, Output::Captured);
    spawn.watchdog_usec = Some(5_000_000);
    let pid = rig.start(spawn);
    let text = rig.line.exited("env", 1).output;
    let mut lines: Vec<&str> = text.lines().collect();
    let mark = lines
        .iter()
        .position(|line| line.starts_with("MAINSTAY_MARK="))
        .unwrap();
    let secrets = lines.remove(mark).split(['=', ':']).skip(1);
    assert_eq!(secrets.map(str::len).collect::<Vec<_>>(), [32, 32]);
    lines.sort_unstable();
    let socket = lines
        .iter()
        .find_map(|line| line.strip_prefix("NOTIFY_SOCKET="));
    let socket = std::path::Path::new(socket.unwrap());
    assert_eq!(socket.parent(), Some(&*folder));
    let socket = format!("NOTIFY_SOCKET={}", socket.display());
    let pid = format!("WATCHDOG_PID={pid}");
    assert_eq!(
        lines,
        ["A=one two", "B=2", &socket, &pid, "WATCHDOG_USEC=5000000"]
    );
}

#[test]
fn limits_and_identity_are_those_that_were_asked_for() {
    for options in plain() {
        let mut rig = Rig::new(options);
        let mut spawn = spawn_of("l", 1, &["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn; nice"]);
        spawn.output = Output::Captured;
        spawn.limits = Limits {
            file_handles: Some(321),
            nice: Some(3),
            ..Limits::default()
        };
        rig.start(spawn.clone());
        assert_eq!(rig.line.exited("l", 1).output, "321\n321\n3\n");
        (spawn.generation, spawn.limits.file_handles) = (2, Some(u64::MAX - 1));
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        assert_eq!(rig.line.failed("l", 2).0, StartStep::Limits);
        if !nix::unistd::geteuid().is_root() {
            continue;
        }
        let mut spawn = spawn_of(
            "l",
            3,
            &[
                "/bin/sh",
                "-c",
                "id -u; id -G; grep NoNew /proc/self/status",
            ],
        );
        spawn.credentials = Some(Credentials {
            uid: 65534,
            gid: 65534,
            groups: vec![65534, 7],
        });
        spawn.output = Output::Captured;
        spawn.no_new_privileges = true;
        rig.start(spawn.clone());
        assert_eq!(
            rig.line.exited("l", 3).output,
            "65534\n65534 7\nNoNewPrivs:\t1\n"
        );
        // What it writes by the name of its descriptor is its own too.
        let script = "echo out > /dev/stdout; echo err > /dev/stderr";
        (spawn.argv[2], spawn.generation) = (script.to_owned(), 4);
        rig.start(spawn.clone());
        assert_eq!(rig.line.exited("l", 4).output, "out\nerr\n");
        for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
            spawn.generation += 1;
            let groups = vec![];
            spawn.credentials = Some(Credentials { uid, gid, groups });
            let (name, generation) = ("l", spawn.generation);
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn.clone())));
            assert_eq!(rig.line.failed(name, generation).0, StartStep::User);
        }
        let me = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(me.contains("Uid:\t0\t0\t0\t0"), "we stay who we are");
    }
}

#[test]
fn late_callback_of_an_old_instance_is_fenced() {
    let mut rig = Rig::new(EngineOptions::default());
    let pid = rig.start(spawn_of("a", 5, &["sleep", "100"]));
    for generation in [4, 5, 6] {
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn_of(
            "a",
            generation,
            &["true"],
        ))));
        assert_eq!(rig.line.failed("a", generation).0, StartStep::Fence);
    }
    // Old news for an old run changes nothing.
    rig.line.kill("a", 4);
    rig.line.ask(&HolderRequest::Signal {
        instance: "a".parse().unwrap(),
        generation: 4,
        signal: Signal::KILL,
        cont: false,
        within_ms: None,
    });
    rig.told("b", 1, "true");
    assert!(common::lives(pid));
    rig.line.kill("a", 5);
    assert_eq!(rig.line.exited("a", 5).exit.signal(), Some(Signal::KILL));
    rig.line
        .ask(&HolderRequest::Spawn(Box::new(spawn_of("a", 5, &["true"]))));
    assert_eq!(rig.line.failed("a", 5).0, StartStep::Fence);
    assert_eq!(rig.told("a", 6, "true").exit.code(), Some(0));
}

#[test]
fn fork_exec_in_threads_under_load() {
    for options in plain() {
        let mut rig = Rig::new(options);
        for number in 0..1000u32 {
            let code = (number % 200).to_string();
            let mut spawn = spawn_of(
                &format!("m{number}"),
                1,
                &["/bin/sh", "-c", "exit $0", &code],
            );
            spawn.output = Output::Null;
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        }
        for number in 0..1000i32 {
            let exited = rig.line.exited(&format!("m{number}"), 1);
            assert_eq!(exited.exit.code(), Some(number % 200));
        }
        let me = std::process::id();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let read = |one: std::fs::DirEntry| std::fs::read_to_string(one.path().join("stat")).ok();
        let mut stats = entries.filter_map(read);
        assert!(
            !stats.any(|text| text.contains(&format!("(sh) Z {me} "))),
            "a zombie stays"
        );
    }
}

#[test]
fn pdeathsig_thread_trap() {
    let mut rig = std::thread::spawn(|| Rig::new(EngineOptions::default()))
        .join()
        .unwrap();
    let line = &mut rig.line;
    let pid = std::thread::scope(|scope| {
        let start = scope.spawn(|| {
            line.ask(&HolderRequest::Spawn(Box::new(spawn_of(
                "a",
                1,
                &["sleep", "100"],
            ))));
            line.spawned("a", 1)
        });
        start.join().unwrap()
    });
    let none = rig
        .line
        .until_within(std::time::Duration::from_millis(100), |_| Some(()));
    assert_eq!(none, None);
    assert!(common::lives(pid));
}

#[test]
fn sigstopped_child_ignores_term() {
    let mut rig = Rig::new(EngineOptions::default());
    let pid = rig.start(spawn_of("a", 1, &["sleep", "100"]));
    let signal = |signal, cont| HolderRequest::Signal {
        instance: "a".parse().unwrap(),
        generation: 1,
        signal,
        cont,
        within_ms: None,
    };
    rig.line.ask(&signal(Signal(libc::SIGSTOP), false));
    common::eventually("it stops", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .unwrap()
            .contains(") T ")
    });
    rig.line.ask(&signal(Signal::TERMINATE, true));
    assert_eq!(
        rig.line.exited("a", 1).exit.signal(),
        Some(Signal::TERMINATE)
    );
}

#[test]
fn a_run_that_overstays_is_killed_with_its_tree() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let mut spawn = spawn_of(
            "p",
            1,
            &["/bin/sh", "-c", "echo begun; sleep 100 & sleep 100"],
        );
        (spawn.timeout_ms, spawn.output) = (100, Output::Captured);
        rig.start(spawn);
        let exited = rig.line.exited("p", 1);
        assert!(exited.timed_out);
        assert_eq!(
            (exited.exit.signal(), exited.output.as_str()),
            (Some(Signal::KILL), "begun\n")
        );
    }
}

#[test]
fn an_open_stdin_has_no_end_while_it_runs() {
    for options in plain() {
        let mut rig = Rig::new(options);
        let mut spawn = spawn_of("c", 1, &["cat"]);
        rig.start(spawn.clone());
        assert_eq!(
            rig.line.exited("c", 1).exit.code(),
            Some(0),
            "as from /dev/null"
        );
        (spawn.generation, spawn.stdin) = (2, Stdin::Open);
        let pid = rig.start(spawn);
        rig.told("other", 1, "exit 0");
        let stat = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
        assert!(stat.to_str().unwrap().starts_with("pipe:"), "{stat:?}");
        rig.line.kill("c", 2);
        assert_eq!(rig.line.exited("c", 2).exit.signal(), Some(Signal::KILL));
    }
}
