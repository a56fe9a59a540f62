//! Random edits of the files of a running system, half of them broken.
//! Owns the edits, and the account of which module a plan named: no other is restarted.
//! Never asserts how long an edit takes. `MAINSTAY_EDITS=1000 MAINSTAY_SEED=7 cargo test --test it
//! random_edits` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_client::blocking::Client;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, EventKind, ModuleState};

use crate::daemon::{Daemon, misbehave, prepare};

const MODULES: usize = 50;
const EDITS: u64 = 60;
const HEAD: &str = "reload_watch = \"100ms\"\nshutdown_timeout = \"60s\"";

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// What a file says of one module.
#[derive(Debug, Clone, Default)]
struct Module {
    timeout: usize,
    level: usize,
    requires: Option<String>,
    fails: bool,
}

#[derive(Debug, Clone, Default)]
struct Files {
    modules: BTreeMap<String, Module>,
    edit: u64,
}

impl Files {
    fn text(&self, head: &str) -> String {
        let mut text = format!("{head}\n[module.marker]\ncommand = {}\n", misbehave(""));
        let _ = writeln!(text, "description = \"edit {}\"", self.edit);
        for (name, module) in &self.modules {
            let words = if module.fails { "--exit-code 3" } else { "" };
            let _ = writeln!(text, "[module.{name}]\ncommand = {}", misbehave(words));
            let _ = writeln!(text, "shutdown_timeout = \"{}s\"", 10 + module.timeout);
            let _ = writeln!(text, "env = {{ LEVEL = \"{}\" }}", module.level);
            if let Some(other) = &module.requires {
                let _ = writeln!(text, "requires = [\"{other}\"]");
            }
        }
        text
    }

    fn any(&self, random: &mut Random) -> String {
        let nth = random.below(self.modules.len());
        self.modules.keys().nth(nth).expect("a module").clone()
    }

    /// Makes a change that is good.
    fn change(&mut self, random: &mut Random) {
        self.edit += 1;
        let name = self.any(random);
        let first = self.modules.keys().next().expect("a module").clone();
        let module = self.modules.get_mut(&name).expect("a module");
        match random.below(10) {
            0..=3 => module.timeout = random.below(20),
            4..=5 => module.level += 1,
            6 if name != first => {
                let is_set = module.requires.take().is_some();
                module.requires = (!is_set).then_some(first);
            }
            7 => drop(
                self.modules
                    .insert(format!("n{}", self.edit), Module::default()),
            ),
            8 => {
                let added = self.modules.keys().find(|name| name.starts_with('n'));
                if let Some(added) = added.cloned() {
                    self.modules.remove(&added);
                }
            }
            _ => {}
        }
    }

    /// A text with a mistake, which no reader accepts.
    fn broken(&self, head: &str, random: &mut Random) -> String {
        let text = self.text(head);
        let mut modules = self.modules.keys();
        let (one, two) = (modules.next().expect("a"), modules.next().expect("b"));
        match random.below(7) {
            0 => format!("{}\n[", &text[..text.len() / 2]),
            1 => text.replacen("description = \"", "description = ", 1),
            2 => text.replacen("description", "desription", 1),
            3 => format!("{text}\n[module.{one}]\ncommand = [\"twice\"]\n"),
            4 => text.replacen("requires", "needs", 1) + "\nrequires = [\"nobody\"]\n",
            5 => {
                let cycle = |name: &str, other: &str| {
                    format!("[module.{name}-c]\ncommand = [\"x\"]\nrequires = [\"{other}-c\"]\n")
                };
                text + &cycle(one, two) + &cycle(two, one)
            }
            _ => String::new(),
        }
    }
}

/// The modules that the summary of a plan restarts, adds or removes.
fn named(text: &str) -> BTreeSet<String> {
    let named = text.split("; ").filter_map(|change| {
        let (name, what) = change.split_once(' ')?;
        let keys = what.strip_prefix("changed (");
        let is_live = keys.is_some_and(|keys| !keys.contains("env") && !keys.contains("command"));
        (!is_live).then(|| name.to_owned())
    });
    named.collect()
}

/// How often each module may have been started anew, by what the events say of plans.
fn allowed(events: &[Event]) -> BTreeMap<String, u64> {
    let mut allowed: BTreeMap<String, u64> = BTreeMap::new();
    let mut uncommitted: Vec<BTreeSet<String>> = Vec::new();
    for event in events {
        match event.kind {
            EventKind::ConfigApplied => {
                let names = named(event.payload["text"].as_str().unwrap_or_default());
                names
                    .iter()
                    .for_each(|name| *allowed.entry(name.clone()).or_default() += 1);
                uncommitted.push(names);
            }
            EventKind::ConfigCommitted => uncommitted.clear(),
            EventKind::ConfigRolledBack => {
                let names = uncommitted
                    .drain(..)
                    .flatten()
                    .collect::<BTreeSet<String>>();
                names
                    .into_iter()
                    .for_each(|name| *allowed.entry(name).or_default() += 1);
            }
            _ => {}
        }
    }
    allowed
}

