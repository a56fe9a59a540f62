//! `config set`, `unset`, `history`, `diff` and `rollback` of a running system.
//! Owns what of them outlives a runtime and a stop, and what never reaches a file or a screen.
//! Never asserts how long anything takes.

use std::fs;
use std::process::Output;

use mainstay_protocol::EventKind;
use mainstay_protocol::config_change::{ConfigHistory, PlanOutcome};
use mainstay_protocol::method::EventsParams;

use crate::daemon::{Daemon, misbehave, script};

const SHORT: &str = "reload_watch = \"300ms\"";

fn module(name: &str, words: &str, rest: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n{rest}\n", misbehave(words))
}

fn launch(head: &str, modules: &str) -> Daemon {
    let daemon = Daemon::launch(head, modules);
    started(&daemon);
    daemon
}

fn started(daemon: &Daemon) {
    daemon.wait("the first start to be over", || {
        let status = daemon.status().status;
        (status != mainstay_protocol::SystemStatus::Starting).then_some(())
    });
}

fn all(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn run(daemon: &Daemon, words: &[&str], code: i32) -> String {
    let output = daemon.cli(words);
    let text = all(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    text
}

fn value(daemon: &Daemon, key: &str) -> String {
    let words = ["config", "get", key, "--origin"];
    run(daemon, &words, 0).trim_end().to_owned()
}

fn text(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.path("config/mainstay.toml")).expect("a text")
}

#[test]
fn a_value_is_set_shown_and_unset_and_outlives_the_runtime_and_a_stop() {
    let mut daemon = launch(SHORT, &module("one", "", "shutdown_timeout = \"9s\""));
    let key = "module.one.shutdown_timeout";
    let before = text(&daemon);
    let pid = daemon.module("one").pid;
    let shown = run(&daemon, &["config", "set", key, "4s", "--dry-run"], 0);
    assert!(
        shown.contains("\"9s\" → \"4s\"  (config set module.one"),
        "{shown}"
    );
    assert!(value(&daemon, key).starts_with("9s"), "only shown");
    let told = run(&daemon, &["config", "set", key, "4s", "--wait"], 0);
    assert_eq!(told, "plan 2 is committed\n");
    let set = format!("4s  # config set {key}");
    assert_eq!(value(&daemon, key), set);
    assert_eq!(daemon.module("one").pid, pid, "a live key");
    assert_eq!(text(&daemon), before);
    let status = run(&daemon, &["status"], 0);
    assert!(status.contains(&format!("in no file: {key};")), "{status}");
    // A save of the file leaves it; a guard of another plan refuses.
    fs::write(
        daemon.path("config/mainstay.toml"),
        before.clone() + "[logs]\nformat = \"json\"\n",
    )
    .expect("written");
    daemon.wait("the saved file", || {
        value(&daemon, "logs.format")
            .starts_with("json")
            .then_some(())
    });
    assert_eq!(value(&daemon, key), set);
    let words = ["config", "set", key, "5s", "--if-plan", "2"];
    let told = run(&daemon, &words, 4);
    assert!(told.contains("plan 3 is in force, not the one"), "{told}");
    daemon.wait("the commit", || {
        let kinds = vec![EventKind::ConfigCommitted];
        let params = EventsParams {
            kinds,
            ..EventsParams::default()
        };
        (daemon.client().events(&params).ok()?.len() == 2).then_some(())
    });
    daemon.kill_runtime();
    assert_eq!(value(&daemon, key), set);
    run(&daemon, &["down"], 0);
    assert!(daemon.ended().is_some());
    assert_eq!(
        value(&daemon, key).lines().next(),
        Some(&*set),
        "of the files"
    );
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().expect("a folder"));
    let daemon = Daemon::launch_in(dir);
    started(&daemon);
    assert_eq!(value(&daemon, key), set);
    run(&daemon, &["config", "unset", key, "--wait"], 0);
    assert!(value(&daemon, key).starts_with("9s"));
    assert!(!run(&daemon, &["status"], 0).contains("in no file"));
    let told = run(&daemon, &["config", "unset", key], 5);
    assert!(told.contains("`config set` did not set it"), "{told}");
}

