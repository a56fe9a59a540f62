//! Real faults, one after the other, on the demo application: kills, hangs, slowness, and deaths of
//! the runtime. Owns what a fault is, when it is over, and what `/proc` shows meanwhile.
//! Never asks mainstay how many processes there are: it looks itself.
//!
//! `MAINSTAY_CAMPAIGN_FAULTS=1000 MAINSTAY_CAMPAIGN_SEED=1 cargo test --test it campaign --
//! --nocapture` is the long one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_policy::backoff::splitmix64;
use mainstay_protocol::chaos::{ChaosAction, ChaosParams, ChaosResult};
use mainstay_protocol::method::name;
use mainstay_protocol::{HealthStatus, ModuleState, ModuleView, SystemView};

use crate::daemon::{Daemon, binary, kill, lives, program};

/// Quick restarts and probes: what is tried is that they come, not how long a default is.
const HEAD: &str = "modules = [\"../modules/*\"]\n[chaos]\nallowed = true\n[health]\n\
                    timeout = \"500ms\"\n[recovery]\nmax_attempts = 0\nstable_after = \"1s\"\n\
                    backoff = { initial = \"50ms\", max = \"500ms\", floor = \"50ms\" }\n";
/// A start of a module may take this long on a busy machine.
const START: Duration = Duration::from_secs(4);
/// The longest backoff, with its jitter.
const BACKOFF: Duration = Duration::from_millis(550);
/// Until a hang is noticed: three probes and two rechecks of 500 ms, 300 ms apart; a second of a
/// watchdog and the stop.
const NOTICED: Duration = Duration::from_secs(8);
/// What is not over then is a wedge.
const WEDGED: Duration = Duration::from_secs(90);
/// Faults that are open at the same time, at most.
const OPEN_MAX: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    Hang,
    Slow,
    Runtime,
}

impl Kind {
    /// Within its backoff: what is noticed at once is back after it, and the start.
    fn bound(self) -> Duration {
        match self {
            Kind::Kill => BACKOFF + START,
            Kind::Hang => NOTICED + BACKOFF + START,
            // It is not noticed at all, or taken for a hang.
            Kind::Slow => SLOW_FOR + NOTICED + BACKOFF + START,
            Kind::Runtime => Duration::from_secs(15),
        }
    }
}

const SLOW_FOR: Duration = Duration::from_secs(1);

struct Fault {
    kind: Kind,
    module: String,
    before: u64,
    runtime: u32,
    at: Instant,
}

impl Fault {
    fn is_over(&self, status: &SystemView, view: Option<&ModuleView>) -> bool {
        let Some(view) = view else {
            return status.pid != self.runtime;
        };
        let is_up = view.state == ModuleState::Running && view.pid.is_some();
        let is_new = view.generation > self.before;
        // What a runtime suspends goes on when it dies.
        let answers = [HealthStatus::Healthy, HealthStatus::Degraded].contains(&view.health);
        let is_well = answers && status.pid != self.runtime;
        match self.kind {
            Kind::Kill => is_up && is_new,
            Kind::Hang => is_up && (is_new || is_well),
            Kind::Slow => is_up && (is_new || self.at.elapsed() > SLOW_FOR),
            Kind::Runtime => false,
        }
    }
}

struct Campaign {
    daemon: Daemon,
    modules: Vec<String>,
    state: u64,
    open: Vec<Fault>,
    over: BTreeMap<Kind, Vec<Duration>>,
    late: Vec<String>,
    wedged: Vec<String>,
    doubles: Vec<String>,
    runtimes_killed: Vec<Instant>,
}

