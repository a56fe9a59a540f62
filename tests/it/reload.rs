//! Plans that follow each other while modules run: applied, committed, rolled back.
//! Owns a configuration that each test edits.
//! Never asserts how long anything takes.

use std::fs;
use std::path::Path;
use std::process::Output;

use mainstay_protocol::config_change::ConfigHistory;
use mainstay_protocol::config_plan::{ConfigPlan, KeyClass, PlanChange};
use mainstay_protocol::method::{Empty, EventsParams, name};
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, kill, lives, misbehave, prepare, script};

/// A short watch: committed before a test is tired of waiting.
pub(crate) const SHORT: &str = "reload = \"manual\"\nreload_watch = \"300ms\"";
/// A watch that no test waits for.
pub(crate) const LONG: &str = "reload = \"manual\"\nreload_watch = \"1h\"";

/// Replaces what is in the configuration of a prepared folder.
pub(crate) fn edit(dir: &Path, head: &str, modules: &str) {
    let fresh = prepare(head, modules);
    let text = fs::read_to_string(fresh.path().join("config/mainstay.toml")).expect("a text");
    let text = text.replace(
        &fresh.path().display().to_string(),
        &dir.display().to_string(),
    );
    let beside = dir.join("config/mainstay.toml.new");
    fs::write(&beside, text).expect("a file");
    fs::rename(beside, dir.join("config/mainstay.toml")).expect("renamed");
}

pub(crate) fn launch(head: &str, modules: &str) -> Daemon {
    let daemon = Daemon::launch(head, modules);
    daemon.wait("the first start to be over", || {
        let status = daemon.status().status;
        (status != mainstay_protocol::SystemStatus::Starting).then_some(())
    });
    daemon
}

fn module(name: &str, words: &str, rest: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n{rest}\n", misbehave(words))
}

