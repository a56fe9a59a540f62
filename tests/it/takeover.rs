//! A campaign of takeovers: the runtime is killed, aborted, suspended or replaced at random moments
//! under random requests. Owns what has to hold all the same: no module is touched or doubled, each
//! end of a run is told once and rightly, no event is lost for one who follows.
//!
//! `MAINSTAY_TAKEOVERS=1000 MAINSTAY_TAKEOVER_SEED=1 cargo test --test it takeover -- --nocapture`
//! is the long one; it also suspends runtimes, which the holder notices by their silence. The
//! holder waits up to 5 s before it starts a runtime again that dies all the time: with
//! `MAINSTAY_TAKEOVERS_AT_ONCE=16` that many systems share the takeovers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_client::blocking::Client;
use mainstay_policy::backoff::splitmix64;
use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{Event, EventKind, ModuleState};

use crate::daemon::{Daemon, binary, copy_program, kill, misbehave, script, wait_for};
use crate::sockets::{answering, ask};

/// Runs that end by themselves come back after 20 ms; of many systems at once later, because a
/// machine starts only so many processes.
fn head(at_once: u64) -> String {
    let pause = format!("\"{}ms\"", 20 * at_once);
    format!(
        "reload_watch = \"100ms\"\n[recovery]\nmax_attempts = 0\n\
         backoff = {{ initial = {pause}, max = {pause}, floor = {pause} }}\n"
    )
}

/// No request concerns them.
const UNTOUCHED: [&str; 2] = ["steady", "above"];
/// Events that one answer of the journal holds: of a long campaign the newest are compared.
const EVENTS_MAX: usize = 10_000;
/// Takeovers of each run of the tests.
const SHORT: u64 = 12;

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Each run of `ends` notes its generation, and ends with a code that follows from it.
fn modules() -> String {
    let ends = script("echo $MAINSTAY_GENERATION >> runs; exit $((MAINSTAY_GENERATION % 5 + 1))");
    let steady = misbehave("");
    format!(
        "{}[module.above]\ncommand = {steady}\nrequires = [\"steady\"]\n\
         [module.busy]\ncommand = {steady}\nrequired = false\nenv.EDIT = \"0\"\n\
         [module.ends]\ncommand = {ends}\nrequired = false\nrecovery.restart = \"always\"\n",
        answering("steady", "")
    )
}

struct Takeovers<'a> {
    daemon: &'a Daemon,
    state: u64,
    programs: [PathBuf; 2],
    upgrades: usize,
    /// Upgrades whose program was not ready in time.
    slow: usize,
    edits: usize,
}

/// The runtime that the holder has now, whether it answers yet or not; None: it is told soon.
fn runtime_at_holder(daemon: &Daemon) -> Option<u32> {
    let text = std::fs::read(daemon.path("run/holder.json")).ok()?;
    let holder: serde_json::Value = serde_json::from_slice(&text).ok()?;
    u32::try_from(holder["runtime_pid"].as_u64()?).ok()
}

impl Takeovers<'_> {
    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(1);
        splitmix64(self.state) % end
    }

    /// Another value for `busy`, read, applied and committed by whichever runtime there is.
    fn edit(&mut self) {
        let path = self.daemon.path("config/mainstay.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let edit = |number: usize| format!("env.EDIT = \"{number}\"");
        let text = text.replace(&edit(self.edits), &edit(self.edits + 1));
        self.edits += 1;
        let written = self.daemon.path("edited");
        std::fs::write(&written, text).expect("a file");
        std::fs::rename(written, path).expect("a configuration");
    }

    /// Requests something that no answer is waited for, as far as there is a runtime.
    fn request(&mut self) {
        let method = match self.below(5) {
            0 => name::MODULE_RESTART,
            1 => name::MODULE_STOP,
            2 => name::MODULE_START,
            3 => return self.edit(),
            _ => {
                let _runtime_ends =
                    Client::connect(self.daemon.socket()).and_then(|mut client| client.status());
                return;
            }
        };
        let params = ChangeParams {
            module: "busy".to_owned(),
            dry_run: false,
            wait: false,
        };
        if let Ok(mut client) = Client::connect(self.daemon.socket()) {
            let _runtime_ends = client.change(method, &params);
        }
    }

    fn upgrade(&mut self) -> Output {
        self.upgrades += 1;
        let program = self.programs[self.upgrades % 2].to_str().expect("a path");
        self.daemon.cli(&["upgrade", "--binary", program])
    }

    /// Kills the next runtime at some moment of its start.
    fn kill_successor(&mut self, before: u32) {
        let delay = Duration::from_millis(self.below(150));
        let next = || runtime_at_holder(self.daemon).filter(|pid| *pid != before && *pid != 0);
        let pid = self.daemon.wait("the next runtime", next);
        std::thread::sleep(delay);
        kill(pid, libc::SIGKILL);
    }

    /// An upgrade, in the middle of which a runtime is killed: any result is right but a wedge.
    fn upgrade_and_kill(&mut self) {
        let (pid, delay) = (self.daemon.status().pid, self.below(400));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(delay));
                kill(pid, libc::SIGKILL);
            });
            let _done_or_not = self.upgrade();
        });
    }

    /// One takeover, at some moment after some requests.
    fn step(&mut self, may_suspend: bool) {
        for _ in 0..=self.below(3) {
            self.request();
        }
        let runtime = self.daemon.status().pid;
        std::thread::sleep(Duration::from_millis(self.below(30)));
        match self.below(100) {
            0..50 => kill(runtime, libc::SIGKILL),
            50..65 => {
                kill(runtime, libc::SIGKILL);
                self.kill_successor(runtime);
            }
            65..75 => kill(runtime, libc::SIGABRT),
            75..78 if may_suspend => kill(runtime, libc::SIGSTOP),
            78..85 => self.upgrade_and_kill(),
            _ => {
                let upgraded = self.upgrade();
                // A busy machine may not start a program in the time of a trial.
                let text = String::from_utf8_lossy(&upgraded.stderr);
                let is_slow = text.contains("was not ready within 10s");
                assert!(upgraded.status.success() || is_slow, "{upgraded:?}");
                self.slow += usize::from(is_slow);
            }
        }
        self.daemon.wait("another runtime", || {
            let mut client = Client::connect(self.daemon.socket()).ok()?;
            let status = client.status().ok()?;
            (status.pid != runtime).then_some(())
        });
    }
}

