//! A campaign of deaths: the holder is killed at random moments under random requests, also while
//! it takes over or is stopped. Owns what has to hold all the same: no module is touched or
//! doubled, each end of a run is told once and rightly, no client loses its connection.
//!
//! `MAINSTAY_DEATHS=1000 MAINSTAY_DEATH_SEED=1 cargo test --test it deaths -- --nocapture` is the
//! long one. A runtime starts no more than ten holders in a minute: with
//! `MAINSTAY_DEATHS_AT_ONCE=16` that many systems share the deaths. Every second system has no
//! control groups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_policy::backoff::splitmix64;
use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{Event, EventKind, ModuleState};

use crate::daemon::{
    Daemon, kill, misbehave, script, wait_for, with_control_groups, with_succession,
};
use crate::sockets::{answering, ask};
use crate::takeover::{Over, journal, setting};

/// No request concerns them.
const UNTOUCHED: [&str; 2] = ["steady", "above"];
/// Deaths of each run of the tests, where one that dies while it takes over counts once.
const SHORT: u64 = 8;
/// Holders that are killed within a minute, at most: a step kills two.
const DEATHS_A_MINUTE: usize = 8;
/// What is said of a start that was in flight.
const LOST: &str = "the holder ended while it was started";

fn head(at_once: u64) -> String {
    let pause = format!("\"{}ms\"", 20 * at_once);
    format!(
        "reload_watch = \"100ms\"\n[recovery]\nmax_attempts = 0\n\
         backoff = {{ initial = {pause}, max = {pause}, floor = {pause} }}\n"
    )
}

/// Each run of `ends` notes its generation, and ends with a code that follows from it. `once` may
/// fail once: a start that is lost with the holder is no failure of its.
fn modules() -> String {
    let ends = script("echo $MAINSTAY_GENERATION >> runs; exit $((MAINSTAY_GENERATION % 5 + 1))");
    let (steady, notifies) = (misbehave(""), misbehave("--ready notify"));
    format!(
        "{}ready = {{ notify = true }}\n\
         [module.above]\ncommand = {steady}\nrequires = [\"steady\"]\n\
         [module.busy]\ncommand = {notifies}\nready = {{ notify = true }}\nrequired = false\n\
         before_start = [[\"/bin/sh\", \"-c\", \"echo x >> hooks\"]]\nenv.EDIT = \"0\"\n\
         [module.once]\ncommand = {steady}\nrequired = false\nrecovery.max_attempts = 1\n\
         [module.ends]\ncommand = {ends}\nrequired = false\nrecovery.restart = \"always\"\n",
        answering("steady", "--ready notify")
    )
}

struct Deaths<'a> {
    daemon: &'a Daemon,
    /// Connected since the beginning.
    client: Client,
    state: u64,
    killed: VecDeque<Instant>,
    total: usize,
    edits: usize,
    /// From a kill to the first answer that names the next holder.
    took: Vec<Duration>,
}

