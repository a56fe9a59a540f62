//! Verbs of the command line against a real daemon: run, signal, bus, status --tree and --watch.
//! Owns what a person sees of them. Never looks at how a row is aligned: unit tests do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use mainstay_protocol::ModuleState;
use mainstay_sdk::Module;
use serde_json::{Value, json};

use crate::daemon::{Daemon, binary, misbehave, script};
use crate::raw::surroundings;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// A task that does not start by itself.
fn task(name: &str, text: &str, more: &str) -> String {
    let command = script(text);
    format!(
        "[module.{name}]\nkind = \"task\"\nstart = \"lazy\"\nrequired = false\n\
         recovery.restart = \"never\"\ncommand = {command}\n{more}"
    )
}

#[test]
fn run_shows_what_a_task_writes_and_ends_as_it_ends() {
    let modules = [
        task("good", "echo one; echo two", "requires = [\"db\"]\n"),
        task("bad", "echo three; exit 7", ""),
        task("killed", "kill -9 $$", ""),
        format!(
            "[module.db]\nstart = \"lazy\"\nrequired = false\ncommand = {}\n",
            misbehave("")
        ),
    ];
    let daemon = Daemon::start(&modules.concat());
    for _ in 0..2 {
        let good = daemon.cli(&["run", "good"]);
        assert_eq!((code(&good), &*text(&good.stdout)), (Some(0), "one\ntwo\n"));
    }
    assert_eq!(daemon.module("db").state, ModuleState::Running);
    let bad = daemon.cli(&["run", "bad"]);
    assert_eq!((code(&bad), &*text(&bad.stdout)), (Some(7), "three\n"));
    assert_eq!(code(&daemon.cli(&["run", "killed"])), Some(137));
    let refused = daemon.cli(&["run", "db"]);
    assert_eq!(code(&refused), Some(4));
    assert!(text(&refused.stderr).contains("`mainstay start db` starts it"));
    assert_eq!(code(&daemon.cli(&["run", "nothing"])), Some(4));
}

#[test]
fn start_with_wait_returns_when_the_task_is_done() {
    let until_go = "until [ -e go ]; do sleep 0.02; done";
    let modules = [
        task("later", until_go, ""),
        task("fails", "sleep 0.3; exit 3", ""),
    ];
    let daemon = Daemon::start(&modules.concat());
    let without = daemon.cli(&["start", "later"]);
    assert_eq!(code(&without), Some(0));
    assert_eq!(daemon.module("later").state, ModuleState::Running);
    std::thread::scope(|scope| {
        let with = scope.spawn(|| daemon.cli(&["start", "later", "--wait"]));
        daemon.touch("go");
        let with = with.join().expect("ended");
        assert_eq!(code(&with), Some(0), "{}", text(&with.stderr));
        assert!(daemon.module("later").is_done());
    });
    let failed = daemon.cli(&["start", "fails", "--wait"]);
    assert_eq!(code(&failed), Some(1), "{}", text(&failed.stdout));
}