#[track_caller]
pub(crate) fn stdout(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn told(daemon: &Daemon, kind: EventKind) -> Vec<serde_json::Value> {
    let params = EventsParams {
        kinds: vec![kind],
        limit: Some(1000),
        ..EventsParams::default()
    };
    let events = daemon.client().events(&params).expect("events");
    events.into_iter().map(|event| event.payload).collect()
}

fn pids(daemon: &Daemon, names: &[&str]) -> Vec<Option<u32>> {
    names.iter().map(|name| daemon.module(name).pid).collect()
}

#[test]
fn a_plan_is_shown_applied_and_committed_and_only_what_it_names_is_restarted() {
    let two = module("one", "", "") + &module("two", "", "requires = [\"one\"]");
    let daemon = launch(SHORT, &two);
    let before = pids(&daemon, &["one", "two"]);
    let text = stdout(&daemon.cli(&["plan"]), 0);
    assert_eq!(text, "nothing would change: plan 1 is in force\n");
    let changed = module(
        "one",
        "",
        "shutdown_timeout = \"3s\"\nenv = { SECRET = \"hush\" }",
    ) + &module(
        "two",
        "",
        "requires = [\"one\"]\nsettings = { level = 2 }\nrequired = false",
    ) + &module("three", "", "");
    edit(daemon.dir.path(), SHORT, &changed);
    let text = stdout(&daemon.cli(&["plan"]), 0);
    for part in [
        "one    restart  env changed, values not shown",
        "live     shutdown_timeout: \"10s\" → \"3s\"",
        "three  added",
        "two    notify   settings changed, values not shown",
        "live     required: true → false",
        "start three: it is new",
        "restart one: its definition changes",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("hush"));
    let json = stdout(&daemon.cli(&["plan", "--json"]), 0);
    let plan: ConfigPlan = serde_json::from_str(&json).expect("a plan");
    let classes: Vec<_> = plan
        .modules
        .iter()
        .map(|it| (it.change, it.class))
        .collect();
    assert_eq!(
        classes,
        [
            (PlanChange::Changed, Some(KeyClass::Restart)),
            (PlanChange::Added, None),
            // No module can be told of its settings while it runs.
            (PlanChange::Changed, Some(KeyClass::Restart)),
        ]
    );
    assert_eq!(pids(&daemon, &["one", "two"]), before, "only shown");
    let text = stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(text, "plan 2 is committed\n");
    assert_eq!(daemon.status().plan, 2);
    daemon.until("three", ModuleState::Running);
    let after = pids(&daemon, &["one", "two"]);
    assert_ne!(after[0], before[0]);
    assert_eq!(told(&daemon, EventKind::ConfigCommitted).len(), 1);
    let text = stdout(&daemon.cli(&["reload"]), 0);
    assert_eq!(text, "nothing changed: plan 2 is in force\n");
    assert_eq!(pids(&daemon, &["one", "two"]), after);
}

#[test]
fn a_command_that_fails_is_rolled_back_and_why_tells() {
    let daemon = launch(LONG, &(module("one", "", "") + &module("two", "", "")));
    let before = pids(&daemon, &["one", "two"]);
    let bad = module("one", "--exit-code 3", "") + &module("two", "", "required = false");
    edit(daemon.dir.path(), LONG, &bad);
    let text = stdout(&daemon.cli(&["reload", "--wait"]), 1);
    assert!(
        text.starts_with("rolled back: one failed: exit code 3; "),
        "{text}"
    );
    assert!(text.ends_with("in force again as plan 3\n"), "{text}");
    let one = daemon.until("one", ModuleState::Running);
    assert_ne!(one.pid, before[0]);
    let two = daemon.module("two");
    assert_eq!((two.pid, two.required), (before[1], true));
    let problem = daemon.status().config_problem.expect("a problem");
    assert!(
        problem.contains("plan 2 was rolled back: one failed"),
        "{problem}"
    );
    let why = stdout(&daemon.cli(&["why", "one"]), 0);
    assert!(why.contains("the configuration changed"), "{why}");
    assert_eq!(told(&daemon, EventKind::ConfigRolledBack).len(), 1);
}

#[test]
fn a_bad_file_is_refused_with_its_line_and_nothing_else_happens() {
    let daemon = launch(LONG, &module("one", "", ""));
    let (before, plan) = (daemon.module("one").pid, daemon.status().plan);
    for (modules, parts) in [
        (
            "[module.one]\ncommand = [\"x]\n",
            &["mainstay.toml:8:15"][..],
        ),
        (
            "[module.two]\ncommand = [\"x\"]\nrequires = [\"one\"]\n",
            &["one", "two"],
        ),
        (
            "[module.a]\ncommand = [\"x\"]\nrequires = [\"b\"]\n[module.b]\ncommand = [\"x\"]\n\
             requires = [\"a\"]\n",
            &["a → b → a"],
        ),
        (
            "[module.one]\ncomand = [\"x\"]\n",
            &["did you mean `command`"],
        ),
    ] {
        edit(daemon.dir.path(), LONG, modules);
        for verb in ["plan", "reload"] {
            let output = daemon.cli(&[verb]);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(5), "{text}");
            assert!(
                parts.iter().all(|part| text.contains(part)),
                "{parts:?}: {text}"
            );
        }
        let status = daemon.status();
        assert!(
            status
                .config_problem
                .is_some_and(|text| text.contains(parts[0]))
        );
        assert_eq!((daemon.module("one").pid, status.plan), (before, plan));
    }
    edit(daemon.dir.path(), LONG, &module("one", "", ""));
    stdout(&daemon.cli(&["reload"]), 0);
    assert_eq!(daemon.status().config_problem, None);
    assert_eq!(told(&daemon, EventKind::ConfigProblemCleared).len(), 1);
    assert_eq!(daemon.module("one").pid, before);
}

#[test]
fn what_a_person_stopped_stays_stopped_and_the_plan_says_so() {
    let daemon = launch(SHORT, &(module("one", "", "") + &module("two", "", "")));
    daemon.change(name::MODULE_STOP, "one");
    edit(
        daemon.dir.path(),
        SHORT,
        &(module("one", "--slow-stop 1ms", "") + &module("two", "", "")),
    );
    let text = stdout(&daemon.cli(&["plan"]), 0);
    assert!(
        text.contains("one stays stopped: a person stopped it"),
        "{text}"
    );
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(daemon.module("one").state, ModuleState::Stopped);
    assert_eq!(daemon.module("one").generation, 1);
}

