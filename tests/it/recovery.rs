//! Recovery of real processes: ladders, groups, resets, degraded mode, proposals.
//! Owns one test for each strategy, and what must not happen beside it.
//! Never asserts a time that the machine decides.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use mainstay_protocol::method::name;
use mainstay_protocol::{DesiredState, Event, EventKind, HealthStatus, ModuleState, SystemStatus};
use mainstay_sdk::Module;

use crate::daemon::{Daemon, kill, misbehave, script};
use crate::raw::surroundings;

const PATIENCE: Duration = Duration::from_secs(20);
const QUICK: &str = "[recovery]\nstable_after = \"1s\"\n\
     backoff = { initial = \"10ms\", max = \"20ms\", floor = \"10ms\" }\n";

/// Three modules, a group of them, and one outside that requires `b`.
fn group(words: &str) -> Daemon {
    let run = misbehave("");
    let modules = ["a", "b", "c"].map(|name| format!("[module.{name}]\ncommand = {run}\n"));
    Daemon::start(&format!(
        "{QUICK}{}[module.outside]\ncommand = {run}\nrequires = [\"b\"]\n\
         [module.outside.recovery]\non_dependency_restart = \"restart\"\n\
         [group.g]\nmembers = [\"c\", \"b\", \"a\"]\n{words}\n",
        modules.concat()
    ))
}

/// Kills `b` and waits until it is back; returns whose run is another one now.
fn restarted_with_b(daemon: &Daemon) -> Vec<&'static str> {
    let names = ["a", "b", "c", "outside"];
    let before = names.map(|name| daemon.module(name));
    kill(before[1].pid.expect("it runs"), libc::SIGKILL);
    daemon.wait("the members to be back", || {
        let back = names.map(|name| daemon.module(name));
        let is_new = back[1].generation > before[1].generation;
        let all_run = back.iter().all(|view| view.state == ModuleState::Running);
        (is_new && all_run).then_some(())
    });
    daemon.wait("the recovery to be proved", || {
        daemon
            .events("b")
            .into_iter()
            .find(|event| event.kind == EventKind::RecoveryCompleted)
    });
    let is_new = |at: &usize| daemon.module(names[*at]).generation > before[*at].generation;
    (0..names.len())
        .filter(is_new)
        .map(|at| names[at])
        .collect()
}

fn of_kind(daemon: &Daemon, module: &str, kind: EventKind) -> Vec<Event> {
    let mut events = daemon.events(module);
    events.retain(|event| event.kind == kind);
    events
}

#[test]
fn one_for_one_restarts_the_one() {
    let daemon = group("strategy = \"one_for_one\"");
    assert_eq!(restarted_with_b(&daemon), ["b", "outside"]);
}

#[test]
fn one_for_all_restarts_all_and_costs_the_others_no_attempt() {
    let daemon = group("strategy = \"one_for_all\"");
    assert_eq!(restarted_with_b(&daemon), ["a", "b", "c", "outside"]);
    for name in ["a", "c", "outside"] {
        assert_eq!(daemon.module(name).attempts, 0, "{name}");
    }
    let started = of_kind(&daemon, "b", EventKind::RecoveryStarted);
    let mut along = started[0].payload["along"].clone();
    along
        .as_array_mut()
        .expect("names")
        .sort_by_key(ToString::to_string);
    assert_eq!(along, serde_json::json!(["a", "c"]));
    // None of the three began before all three had ended.
    let exit = |name| of_kind(&daemon, name, EventKind::ModuleExited)[0].seq;
    let start = |name| daemon.moves(name, ModuleState::Starting, 2)[1].seq;
    let (exits, starts) = (["a", "b", "c"].map(exit), ["a", "b", "c"].map(start));
    assert!(
        exits.iter().max() < starts.iter().min(),
        "{exits:?} {starts:?}"
    );
}

#[test]
fn rest_for_one_restarts_those_that_come_after_it_in_members() {
    let daemon = group("strategy = \"rest_for_one\"");
    assert_eq!(restarted_with_b(&daemon), ["a", "b", "outside"]);
}

#[test]
fn a_group_over_its_budget_stops_until_somebody_starts_it() {
    let daemon = group("max_restarts = 0");
    kill(daemon.module("b").pid.expect("it runs"), libc::SIGKILL);
    for name in ["a", "b", "c"] {
        let view = daemon.until(name, ModuleState::Failed);
        assert_eq!(
            (view.desired, view.next_attempt_at),
            (DesiredState::Up, None)
        );
    }
    daemon.until("outside", ModuleState::Waiting);
    let events = daemon.cli(&["events", "--json"]);
    let text = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(
        text.contains("group.exceeded") && text.contains("user.notified"),
        "{text}"
    );
    daemon.change(name::MODULE_START, "b");
    daemon.until("outside", ModuleState::Running);
    assert_eq!(daemon.module("a").state, ModuleState::Failed);
}

#[test]
fn a_group_may_end_everything_with_an_exit_code_that_says_so() {
    let mut daemon = group("max_restarts = 0\non_exceeded = \"shutdown\"");
    kill(daemon.module("b").pid.expect("it runs"), libc::SIGKILL);
    assert_eq!(daemon.ended(), Some(1), "{}", daemon.printed());
    assert!(daemon.printed().contains("group g"), "{}", daemon.printed());
}