#[test]
fn a_signal_reaches_the_module_and_the_audit() {
    let traps = "trap 'touch hup' HUP; while :; do sleep 0.05; done";
    let modules = format!("[module.web]\ncommand = {}\n", script(traps));
    let daemon = Daemon::start(&modules);
    let sent = daemon.cli(&["signal", "web", "hup"]);
    assert_eq!(code(&sent), Some(0), "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).starts_with("SIGHUP sent to web (pid "));
    daemon.wait("the trap", || daemon.path("hup").exists().then_some(()));
    let audit = text(&daemon.cli(&["audit", "list"]).stdout);
    assert!(audit.contains("signal SIGHUP"), "{audit}");
    for (words, expected) in [
        (["signal", "web", "SIGFOO"], "there is no signal SIGFOO"),
        (["signal", "nobody", "HUP"], "nobody"),
    ] {
        let refused = daemon.cli(&words);
        assert_eq!(code(&refused), Some(4));
        assert!(text(&refused.stderr).contains(expected));
    }
    daemon.cli(&["stop", "web"]);
    let refused = daemon.cli(&["signal", "web", "HUP"]);
    assert!(text(&refused.stderr).contains("it has no process"));
}

/// The command line, running.
struct Verb(Child);

impl Verb {
    fn start(daemon: &Daemon, words: &[&str]) -> (Verb, impl Iterator<Item = String> + use<>) {
        let mut child = Command::new(binary())
            .args(words)
            .env("MAINSTAY_CONTROL", daemon.socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        (Verb(child), out.lines().map_while(Result::ok))
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let _already_over = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn the_bus_is_tapped_published_on_and_called_by_a_user() {
    let daemon = Daemon::start(&format!("[module.server]\ncommand = {}\n", misbehave("")));
    let server = Module::connect_with(surroundings(&daemon, "server"));
    daemon.wait("the SDK to connect", || server.is_connected().then_some(()));
    server.serve("add", |call| {
        Ok(json!(call.params["a"].as_i64().unwrap_or(0) + 1))
    });
    let (tap, mut lines) = Verb::start(&daemon, &["bus", "tap", "samples.*", "--json"]);
    // A tap that is not open yet gets nothing: published until one arrives.
    let published = || daemon.cli(&["bus", "publish", "samples.cpu", "12"]);
    let event: Value = std::thread::scope(|scope| {
        let first = scope.spawn(|| lines.next().expect("an event"));
        while !first.is_finished() {
            assert_eq!(code(&published()), Some(0));
        }
        serde_json::from_str(&first.join().expect("read")).expect("JSON")
    });
    assert_eq!(event["subject"], "samples.cpu");
    assert_eq!(event["payload"], 12);
    let from = event["from"].as_str().expect("text");
    assert!(from.starts_with("mainstay-cli "), "{from}");
    drop(tap);
    let called = daemon.cli(&["bus", "call", "server", "add", r#"{"a": 2}"#]);
    assert_eq!((code(&called), &*text(&called.stdout)), (Some(0), "3\n"));
    assert_eq!(
        code(&daemon.cli(&["bus", "publish", "mainstay.x"])),
        Some(4)
    );
    let audit = text(&daemon.cli(&["audit", "list"]).stdout);
    assert!(
        audit.contains("call add") && audit.contains("publish samples.cpu"),
        "{audit}"
    );
}

#[test]
fn status_shows_the_tree_and_goes_on_with_watch() {
    let run = misbehave("");
    let modules = format!(
        "[module.web]\ncommand = {run}\nrequires = [\"db\"]\n[module.db]\ncommand = {run}\n"
    );
    let daemon = Daemon::start(&modules);
    let tree = text(&daemon.cli(&["status", "--tree"]).stdout);
    assert!(
        tree.contains("\nweb ") && tree.contains("\n└─ db "),
        "{tree}"
    );
    let (_watch, mut lines) = Verb::start(&daemon, &["status", "web", "--json", "--watch=100ms"]);
    let mut next = || -> Value {
        let line = lines.next().expect("a line");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next()["state"], "running");
    daemon.cli(&["stop", "web"]);
    while next()["state"] != "stopped" {}
}

#[test]
fn what_init_writes_is_checked_and_runs() {
    for example in ["web", "desktop", "worker"] {
        let dir = crate::daemon::prepare("", "");
        let file = dir.path().join("config/mainstay.toml");
        std::fs::remove_file(&file).expect("the one of other tests");
        let init = Command::new(binary())
            .args(["init", "--example", example])
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        assert_eq!(code(&init), Some(0), "{}", text(&init.stderr));
        // Its files are in the folder of the test.
        let written = std::fs::read_to_string(&file).expect("written");
        let folders = "[mainstay]\nstate_dir = \"${project}/state\"\n\
            runtime_dir = \"${project}/run\"";
        std::fs::write(&file, written.replacen("[mainstay]", folders, 1)).expect("written");
        let daemon = Daemon::launch_in(dir);
        let check = daemon.cli(&["check"]);
        assert_eq!(code(&check), Some(0), "{example}: {}", text(&check.stderr));
        let status = daemon.wait("the first start to be over", || {
            let status = daemon.client().status().ok()?;
            (status.status != mainstay_protocol::SystemStatus::Starting).then_some(status)
        });
        assert_eq!(
            status.status.as_str(),
            "healthy",
            "{example}: {:?}",
            status.reason
        );
        let task = match example {
            "web" => "backup",
            "desktop" => "export",
            _ => "enqueue",
        };
        daemon.wait("the task to have what it needs", || {
            (code(&daemon.cli(&["run", task])) == Some(0)).then_some(())
        });
        if example == "worker" {
            daemon.wait("the job to be done", || {
                daemon.path("queue/done/hello").exists().then_some(())
            });
        }
    }
}

#[test]
fn a_failure_with_json_is_json() {
    let daemon = Daemon::start(&format!("[module.web]\ncommand = {}\n", misbehave("")));
    let failed = daemon.cli(&["status", "nobody", "--json"]);
    assert_eq!(code(&failed), Some(4));
    let error: Value = serde_json::from_slice(&failed.stderr).expect("JSON");
    assert_eq!(error["error"]["code"], "unknown_module");
    let usage = daemon.cli(&["status", "--jsn", "--json"]);
    let error: Value = serde_json::from_slice(&usage.stderr).expect("JSON");
    assert_eq!(
        (code(&usage), &error["error"]["exit_code"]),
        (Some(2), &json!(2))
    );
}

#[test]
fn a_shell_gets_the_names_of_modules() {
    let daemon = Daemon::start(&format!("[module.web]\ncommand = {}\n", misbehave("")));
    let config = daemon.path("config").display().to_string();
    let answer = Command::new(binary())
        .env("MAINSTAY_COMPLETE", "fish")
        .args(["--", "mainstay", "--config", &config, "restart", "w"])
        .output()
        .expect("it answers");
    assert!(text(&answer.stdout).starts_with("web\t"), "{answer:?}");
}

#[test]
fn a_task_that_fails_at_once_is_not_said_to_run() {
    let modules = [
        task("fails", "echo no such table; exit 3", ""),
        task("works", "exit 0", ""),
        task("long", "exec sleep 600", ""),
    ];
    let daemon = Daemon::start(&modules.concat());
    for verb in ["start", "restart"] {
        let failed = daemon.cli(&[verb, "fails"]);
        let told = text(&failed.stdout);
        assert_eq!(code(&failed), Some(1), "{told}");
        assert!(told.contains("\nfails has failed after"), "{told}");
        assert!(told.contains("exit code 3"), "{told}");
        let done = daemon.cli(&[verb, "works"]);
        assert_eq!(code(&done), Some(0));
        assert!(text(&done.stdout).contains("works is done after"));
    }
    let long = daemon.cli(&["restart", "long"]);
    assert_eq!(code(&long), Some(0));
    let told = text(&long.stdout);
    assert!(told.contains("long is running (pid"), "{told}");
    assert!(told.ends_with(", and not done yet\n"), "{told}");
}

#[test]
fn graph_of_one_module_says_what_it_needs_and_what_needs_it() {
    let run = misbehave("");
    let modules = format!(
        "[module.db]\ncommand = {run}\n[module.web]\ncommand = {run}\nrequires = [\"db\"]\n\
         [module.proxy]\ncommand = {run}\nrequires = [\"web\"]\n\
         [module.apart]\ncommand = {run}\n"
    );
    let mut daemon = Daemon::start(&modules);
    let expected = |state: &str| {
        format!("web{state}\n  needs\n    db{state}\n  is needed by\n    proxy{state}\n")
    };
    let running = daemon.cli(&["graph", "web"]);
    assert_eq!(text(&running.stdout), expected(" (running)"));
    let json = daemon.cli(&["graph", "web", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["modules"].as_array().map(Vec::len), Some(3));
    let wrong = daemon.cli(&["graph", "wep"]);
    assert_eq!(code(&wrong), Some(4));
    assert!(text(&wrong.stderr).contains("did you mean web?"));
    assert!(daemon.cli(&["down"]).status.success());
    daemon.ended();
    let files = daemon.cli(&["graph", "web"]);
    assert_eq!(text(&files.stdout), expected(""));
    let wrong = daemon.cli(&["graph", "wep"]);
    assert_eq!(code(&wrong), Some(4), "{}", text(&wrong.stderr));
}

#[test]
fn a_system_without_what_a_person_stopped_says_so_in_its_first_line() {
    let run = misbehave("");
    let modules = format!(
        "[module.a]\ncommand = {run}\n[module.b]\nrequired = false\ncommand = {run}\n\
         [module.c]\nstart = \"lazy\"\ncommand = {run}\n"
    );
    let daemon = Daemon::start(&modules);
    let first = |words: &[&str]| {
        let printed = text(&daemon.cli(words).stdout);
        printed.lines().next().unwrap_or_default().to_owned()
    };
    assert!(first(&["status"]).contains("  HEALTHY  up "));
    daemon.change("module.stop", "b");
    let line = first(&["status"]);
    assert!(
        line.contains("  HEALTHY, 1 stopped on request  up "),
        "{line}"
    );
    assert_eq!(first(&["health"]), "healthy: b was stopped on request");
    let reason = daemon.status().reason;
    assert_eq!(reason.as_deref(), Some("b was stopped on request"));
    daemon.change("module.start", "b");
    assert!(first(&["status"]).contains("  HEALTHY  up "));
    assert_eq!(daemon.status().reason, None);
}

#[test]
fn status_is_sorted_as_asked() {
    let run = misbehave("");
    let modules = ["c", "a", "b"].map(|name| format!("[module.{name}]\ncommand = {run}\n"));
    let daemon = Daemon::start(&modules.concat());
    daemon.change("module.restart", "b");
    let names = |words: &[&str]| -> Vec<String> {
        let printed = text(&daemon.cli(words).stdout);
        let rows = printed.lines().skip(2);
        rows.filter_map(|row| row.split(' ').next().map(str::to_owned))
            .collect()
    };
    assert_eq!(names(&["status", "--sort", "restarts"]), ["b", "a", "c"]);
    assert_eq!(names(&["ps", "--sort", "name"]), ["a", "b", "c"]);
    for key in ["cpu", "memory"] {
        assert_eq!(names(&["ls", "--sort", key]).len(), 3, "{key}");
    }
    assert_eq!(code(&daemon.cli(&["status", "--sort", "size"])), Some(2));
}

#[test]
fn up_in_the_background_names_what_did_not_start_and_why() {
    let modules = format!(
        "[module.db]\ncommand = {}\n\
         [module.bad]\nkind = \"task\"\nrequired = false\ncommand = {}\n\
         [module.after]\nrequired = false\ncommand = {}\n\
         requires = [{{ module = \"bad\", until = \"completed\" }}]\n",
        misbehave(""),
        script("exit 9"),
        misbehave(""),
    );
    let dir = crate::daemon::prepare("", &modules);
    let mainstay = |words: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"));
        command.output().expect("it runs")
    };
    let up = mainstay(&["up", "-d"]);
    let down = mainstay(&["down"]);
    assert_eq!(
        (code(&up), code(&down)),
        (Some(0), Some(0)),
        "{up:?} {down:?}"
    );
    let told = text(&up.stderr);
    let why = "exit code 9; it is not tried again: recovery.restart is \"never\"";
    let expected = format!(
        "after waits for bad to complete, which failed: {why}; `mainstay why after` says more\n\
         bad has failed: {why}; `mainstay why bad` says more\n"
    );
    assert_eq!(told, expected);
    assert!(
        text(&up.stdout).contains("(degraded: not well: bad; not running: after): 1 of 3"),
        "{up:?}"
    );
}

#[test]
fn a_pattern_that_matches_nothing_yet_is_a_warning_and_the_rest_starts() {
    let modules = format!("[module.db]\ncommand = {}\n", misbehave(""));
    let dir = crate::daemon::prepare("modules = [\"modules/*\"]", &modules);
    std::fs::create_dir_all(dir.path().join("config/modules/empty")).expect("a folder");
    let mainstay = |words: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"));
        command.output().expect("it runs")
    };
    let check = mainstay(&["check"]);
    let up = mainstay(&["up", "-d"]);
    let down = mainstay(&["down"]);
    for output in [&check, &up] {
        assert_eq!(code(output), Some(0), "{output:?}");
        let told = text(&output.stderr);
        assert!(told.starts_with("warning: "), "{told}");
        assert!(told.contains("nothing matches \"modules/*\""), "{told}");
    }
    assert!(
        text(&up.stdout).contains("is up (healthy): 1 module running"),
        "{up:?}"
    );
    assert_eq!(code(&down), Some(0));
    // A folder that had a module and has none is not taken for a wish.
    let module = dir.path().join("config/modules/empty/module.toml");
    let command = format!("command = {}\n", misbehave(""));
    std::fs::write(&module, command).expect("a file");
    assert_eq!(code(&mainstay(&["up", "-d"])), Some(0));
    assert_eq!(code(&mainstay(&["down"])), Some(0));
    std::fs::remove_file(&module).expect("removed");
    let kept = mainstay(&["up", "-d"]);
    assert_eq!(code(&mainstay(&["down"])), Some(0));
    let told = text(&kept.stderr);
    assert!(
        told.contains("WARNING") && told.contains("up --strict"),
        "{told}"
    );
    let strict = mainstay(&["up", "-d", "--strict"]);
    assert_eq!(code(&mainstay(&["down"])), Some(0));
    assert!(
        text(&strict.stdout).contains("1 module running"),
        "{strict:?}"
    );
}