fn follow(daemon: &Daemon, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Event>> {
    let params = EventsParams {
        since: Some(0),
        ..EventsParams::default()
    };
    let (_, mut events) = daemon.client().subscribe(&params).expect("subscribed");
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        loop {
            match events
                .next_within(Duration::from_millis(200))
                .expect("the connection stays")
            {
                Some(event) => seen.push(event),
                None if ended.load(Ordering::Relaxed) => return seen,
                None => {}
            }
        }
    })
}

/// The numbers of the newest events that the journal has, up to this one.
fn kept(client: &mut Client, last: u64) -> Vec<u64> {
    let params = EventsParams {
        limit: Some(10_000),
        ..EventsParams::default()
    };
    let newest = client.events(&params).expect("connected").into_iter();
    newest
        .map(|event| event.seq)
        .filter(|seq| *seq <= last)
        .collect()
}

fn description(client: &mut Client) -> Option<String> {
    let value = client
        .config("module.marker.description")
        .expect("connected");
    Some(value.first()?.value.as_str()?.to_owned())
}

#[test]
fn random_edits_restart_only_what_a_plan_names_and_lose_no_event() {
    let mut random = Random(number("MAINSTAY_SEED", 4711));
    let mut files = Files::default();
    for module in 0..MODULES - 1 {
        files
            .modules
            .insert(format!("m{module:02}"), Module::default());
    }
    let dir = prepare(HEAD, "");
    let path = dir.path().join("config/mainstay.toml");
    let head = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, files.text(&head)).expect("written");
    let daemon = Daemon::launch_in(dir);
    daemon.wait("the initial startup", || {
        let healthy = mainstay_protocol::SystemStatus::Healthy;
        (daemon.status().status == healthy).then_some(())
    });
    let path = daemon.path("config/mainstay.toml");
    let save = |text: &str| crate::saved_files::save_over(&path, text);
    let ended = Arc::new(AtomicBool::new(false));
    let follower = follow(&daemon, Arc::clone(&ended));
    let mut client = daemon.client();
    let (mut applied, mut broken, mut rolled_back) = (0, 0, 0);
    for _ in 0..number("MAINSTAY_EDITS", EDITS) {
        match random.below(20) {
            0..=8 => {
                save(&files.broken(&head, &mut random));
                broken += 1;
                // Every other one is seen; the others are overtaken by the next save.
                if random.below(2) == 0 {
                    daemon.wait("the problem", || daemon.status().config_problem);
                }
                continue;
            }
            9 => {
                let mut failing = files.clone();
                let name = files.any(&mut random);
                failing.modules.get_mut(&name).expect("a module").fails = true;
                save(&failing.text(&head));
                daemon.wait("the rollback", || {
                    let problem = daemon.status().config_problem?;
                    problem.contains("was rolled back").then_some(())
                });
                rolled_back += 1;
            }
            _ => {
                files.change(&mut random);
                applied += 1;
            }
        }
        save(&files.text(&head));
        let wanted = format!("edit {}", files.edit);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while description(&mut client).as_ref() != Some(&wanted) {
            assert!(
                std::time::Instant::now() < end,
                "{wanted}: {:?}",
                daemon.status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    save(&files.text(&head));
    daemon.wait("no problem and all to run", || {
        let status = daemon.status();
        let runs = daemon.client().modules().ok()?;
        let rests = runs
            .iter()
            .all(|module| module.state == ModuleState::Running);
        (status.config_problem.is_none() && rests).then_some(())
    });
    let views = client.modules().expect("connected");
    ended.store(true, Ordering::Relaxed);
    let seen = follower.join().expect("it follows");
    let last = seen.last().expect("events").seq;
    let kept = kept(&mut client, last);
    let newest = seen
        .iter()
        .map(|event| event.seq)
        .filter(|seq| *seq >= kept[0]);
    assert!(newest.eq(kept.iter().copied()), "an event was lost");
    let allowed = allowed(&seen);
    for view in views.iter().filter(|view| view.module.starts_with('m')) {
        let most = allowed.get(&view.module).copied().unwrap_or(0) + 1;
        assert!(
            view.generation <= most,
            "{} was started {} times, plans named it {} times",
            view.module,
            view.generation,
            most - 1
        );
    }
    println!("{applied} edits applied, {broken} broken, {rolled_back} rolled back");
}