#[test]
fn a_value_that_breaks_a_module_is_rolled_back_and_one_that_is_wrong_is_refused() {
    let daemon = launch("reload_watch = \"1h\"", &module("one", "", ""));
    let bad = format!("{:?}", ["/bin/sh", "-c", "exit 3"]);
    let words = ["config", "set", "module.one.command", &bad, "--wait"];
    let told = run(&daemon, &words, 1);
    assert!(
        told.starts_with("rolled back: one failed: exit code 3"),
        "{told}"
    );
    daemon.until("one", mainstay_protocol::ModuleState::Running);
    assert!(daemon.status().runtime_values.is_empty());
    for (words, part) in [
        (
            &["config", "set", "helth.interval", "1s"][..],
            "did you mean",
        ),
        (
            &["config", "set", "health.interval", "soon"],
            "config set health.interval",
        ),
        (
            &["config", "set", "health", "{ interval = \"1s\" }"],
            "it is a table",
        ),
        (
            &["config", "set", "module.tow.command", "[\"x\"]"],
            "no such module",
        ),
        (
            &["config", "set", "mainstay.name", "x"],
            "read before anything runs",
        ),
        (
            &["config", "set", "health..interval", "1s"],
            "a part of it is empty",
        ),
        (
            &["config", "rollback", "99"],
            "there is no such plan; there are",
        ),
    ] {
        let told = run(&daemon, words, 5);
        assert!(told.contains(part), "{part:?}: {told}");
    }
    assert_eq!(daemon.status().plan, 3);
}

#[test]
fn persist_writes_the_one_value_and_a_file_that_cannot_be_written_loses_nothing() {
    let head = format!("# what is watched\n{SHORT} # short\nmodules = [\"../modules/*\"]");
    let dir = crate::daemon::prepare(&head, "[health] # rates\ninterval = \"20s\" # often\n");
    let folder = dir.path().join("modules/two");
    fs::create_dir_all(&folder).expect("a folder");
    let two = format!("# two\ncommand = {}\n", misbehave(""));
    fs::write(folder.join("module.toml"), &two).expect("written");
    let daemon = Daemon::launch_in(dir);
    started(&daemon);
    let before = text(&daemon);
    run(
        &daemon,
        &[
            "config",
            "set",
            "health.interval",
            "7s",
            "--persist",
            "--wait",
        ],
        0,
    );
    let after = before.replace("\"20s\"", "\"7s\"");
    assert_eq!(text(&daemon), after);
    assert!(value(&daemon, "health.interval").contains("mainstay.toml:"));
    run(
        &daemon,
        &[
            "config",
            "set",
            "module.two.description",
            "the second",
            "--persist",
            "--wait",
        ],
        0,
    );
    let file = daemon.path("modules/two/module.toml");
    let written = fs::read_to_string(&file).expect("a text");
    assert_eq!(written, format!("{two}description = \"the second\"\n"));
    run(
        &daemon,
        &[
            "config",
            "unset",
            "module.two.description",
            "--persist",
            "--wait",
        ],
        0,
    );
    assert_eq!(fs::read_to_string(&file).expect("a text"), two);
    // What does not validate is not written, and what fails is written back.
    run(
        &daemon,
        &["config", "set", "health.interval", "soon", "--persist"],
        5,
    );
    let bad = format!("{:?}", ["/bin/sh", "-c", "exit 3"]);
    let words = [
        "config",
        "set",
        "module.two.command",
        &bad,
        "--persist",
        "--wait",
    ];
    run(&daemon, &words, 1);
    daemon.wait("the former text", || {
        (fs::read_to_string(&file).expect("a text") == two).then_some(())
    });
    // A folder in which nothing can be made, for root as well.
    fs::remove_file(daemon.path("config/.mainstay.toml.mainstay")).unwrap_or_default();
    fs::create_dir(daemon.path("config/.mainstay.toml.mainstay")).expect("in the way");
    let plan = daemon.status().plan;
    let told = run(
        &daemon,
        &["config", "set", "health.interval", "8s", "--persist"],
        4,
    );
    assert!(told.contains("nothing was changed"), "{told}");
    assert_eq!((text(&daemon), daemon.status().plan), (after, plan));
    assert!(value(&daemon, "health.interval").starts_with("7s"));
}