/// The death of the runtime is not the fault of the plan: what its modules do decides.
#[test]
fn a_runtime_that_dies_during_the_watch_goes_on_with_it() {
    let first = module("one", "", "") + &module("old", "", "");
    let daemon = launch(LONG, &first);
    let next = module("one", "--slow-stop 1ms", "") + &module("new", "", "");
    edit(daemon.dir.path(), LONG, &next);
    stdout(&daemon.cli(&["reload"]), 0);
    let watched = || {
        let issues = daemon.status().issues.into_iter();
        let mut such = issues.filter(|issue| issue.starts_with("plan 2 is watched for "));
        such.next()
    };
    let said = daemon.wait("the watch", watched);
    assert!(
        said.ends_with("if one or new fails, plan 1 is in force again")
            || said.ends_with("if new or one fails, plan 1 is in force again"),
        "{said}"
    );
    let why = stdout(&daemon.cli(&["why", "one"]), 0);
    assert!(why.contains("plan 2 is watched for "), "{why}");
    daemon.wait("the kept watch", || {
        let staged = fs::read_to_string(daemon.path("state/staged.json")).ok()?;
        staged.contains("\"watched\"").then_some(())
    });
    let before = pids(&daemon, &["one", "new"]);
    daemon.kill_runtime();
    daemon.wait("the watch of the next runtime", watched);
    assert_eq!(pids(&daemon, &["one", "new"]), before);
    assert_eq!(daemon.status().plan, 2);
    assert_eq!(told(&daemon, EventKind::ConfigRolledBack).len(), 0);
    kill(before[0].expect("a process"), libc::SIGKILL);
    daemon.until("old", ModuleState::Running);
    assert_eq!(daemon.status().plan, 3);
    assert!(daemon.client().module("new").is_err());
}

/// The plan was not applied as a whole when the runtime died: the next one goes back to the committed
/// plan, with the module that was removed and without the one that was new.
#[test]
fn a_runtime_that_dies_while_a_plan_is_applied_returns_to_the_committed_plan() {
    let slow = module("old", "--slow-stop 3s", "");
    let first = module("one", "", "") + &module("two", "", "") + &slow;
    let daemon = launch(LONG, &first);
    let before = pids(&daemon, &["one", "two"]);
    daemon.change(name::MODULE_STOP, "two");
    let next = module("one", "--slow-stop 1ms", "") + &module("new", "", "");
    edit(daemon.dir.path(), LONG, &next);
    stdout(&daemon.cli(&["reload"]), 0);
    let new = daemon
        .until("new", ModuleState::Running)
        .pid
        .expect("a process");
    let changed = daemon.until_view("a new run", "one", |one| {
        one.state == ModuleState::Running && one.pid != before[0]
    });
    daemon.kill_runtime();
    daemon.until("old", ModuleState::Running);
    let one = daemon.until_view("the run before", "one", |one| {
        one.state == ModuleState::Running && one.pid != changed.pid
    });
    assert!(one.generation > changed.generation);
    daemon.wait("the new module to be gone", || (!lives(new)).then_some(()));
    assert!(daemon.client().module("new").is_err());
    assert_eq!(
        daemon.module("two").state,
        ModuleState::Stopped,
        "a person stopped it"
    );
    assert_eq!(daemon.status().plan, 3);
    let why = told(&daemon, EventKind::ConfigRolledBack);
    assert_eq!(
        why[0]["text"],
        "the runtime ended while the plan was being applied"
    );
    // And again: the rollback itself is committed.
    let settled = pids(&daemon, &["one", "old"]);
    daemon.kill_runtime();
    assert_eq!(pids(&daemon, &["one", "old"]), settled);
    assert_eq!(told(&daemon, EventKind::ConfigRolledBack).len(), 1);
}

