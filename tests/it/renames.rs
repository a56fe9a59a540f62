//! Modules that get another name while they run (`renamed_from`): their processes stay.
//! Owns configurations that each test edits.
//! Never asserts how long anything takes.

use mainstay_protocol::config_plan::{ConfigPlan, PlanChange};
use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, lives, misbehave};
use crate::reload::{LONG, SHORT, edit, launch, stdout};

fn module(name: &str, rest: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n{rest}\n", misbehave(""))
}

fn renamed(name: &str, from: &str) -> String {
    module(name, &format!("renamed_from = \"{from}\""))
}

fn running(daemon: &Daemon, name: &str) -> u32 {
    let view = daemon.until(name, ModuleState::Running);
    view.pid.expect("a process")
}

fn reload(daemon: &Daemon, head: &str, modules: &str) {
    edit(daemon.dir.path(), head, modules);
    stdout(&daemon.cli(&["reload"]), 0);
}

#[test]
fn a_renamed_module_keeps_its_process_and_is_seen_under_its_new_name() {
    let web = module("web", "settings = { a = 1 }") + &module("user", "requires = [\"web\"]");
    let daemon = launch(SHORT, &web);
    let before = (running(&daemon, "web"), running(&daemon, "user"));
    let rest = "settings = { a = 1 }\nrenamed_from = \"web\"";
    let site = module("site", rest) + &module("user", "requires = [\"site\"]");
    edit(daemon.dir.path(), SHORT, &site);
    let shown = stdout(&daemon.cli(&["plan"]), 0);
    assert!(
        shown.contains("site  renamed  was web; its process keeps running"),
        "{shown}"
    );
    let plan = stdout(&daemon.cli(&["plan", "--json"]), 0);
    let plan: ConfigPlan = serde_json::from_str(&plan).expect("a plan");
    let change = &plan.modules[0];
    assert_eq!(
        (change.change, &*change.module),
        (PlanChange::Changed, "site")
    );
    assert_eq!(change.renamed_from.as_deref(), Some("web"));
    let text = stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(text, "plan 2 is committed\n");
    assert_eq!((running(&daemon, "site"), running(&daemon, "user")), before);
    assert!(
        daemon.client().module("web").is_err(),
        "nothing is called so"
    );
    let told = daemon.event("site", EventKind::ModuleRenamed);
    assert_eq!(told.payload["from"], "web");
    assert_eq!(daemon.count("site", EventKind::ModuleExited), 0);
    let why = stdout(&daemon.cli(&["why", "site"]), 0);
    assert!(why.contains("site"), "{why}");
    // A returning runtime knows whose process it is, also under the name that it was started by.
    daemon.kill_runtime();
    assert_eq!((running(&daemon, "site"), running(&daemon, "user")), before);
    assert_eq!(daemon.count("site", EventKind::ModuleExited), 0);
    // The next run is one of the new name, and its output follows that of the last.
    daemon.change(name::MODULE_RESTART, "site");
    let after = daemon.until_view("a new run", "site", |site| {
        site.state == ModuleState::Running && site.pid != Some(before.0)
    });
    assert_eq!(after.generation, 2);
    assert!(!lives(before.0));
    stdout(&daemon.cli(&["logs", "site"]), 0);
}

#[test]
fn a_module_that_is_renamed_and_changed_at_once_is_restarted_once() {
    let daemon = launch(SHORT, &module("web", ""));
    let before = running(&daemon, "web");
    let rest = "renamed_from = \"web\"\nenv = { A = \"1\" }";
    reload(&daemon, SHORT, &module("site", rest));
    let after = daemon.until_view("a new run", "site", |site| {
        site.state == ModuleState::Running && site.pid != Some(before)
    });
    assert_eq!(after.generation, 2, "the same module");
    assert!(!lives(before));
    assert_eq!(daemon.client().modules().expect("all").len(), 2);
}

#[test]
fn a_name_that_a_module_has_is_not_taken_from_it() {
    let daemon = launch(SHORT, &(module("a", "") + &module("b", "")));
    let (a, b) = (running(&daemon, "a"), running(&daemon, "b"));
    reload(&daemon, SHORT, &renamed("b", "a"));
    daemon.wait("a to be removed", || (!lives(a)).then_some(()));
    assert_eq!(running(&daemon, "b"), b);
}

