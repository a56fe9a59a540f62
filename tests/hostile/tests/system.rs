//! A real mainstay under attack, and the assertion that is the same for all attackers: nobody else
//! is late, loses a byte, is believed or is left behind, and mainstay itself stays small.
//! Owns the holder's process and its end. Never sleeps for a fixed time without a measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{Event, EventKind, ModuleState, ModuleView, SystemStatus, SystemView};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::attacker::Attacker;
use crate::lateness::Measured;
use crate::setup::{Setup, mainstay};
use crate::traces;

/// The longest any wait may take; only reached by failures.
const DEADLINE: Duration = Duration::from_secs(15);
/// Between two measurements.
const PAUSE: Duration = Duration::from_millis(20);
/// How long is measured without an attacker.
const ALONE: Duration = Duration::from_millis(300);
/// How long is measured during an attack, which goes on for longer.
const ATTACKED: Duration = Duration::from_millis(1000);
/// How many restarts are measured at least: their median does not hang on one that waits its turn.
const RESTARTS: usize = 9;
/// How often an attack is tried before something that is late is not the machine's doing.
const TRIES: u32 = 3;
/// What the holder and the runtime may need for themselves.
const MEMORY_MAX: u64 = 32 * 1024 * 1024;
/// What the holder may have open for a module that was started, more than before.
const DESCRIPTORS: usize = 8;
/// The longest `down` may take: its modules end at once.
const DOWN_MAX: Duration = Duration::from_secs(12);

/// A running mainstay.
pub(crate) struct System {
    pub(crate) dir: TempDir,
    holder: Child,
    down: Command,
    insiders: Vec<String>,
}

/// What must be the same after an attack as before.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    runtime: u32,
    talker: (Option<u32>, u64),
    mute: (Option<u32>, u64, ModuleState, Option<String>),
}

/// Asserts that a system withstands this attack: its modules that are attackers, and the strangers
/// that `attack` returns, all under way.
pub(crate) fn withstand(setup: impl Fn() -> Setup, attack: impl Fn(&System) -> Vec<Attacker>) {
    withstand_for(ATTACKED, setup, attack);
}

/// The same for an attack that is measured for longer.
pub(crate) fn withstand_for(
    time: Duration,
    setup: impl Fn() -> Setup,
    attack: impl Fn(&System) -> Vec<Attacker>,
) {
    for tries_left in (0..TRIES).rev() {
        let Some(late) = setup().start().withstand(time, &attack) else {
            return;
        };
        assert!(tries_left > 0, "{late}");
        eprintln!("{late}; once more, for the machine may have been busy");
    }
}

impl System {
    pub(crate) fn start(setup: Setup) -> System {
        let Setup {
            dir,
            output,
            mut program,
            insiders,
            ..
        } = setup;
        let log = fs::File::create(dir.path().join("up.log")).expect("a log");
        let same = log.try_clone().expect("the same log");
        let (out, errors) = output.unwrap_or((log.into(), same.into()));
        let config = dir.path().join("config");
        program.args(["up", "--config"]).arg(&config);
        program.stdin(Stdio::null()).stdout(out).stderr(errors);
        program.env_remove("MAINSTAY_CONFIG");
        let mut down = Command::new(mainstay());
        down.args(["down", "--config"]).arg(&config);
        let holder = program.spawn().expect("mainstay starts");
        drop(program); // its copies of the output
        let system = System {
            dir,
            holder,
            down,
            insiders,
        };
        system.wait("everything to run", || {
            let starting = system.try_status()?.status == SystemStatus::Starting;
            (!starting && system.births().len() == 1).then_some(())
        });
        system.change(name::MODULE_START, "mute");
        system.wait("mute to be started", || system.module("mute").pid);
        system
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    /// The holder's process.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    fn try_status(&self) -> Option<SystemView> {
        Client::connect(self.socket()).ok()?.status().ok()
    }

    pub(crate) fn status(&self) -> SystemView {
        self.wait("a status", || self.try_status())
    }

    pub(crate) fn module(&self, name: &str) -> ModuleView {
        self.wait("a view of a module", || {
            Client::connect(self.socket()).ok()?.module(name).ok()
        })
    }

    /// Waits until a module's view is as asked.
    pub(crate) fn until(&self, name: &str, is: impl Fn(&ModuleView) -> bool) -> ModuleView {
        self.wait("a module to be as asked", || {
            Some(self.module(name)).filter(&is)
        })
    }

    /// Asks for a change and does not wait for its effect.
    pub(crate) fn change(&self, method: &str, module: &str) {
        let params = ChangeParams {
            module: module.to_owned(),
            dry_run: false,
            wait: false,
        };
        let mut client = Client::connect(self.socket()).expect("a connection");
        client
            .change(method, &params)
            .expect("the change is granted");
    }