impl Deaths<'_> {
    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(1);
        splitmix64(self.state) % end
    }

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

    /// Requests something that no answer is waited for.
    fn request(&mut self) {
        let module = match self.below(2) {
            0 => "busy",
            _ => "once",
        };
        let method = match self.below(5) {
            0 | 1 => name::MODULE_RESTART,
            2 => name::MODULE_STOP,
            3 => name::MODULE_START,
            _ => return self.edit(),
        };
        let params = ChangeParams {
            module: module.to_owned(),
            dry_run: false,
            wait: false,
        };
        let _refused_where_there_is_nothing_to_do = self.client.change(method, &params);
    }

    fn holder(&mut self) -> u32 {
        self.client
            .status()
            .unwrap_or_else(|problem| panic!("{problem}; printed:\n{}", self.daemon.printed()))
            .holder_pid
    }

    /// Waits until one more death is no sign of a holder that always dies.
    fn pace(&mut self) {
        let minute = Duration::from_secs(62);
        while self.killed.len() >= DEATHS_A_MINUTE {
            if let Some(first) = self.killed.pop_front() {
                std::thread::sleep(minute.saturating_sub(first.elapsed()));
            }
        }
    }

    fn kill(&mut self, holder: u32, signal: i32) {
        kill(holder, signal);
        self.killed.push_back(Instant::now());
        self.total += 1;
    }

    fn next_holder(&mut self, before: u32) -> u32 {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let holder = self.holder();
            if holder != before {
                return holder;
            }
            assert!(
                Instant::now() < end,
                "no other holder: {}",
                self.daemon.printed()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One death, at some moment after some requests.
    fn step(&mut self) {
        self.pace();
        for _ in 0..=self.below(3) {
            self.request();
        }
        let holder = self.holder();
        std::thread::sleep(Duration::from_millis(self.below(40)));
        let kind = self.below(100);
        if kind < 20 {
            // What it was asked meanwhile is for the next one.
            kill(holder, libc::SIGSTOP);
            self.request();
            std::thread::sleep(Duration::from_millis(self.below(60)));
        }
        let signal = match kind {
            0..20 => libc::SIGKILL,
            20..80 => libc::SIGKILL,
            _ => libc::SIGABRT,
        };
        let begun = Instant::now();
        self.kill(holder, signal);
        if self.below(100) < 30 {
            let next = self.next_holder(holder);
            std::thread::sleep(Duration::from_millis(self.below(30)));
            self.kill(next, libc::SIGKILL);
            self.next_holder(next);
        } else {
            self.next_holder(holder);
            self.took.push(begun.elapsed());
        }
    }
}

/// The process and generation of those that no request concerns.
fn untouched(client: &mut Client) -> Vec<(Option<u32>, u64)> {
    let mut found = Vec::new();
    for name in UNTOUCHED {
        let view = client.module(name).expect("it is still connected");
        found.push((view.pid, view.generation));
    }
    found
}

/// Follows all events on one connection, until told that it is over and the last of them came.
fn follow(daemon: &Daemon, is_over: &AtomicBool) -> Vec<Event> {
    let params = EventsParams {
        since: Some(0),
        ..EventsParams::default()
    };
    let client = daemon.client();
    let (_, mut events) = client.subscribe(&params).expect("events");
    let mut seen = Vec::new();
    loop {
        match events.next_within(Duration::from_secs(1)) {
            Ok(Some(event)) => seen.push(event),
            Ok(None) if is_over.load(Ordering::Relaxed) => return seen,
            Ok(None) => {}
            Err(problem) => panic!("it is no longer connected: {problem}"),
        }
    }
}

/// Processes of the modules of this system, whatever their parent is.
fn processes(daemon: &Daemon) -> Vec<u32> {
    let folder = daemon
        .path("")
        .to_string_lossy()
        .trim_end_matches('/')
        .to_owned();
    let folder = folder.as_bytes();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_of_it = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|one| {
            one.starts_with(b"MAINSTAY_") && one.windows(folder.len()).any(|part| part == folder)
        })
    };
    pids.filter(is_of_it).collect()
}

/// Each run that `ends` noted ended with the code of its generation, and that was told once;
/// returns how many there were, and how many were lost in their start.
fn check_ends(daemon: &Daemon, events: &[Event]) -> (usize, usize) {
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
    let mut starts_lost = BTreeSet::new();
    let of_it = |event: &&Event| event.module.as_deref() == Some("ends");
    for event in events.iter().filter(of_it) {
        let generation = event.generation.unwrap_or_default();
        if event.kind == EventKind::ModuleExited {
            let code = event.payload["code"].as_i64();
            told.entry(generation).or_default().push(code);
        } else if event.payload.to_string().contains(LOST) {
            starts_lost.insert(generation);
        }
    }
    let mut lost = 0;
    for generation in &runs {
        let code = i64::try_from(generation % 5 + 1).ok();
        match told.get(generation) {
            None if starts_lost.contains(generation) => lost += 1,
            got => assert_eq!(got, Some(&vec![code]), "run {generation}"),
        }
    }
    (runs.len(), lost)
}

