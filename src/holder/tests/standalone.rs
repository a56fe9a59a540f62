//! The holder as a process of its own, with a runtime that hands its wire to the test.
//! Owns the three roles of this binary: test, holder, runtime.
//! Never leaves a process behind.

#![expect(clippy::unwrap_used, reason = "tests")]

#[cfg(target_os = "linux")]
mod common;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match std::env::var("TEST_ROLE").as_deref() {
        Ok("holder") if std::env::args().nth(1).as_deref() == Some("holder") => roles::next(),
        Ok("holder") => roles::holder(),
        Ok("runtime") => roles::runtime(),
        _ => cases::all(),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod roles {
    use std::io::Read;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::process::ExitCode;

    use mainstay_holder::messages::CHANNEL_FD;
    use mainstay_holder::{RuntimeCommand, run, send_with_fds};
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    pub(crate) fn holder() -> ExitCode {
        run(RuntimeCommand {
            program: std::env::var_os("TEST_PROGRAM").unwrap().into(),
            args: vec![],
            env: vec![("TEST_ROLE".into(), "runtime".into())],
        })
        .unwrap()
        .into()
    }

    /// A holder executes this program, or asks it whether it could go on.
    pub(crate) fn next() -> ExitCode {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let word = std::env::args().next_back().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        match (word.parse(), program.file_name().unwrap().to_str().unwrap()) {
            (Err(_), "hangs") => loop {
                std::thread::park();
            },
            (Err(_), _) => {
                mainstay_holder::check_state().unwrap();
                ExitCode::SUCCESS
            }
            (Ok(state), name) => {
                // One that has too few descriptors cannot go on.
                let limit = if name == "fails" { 64 } else { hard.max(soft) };
                setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
                mainstay_holder::resume(state).unwrap().into()
            }
        }
    }

    /// Passes its end of the wire on, then ends with the code it is told.
    pub(crate) fn runtime() -> ExitCode {
        #[expect(unsafe_code, reason = "the wire is where the holder put it")]
        // SAFETY: nobody else in this process uses it.
        let wire = unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) };
        let Ok(mut test) = UnixStream::connect(std::env::var_os("TEST_SOCKET").unwrap()) else {
            return ExitCode::from(99);
        };
        let pid = std::process::id().to_le_bytes();
        send_with_fds(&test, &pid, &[wire]).unwrap();
        let mut code = [98];
        let _ = test.read(&mut code);
        ExitCode::from(code[0])
    }
}

#[cfg(target_os = "linux")]
mod cases {
    mod directories;
    mod hanging;
    mod leftovers;
    mod reexec;
    mod sockets;
    mod stops;
    mod strays;