#[test]
fn a_reset_clears_exactly_what_is_declared_and_follows_no_link() {
    let daemon = Daemon::launch(
        "",
        &format!(
            "{QUICK}[module.web]\nrequired = false\ncommand = {}\ndirectory = \"${{project}}/web\"\n\
             [module.web.recovery]\nmax_attempts = 1\non_failure = [\"restart\", \"restart_with_reset\"]\n\
             reset = {{ remove = [\"cache\", \"link\", \"missing\"] }}\n",
            script("[ -e ../go ] && ! [ -e cache/poison ] && exec $misbehave; exit 3")
        ),
    );
    let web = daemon.path("web");
    fs::create_dir_all(web.join("cache/deep")).expect("made");
    fs::create_dir_all(daemon.path("outside")).expect("made");
    for file in [
        "web/cache/poison",
        "web/cache/deep/file",
        "web/data",
        "outside/kept",
    ] {
        fs::write(daemon.path(file), file).expect("written");
    }
    std::os::unix::fs::symlink(daemon.path("outside"), web.join("link")).expect("linked");
    daemon.touch("go");
    daemon.change(name::MODULE_RESTART, "web");
    daemon.until("web", ModuleState::Running);
    daemon.event("web", EventKind::RecoveryCompleted);
    let names = fs::read_dir(&web).expect("there").flatten();
    let names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["data"], "the rest is as it was");
    assert!(daemon.path("outside/kept").exists());
    let steps = of_kind(&daemon, "web", EventKind::RecoveryStepCompleted);
    let reset = steps.iter().find(|event| event.payload["step"] == "reset");
    assert_eq!(reset.expect("told").payload["text"], "cleared 2 of 3 paths");
    daemon.wait("what was set aside to be dropped", || {
        let kept = fs::read_dir(daemon.path("state/recovery/web")).ok()?;
        (kept.count() == 0).then_some(())
    });
}

#[test]
fn a_reset_that_does_not_help_is_taken_back() {
    let daemon = Daemon::launch(
        "",
        &format!(
            "{QUICK}[module.web]\nrequired = false\ncommand = {}\n\
             [module.web.recovery]\nmax_attempts = 1\n\
             on_failure = [\"restart\", \"restart_with_reset\", \"stop\"]\n\
             reset = {{ remove = [\"cache\"] }}\n",
            script("echo \"cache: $(cat cache 2>&1)\"; echo new > cache; exit 3")
        ),
    );
    daemon.until("web", ModuleState::Failed);
    fs::write(daemon.path("cache"), "precious").expect("written");
    daemon
        .client()
        .change(name::MODULE_START, &change("web"))
        .expect("granted");
    daemon.wait("the reset to be taken back", || {
        let steps = of_kind(&daemon, "web", EventKind::RecoveryStepCompleted);
        let taken_back = steps
            .iter()
            .filter(|event| event.payload["step"] == "rollback");
        (taken_back.count() == 2).then_some(())
    });
    // The run after the reset found nothing; what it wrote made room for what was there before.
    let output = daemon.output("web");
    let last: Vec<&str> = output.lines().rev().take(2).collect();
    assert_eq!(last[1], "cache: new", "{output}");
    assert!(last[0].contains("cache: cat"), "{output}");
    assert_eq!(
        fs::read_to_string(daemon.path("cache")).expect("there"),
        "new\n"
    );
}

fn change(module: &str) -> mainstay_protocol::method::ChangeParams {
    mainstay_protocol::method::ChangeParams {
        module: module.to_owned(),
        dry_run: false,
        wait: true,
    }
}