    /// The events of a kind that happened to a module, oldest first.
    pub(crate) fn events(&self, module: &str, kind: EventKind) -> Vec<Event> {
        let params = EventsParams {
            module: Some(module.to_owned()),
            kinds: vec![kind],
            limit: Some(10_000),
            ..EventsParams::default()
        };
        let mut client = Client::connect(self.socket()).expect("a connection");
        client.events(&params).expect("events")
    }

    /// What a module wrote, as far as it is in the current file.
    pub(crate) fn written(&self, module: &str) -> String {
        let path = self.path(&format!("state/logs/{module}.log"));
        if !path.is_file() {
            return String::new(); // who opens a fifo waits
        }
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Runs the command line against this system.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(mainstay());
        command.args(words).arg("--config").arg(self.path("config"));
        bounded(&mut command)
    }

    /// A variable that a running module was given.
    pub(crate) fn variable(&self, module: &str, name: &str) -> String {
        self.wait("a variable of a module", || {
            let pid = self.module(module).pid?;
            let text = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let start = format!("{name}=");
            text.split(|byte| *byte == 0)
                .find_map(|one| std::str::from_utf8(one).ok()?.strip_prefix(&start))
                .map(str::to_owned)
        })
    }

    /// The notify socket of `mute`.
    pub(crate) fn notify_socket(&self) -> String {
        self.variable("mute", "NOTIFY_SOCKET")
    }

    /// Starts an attacker from outside with these words.
    pub(crate) fn outsider(&self, words: &[&str]) -> Attacker {
        Attacker::start(self.folder(), words)
    }

    /// Starts the attackers that are modules, and waits until they are under way.
    pub(crate) fn let_insiders_loose(&self) {
        for insider in &self.insiders {
            self.change(name::MODULE_START, insider);
            self.wait("an attacker to be under way", || {
                self.written(insider).contains("under way").then_some(())
            });
        }
    }