impl Campaign {
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(1);
        (splitmix64(self.state) % end as u64) as usize
    }

    /// One of a hundred faults: 60 kills, 15 hangs, 15 times slow, 10 deaths of the runtime.
    fn inject(&mut self) -> bool {
        let (drawn, module) = (self.below(100), self.below(self.modules.len()));
        let module = self.modules[module].clone();
        let kind = match drawn {
            0..60 => Kind::Kill,
            60..75 => Kind::Hang,
            75..90 => Kind::Slow,
            _ => Kind::Runtime,
        };
        let is_free = |fault: &Fault| match kind {
            Kind::Runtime => fault.kind != Kind::Runtime,
            _ => fault.module != module && fault.kind != Kind::Runtime,
        };
        if !self.open.iter().all(is_free) {
            return false;
        }
        let Some((mut client, status, view)) = self.look(&module) else {
            return false;
        };
        let at = Instant::now();
        let action = match kind {
            Kind::Kill => ChaosAction::Kill,
            Kind::Hang => ChaosAction::Hang,
            Kind::Slow => ChaosAction::Slow,
            Kind::Runtime => {
                kill(status.pid, libc::SIGKILL);
                self.runtimes_killed.push(Instant::now());
                self.open.push(Fault {
                    kind,
                    module: "runtime".to_owned(),
                    before: 0,
                    runtime: status.pid,
                    at,
                });
                return true;
            }
        };
        let lasts = if kind == Kind::Slow {
            SLOW_FOR
        } else {
            WEDGED * 2
        };
        let params = ChaosParams {
            action,
            module: module.clone(),
            for_ms: u64::try_from(lasts.as_millis()).ok(),
        };
        if view.is_none_or(|view| view.state != ModuleState::Running) {
            return false;
        }
        let Ok(hit) = client.call::<ChaosResult>(name::CHAOS_INJECT, params) else {
            return false;
        };
        self.open.push(Fault {
            kind,
            module,
            before: hit.generation,
            runtime: status.pid,
            at,
        });
        true
    }

    /// None while there is no runtime.
    fn look(&self, module: &str) -> Option<(Client, SystemView, Option<ModuleView>)> {
        let mut client = Client::connect(self.daemon.socket()).ok()?;
        let status = client.status().ok()?;
        let view = match module {
            "runtime" => None,
            module => Some(client.module(module).ok()?),
        };
        Some((client, status, view))
    }

    /// Closes what is over, and looks at the processes.
    fn step(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|fault| {
            let took = fault.at.elapsed();
            let seen = self.look(&fault.module);
            if seen.is_some_and(|(_, status, view)| fault.is_over(&status, view.as_ref())) {
                self.over.entry(fault.kind).or_default().push(took);
                // Without a runtime nothing is restarted: the next one has a backoff of its own.
                let deaths = self.runtimes_killed.iter().filter(|at| **at > fault.at);
                let away = Kind::Runtime.bound() * u32::try_from(deaths.count()).unwrap_or(9);
                if took > fault.kind.bound() + away {
                    let text = format!("{:?} of {} took {took:?}", fault.kind, fault.module);
                    self.late.push(text);
                }
                return false;
            }
            if took > WEDGED {
                let why = self.daemon.cli(&["why", &fault.module]);
                let why = String::from_utf8_lossy(&why.stdout).into_owned();
                self.wedged
                    .push(format!("{:?} of {}:\n{why}", fault.kind, fault.module));
                return false;
            }
            true
        });
        self.open = open;
        let doubles = doubles(self.daemon.dir.path());
        self.doubles.extend(doubles);
    }

    fn run(&mut self, faults: usize) {
        let (mut injected, mut last) = (0, Instant::now());
        while injected < faults || !self.open.is_empty() {
            let is_due = self.open.len() < OPEN_MAX && last.elapsed() > PAUSE;
            if injected < faults && is_due && self.inject() {
                (injected, last) = (injected + 1, Instant::now());
            }
            self.step();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn report(&self) -> String {
        let mut out = String::from("fault     number      p50      p99      max\n");
        for (kind, times) in &self.over {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
            let _ = writeln!(
                out,
                "{:<9} {:>6} {:>6}ms {:>6}ms {:>6}ms",
                format!("{kind:?}").to_lowercase(),
                times.len(),
                at(50).as_millis(),
                at(99).as_millis(),
                at(100).as_millis()
            );
        }
        let _ = writeln!(
            out,
            "{} late, {} wedged, {} doubles",
            self.late.len(),
            self.wedged.len(),
            self.doubles.len()
        );
        let lines = self.late.iter().chain(&self.wedged).chain(&self.doubles);
        lines.for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
        out
    }
}

/// Processes of modules of this folder: program and pid. A child that has not executed its program
/// yet still looks like the holder.
fn processes(folder: &Path) -> Vec<(String, u32)> {
    let folder = format!("{}/", folder.display());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = pids.filter_map(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let mut words = words.split('\0');
        let program = words.next()?.to_owned();
        let script = words.find(|word| word.ends_with(".py"));
        let of = script.map_or(program.clone(), str::to_owned);
        (program != binary() && of.starts_with(&folder)).then_some((of, pid))
    });
    found.collect()
}