#[test]
fn names_are_passed_on_at_once_and_one_after_the_other() {
    let daemon = launch(SHORT, &(module("a", "") + &module("b", "")));
    let (a, b) = (running(&daemon, "a"), running(&daemon, "b"));
    let both = renamed("b", "a") + &renamed("c", "b");
    reload(&daemon, SHORT, &both);
    assert_eq!((running(&daemon, "b"), running(&daemon, "c")), (a, b));
    stdout(&daemon.cli(&["reload"]), 0);
    assert_eq!(
        (running(&daemon, "b"), running(&daemon, "c")),
        (a, b),
        "read again"
    );
    // The first name goes to a new module, whose process is another one.
    let three = renamed("d", "b") + &renamed("c", "b") + &module("a", "");
    edit(daemon.dir.path(), SHORT, &three);
    let text = stdout(&daemon.cli(&["reload"]), 5);
    assert!(text.is_empty(), "two modules were renamed from b: {text}");
    let three = renamed("d", "b") + &module("c", "") + &module("a", "");
    edit(daemon.dir.path(), SHORT, &three);
    let text = stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(text, "plan 3 is committed\n");
    assert_eq!((running(&daemon, "d"), running(&daemon, "c")), (a, b));
    let new = running(&daemon, "a");
    assert!(new != a && new != b);
    daemon.kill_runtime();
    let found = ["d", "c", "a"].map(|name| running(&daemon, name));
    assert_eq!(found, [a, b, new]);
    // Each is stopped and started on its own, whatever the holder calls it.
    daemon.change(name::MODULE_RESTART, "a");
    daemon.until_view("a new run", "a", |view| {
        view.pid.is_some_and(|pid| pid != new)
    });
    assert_eq!((running(&daemon, "d"), running(&daemon, "c")), (a, b));
}

#[test]
fn a_rollback_gives_the_old_name_back_and_the_process_stays() {
    let daemon = launch(LONG, &(module("web", "") + &module("other", "")));
    let (web, other) = (running(&daemon, "web"), running(&daemon, "other"));
    let fails = "[module.other]\ncommand = [\"/nowhere/at/all\"]\n";
    reload(&daemon, LONG, &(renamed("site", "web") + fails));
    daemon.until_view("the run before", "other", |view| {
        view.state == ModuleState::Running && view.pid != Some(other)
    });
    assert_eq!(running(&daemon, "web"), web);
    assert!(daemon.client().module("site").is_err());
    assert_eq!(
        daemon.event("web", EventKind::ModuleRenamed).payload["from"],
        "site"
    );
}

#[test]
fn a_rename_that_is_watched_goes_on_under_the_next_runtime_and_goes_back_with_the_process() {
    let daemon = launch(LONG, &(module("a", "") + &module("b", "")));
    let (a, b) = (running(&daemon, "a"), running(&daemon, "b"));
    reload(&daemon, LONG, &(renamed("b", "a") + &renamed("c", "b")));
    assert_eq!((running(&daemon, "b"), running(&daemon, "c")), (a, b));
    // A further plan, so that the one that is found has no word about the first name.
    reload(&daemon, LONG, &(renamed("d", "b") + &module("c", "")));
    assert_eq!((running(&daemon, "d"), running(&daemon, "c")), (a, b));
    daemon.wait("the kept watch", || {
        let staged = std::fs::read_to_string(daemon.path("state/staged.json")).ok()?;
        staged.contains("\"watched\"").then_some(())
    });
    daemon.kill_runtime();
    assert_eq!((running(&daemon, "d"), running(&daemon, "c")), (a, b));
    crate::daemon::kill(b, libc::SIGKILL);
    daemon.until("b", ModuleState::Running);
    assert_eq!(running(&daemon, "a"), a);
    assert_eq!(daemon.client().modules().expect("all").len(), 3);
}

#[test]
fn the_log_of_a_renamed_module_follows_its_name_at_the_next_start() {
    let speak = |name: &str, rest: &str| {
        let main = crate::daemon::script("echo hello; exec $misbehave");
        format!("[module.{name}]\ncommand = {main}\n{rest}\n")
    };
    let daemon = launch(SHORT, &speak("web", ""));
    daemon.wrote("web", "hello");
    edit(
        daemon.dir.path(),
        SHORT,
        &speak("site", "renamed_from = \"web\""),
    );
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(stdout(&daemon.cli(&["logs", "site"]), 0), "hello\n");
    stdout(&daemon.cli(&["down"]), 0);
    assert_eq!(stdout(&daemon.cli(&["logs", "site"]), 0), "hello\n");
    stdout(&daemon.cli(&["up", "-d"]), 0);
    running(&daemon, "site");
    daemon.wait("both runs in one file", || {
        (daemon.output("site") == "hello\nhello\n").then_some(())
    });
    stdout(&daemon.cli(&["down"]), 0);
}
