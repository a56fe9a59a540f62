//! `[features]`: what modules have at their start, what reaches them while they run.
//! Owns a system with switches and shares, and a module that is told by the SDK.
//! Never asserts on which instances a share chooses: policy's tests do.

use std::fs;
use std::sync::mpsc;

use mainstay_protocol::{EventKind, ModuleState};
use mainstay_sdk::Module;

use super::daemon::{Daemon, kill, misbehave};
use super::raw::{PATIENCE, surroundings};

fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.path("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("a configuration");
}

fn printed(daemon: &Daemon, words: &[&str]) -> String {
    let output = daemon.cli(words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_change_reaches_a_running_module_and_touches_nobody() {
    let daemon = Daemon::start(&format!(
        "[features]\nthumbnails = true\nsearch = false\nall = 100\nnone = 0.0\n\
         [module.web]\ncommand = {}\n",
        misbehave("--print-env")
    ));
    daemon.wrote("web", "env MAINSTAY_FEATURES=all,thumbnails");
    let before = daemon.module("web");
    let shown: Vec<(&str, bool)> = before
        .features
        .iter()
        .map(|(name, on)| (&**name, *on))
        .collect();
    assert_eq!(
        shown,
        [
            ("all", true),
            ("none", false),
            ("search", false),
            ("thumbnails", true)
        ]
    );
    let status = printed(&daemon, &["status", "web"]);
    assert!(
        status.contains("all on, none off, search off, thumbnails on"),
        "{status}"
    );
    assert_eq!(
        printed(&daemon, &["config", "get", "features.all"]).trim(),
        "100"
    );

    let module = Module::connect_with(surroundings(&daemon, "web"));
    let (tell, heard) = mpsc::channel();
    module.on_feature(move |name, value| drop(tell.send(format!("{name} {value}"))));
    let hear = |expected: &str| {
        let mut words = Vec::new();
        while words.last().is_none_or(|word| word != expected) {
            words.push(heard.recv_timeout(PATIENCE).expect(expected));
        }
    };
    hear("thumbnails true");
    assert!(module.feature("thumbnails") && !module.feature("search"));
    let plan = printed(&daemon, &["plan"]);
    assert!(!plan.contains("restart"), "{plan}");
    edit(&daemon, "search = false", "search = true");
    hear("search true");
    assert!(module.feature("search"));
    edit(&daemon, "thumbnails = true\n", "");
    hear("thumbnails false");
    assert!(!module.feature("thumbnails"));
    let after = daemon.module("web");
    assert_eq!(
        (after.pid, after.generation),
        (before.pid, before.generation)
    );
    assert_eq!(daemon.count("web", EventKind::ModuleStateChanged), 3);

    kill(after.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("a new run", "web", |view| {
        view.generation > after.generation && view.state == ModuleState::Running
    });
    daemon.wrote("web", "env MAINSTAY_FEATURES=all,search");
}

#[test]
fn a_degraded_module_is_without_what_it_gives_up_and_gets_back_only_what_is_on() {
    let daemon = Daemon::start(&format!(
        "[features]\nthumbnails = true\nsearch = false\n\
         [recovery]\nstable_after = \"2s\"\nbackoff = {{ initial = \"0s\", floor = \"0s\" }}\n\
         [module.web]\ncommand = {}\n[module.web.recovery]\nmax_attempts = 1\n\
         on_failure = [\"restart\", \"degrade\", \"stop\"]\n\
         degrade = {{ disable = [\"thumbnails\", \"search\"] }}\n",
        misbehave("--print-env")
    ));
    for _ in 0..2 {
        let before = daemon.module("web");
        kill(before.pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("a new run", "web", |view| {
            view.state == ModuleState::Running && view.generation > before.generation
        });
    }
    daemon.until_view("it to be degraded", "web", |view| !view.degraded.is_empty());
    daemon.wrote("web", "env MAINSTAY_FEATURES=");
    assert!(!daemon.module("web").features["thumbnails"]);
    let module = Module::connect_with(surroundings(&daemon, "web"));
    daemon.wait("the feature to come back", || {
        module.feature("thumbnails").then_some(())
    });
    daemon.event("web", EventKind::ModuleRestored);
    let view = daemon.until_view("it to be whole", "web", |view| view.degraded.is_empty());
    assert!(view.features["thumbnails"] && !view.features["search"]);
    assert!(!module.feature("search"));
}

#[test]
fn a_value_that_is_no_share_is_a_problem_with_its_line() {
    let daemon = Daemon::start(&format!(
        "[features]\na = 5\n[module.web]\ncommand = {}\n",
        misbehave("")
    ));
    for wrong in ["a = 101", "a = -1", "a = \"yes\"", "a = []"] {
        let path = daemon.path("config/mainstay.toml");
        let text = fs::read_to_string(&path).expect("a configuration");
        let other = daemon.path("other");
        fs::create_dir_all(&other).expect("a folder");
        fs::write(other.join("mainstay.toml"), text.replace("a = 5", wrong)).expect("a file");
        let output = std::process::Command::new(super::daemon::binary())
            .args(["check", "--config"])
            .arg(&other)
            .output()
            .expect("the command line runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{wrong}: {text}");
        assert!(
            text.contains("features.a") && text.contains("from 0 to 100"),
            "{wrong}: {text}"
        );
    }
}