/// The process and generation of those that no request concerns.
fn untouched(daemon: &Daemon) -> [(Option<u32>, u64); 2] {
    UNTOUCHED.map(|name| {
        let view = daemon.module(name);
        (view.pid, view.generation)
    })
}

/// Follows all events over every takeover, until told that it is over and the last of them came.
fn follow(daemon: &Daemon, is_over: &AtomicBool) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let params = EventsParams {
            since: Some(seen.last().map_or(0, |event| event.seq)),
            ..EventsParams::default()
        };
        let followed =
            Client::connect(daemon.socket()).and_then(|client| client.subscribe(&params));
        let Ok((_, mut events)) = followed else {
            if is_over.load(Ordering::Relaxed) {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        loop {
            match events.next_within(Duration::from_secs(1)) {
                Ok(Some(event)) => seen.push(event),
                Ok(None) if is_over.load(Ordering::Relaxed) => return seen,
                Ok(None) => {}
                Err(_runtime_ended) => break,
            }
        }
    }
}

/// The newest events of the journal.
pub(crate) fn journal(daemon: &Daemon) -> Vec<Event> {
    let params = EventsParams {
        since: Some(0),
        limit: Some(EVENTS_MAX),
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events")
}

/// Children of the holder: their pid, and whether they are zombies.
fn children(holder: u32) -> Vec<(u32, bool)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let is_child = field("PPid:")? == holder.to_string();
        is_child.then(|| (pid, field("State:").is_some_and(|it| it.starts_with('Z'))))
    };
    pids.filter_map(child).collect()
}

/// Each run that `ends` noted ended with the code of its generation, and that was told once.
fn check_ends(daemon: &Daemon, events: &[Event]) -> usize {
    let text = std::fs::read_to_string(daemon.path("runs")).expect("runs");
    let runs: Vec<u64> = text
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(
        runs.is_sorted_by(|one, two| one < two),
        "a run was doubled: {runs:?}"
    );
    let mut told: BTreeMap<u64, Vec<Option<i64>>> = BTreeMap::new();
    for event in events {
        let is_end = event.kind == EventKind::ModuleExited;
        if is_end && event.module.as_deref() == Some("ends") {
            let generation = event.generation.expect("of a run");
            told.entry(generation)
                .or_default()
                .push(event.payload["code"].as_i64());
        }
    }
    for generation in &runs {
        let code = i64::try_from(generation % 5 + 1).ok();
        let got = told.get(generation);
        assert_eq!(got, Some(&vec![code]), "run {generation} of {}", runs.len());
    }
    runs.len()
}

/// Whoever follows is told that it is over, also when a check fails.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What has to be there once nothing is requested any more: three runs, and nothing beside them.
fn check_rest(daemon: &Daemon) {
    daemon.change(name::MODULE_START, "busy");
    daemon.change(name::MODULE_STOP, "ends");
    // The last edit may be applied just now.
    let expected = || {
        let status = daemon.status();
        let pids = ["steady", "above", "busy"].map(|name| daemon.module(name).pid);
        let pids = pids.into_iter().flatten().chain([status.pid]);
        let mut expected: Vec<(u32, bool)> = pids.map(|pid| (pid, false)).collect();
        expected.sort_unstable();
        expected
    };
    let found = || {
        let mut found = children(daemon.holder());
        found.sort_unstable();
        found
    };
    let is_so = wait_for("nothing beside them", || {
        (found() == expected()).then_some(())
    });
    assert!(is_so.is_some(), "{:?} and not {:?}", found(), expected());
}

