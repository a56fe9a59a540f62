//! A small runtime for tests: asks the engine and waits for what it tells.
//! Owns a temporary directory and the engine's thread; ends both.
//! Never waits without a deadline.

#![expect(dead_code, reason = "every test file uses its own part of it")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[cfg(target_os = "linux")]
pub(crate) mod fuse;
#[cfg(target_os = "linux")]
pub(crate) mod hidden;
pub(crate) mod leased;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mainstay_holder::messages::{
    HolderMessage, HolderRequest, HolderSetup, LiveSetup, TakeoverState,
};
use mainstay_holder::{Decoder, EngineOptions, FrameQueue, embed, recv_with_fds};
use mainstay_process::{
    Exited, Output, ProcessEventKind, Signal, SpawnRequest, StartStep, TreeProcess,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a wire with what has arrived.
pub(crate) struct Line {
    pub(crate) socket: OwnedFd,
    decoder: Decoder,
    outbox: FrameQueue,
    pub(crate) fds: VecDeque<OwnedFd>,
    pub(crate) seen: VecDeque<HolderMessage>,
}

impl Line {
    pub(crate) fn new(socket: OwnedFd) -> Line {
        let (decoder, outbox) = (Decoder::default(), FrameQueue::default());
        Line {
            socket,
            decoder,
            outbox,
            fds: VecDeque::new(),
            seen: VecDeque::new(),
        }
    }

    pub(crate) fn ask(&mut self, ask: &HolderRequest) {
        self.ask_with(ask, vec![]);
    }

    pub(crate) fn ask_with(&mut self, ask: &HolderRequest, fds: Vec<OwnedFd>) {
        self.outbox.push(ask, fds).unwrap();
        while !self.outbox.flush(&self.socket).unwrap() {
            self.wait(PollFlags::POLLOUT, Instant::now() + PATIENCE);
        }
    }

    fn wait(&self, flags: PollFlags, end: Instant) -> bool {
        let rest = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.socket.as_fd(), flags)];
        let timeout = PollTimeout::try_from(rest).unwrap();
        poll(&mut fds, timeout).is_ok_and(|count| count > 0)
    }

    /// Takes in what is there; false at the end of the wire.
    pub(crate) fn pump(&mut self, end: Instant) -> bool {
        if !self.wait(PollFlags::POLLIN, end) {
            return true;
        }
        match recv_with_fds(&self.socket, &mut self.decoder, &mut self.fds) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(problem) if problem.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        while let Some(tell) = self.decoder.next::<HolderMessage>().unwrap() {
            self.seen.push_back(tell);
        }
        true
    }

    /// Waits for the first message of which `pick` makes something; others before it are kept.
    pub(crate) fn until_within<T>(
        &mut self,
        within: Duration,
        mut pick: impl FnMut(&HolderMessage) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut looked = 0;
        loop {
            while let Some(tell) = self.seen.get(looked) {
                if let Some(found) = pick(tell) {
                    self.seen.remove(looked);
                    return Some(found);
                }
                looked += 1;
            }
            if Instant::now() >= end || !self.pump(end) {
                return None;
            }
        }
    }

    pub(crate) fn until<T>(&mut self, pick: impl FnMut(&HolderMessage) -> Option<T>) -> T {
        match self.until_within(PATIENCE, pick) {
            Some(found) => found,
            None => panic!("it was not told; seen: {:?}", self.seen),
        }
    }

    /// What happened to a run.
    fn of_run<T>(
        &mut self,
        name: &str,
        generation: u64,
        mut pick: impl FnMut(&ProcessEventKind) -> Option<T>,
    ) -> T {
        self.until(|message| match message {
            HolderMessage::Process(event)
                if &*event.instance == name && event.generation == generation =>
            {
                pick(&event.what)
            }
            _ => None,
        })
    }

    pub(crate) fn spawned(&mut self, name: &str, generation: u64) -> i32 {
        self.of_run(name, generation, |what| match what {
            ProcessEventKind::Spawned { pid, .. } => Some(*pid as i32),
            ProcessEventKind::SpawnFailed { message, .. } => panic!("{message}"),
            _ => None,
        })
    }

    pub(crate) fn failed(&mut self, name: &str, generation: u64) -> (StartStep, i32, String) {
        self.of_run(name, generation, |what| match what {
            ProcessEventKind::SpawnFailed { failure, message } => {
                Some((failure.step, failure.errno, message.clone()))
            }
            ProcessEventKind::Spawned { .. } => panic!("{name} was started"),
            _ => None,
        })
    }

    pub(crate) fn exited(&mut self, name: &str, generation: u64) -> Exited {
        self.of_run(name, generation, |what| match what {
            ProcessEventKind::Exited(exited) => Some(exited.clone()),
            _ => None,
        })
    }

    pub(crate) fn said(&mut self, name: &str) -> String {
        self.until(|message| match message {
            HolderMessage::Process(event) if &*event.instance == name => match &event.what {
                ProcessEventKind::Notify { text, .. } => Some(text.clone()),
                _ => None,
            },
            _ => None,
        })
    }

    pub(crate) fn kill(&mut self, name: &str, generation: u64) {
        self.ask(&HolderRequest::Kill {
            instance: name.parse().unwrap(),
            generation,
        });
    }

    pub(crate) fn stop(&mut self, name: &str, generation: u64, within: Duration) {
        self.ask(&HolderRequest::Signal {
            instance: name.parse().unwrap(),
            generation,
            signal: Signal::TERMINATE,
            cont: true,
            within_ms: Some(u64::try_from(within.as_millis()).unwrap()),
        });
    }

    pub(crate) fn tree_signalled(
        &mut self,
        name: &str,
        generation: u64,
    ) -> (Signal, Vec<TreeProcess>) {
        self.of_run(name, generation, |what| match what {
            ProcessEventKind::TreeSignalled {
                signal, processes, ..
            } => Some((*signal, processes.clone())),
            ProcessEventKind::Exited(exited) => panic!("it exited before: {exited:?}"),
            _ => None,
        })
    }

    /// The next signal that the main process is stopped by, or none when it is continued.
    pub(crate) fn suspended(&mut self, name: &str) -> Option<i32> {
        self.of_run(name, 1, |what| match what {
            ProcessEventKind::Suspended { signal } => Some(Some(signal.0)),
            ProcessEventKind::Continued => Some(None),
            _ => None,
        })
    }

    pub(crate) fn world(&mut self) -> TakeoverState {
        self.until(|tell| match tell {
            HolderMessage::Takeover(world) => Some((**world).clone()),
            _ => None,
        })
    }
}