#[test]
fn a_degraded_module_is_told_and_restored_after_a_stable_run() {
    let recovery = QUICK.replace("\"1s\"", "\"3s\"");
    let daemon = Daemon::start(&format!(
        "{recovery}[module.web]\ncommand = {}\n\
         [module.web.recovery]\nmax_attempts = 1\non_failure = [\"restart\", \"degrade\", \"stop\"]\n\
         degrade = {{ disable = [\"thumbnails\", \"search\"], reduce_load = 0.5 }}\n",
        misbehave("--print-env")
    ));
    for _ in 0..2 {
        let before = daemon.module("web");
        kill(before.pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("a new run", "web", |view| {
            view.state == ModuleState::Running && view.generation > before.generation
        });
    }
    let view = daemon.until_view("it to be degraded", "web", |view| !view.degraded.is_empty());
    assert_eq!(view.degraded, ["thumbnails", "search", "50 % of its load"]);
    assert_eq!(view.health, HealthStatus::Degraded);
    assert_eq!(daemon.status().status, SystemStatus::Degraded);
    daemon.wrote("web", "env MAINSTAY_DEGRADED=thumbnails,search");
    let module = Module::connect_with(surroundings(&daemon, "web"));
    let (tell, heard) = mpsc::channel();
    let told = tell.clone();
    module.on_feature(move |name, value| drop(told.send(format!("{name} {value}"))));
    module.on_reduce_load(move |factor| drop(tell.send(format!("load {factor}"))));
    // Handlers may come too late for the first calls; the restoration is heard in any case.
    let mut words: Vec<String> = Vec::new();
    while words.last().is_none_or(|word| word != "load 1") {
        words.push(heard.recv_timeout(PATIENCE).expect("it is told"));
    }
    let restored = &words[words.len() - 3..];
    assert_eq!(restored, ["thumbnails true", "search true", "load 1"]);
    daemon.event("web", EventKind::ModuleRestored);
    let view = daemon.until_view("it to be whole", "web", |view| view.degraded.is_empty());
    assert_eq!(view.health, HealthStatus::Unknown);
}

#[test]
fn a_restart_of_everything_keeps_what_was_requested() {
    let run = misbehave("");
    let daemon = Daemon::start(&format!(
        "{QUICK}[module.web]\ncommand = {run}\nrequires = [\"db\"]\n\
         [module.web.recovery]\nmax_attempts = 1\non_failure = [\"restart\", \"restart_system\", \"stop\"]\n\
         [module.db]\ncommand = {run}\n[module.down]\ncommand = {run}\n\
         [module.lazy]\ncommand = {run}\nstart = \"lazy\"\n"
    ));
    daemon.change(name::MODULE_STOP, "down");
    let db = daemon.module("db");
    for _ in 0..2 {
        let before = daemon.module("web");
        kill(before.pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("a new run", "web", |view| {
            view.state == ModuleState::Running && view.generation > before.generation
        });
    }
    assert!(daemon.module("db").generation > db.generation);
    let view = daemon.module("down");
    assert_eq!(
        (view.state, view.desired),
        (ModuleState::Stopped, DesiredState::Down)
    );
    assert_eq!(daemon.module("lazy").state, ModuleState::NotStarted);
    assert_eq!(daemon.module("db").attempts, 0);
    let started = of_kind(&daemon, "web", EventKind::RecoveryStarted);
    assert_eq!(started.last().expect("told").payload["system"], true);
}

#[test]
fn a_reset_fails_while_another_process_has_the_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let daemon = Daemon::launch(
        "",
        &format!(
            "{QUICK}[module.web]\nrequired = false\ncommand = {}\nready = {{ tcp = \"{address}\" }}\n\
             startup_timeout = \"200ms\"\n[module.web.recovery]\nmax_attempts = 1\n\
             on_failure = [\"restart\", \"restart_with_reset\", \"stop\"]\n",
            misbehave("--exit-code 1")
        ),
    );
    daemon.until("web", ModuleState::Failed);
    let steps = of_kind(&daemon, "web", EventKind::RecoveryStepCompleted);
    let port = steps
        .iter()
        .find(|event| event.payload["step"] == "port")
        .expect("a step");
    assert_eq!(port.payload["ok"], false);
    let text = port.payload["text"].as_str().unwrap_or_default();
    assert!(text.contains("another process listens on"), "{text}");
    // It was not started a third time.
    assert_eq!(daemon.count("web", EventKind::ModuleExited), 2);
}

#[test]
fn a_runtime_that_dies_in_a_restart_of_a_group_brings_all_of_it_back() {
    let slow = misbehave("--slow-stop 700ms");
    let modules = ["a", "b", "c"].map(|name| format!("[module.{name}]\ncommand = {slow}\n"));
    let daemon = Daemon::start(&format!(
        "{QUICK}{}[group.g]\nmembers = [\"a\", \"b\", \"c\"]\nstrategy = \"one_for_all\"\n",
        modules.concat()
    ));
    let before = ["a", "b", "c"].map(|name| daemon.module(name).generation);
    kill(daemon.module("b").pid.expect("it runs"), libc::SIGKILL);
    daemon.until("a", ModuleState::Stopping);
    daemon.kill_runtime();
    for (name, before) in ["a", "b", "c"].into_iter().zip(before) {
        daemon.until_view("a new run", name, |view| {
            view.state == ModuleState::Running && view.generation == before + 1
        });
    }
}

#[test]
fn without_auto_a_recovery_is_proposed_and_a_person_accepts_it() {
    let daemon = Daemon::start(&format!(
        "{QUICK}auto = false\n[module.web]\ncommand = {}\nrequired = false\n",
        misbehave("")
    ));
    let refused = daemon.cli(&["recover", "web"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let before = daemon.module("web");
    kill(before.pid.expect("it runs"), libc::SIGKILL);
    let view = daemon.until("web", ModuleState::Failed);
    assert_eq!(view.proposal.as_deref(), Some("restart"));
    daemon.event("web", EventKind::RecoveryProposed);
    let status = String::from_utf8_lossy(&daemon.cli(&["status"]).stdout).into_owned();
    assert!(status.contains("mainstay recover web"), "{status}");
    // The proposal outlives the runtime.
    daemon.kill_runtime();
    daemon.until_view("the proposal", "web", |view| view.proposal.is_some());
    let accepted = daemon.cli(&["recover", "web"]);
    assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
    let view = daemon.until("web", ModuleState::Running);
    assert!(view.generation > before.generation && view.proposal.is_none());
}