/// What has to be there once nothing is requested any more: four runs, and nothing beside them.
fn check_rest(daemon: &Daemon) {
    for module in ["busy", "once"] {
        daemon.change(name::MODULE_START, module);
    }
    daemon.change(name::MODULE_STOP, "ends");
    let expected = || {
        let names = ["steady", "above", "busy", "once"];
        let mut pids: Vec<u32> = names
            .iter()
            .filter_map(|name| daemon.module(name).pid)
            .collect();
        pids.sort_unstable();
        pids
    };
    let found = || {
        let mut found = processes(daemon);
        found.sort_unstable();
        found
    };
    let is_so = wait_for("nothing beside them", || {
        // The last edit may be applied just now.
        (expected().len() == 4 && found() == expected()).then_some(())
    });
    assert!(
        is_so.is_some(),
        "{:?} and not {:?}:\n{}",
        found(),
        expected(),
        daemon.printed()
    );
    assert_eq!(daemon.module("once").attempts, 0, "it never failed");
}

/// Ends a mainstay whose holder is another one than the test has started.
struct Ends<'a>(&'a Daemon);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.cli(&["down"]);
    }
}

/// What a system has seen: deaths, edits, runs that ended, starts that were lost, events, answers at
/// the kept socket; and how long it took.
type Counts = ([usize; 6], Vec<Duration>);

/// The deaths of one system.
fn campaign(seed: u64, count: u64, at_once: u64) -> Counts {
    with_control_groups(seed % 2 == 1);
    with_succession();
    let daemon = Daemon::launch(&head(at_once), &modules());
    let _ends = Ends(&daemon);
    for name in UNTOUCHED {
        daemon.until(name, ModuleState::Running);
    }
    let mut deaths = Deaths {
        daemon: &daemon,
        client: daemon.client(),
        state: seed << 32,
        killed: VecDeque::new(),
        total: 0,
        edits: 0,
        took: Vec::new(),
    };
    let before = untouched(&mut deaths.client);
    let serving = before[0].0.expect("it runs");
    let is_over = AtomicBool::new(false);
    let (seen, answers) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&daemon, &is_over));
        let asks = scope.spawn(|| ask(&daemon, serving, Duration::from_millis(at_once), &is_over));
        let over = Over(&is_over);
        while (deaths.total as u64) < count {
            deaths.step();
            let found = untouched(&mut deaths.client);
            assert_eq!(found, before, "after death {}, seed {seed}", deaths.total);
        }
        check_rest(&daemon);
        drop(over);
        let answers = asks.join().expect("answers");
        (follower.join().expect("events"), answers)
    });
    let told: Vec<u64> = journal(&daemon).iter().map(|event| event.seq).collect();
    let (first, last) = (told.first().copied(), seen.last().map(|event| event.seq));
    let followed = seen.iter().map(|event| event.seq);
    let followed: Vec<u64> = followed.filter(|seq| Some(*seq) >= first).collect();
    let told: Vec<u64> = told.into_iter().filter(|seq| Some(*seq) <= last).collect();
    assert_eq!(
        followed, told,
        "what a follower saw is what the journal has"
    );
    let (ends, lost) = check_ends(&daemon, &seen);
    let counts = [deaths.total, deaths.edits, ends, lost, seen.len(), answers];
    (counts, deaths.took)
}

#[test]
fn no_death_of_a_holder_is_noticed_by_modules_or_by_clients() {
    let seed = setting("MAINSTAY_DEATH_SEED", 1);
    let count = setting("MAINSTAY_DEATHS", 0);
    let at_once = setting("MAINSTAY_DEATHS_AT_ONCE", 2).max(1);
    let systems: Vec<Counts> = std::thread::scope(|scope| {
        let share = count.div_ceil(at_once).max(SHORT / 2);
        let one = |number| scope.spawn(move || campaign(seed + number, share, at_once));
        let systems: Vec<_> = (0..at_once).map(one).collect();
        let ended = systems.into_iter();
        ended.map(|one| one.join().expect("a system")).collect()
    });
    let sum = |at: usize| systems.iter().map(|one| one.0[at]).sum::<usize>();
    let mut took: Vec<Duration> = systems.iter().flat_map(|one| one.1.clone()).collect();
    took.sort_unstable();
    println!(
        "{} holders killed, {} edits, {} runs that ended, {} of them lost in their start, {} \
         events, {} connections to a kept socket, each answered by the same process; another \
         holder after {:?} (median), {:?} at most",
        sum(0),
        sum(1),
        sum(2),
        sum(3),
        sum(4),
        sum(5),
        took.get(took.len() / 2),
        took.last()
    );
}