pub(crate) fn setup_in(dir: &std::path::Path) -> HolderSetup {
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    HolderSetup {
        name: "test".into(),
        state_dir: at("state"),
        runtime_dir: at("run"),
        config_dir: at("config"),
        log_dir: at("logs"),
        heartbeat_timeout_ms: 0,
        live: LiveSetup {
            log_max_bytes: 1 << 20,
            log_keep: 3,
            control_mode: 0o600,
            stop_timeout_ms: 10_000,
        },
    }
}

pub(crate) fn spawn_of(name: &str, generation: u64, argv: &[&str]) -> SpawnRequest {
    let argv = argv.iter().map(|word| (*word).into()).collect();
    SpawnRequest {
        generation,
        output: Output::Log,
        ..SpawnRequest::command(name.parse().unwrap(), argv, "/".into())
    }
}

/// Whether there is a Python; says so where there is none. What a fresh machine has (Rust and a C
/// compiler) has to do: what speaks by a script is not tested there.
pub(crate) fn has_python() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = std::env::split_paths(&path).any(|folder| folder.join("python3").is_file());
    if !has {
        eprintln!("no python3 here: not tested");
    }
    has
}

/// A Python script that can `say(text, descriptors)` by sd_notify.
pub(crate) fn python(name: &str, generation: u64, script: &str) -> SpawnRequest {
    let head = "
import os, socket, sys, time, array
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text, fds=()):
    s.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [], 0, os.environ['NOTIFY_SOCKET'])
";
    let mut spawn = spawn_of(
        name,
        generation,
        &["python3", "-c", &format!("{head}{script}")],
    );
    spawn.notify = true;
    spawn
}

/// An embedded engine with a configured setup.
pub(crate) struct Rig {
    pub(crate) line: Line,
    pub(crate) world: TakeoverState,
    pub(crate) dir: tempfile::TempDir,
    thread: Option<JoinHandle<u8>>,
}

impl Rig {
    pub(crate) fn new(options: EngineOptions) -> Rig {
        Rig::with(options, |_| {})
    }

    pub(crate) fn with(options: EngineOptions, change: impl FnOnce(&mut HolderSetup)) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (socket, thread) = embed(options).unwrap();
        let mut line = Line::new(socket);
        let world = line.world();
        let mut setup = setup_in(dir.path());
        change(&mut setup);
        line.ask(&HolderRequest::Configure(setup));
        line.until(|tell| match tell {
            HolderMessage::Configured { fds } => Some(*fds),
            HolderMessage::Refused { message, .. } => panic!("{message}"),
            _ => None,
        });
        line.ask(&HolderRequest::Ready);
        Rig {
            line,
            world,
            dir,
            thread: Some(thread),
        }
    }

    pub(crate) fn start(&mut self, spawn: SpawnRequest) -> i32 {
        let (name, generation) = (spawn.instance.clone(), spawn.generation);
        self.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        self.line.spawned(&name, generation)
    }

    /// Runs a shell script and returns what it wrote.
    pub(crate) fn told(&mut self, name: &str, generation: u64, script: &str) -> Exited {
        let mut spawn = spawn_of(name, generation, &["/bin/sh", "-c", script]);
        spawn.output = Output::Captured;
        self.start(spawn);
        self.line.exited(name, generation)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(format!("{name}.log"))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let (closed, _) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut self.line.socket, closed.into()));
        if let Some(thread) = self.thread.take() {
            let code = thread.join();
            if !std::thread::panicking() {
                assert_eq!(code.ok(), Some(0), "the engine ended in order");
            }
        }
    }
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: it did not become so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Both ways to kill trees, where the machine has both.
pub(crate) fn both_trees() -> Vec<EngineOptions> {
    vec![
        EngineOptions::default(),
        EngineOptions {
            no_groups: true,
            ..EngineOptions::default()
        },
    ]
}

/// Where the one run that has a notify socket sends its messages: no other user can list this.
pub(crate) fn notify_socket(dir: &std::path::Path) -> PathBuf {
    const NAME_LENGTH: usize = 16;
    let mut found = None;
    eventually("a notify socket", || {
        let entries = std::fs::read_dir(dir.join("run/notify"));
        let paths = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|one| one.path());
        let has_name = |path: &PathBuf| path.file_name().unwrap().len() == NAME_LENGTH;
        let paths: Vec<PathBuf> = paths.filter(has_name).collect();
        assert!(paths.len() < 2, "{paths:?}");
        found = paths.into_iter().next();
        found.is_some()
    });
    found.unwrap()
}