#[test]
fn plans_are_listed_compared_and_returned_to() {
    let daemon = launch(SHORT, &module("one", "", "shutdown_timeout = \"9s\""));
    let key = "module.one.shutdown_timeout";
    let file = daemon.path("config/mainstay.toml");
    let nine = text(&daemon);
    fs::write(&file, nine.replace("\"9s\"", "\"8s\"")).expect("written");
    let history = || -> ConfigHistory {
        let json = run(&daemon, &["config", "history", "--json"], 0);
        serde_json::from_str(&json).expect("a history")
    };
    let until = |plan: u64| {
        daemon.wait("the plan to be committed", || {
            let plans = history().plans;
            let last = plans.iter().find(|one| one.plan == plan)?;
            (last.outcome == PlanOutcome::Committed).then_some(())
        });
    };
    until(2);
    let last = history().plans.pop().expect("a plan");
    assert_eq!(
        (last.requester.as_str(), last.in_force),
        ("a saved file", true)
    );
    assert_eq!(last.changes, ["one changed (shutdown_timeout)"]);
    let text = run(&daemon, &["config", "history"], 0);
    assert!(
        text.contains("in force") && text.contains("one changed"),
        "{text}"
    );
    let diff = run(&daemon, &["config", "diff", "1", "2"], 0);
    assert!(diff.contains("\"9s\" → \"8s\""), "{diff}");
    assert!(run(&daemon, &["config", "diff", "2"], 0).contains("is as the plan in force"));
    run(&daemon, &["config", "rollback", "--wait"], 0);
    assert!(value(&daemon, key).starts_with("9s"));
    let problem = daemon
        .status()
        .config_problem
        .expect("that the files differ");
    assert!(
        problem.contains("the files differ from plan 3"),
        "{problem}"
    );
    // Not even a runtime that returns applies them.
    until(3);
    daemon.kill_runtime();
    daemon.wait("it to be said again", || daemon.status().config_problem);
    run(
        &daemon,
        &["config", "set", "health.interval", "7s", "--wait"],
        0,
    );
    assert!(
        value(&daemon, key).starts_with("9s"),
        "nobody asked for the files"
    );
    assert!(run(&daemon, &["config", "diff"], 0).contains("\"9s\" → \"8s\""));
    run(&daemon, &["reload", "--wait"], 0);
    assert!(value(&daemon, key).starts_with("8s"));
    daemon.wait("no problem", || {
        daemon.status().config_problem.is_none().then_some(())
    });
}

#[test]
fn what_is_confidential_is_in_no_event_no_history_and_no_output() {
    let daemon = launch(SHORT, &module("one", "", "env = { LEVEL = \"low-hush\" }"));
    let mut printed = String::new();
    for words in [
        &[
            "config",
            "set",
            "module.one.env.LEVEL",
            "hush-a",
            "--dry-run",
        ][..],
        &["config", "set", "module.one.env.LEVEL", "hush-b", "--wait"],
        &[
            "config",
            "set",
            "module.one.settings.x.password",
            "hush-c",
            "--wait",
        ],
        &[
            "config",
            "set",
            "module.one.env.OTHER",
            "hush-d",
            "--persist",
            "--wait",
        ],
        &["config", "history"],
        &["config", "diff", "1"],
        &["config", "get", "module.one"],
        &["plan"],
        &["audit", "list"],
        &["events", "-n", "1000", "--json"],
        &["status"],
        &["config", "unset", "module.one.env.LEVEL", "--wait"],
    ] {
        printed += &run(&daemon, words, 0);
    }
    assert!(!printed.contains("hush"), "{printed}");
    assert!(
        printed.contains("changed module.one.env.LEVEL, values not shown"),
        "{printed}"
    );
    run(&daemon, &["audit", "verify"], 0);
    let events = daemon.client().events(&EventsParams {
        kinds: vec![EventKind::ConfigSet],
        administrative: true,
        ..EventsParams::default()
    });
    let events = events.expect("events");
    assert!(events.len() == 4 && events.iter().all(|event| event.actor.is_some()));
    assert_eq!(events[2].payload["persisted"], true);
    // The module has it all the same.
    let env = script("echo LEVEL is $LEVEL; exec $misbehave");
    run(
        &daemon,
        &["config", "set", "module.one.command", &env, "--wait"],
        0,
    );
    daemon.wrote("one", "LEVEL is low-hush");
}