/// Programs that run twice at once. What a process started itself belongs to its run.
fn doubles(folder: &Path) -> Vec<String> {
    let mut pids: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (program, pid) in processes(folder) {
        pids.entry(program).or_default().push(pid);
    }
    pids.retain(|_, pids| pids.len() > 1);
    if pids.is_empty() {
        return Vec::new();
    }
    // All of them were alive after the last of them was found.
    let again = processes(folder);
    pids.retain(|program, pids| {
        let all = pids.clone();
        pids.retain(|pid| {
            let is_there = lives(*pid) && again.contains(&(program.clone(), *pid));
            is_there && parent(*pid).is_some_and(|parent| !all.contains(&parent))
        });
        pids.len() > 1
    });
    let text = |(program, pids)| format!("{program}: {pids:?}");
    pids.into_iter().map(text).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The demo as it is, but for the pace of its probes.
fn demo() -> Daemon {
    let dir = crate::daemon::prepare(HEAD, "");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("modules/skelly-jelly");
    let release = dir.path().join("target/release");
    std::fs::create_dir_all(release.parent().expect("a parent")).expect("a folder");
    let programs = Path::new(&program("skelly-storage"))
        .parent()
        .expect("a folder")
        .to_owned();
    std::os::unix::fs::symlink(programs, release).expect("a link");
    let entries = std::fs::read_dir(source).expect("the demo");
    let folders = entries.map(|entry| entry.expect("an entry").path());
    for folder in folders.filter(|folder| folder.join("module.toml").exists()) {
        let to = dir
            .path()
            .join("modules")
            .join(folder.file_name().expect("a name"));
        std::fs::create_dir_all(&to).expect("a folder");
        let text = std::fs::read_to_string(folder.join("module.toml")).expect("a module");
        if text.contains("python3") && !has_python() {
            continue;
        }
        let text = text.replace("interval = \"5s\"", "interval = \"300ms\"");
        let text = text.replace("watchdog = \"10s\"", "watchdog = \"2s\"");
        std::fs::write(to.join("module.toml"), text).expect("a module");
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|it| it == "py") {
                std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
            }
        }
    }
    Daemon::launch_in(dir)
}

fn has_python() -> bool {
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    python.is_ok_and(|output| output.status.success())
}

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_campaign_of_real_faults_on_the_demo_is_recovered_without_a_person() {
    let faults = number("MAINSTAY_CAMPAIGN_FAULTS", 30);
    let seed = number("MAINSTAY_CAMPAIGN_SEED", 1);
    let daemon = demo();
    daemon.wait("the demo to be up", || {
        let status = Client::connect(daemon.socket()).ok()?.status().ok()?;
        (status.status == mainstay_protocol::SystemStatus::Healthy).then_some(())
    });
    let names = std::fs::read_dir(daemon.path("modules")).expect("the modules");
    let names = names
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut modules: Vec<String> = names.filter(|name| name != "event-bus").collect();
    modules.sort();
    let mut campaign = Campaign {
        modules,
        daemon,
        state: splitmix64(seed),
        open: Vec::new(),
        over: BTreeMap::new(),
        late: Vec::new(),
        wedged: Vec::new(),
        doubles: Vec::new(),
        runtimes_killed: Vec::new(),
    };
    let began = Instant::now();
    campaign.run(usize::try_from(faults).expect("a number"));
    let report = campaign.report();
    eprintln!(
        "{faults} faults from seed {seed} in {:?}\n{report}",
        began.elapsed()
    );
    assert_eq!(campaign.wedged, [""; 0], "{report}");
    assert_eq!(campaign.doubles, [""; 0], "{report}");
    // Two of a hundred; a machine that is busy with other tests may be late with one of a few.
    let late_most = usize::try_from(faults / 50).expect("a number").max(1);
    assert!(campaign.late.len() <= late_most, "{report}");
    let daemon = campaign.daemon;
    let folder = daemon.dir.path().to_owned();
    daemon.wait("everything to be well again", || {
        let status = daemon.status();
        (status.status == mainstay_protocol::SystemStatus::Healthy).then_some(())
    });
    assert!(daemon.cli(&["audit", "verify"]).status.success());
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(processes(&folder), [], "orphans");
}