/// What a system has seen: takeovers, upgrades, those that were too slow, edits, runs that ended,
/// events, how often its holder executed another program, and answers at the kept socket.
type Counts = [usize; 8];

/// The takeovers of one system.
fn campaign(seed: u64, count: u64, at_once: u64) -> Counts {
    let daemon = Daemon::launch(&head(at_once), &modules());
    for name in UNTOUCHED {
        daemon.until(name, ModuleState::Running);
    }
    let programs = ["one", "other"].map(|name| daemon.path(name));
    for program in &programs {
        copy_program(binary(), program);
    }
    let before = untouched(&daemon);
    let serving = before[0].0.expect("it runs");
    let mut takeovers = Takeovers {
        daemon: &daemon,
        state: seed << 32,
        programs,
        upgrades: 0,
        slow: 0,
        edits: 0,
    };
    let is_over = AtomicBool::new(false);
    let (seen, answers) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&daemon, &is_over));
        let asks = scope.spawn(|| ask(&daemon, serving, Duration::from_millis(at_once), &is_over));
        let over = Over(&is_over);
        for number in 0..count.max(SHORT) {
            takeovers.step(count > 0);
            assert_eq!(
                untouched(&daemon),
                before,
                "after takeover {number}, seed {seed}"
            );
        }
        check_rest(&daemon);
        drop(over);
        let answers = asks.join().expect("answers");
        (follower.join().expect("events"), answers)
    });
    let events = journal(&daemon);
    let told: Vec<u64> = events.iter().map(|event| event.seq).collect();
    let (first, last) = (told.first().copied(), seen.last().map(|event| event.seq));
    let followed = seen.iter().map(|event| event.seq);
    let followed: Vec<u64> = followed.filter(|seq| Some(*seq) >= first).collect();
    let told: Vec<u64> = told.into_iter().filter(|seq| Some(*seq) <= last).collect();
    assert_eq!(
        followed, told,
        "what a follower saw is what the journal has"
    );
    let ends = check_ends(&daemon, &seen);
    let count = usize::try_from(count.max(SHORT)).expect("a count");
    let holders = seen
        .iter()
        .filter(|one| one.kind == EventKind::HolderUpgraded);
    let holders = holders.count();
    [
        count,
        takeovers.upgrades,
        takeovers.slow,
        takeovers.edits,
        ends,
        seen.len(),
        holders,
        answers,
    ]
}

#[test]
fn no_takeover_is_noticed_by_modules_or_by_those_who_follow() {
    let seed = setting("MAINSTAY_TAKEOVER_SEED", 1);
    let count = setting("MAINSTAY_TAKEOVERS", 0);
    let at_once = setting("MAINSTAY_TAKEOVERS_AT_ONCE", 1).max(1);
    let systems: Vec<Counts> = std::thread::scope(|scope| {
        let share = count.div_ceil(at_once);
        let one = |number| scope.spawn(move || campaign(seed + number, share, at_once));
        let systems: Vec<_> = (0..at_once).map(one).collect();
        let ended = systems.into_iter();
        ended.map(|one| one.join().expect("a system")).collect()
    });
    let sum = |at: usize| systems.iter().map(|one| one[at]).sum::<usize>();
    println!(
        "{} takeovers, {} of them upgrades, {} of these too slow, {} edits, {} runs that ended, \
         {} events; holders executed another program {} times; {} connections to a kept socket, \
         each answered by the same process",
        sum(0),
        sum(1),
        sum(2),
        sum(3),
        sum(4),
        sum(5),
        sum(6),
        sum(7)
    );
}

/// The next run starts before the end of the last one is written down: nothing waits for a disk.
#[test]
fn ends_that_a_runtime_had_no_time_to_write_down_are_told_once_by_the_next() {
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
    let runtime = daemon.status().pid;
    let first = daemon.module("it").generation;
    let journal = rusqlite::Connection::open(daemon.path("state/journal.db")).expect("a journal");
    journal.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    for generation in first..first + 2 {
        kill(daemon.module("it").pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("the next run", "it", |view| {
            view.state == ModuleState::Running && view.generation > generation
        });
    }
    kill(runtime, libc::SIGKILL);
    journal.execute_batch("ROLLBACK").expect("no lock");
    daemon.wait("the next runtime", || {
        (runtime_at_holder(&daemon)? != runtime).then_some(())
    });
    kill(daemon.module("it").pid.expect("it runs"), libc::SIGKILL);
    let ends = || {
        let events = daemon.events("it");
        let ends = events
            .iter()
            .filter(|one| one.kind == EventKind::ModuleExited);
        let ends: Vec<Option<u64>> = ends.map(|one| one.generation).collect();
        (ends.len() >= 3).then_some(ends)
    };
    let expected = (first..first + 3).map(Some).collect::<Vec<_>>();
    assert_eq!(daemon.wait("the third end", ends), expected);
}