    use std::collections::VecDeque;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Command, ExitCode};
    use std::time::Instant;

    use mainstay_holder::messages::{HolderMessage, HolderRequest, HolderSetup};
    use mainstay_holder::{Decoder, recv_with_fds};
    use mainstay_process::{ProcessEvent, ProcessEventKind};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::common::{Line, eventually, has_python, lives, setup_in, spawn_of};

    /// The cases of each file, by their names.
    macro_rules! cases {
        ($($file:tt: $($name:ident)*;)*) => {
            &[$($((stringify!($name), $file::$name),)*)*]
        };
    }

    const CASES: &[(&str, fn())] = cases![
        self:
            supervisor_dies_no_module_notices
            orphan_adoption_keeps_exits_and_messages
            two_supervisors_at_once
            signals_are_told_and_leave_cleans_up
            a_runtime_that_ends_before_ready_ends_all
            a_deaf_runtime_is_replaced
            a_stop_nobody_finishes_ends_anyway
            zombies_and_reaper_steals_status
            a_replaced_binary_does_not_matter;
        leftovers:
            a_killed_holder_leaves_nothing_to_meet
            up_below_what_was_left_spares_its_own_line
            escapees_are_killed_with_a_subreaper_too;
        strays:
            what_lost_every_tie_ends_with_its_run_and_no_other
            what_left_its_control_group_ends_too
            children_from_before_are_left_alone
            a_namespace_of_processes_changes_nothing;
        hanging:
            a_start_that_hangs_delays_no_runtime
            a_close_that_hangs_delays_no_runtime
            a_close_that_hangs_hides_no_process;
        stops:
            the_rest_of_a_tree_is_stopped
            a_suspended_main_is_reported
            an_unkillable_runtime_is_left;
        directories:
            unsafe_directories_are_refused
            a_second_holder_is_refused
            a_setup_does_not_hold_up_the_loop
            removed_directories_come_back;
        sockets:
            passed_sockets_are_kept
            files_of_sockets_go_with_them;
        reexec:
            another_program_goes_on
            another_program_keeps_sockets
            another_program_keeps_streams_apart
            a_program_that_cannot_go_on_is_refused
            nothing_is_executed_while_a_close_hangs;
    ];

    pub(crate) fn all() -> ExitCode {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--skip" => unwanted.extend(words.next()),
                word if word.starts_with('-') => {}
                _ => wanted.push(word),
            }
        }
        if std::env::args().any(|argument| argument == "--list") {
            CASES.iter().for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        let is_one = |of: &[String], name: &str| of.iter().any(|one| name.contains(one.as_str()));
        let chosen =
            |name: &str| (wanted.is_empty() || is_one(&wanted, name)) && !is_one(&unwanted, name);
        let mut failed = 0;
        for (name, case) in CASES.iter().filter(|(name, _)| chosen(name)) {
            let begin = Instant::now();
            let good = std::panic::catch_unwind(case).is_ok();
            let word = if good { "ok" } else { "FAILED" };
            println!("test {name} ... {word} ({:?})", begin.elapsed());
            failed += i32::from(!good);
        }
        ExitCode::from(u8::from(failed > 0))
    }

    struct House {
        dir: tempfile::TempDir,
        listener: UnixListener,
        holder: Child,
        /// The running runtime's process.
        runtime: i32,
        control: Option<UnixStream>,
        line: Line,
        walk: bool,
    }

    fn start_holder(dir: &tempfile::TempDir, program: &PathBuf, walk: bool) -> Child {
        let command = Command::new(std::env::current_exe().unwrap());
        start_as_holder(command, dir, program, walk)
    }

    fn start_as_holder(
        mut command: Command,
        dir: &tempfile::TempDir,
        program: &PathBuf,
        walk: bool,
    ) -> Child {
        command
            .process_group(0)
            .env("TEST_ROLE", "holder")
            .env("TEST_PROGRAM", program);
        command.env("TEST_SOCKET", dir.path().join("test.sock"));
        command.env("MAINSTAY_CGROUP", if walk { "off" } else { "on" });
        command.spawn().unwrap()
    }

    fn accept(listener: &UnixListener) -> (i32, UnixStream, Line) {
        listener.set_nonblocking(true).unwrap();
        let mut stream = None;
        eventually("a runtime connects", || {
            stream = listener.accept().ok();
            stream.is_some()
        });
        let (stream, _) = stream.unwrap();
        let (mut decoder, mut fds) = (Decoder::default(), VecDeque::new());
        eventually("it passes its wire", || {
            recv_with_fds(&stream, &mut decoder, &mut fds).is_ok()
        });
        let peer =
            nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
        stream.set_nonblocking(false).unwrap();
        (
            peer.unwrap().pid(),
            stream,
            Line::new(fds.pop_front().unwrap()),
        )
    }

    impl House {
        fn new(walk: bool) -> House {
            House::of(
                tempfile::tempdir().unwrap(),
                std::env::current_exe().unwrap(),
                walk,
            )
        }

        fn of(dir: tempfile::TempDir, program: PathBuf, walk: bool) -> House {
            let path = dir.path().join("test.sock");
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(path).unwrap();
            let holder = start_holder(&dir, &program, walk);
            House::with(dir, listener, holder, walk)
        }

        fn with(
            dir: tempfile::TempDir,
            listener: UnixListener,
            holder: Child,
            walk: bool,
        ) -> House {
            let (runtime, control, line) = accept(&listener);
            House {
                dir,
                listener,
                holder,
                runtime,
                control: Some(control),
                line,
                walk,
            }
        }

        fn setup(&self) -> HolderSetup {
            setup_in(self.dir.path())
        }

        fn configure(&mut self, setup: HolderSetup) {
            let world = self.line.world();
            assert_eq!(world.setup, None);
            self.line.ask(&HolderRequest::Configure(setup));
            let fds = self.line.until(|tell| match tell {
                HolderMessage::Configured { fds } => Some(*fds),
                HolderMessage::Refused { message, .. } => panic!("{message}"),
                _ => None,
            });
            assert_eq!((fds, self.line.fds.len()), (2, 2));
            self.line.ask(&HolderRequest::Ready);
        }

        fn ready(walk: bool) -> House {
            let mut house = House::new(walk);
            let setup = house.setup();
            house.configure(setup);
            house
        }

        fn start(&mut self, name: &str, generation: u64, script: &str) -> i32 {
            let spawn = spawn_of(name, generation, &["/bin/sh", "-c", script]);
            self.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
            self.line.spawned(name, generation)
        }

        fn next_runtime(&mut self) {
            let (runtime, control, line) = accept(&self.listener);
            (self.runtime, self.control, self.line) = (runtime, Some(control), line);
        }

        fn kill_runtime(&mut self) {
            kill(Pid::from_raw(self.runtime), Signal::SIGKILL).unwrap();
            self.next_runtime();
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.holder.id() as i32), signal).unwrap();
        }

        fn end(&mut self) -> i32 {
            let mut code = None;
            eventually("the holder ends", || {
                code = self.holder.try_wait().unwrap();
                code.is_some()
            });
            code.unwrap().code().unwrap_or(-1)
        }

        fn leave(mut self, code: u8) {
            self.line.ask(&HolderRequest::Exit { code });
            self.control = None; // the runtime ends by itself, as a real one does
            assert_eq!(self.end(), i32::from(code));
            assert!(!self.dir.path().join("run/control.sock").exists());
            assert!(!self.dir.path().join("run/holder.json").exists());
        }
    }

    impl Drop for House {
        fn drop(&mut self) {
            if let Ok(None) = self.holder.try_wait() {
                let group = Pid::from_raw(self.holder.id() as i32);
                let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
                let _ = self.holder.wait();
            }
        }
    }

    fn supervisor_dies_no_module_notices() {
        let mut house = House::ready(false);
        let pid = house.start("a", 3, "while :; do echo tick; sleep 0.01; done");
        house.line.ask(&HolderRequest::SaveRecord {
            instance: "a".parse().unwrap(),
            record: "wanted up".into(),
        });
        for round in 1..=3 {
            house.kill_runtime();
            let world = house.line.world();
            let setup = house.setup();
            assert_eq!(
                (world.setup.as_ref(), world.restarts),
                (Some(&setup), round)
            );
            assert_eq!(world.fds, 2);
            let known = &world.instances[0];
            assert_eq!((known.pid, known.generation), (Some(pid as u32), 3));
            assert_eq!(known.record.as_deref(), Some("wanted up"));
            assert_eq!(house.line.fds.len(), 2);
            house.line.ask(&HolderRequest::Ready);
        }
        assert!(lives(pid));
        let text = std::fs::read_to_string(house.dir.path().join("run/holder.json")).unwrap();
        assert!(
            text.contains("\"restarts\":3") || text.contains("\"restarts\":2"),
            "{text}"
        );
        house.leave(0);
        eventually("the module ends with the holder", || !lives(pid));
    }

    fn orphan_adoption_keeps_exits_and_messages() {
        if !has_python() {
            return;
        }
        let mut house = House::ready(false);
        let mut spawn = spawn_of("n", 1, &["python3", "-c", SPEAKS]);
        spawn.notify = true;
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        house.line.spawned("n", 1);
        let pid = house.start("a", 1, "sleep 0.2; exit 42");
        kill(Pid::from_raw(house.runtime), Signal::SIGKILL).unwrap();
        eventually("the module ends while nobody listens", || !lives(pid));
        house.next_runtime();
        assert_eq!(house.line.exited("a", 1).exit.code(), Some(42));
        house.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::Notify { text, .. },
                ..
            }) if text.contains("READY=1") => Some(()),
            _ => None,
        });
        // News that a second runtime may have been lost with is told again.
        house.kill_runtime();
        assert_eq!(house.line.exited("a", 1).exit.code(), Some(42));
        house.leave(0);
    }

    const SPEAKS: &str = "
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'STATUS=one', os.environ['NOTIFY_SOCKET'])
time.sleep(0.15)
s.sendto(b'READY=1\\nSTATUS=two', os.environ['NOTIFY_SOCKET'])
time.sleep(60)";

    fn two_supervisors_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("test.sock")).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut holders: Vec<Child> = (0..8)
            .map(|_| start_holder(&dir, &program, false))
            .collect();
        let mut lines: Vec<_> = (0..8).map(|_| accept(&listener)).collect();
        for (_, _, line) in &mut lines {
            line.world();
            line.ask(&HolderRequest::Configure(setup_in(dir.path())));
        }
        let mut winners = Vec::new();
        for (place, (_, control, line)) in lines.iter_mut().enumerate() {
            let refusal = line.until(|tell| match tell {
                HolderMessage::Configured { .. } => Some(None),
                HolderMessage::Refused { message, exit } => Some(Some((message.clone(), *exit))),
                _ => None,
            });
            match refusal {
                None => winners.push(place),
                Some((message, exit)) => {
                    assert_eq!(exit, 1);
                    assert!(message.starts_with("cannot start test: another mainstay has the "));
                    assert!(
                        message.contains("stop it with `mainstay down --config "),
                        "{message}"
                    );
                    control.write_all(&[1]).unwrap();
                }
            }
        }
        assert_eq!(winners.len(), 1);
        lines[winners[0]].2.ask(&HolderRequest::Exit { code: 0 });
        let mut codes: Vec<_> = holders
            .iter_mut()
            .map(|one| one.wait().unwrap().code())
            .collect();
        codes.sort();
        assert_eq!(codes, [vec![Some(0)], vec![Some(1); 7]].concat());
    }

    fn signals_are_told_and_leave_cleans_up() {
        let mut house = House::ready(false);
        let pid = house.start("a", 1, "trap '' TERM; sleep 100");
        house.signal(Signal::SIGHUP);
        house
            .line
            .until(|tell| (*tell == HolderMessage::ReloadRequested).then_some(()));
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGINT] {
            house.signal(signal);
            let told = house.line.until(|tell| match tell {
                HolderMessage::StopRequested {
                    signal,
                    time_left_ms: None,
                } => Some(*signal),
                _ => None,
            });
            assert_eq!(told.0, signal as i32);
        }
        house.kill_runtime();
        assert!(house.line.world().stopping);
        let left = house.line.until(|tell| match tell {
            HolderMessage::StopRequested {
                time_left_ms: left_ms,
                ..
            } => Some(*left_ms),
            _ => None,
        });
        assert!(left.is_some_and(|ms| 0 < ms && ms <= 10_000), "{left:?}");
        house.leave(3);
        eventually("it is killed", || !lives(pid));
    }

    fn a_runtime_that_ends_before_ready_ends_all() {
        let mut house = House::new(false);
        house.control.take().unwrap().write_all(&[5]).unwrap();
        assert_eq!(house.end(), 5);
    }

    fn a_deaf_runtime_is_replaced() {
        let mut house = House::new(false);
        let mut setup = house.setup();
        setup.heartbeat_timeout_ms = 1200;
        house.configure(setup);
        let asked = |tell: &HolderMessage| (*tell == HolderMessage::Ping).then_some(());
        for _ in 0..2 {
            house.line.until(asked);
            house.line.ask(&HolderRequest::Pong);
        }
        house.line.until(asked);
        assert!(lives(house.runtime), "one that answers is left alone");
        let deaf = house.runtime;
        house.next_runtime();
        assert!(!lives(deaf));
        let world = house.line.world();
        assert_eq!(world.restarts, 1);
        let why = "it did not answer, and was killed";
        assert_eq!(world.ended.as_deref(), Some(why));
        house.leave(0);
    }

    fn a_stop_nobody_finishes_ends_anyway() {
        let mut house = House::new(false);
        let mut setup = house.setup();
        setup.live.stop_timeout_ms = 200;
        house.configure(setup);
        let pid = house.start("a", 1, "sleep 100");
        house.signal(Signal::SIGTERM);
        assert_eq!(house.end(), 1);
        assert!(!lives(pid));
    }

    fn zombies_and_reaper_steals_status() {
        for walk in [false, true] {
            let mut house = House::ready(walk);
            let orphans = "for i in $(seq 100); do (sleep 0.01 & ) ; done; exit ";
            for module in 0..5 {
                house.start(&format!("m{module}"), 1, &format!("{orphans}{module}"));
            }
            for quick in 0..200 {
                let script = format!("exit {}", quick % 100);
                let spawn = spawn_of(&format!("q{quick}"), 1, &["/bin/sh", "-c", &script]);
                house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
            }
            for quick in 0..200 {
                assert_eq!(
                    house.line.exited(&format!("q{quick}"), 1).exit.code(),
                    Some(quick % 100)
                );
            }
            for module in 0..5 {
                assert_eq!(
                    house.line.exited(&format!("m{module}"), 1).exit.code(),
                    Some(module)
                );
            }
            let holder = house.holder.id();
            eventually("no zombie stays", || zombies_of(holder) == 0);
            house.leave(0);
        }
    }

    fn zombies_of(parent: u32) -> usize {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = entries.filter_map(|one| std::fs::read_to_string(one.path().join("stat")).ok());
        let mine = format!(" Z {parent} ");
        stats.filter(|text| text.contains(&mine)).count()
    }

    fn a_replaced_binary_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("runtime");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut house = House::of(dir, program.clone(), false);
        let setup = house.setup();
        house.configure(setup);
        std::fs::remove_file(&program).unwrap();
        std::fs::write(&program, "something else").unwrap();
        house.kill_runtime();
        assert_eq!(house.line.world().restarts, 1);
        house.leave(0);
    }
}