#[test]
fn the_next_start_takes_the_next_number_unless_nothing_changed() {
    let dir = prepare(SHORT, &module("one", "", ""));
    for (modules, number) in [
        (module("one", "", ""), 1),
        (module("one", "", ""), 1),
        (module("one", "", "required = false"), 2),
    ] {
        edit(dir.path(), SHORT, &modules);
        let mut up = std::process::Command::new(crate::daemon::binary());
        let config = dir.path().join("config");
        let done = up.args(["up", "-d", "--config"]).arg(&config).output();
        assert!(done.expect("it runs").status.success());
        let client =
            mainstay_client::blocking::Client::connect(dir.path().join("run/control.sock"));
        let plan = client.expect("it answers").status().expect("a status").plan;
        let mut down = std::process::Command::new(crate::daemon::binary());
        let done = down.args(["down", "--config"]).arg(&config).output();
        assert!(done.expect("it runs").status.success());
        assert_eq!(plan, number, "{modules}");
    }
}

/// The old run ends by its own definition: its own time to stop, its own hook.
#[test]
fn a_run_ends_by_the_definition_that_started_it() {
    let with = |mark: &str| {
        let main = script("exec $misbehave");
        format!(
            "[module.one]\ncommand = {main}\nenv = {{ MARK = \"{mark}\" }}\nafter_stop = [{}]\n",
            script("echo $MARK >> stopped")
        )
    };
    let daemon = launch(SHORT, &with("first"));
    edit(daemon.dir.path(), SHORT, &with("second"));
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
    let text = fs::read_to_string(daemon.path("stopped")).expect("the hook ran");
    assert_eq!(text, "first\n");
}

/// What failed before a change is not counted against it: least of all against a return.
#[test]
fn a_module_that_failed_before_a_rollback_does_not_roll_it_back() {
    let flaky = |mark: &str| {
        let main = script("until [ -e crash ]; do sleep 0.02; done; rm crash; exit 3");
        let rest = "recovery.max_attempts = 0\nrecovery.backoff.initial = \"10ms\"";
        format!("[module.flaky]\ncommand = {main}\nenv = {{ MARK = \"{mark}\" }}\n{rest}\n")
    };
    let daemon = launch(LONG, &flaky("first"));
    edit(daemon.dir.path(), SHORT, &flaky("second"));
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
    daemon.touch("crash");
    daemon.until_view("the next run", "flaky", |view| {
        view.attempts == 1 && view.state == ModuleState::Running
    });
    let text = stdout(&daemon.cli(&["config", "rollback", "--wait"]), 0);
    assert!(text.starts_with("back to plan 1 of "), "{text}");
    assert!(text.contains("env changed"), "{text}");
    assert!(
        text.contains("plan 3 (plan 1 again) is committed\nthe files are as they were: "),
        "{text}"
    );
    let history = daemon.cli(&["config", "history"]);
    let history = stdout(&history, 0);
    assert!(history.contains("plan 1 again; "), "{history}");
}

/// A row of the history is of the time of its commit, and says what differs from the row before.
#[test]
fn the_history_has_the_times_of_commits_and_the_changes_of_starts() {
    let daemon = launch(SHORT, &module("one", "", ""));
    let bad = format!("[module.one]\ncommand = {}\n", script("exit 3"));
    edit(daemon.dir.path(), SHORT, &bad);
    stdout(&daemon.cli(&["reload", "--wait"]), 1);
    let plans = |daemon: &Daemon| {
        let history: ConfigHistory = daemon
            .client()
            .call(name::CONFIG_HISTORY, Empty {})
            .expect("a history");
        history.plans
    };
    let back = plans(&daemon).pop().expect("the rollback");
    assert!(back.at > plans(&daemon)[1].at, "{back:?}");
    assert_eq!(back.changes[0], "plan 1 again");
    assert!(back.changes[1].starts_with("one changed ("), "{back:?}");
    let mut daemon = daemon;
    stdout(&daemon.cli(&["down"]), 0);
    assert!(daemon.ended().is_some());
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().expect("a folder"));
    edit(
        dir.path(),
        SHORT,
        &(module("one", "", "") + &module("two", "", "")),
    );
    let daemon = Daemon::launch_in(dir);
    daemon.until("two", ModuleState::Running);
    let start = plans(&daemon).pop().expect("the start");
    assert_eq!((start.plan, &*start.requester), (4, "mainstay up"));
    assert_eq!(start.changes, ["two added"]);
    let none = daemon.cli(&["config", "diff", "99"]);
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(text.contains("there are 1 to 4"), "{text}");
}