    pub(crate) fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            let printed = || fs::read_to_string(self.path("up.log")).unwrap_or_default();
            assert!(
                Instant::now() < end,
                "waited in vain for {what}: {}",
                printed()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// When `reborn` was started, and as which process.
    fn births(&self) -> Vec<(Duration, i32)> {
        stamps(&self.path("births"))
    }

    /// One restart and two statuses, and the longest that a process of the test itself needed to
    /// begin meanwhile.
    fn measure(&self, measured: &mut Measured) {
        let births = self.births();
        let (_, pid) = births.last().copied().expect("it runs");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let starts = scope.spawn(|| self.slowest_start(&over));
            let killed = now();
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
            let statuses = [(); 2].map(|()| {
                let asked = now();
                let mut client = Client::connect(self.socket()).expect("a connection");
                client.status().expect("a status");
                now() - asked
            });
            let (born, _) = self.wait("a restart", || self.births().get(births.len()).copied());
            over.store(true, Ordering::Relaxed);
            let start = starts.join().expect("it only starts processes");
            measured.push(born.saturating_sub(killed), statuses, start);
        });
    }

    /// The longest that a process needed to begin, one after the other until this is over.
    fn slowest_start(&self, over: &AtomicBool) -> Duration {
        let mut most = self.start_of_a_process();
        while !over.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
            most = most.max(self.start_of_a_process());
        }
        most
    }

    /// How long an unsupervised process takes to begin, and to end when it is killed. It has a
    /// session of its own, as a run has: Linux shares the processors out among sessions.
    fn start_of_a_process(&self) -> Duration {
        let file = self.path("starts");
        fs::write(&file, "").expect("a file");
        let begun = now();
        let mut alone = Command::new("setsid");
        let alone = alone.arg(self.path("hostile")).arg("stamp").arg(&file);
        let mut alone = alone.spawn().expect("a process");
        let (born, _) = self.wait("a process", || stamps(&file).first().copied());
        let killed = now();
        alone.kill().expect("our child");
        alone.wait().expect("our child");
        born.saturating_sub(begun) + (now() - killed)
    }

    /// Measures until this is over, and often enough.
    fn measure_for(&self, time: Duration) -> Measured {
        let mut measured = Measured::default();
        let end = Instant::now() + time;
        loop {
            self.measure(&mut measured);
            if Instant::now() >= end && measured.count() >= RESTARTS {
                return measured;
            }
            thread::sleep(PAUSE);
        }
    }

    fn facts(&self) -> Facts {
        let (talker, mute) = (self.module("talker"), self.module("mute"));
        Facts {
            runtime: self.status().pid,
            talker: (talker.pid, talker.generation),
            mute: (mute.pid, mute.generation, mute.state, mute.status_text),
        }
    }

    /// Lets an attack loose, measures before and during it, and stops the system behind it.
    /// Says what was late; everything else that is wrong fails at once.
    fn withstand(
        self,
        time: Duration,
        attack: impl Fn(&System) -> Vec<Attacker>,
    ) -> Option<String> {
        let before = self.measure_for(ALONE);
        let (facts, open) = (self.facts(), traces::descriptors(self.holder()));
        let memory = MemoryWatch::start([self.holder(), facts.runtime]);
        self.let_insiders_loose();
        let strangers = attack(&self);
        let during = self.measure_for(time);
        for stranger in strangers {
            eprintln!("a stranger said: {}", stranger.end().trim());
        }
        for insider in &self.insiders {
            let said = self.written(insider);
            eprintln!("{insider} said: {:.300}", said.trim());
        }
        let most = memory.most();
        eprintln!(
            "before: {before}\nduring: {during}\nmemory: {} KiB",
            most / 1024
        );
        assert_eq!(
            self.facts(),
            facts,
            "a bystander or the runtime was touched"
        );
        assert!(most < MEMORY_MAX, "{most} bytes of memory");
        self.assert_all_exits_told();
        let most = open + DESCRIPTORS * (1 + self.insiders.len());
        self.wait("the holder to let go of what it was given", || {
            (traces::descriptors(self.holder()) <= most).then_some(())
        });
        self.leave();
        during.later_than(&before)
    }

    /// Each end of `reborn` is an event, and nothing else is one.
    fn assert_all_exits_told(&self) {
        let kills = self.births().len() - 1;
        self.wait("as many exits as kills", || {
            let told = self.events("reborn", EventKind::ModuleExited).len();
            assert!(told <= kills, "{told} exits were told of {kills}");
            (told == kills).then_some(())
        });
    }

    /// Stops the system: it ends in time, nothing is left, and `talker` lost no line.
    pub(crate) fn leave(mut self) {
        let asked = Instant::now();
        let down = bounded(&mut self.down);
        assert!(down.status.success(), "{down:?}");
        assert!(
            asked.elapsed() < DOWN_MAX,
            "down took {:?}",
            asked.elapsed()
        );
        self.wait_for_holder();
        self.assert_nothing_left();
        self.assert_no_line_lost();
    }

    /// Waits for the end of the holder.
    pub(crate) fn wait_for_holder(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.holder.try_wait().expect("our child").is_none() {
            assert!(Instant::now() < end, "the holder did not end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn assert_nothing_left(&self) {
        // What was killed may need a moment to be gone.
        let end = Instant::now() + Duration::from_secs(1);
        let mut left = traces::of_folder(self.folder());
        while !left.is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
            left = traces::of_folder(self.folder());
        }
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    pub(crate) fn assert_no_line_lost(&self) {
        let written = self.written("talker");
        let lines: Vec<&str> = written.lines().collect();
        let (last, lines) = lines.split_last().expect("it wrote");
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(*line, format!("line {}", index + 1), "a line was lost");
        }
        assert_eq!(*last, format!("end {}", lines.len()), "the end was lost");
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Ok(None) = self.holder.try_wait() {
            let holder = Pid::from_raw(self.holder.id().cast_signed());
            let _already_gone = kill(holder, Signal::SIGTERM);
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end && matches!(self.holder.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(5));
            }
            let _already_gone = self.holder.kill();
            let _reaped = self.holder.wait();
        }
        for (pid, _) in traces::of_folder(self.dir.path()) {
            let _already_gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The clock that all processes share.
fn now() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock"))
}

/// What `stamp` wrote into a file.
fn stamps(file: &Path) -> Vec<(Duration, i32)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let read = |line: &str| {
        let (at, pid) = line.split_once(' ')?;
        Some((Duration::from_nanos(at.parse().ok()?), pid.parse().ok()?))
    };
    text.lines().filter_map(read).collect()
}

/// What a command says, if it ends in time.
fn bounded(command: &mut Command) -> Output {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command line runs");
    let end = Instant::now() + DEADLINE;
    while child.try_wait().expect("our child").is_none() {
        if Instant::now() > end {
            let _ended_already = child.kill();
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("its output")
}

/// Looks at the memory of some processes all the time.
struct MemoryWatch {
    ends: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl MemoryWatch {
    fn start(pids: [u32; 2]) -> MemoryWatch {
        let (ends, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ended, seen) = (Arc::clone(&ends), Arc::clone(&most));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let now = pids.into_iter().filter_map(traces::memory).sum();
                seen.fetch_max(now, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        MemoryWatch { ends, most, thread }
    }

    /// The most that all of them together had at any moment.
    fn most(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looks");
        self.most.load(Ordering::Relaxed)
    }
}
