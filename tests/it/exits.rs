//! Every way to fail: what cannot be started, every kind of exit, and what comes of it.
//! Owns how it is judged and how it is said. Never looks inside.

use std::time::Duration;

use mainstay_protocol::method::name;
use mainstay_protocol::{Event, EventKind, ModuleState, StateCause, SystemStatus};

use crate::daemon::{Daemon, copy_program, kill, misbehave, script};

/// Optional modules of these names, settings and commands, tried again after 10 ms at most.
fn optional(modules: &[(&str, &str, String)]) -> String {
    let mut text =
        "[recovery]\nbackoff = { initial = \"10ms\", max = \"10ms\", floor = \"10ms\" }\n"
            .to_owned();
    for (name, more, command) in modules {
        text += &format!("[module.{name}]\nrequired = false\ncommand = {command}\n{more}\n");
    }
    text
}

/// What `status` and `why` print of a module.
fn told(daemon: &Daemon, module: &str) -> String {
    ["status", "why"]
        .map(|verb| String::from_utf8_lossy(&daemon.cli(&[verb, module]).stdout).into_owned())
        .concat()
}

fn text(event: &Event) -> &str {
    event.payload["text"].as_str().unwrap_or_default()
}

#[test]
fn what_cannot_be_started_says_which_step_failed_and_why() {
    let dir = crate::daemon::prepare("", "");
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "not a program").expect("a file");
    let folder = format!("[{:?}]", dir.path());
    let executable = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, mode).expect("its mode");
        format!("[{file:?}]")
    };
    let lost = executable("lost", "#!/no/such/interpreter\n");
    let bare = executable("bare", "echo no interpreter line\n");
    let broken = [
        ("lost", "", lost, "ENOENT"),
        ("bare", "", bare, "ENOEXEC"),
        ("missing", "", "[\"/missing/program\"]".to_owned(), "ENOENT"),
        (
            "nowhere",
            "",
            "[\"no-such-program-anywhere\"]".to_owned(),
            "ENOENT",
        ),
        ("plain", "", format!("[{plain:?}]"), "EACCES"),
        ("folder", "", folder, "EACCES"),
        (
            "bad-cwd",
            "directory = \"/missing/folder\"",
            misbehave(""),
            "ENOENT",
        ),
        (
            "bad-user",
            "user = \"nobody-of-this-name\"",
            misbehave(""),
            "ENOENT",
        ),
        (
            "bad-group",
            "group = \"no-group-of-this-name\"",
            misbehave(""),
            "ENOENT",
        ),
    ];
    let modules: Vec<_> = broken
        .iter()
        .map(|(name, more, command, _)| (*name, *more, command.clone()))
        .collect();
    let daemon = Daemon::start(&optional(&modules));
    for (name, _, _, errno) in broken {
        let step = match name {
            "bad-cwd" => "/missing/folder",
            "bad-user" => "nobody-of-this-name",
            "bad-group" => "no-group-of-this-name",
            _ => "execute",
        };
        let advice = match name {
            "lost" => "its interpreter /no/such/interpreter does not exist",
            "bare" => "begin it with `#!/bin/sh`",
            "missing" => "there is no such file",
            "nowhere" => "it is in no folder of PATH; install",
            "plain" => "`chmod +x",
            "folder" => "it is a directory",
            "bad-cwd" => "create it",
            _ => "there is none of this name here",
        };
        daemon.until(name, ModuleState::Failed);
        let failed = daemon.moves(name, ModuleState::Failed, 1);
        let (first, starts) = (&failed[0], daemon.module(name).generation);
        assert_eq!(first.cause, Some(StateCause::Exec), "{name}");
        assert_eq!(starts, 1, "{name}: a quick second try would meet the same");
        let told = told(&daemon, name);
        assert!(
            told.contains(step) && told.contains(errno) && told.contains(advice),
            "{name}: {told}"
        );
        let text = text(first);
        assert!(
            text.contains(step) && text.contains(errno),
            "{name}: {text}"
        );
        assert_eq!(daemon.count(name, EventKind::ModuleReady), 0, "{name}");
    }
    assert_eq!(daemon.status().status, SystemStatus::Degraded);
}

#[test]
fn a_program_that_is_missing_does_not_make_the_runtime_busy() {
    let more = "recovery.probation = { initial = \"1ms\", max = \"1ms\" }";
    let daemon = Daemon::start(&optional(&[("missing", more, "[\"/missing\"]".to_owned())]));
    daemon.moves("missing", ModuleState::Failed, 20);
    let began = std::time::Instant::now();
    daemon.status();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "it answers while it tries"
    );
}

#[test]
fn a_program_that_comes_back_is_started_by_probation() {
    let more = "recovery.probation = { initial = \"300ms\" }";
    let command = "[\"./later\"]".to_owned();
    let daemon = Daemon::start(&optional(&[("later", more, command)]));
    daemon.until("later", ModuleState::Failed);
    let why = daemon.cli(&["why", "later"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("is tried once more"), "{why}");
    copy_program(crate::daemon::program("misbehave"), &daemon.path("later"));
    daemon.until("later", ModuleState::Running);
}

#[test]
fn a_missing_program_is_said_once_and_ends_the_start_at_once() {
    let began = std::time::Instant::now();
    let modules = format!(
        "[module.base]\ncommand = {}\n[module.web]\ncommand = [\"no-such-program-anywhere\"]\n\
         requires = [\"base\"]\n",
        misbehave(""),
    );
    let mut daemon = Daemon::launch("", &modules);
    assert_eq!(daemon.ended(), Some(1));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let printed = daemon.printed();
    assert_eq!(
        printed.matches("it is in no folder of PATH").count(),
        1,
        "{printed}"
    );
    assert_eq!(
        printed.matches("web                  starting").count(),
        1,
        "{printed}"
    );
    let failed = "cannot start: web failed: cannot execute no-such-program-anywhere: ";
    assert!(printed.contains(failed), "{printed}");
}

#[test]
fn a_module_runs_as_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return crate::daemon::skip("only root may start a module as another user");
    }
    let dir = crate::daemon::prepare(
        "",
        &optional(&[("it", "user = \"nobody\"", {
            script("id -un; id -G; exec sleep 60")
        })]),
    );
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("its folder lets it in");
    let daemon = Daemon::launch_in(dir);
    let output = daemon.wrote("it", "nobody");
    assert!(
        !output
            .lines()
            .any(|line| line.split(' ').any(|id| id == "0")),
        "{output}"
    );
}

#[test]
fn a_clean_exit_is_a_failure_only_where_it_is_one() {
    let exit = |code: i32| misbehave(&format!("--exit-code {code} --after 20ms"));
    let daemon = Daemon::start(&optional(&[
        ("always", "recovery.restart = \"always\"", exit(0)),
        ("on-failure", "recovery.restart = \"on_failure\"", exit(0)),
        ("never", "recovery.restart = \"never\"", exit(0)),
        (
            "other",
            "recovery = { restart = \"on_failure\", clean_exit_codes = [0, 7] }",
            exit(7),
        ),
        ("failing", "recovery.restart = \"on_failure\"", exit(3)),
        ("never-mind", "recovery.restart = \"never\"", exit(3)),
    ]));
    daemon.moves("always", ModuleState::Backoff, 2);
    let failing = daemon.moves("failing", ModuleState::Backoff, 2);
    assert!(
        text(&failing[0]).starts_with("exit code 3"),
        "{:?}",
        failing[0]
    );
    for name in ["on-failure", "never", "other"] {
        daemon.until(name, ModuleState::Stopped);
        assert_eq!(daemon.module(name).restarts, 0, "{name}");
        assert_eq!(daemon.count(name, EventKind::RecoveryStarted), 0, "{name}");
    }
    let given_up = daemon.until("never-mind", ModuleState::Failed);
    assert_eq!((given_up.restarts, given_up.next_attempt_at), (0, None));
}

#[test]
fn a_signal_is_told_by_its_name() {
    let daemon = Daemon::start(&optional(&[("it", "", misbehave("--crash --after 20ms"))]));
    let backoff = daemon.moves("it", ModuleState::Backoff, 1);
    assert!(text(&backoff[0]).contains("SIGSEGV"), "{:?}", backoff[0]);
    assert_eq!(backoff[0].cause, Some(StateCause::Exit));
    let exited = daemon.event("it", EventKind::ModuleExited);
    assert_eq!(exited.payload["signal"], libc::SIGSEGV);
    assert!(told(&daemon, "it").contains("SIGSEGV"));
}

#[test]
fn a_wrong_configuration_is_not_tried_again() {
    let daemon = Daemon::start(&optional(&[("it", "", misbehave("--exit-code 78"))]));
    let view = daemon.until("it", ModuleState::Failed);
    assert_eq!(
        (view.generation, view.next_attempt_at),
        (1, None),
        "no probation either"
    );
    assert_eq!(view.last_exit.expect("it ended").code, Some(78));
    let (out, _) = crate::history::both(&daemon.cli(&["why", "it"]));
    assert!(
        out.contains("code 78 (its configuration is wrong)"),
        "{out}"
    );
    assert!(
        out.contains("not tried again until it is started by hand"),
        "{out}"
    );
    assert!(
        out.contains("Next: no action is scheduled; correct the configuration of it"),
        "{out}"
    );
}

#[test]
fn an_end_that_is_no_failure_elsewhere_says_why_it_is_one_here() {
    let exit = |code: i32| misbehave(&format!("--exit-code {code}"));
    let daemon = Daemon::start(&optional(&[
        ("always", "", exit(0)),
        ("never", "recovery.restart = \"never\"", exit(3)),
        ("shell", "recovery.restart = \"never\"", exit(127)),
    ]));
    let clean = &daemon.moves("always", ModuleState::Backoff, 1)[0];
    assert!(
        text(clean).contains("a clean end, but recovery.restart is \"always\""),
        "{clean:?}"
    );
    let never = &daemon.moves("never", ModuleState::Failed, 1)[0];
    assert!(
        text(never).ends_with("not tried again: recovery.restart is \"never\""),
        "{never:?}"
    );
    let shell = &daemon.moves("shell", ModuleState::Failed, 1)[0];
    assert!(
        text(shell).contains("(a command it ran was not found)"),
        "{shell:?}"
    );
}

#[test]
fn check_warns_of_what_is_not_here_and_is_content() {
    let dir = crate::daemon::prepare(
        "",
        "[module.a]\ncommand = [\"no-such-program-anywhere\"]\nuser = \"no-such-user\"\n\
         before_start = [[\"/no/such/hook\"]]\n\
         health.probes = [{ exec = [\"no-such-probe\"] }]\n\
         [module.b]\ncommand = [\"sh\"]\ndirectory = \"/no/such/folder\"\n\
         [module.c]\ncommand = [\"sh\"]\n",
    );
    let check = |words: &[&str]| {
        std::process::Command::new(crate::daemon::binary())
            .args(["check", "--config"])
            .arg(dir.path().join("config"))
            .args(words)
            .output()
            .expect("it runs")
    };
    let output = check(&[]);
    let (out, err) = crate::history::both(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.starts_with("configuration ok"), "{out}");
    for warned in [
        "no-such-program-anywhere of module.a.command: it is in no folder of PATH",
        "no-such-user",
        "/no/such/hook of module.a.before_start: there is no such file",
        "no-such-probe of module.a.health.probes",
        "/no/such/folder of module.b.directory",
    ] {
        assert!(err.contains(warned), "{warned} in {err}");
    }
    assert_eq!(err.lines().count(), 5, "{err}");
    let json = check(&["--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["warnings"].as_array().expect("a list").len(), 5);
}

#[test]
fn delays_grow_and_the_next_attempt_is_shown() {
    let recovery = "recovery = { max_attempts = 6, backoff = { initial = \"40ms\", factor = 3.0, \
                    max = \"60s\", jitter = 0.0 } }";
    let daemon = Daemon::start(&optional(&[("it", recovery, misbehave("--exit-code 1"))]));
    let begun = daemon.wait("four attempts", || {
        let mut events = daemon.events("it");
        events.retain(|event| event.kind == EventKind::RecoveryStarted);
        (events.len() >= 4).then_some(events)
    });
    let delays: Vec<_> = begun
        .iter()
        .map(|event| event.payload["delay_ms"].clone())
        .collect();
    assert_eq!(
        delays[..4],
        [40, 120, 360, 1080].map(serde_json::Value::from)
    );
    let view = daemon.until_view("its fourth pause", "it", |view| {
        view.state == ModuleState::Backoff && view.attempts >= 4
    });
    let next = view.next_attempt_at.expect("it is tried again");
    assert!(next > view.since, "{view:?}");
    assert_eq!(view.restarts, u64::from(view.attempts) - 1);
    assert!(told(&daemon, "it").contains("exit code 1"));
}

#[test]
fn given_up_tried_on_probation_and_back() {
    let recovery = "recovery = { max_attempts = 2, probation = { initial = \"150ms\" } }";
    let command = script("[ -e good ] && exec $misbehave; exit 1");
    let daemon = Daemon::start(&optional(&[("it", recovery, command)]));
    let failed = daemon.moves("it", ModuleState::Failed, 2);
    let given_up = daemon.event("it", EventKind::RecoveryFailed);
    assert!(given_up.payload["probation_ms"].is_u64(), "{given_up:?}");
    assert!(
        failed[0].generation < failed[1].generation,
        "one try between them"
    );
    daemon.touch("good");
    let back = daemon.until("it", ModuleState::Running);
    assert!(
        back.generation >= 5,
        "three tries, and those on probation: {back:?}"
    );
    daemon.wait("all to be well", || {
        (daemon.status().status == SystemStatus::Healthy).then_some(())
    });
}

#[test]
fn a_failed_module_is_started_by_a_wish() {
    let recovery = "recovery = { max_attempts = 1, probation = \"off\" }";
    let command = script("[ -e good ] && exec $misbehave; exit 1");
    let daemon = Daemon::start(&optional(&[("it", recovery, command)]));
    assert_eq!(
        daemon.until("it", ModuleState::Failed).next_attempt_at,
        None
    );
    daemon.touch("good");
    daemon.change("module.start", "it");
    let back = daemon.until("it", ModuleState::Running);
    assert_eq!(back.attempts, 0, "a wish begins anew");
}

#[test]
fn a_task_runs_to_its_end_once() {
    let daemon = Daemon::start(&optional(&[
        ("good", "kind = \"task\"", misbehave("--exit-code 0")),
        ("bad", "kind = \"task\"", misbehave("--exit-code 2")),
        (
            "stubborn",
            "kind = \"task\"\nrecovery.restart = \"on_failure\"",
            script("[ -e once ] && exit 0; touch once; exit 2"),
        ),
    ]));
    assert_eq!(daemon.until("good", ModuleState::Stopped).generation, 1);
    assert_eq!(daemon.until("bad", ModuleState::Failed).generation, 1);
    assert_eq!(daemon.until("stubborn", ModuleState::Stopped).generation, 2);
}

#[test]
fn a_required_module_that_cannot_start_ends_the_whole_start() {
    let modules = format!(
        "[module.base]\ncommand = {}\n[module.middle]\ncommand = {}\nrequires = [\"base\"]\n\
         [module.broken]\ncommand = [\"/missing/program\"]\nrequires = [\"middle\"]\n\
         recovery.max_attempts = 1\nrecovery.backoff.initial = \"10ms\"\n",
        misbehave(""),
        misbehave(""),
    );
    let mut daemon = Daemon::launch("", &modules);
    assert_eq!(daemon.ended(), Some(1));
    let printed = daemon.printed();
    let at = |text: &str| {
        printed
            .find(text)
            .unwrap_or_else(|| panic!("no {text:?} in {printed}"))
    };
    let why = at("cannot start: broken failed: cannot execute /missing/program");
    assert!(why < at("middle               stopping"), "{printed}");
    assert!(
        at("middle               stopped") < at("base                 stopping"),
        "{printed}"
    );
    assert!(
        at("base                 stopped") < at("everything is stopped"),
        "{printed}"
    );
}

#[test]
fn a_start_that_takes_too_long_as_a_whole_ends_and_says_what_is_missing() {
    let modules = format!(
        "[module.base]\ncommand = {}\n[module.slow]\ncommand = {}\nready = {{ notify = true }}\n\
         [module.web]\ncommand = {}\nready = {{ exec = {} }}\n",
        misbehave(""),
        misbehave(""),
        misbehave(""),
        script("echo no such table; exit 2"),
    );
    let mut daemon = Daemon::launch("startup_timeout = \"500ms\"", &modules);
    assert_eq!(daemon.ended(), Some(1));
    let printed = daemon.printed();
    assert!(
        printed
            .contains("not ready within mainstay.startup_timeout: slow (it did not send READY=1)"),
        "{printed}"
    );
    assert!(printed.contains("exit code 2: no such table)"), "{printed}");
}

#[test]
fn an_optional_module_that_cannot_start_leaves_the_system_degraded() {
    let modules = optional(&[("broken", "", "[\"/missing\"]".to_owned())])
        + &format!("[module.base]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&modules);
    daemon.until("broken", ModuleState::Failed);
    let status = daemon.status();
    assert_eq!(status.status, SystemStatus::Degraded);
    assert!(status.reason.expect("a reason").contains("broken"));
    assert_eq!(daemon.module("base").state, ModuleState::Running);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_required_module_that_fails_later_is_critical_and_the_rest_goes_on() {
    let modules = format!(
        "[module.base]\ncommand = {}\nrecovery = {{ max_attempts = 1, probation = \"off\", \
         backoff = {{ initial = \"10ms\" }} }}\n[module.other]\ncommand = {}\n",
        script("[ -e bad ] && exit 1; exec $misbehave"),
        misbehave(""),
    );
    let daemon = Daemon::start(&modules);
    let other = daemon.module("other");
    daemon.touch("bad");
    kill(daemon.module("base").pid.expect("it runs"), libc::SIGKILL);
    daemon.until("base", ModuleState::Failed);
    let status = daemon.status();
    assert_eq!(status.status, SystemStatus::Critical);
    assert_eq!(status.failing_modules, ["base"]);
    assert_eq!(daemon.module("other").pid, other.pid);
}

#[test]
fn recovery_is_told_to_have_succeeded_only_when_it_has() {
    let short = "recovery.max_attempts = 3";
    let crashes = "recovery = { max_attempts = 3, stable_after = \"10m\" }";
    let looked = "recovery.stable_after = \"1s\"\nhealth = { interval = \"20ms\", unhealthy_threshold = 100000, \
                  probes = [{ exec = [\"test\", \"-e\", \"well\"] }] }";
    let daemon = Daemon::start(&optional(&[
        ("short", short, misbehave("--exit-code 1 --after 2ms")),
        (
            "crashes",
            crashes,
            misbehave("--exit-code 1 --after 1200ms"),
        ),
        ("looked", looked, misbehave("")),
    ]));
    daemon.until("short", ModuleState::Failed);
    assert_eq!(daemon.count("short", EventKind::RecoveryStarted), 3);
    assert_eq!(daemon.count("short", EventKind::RecoveryCompleted), 0);

    kill(daemon.module("looked").pid.expect("it runs"), libc::SIGKILL);
    let back = daemon.until_view("looked to have been back for long", "looked", |view| {
        view.restarts == 1 && view.state == ModuleState::Running
    });
    daemon.wait("more than the time a run has to last", || {
        let now = mainstay_protocol::Timestamp::from(std::time::SystemTime::now());
        (now.0 > back.since.0 + 1500).then_some(())
    });
    assert_eq!(daemon.count("looked", EventKind::RecoveryCompleted), 0);
    daemon.touch("well");
    let told = daemon.event("looked", EventKind::RecoveryCompleted);
    assert_eq!(text(&told), "ready and healthy for 1 s");

    daemon.until("crashes", ModuleState::Failed);
    assert_eq!(daemon.count("crashes", EventKind::RecoveryStarted), 3);
    assert_eq!(daemon.count("crashes", EventKind::RecoveryCompleted), 0);
}

#[test]
fn what_cleans_up_and_fails_is_an_event_with_its_last_words() {
    let clean = script("echo cleanup broke >&2; exit 7");
    let command = misbehave("");
    let modules = format!("[module.it]\ncommand = {command}\nafter_stop = [{clean}]\n");
    let daemon = Daemon::start(&modules);
    daemon.change(name::MODULE_STOP, "it");
    let event = daemon.event("it", EventKind::ModuleHookFailed);
    assert_eq!(event.payload["hook"], "after_stop", "{event:?}");
    assert_eq!(event.payload["text"], "exit code 7: cleanup broke");
    assert_eq!(event.payload["output"], "cleanup broke\n");
    let told = daemon.cli(&["events", "--module", "it"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains("after_stop") && told.contains("cleanup broke"),
        "{told}"
    );
}

#[test]
fn a_user_gives_its_module_its_account() {
    if !nix::unistd::geteuid().is_root() {
        return crate::daemon::skip("only root may start a module as somebody else");
    }
    let show = "[\"/bin/sh\", \"-c\", \"echo $HOME:$USER:$LOGNAME > /dev/stderr; sleep 1000\"]";
    let module = |name: &str, keys: &str| {
        format!("[module.{name}]\ndirectory = \"/\"\ncommand = {show}\n{keys}\nrequired = false\n")
    };
    let daemon = Daemon::start(&format!(
        "{}{}{}{}",
        module("account", "user = \"nobody\""),
        module("own", "user = \"nobody\"\nenv = { HOME = \"/own\" }"),
        module("number", "user = \"4000000001\""),
        module("none", "user = \"-1\"\ngroup = \"0\""),
    ));
    let nobody = nix::unistd::User::from_name("nobody").expect("asked");
    let home = nobody.expect("a user nobody").dir.display().to_string();
    daemon.wrote("account", &format!("{home}:nobody:nobody"));
    daemon.wrote("own", "/own:nobody:nobody");
    for (name, why) in [
        ("number", "add `group`"),
        ("none", "no user has this number"),
    ] {
        let moved = &daemon.moves(name, ModuleState::Failed, 1)[0];
        assert_eq!(moved.cause, Some(StateCause::Exec), "{name}");
        let told = told(&daemon, name);
        assert!(told.contains(why), "{name}: {told}");
    }
}

#[test]
fn a_program_that_ends_at_the_end_of_its_input_gets_a_hint() {
    let odd = ("odd", "", "[\"/bin/sh\", \"-c\", \"exit 3\"]".to_owned());
    let daemon = Daemon::start(&optional(&[("reads", "", "[\"cat\"]".to_owned()), odd]));
    let why = |module: &str| {
        daemon.until(module, ModuleState::Failed);
        String::from_utf8_lossy(&daemon.cli(&["why", module]).stdout).into_owned()
    };
    let hint = "if it exits at the end of its input, set stdin = \"open\"";
    assert!(why("reads").contains(hint), "{}", why("reads"));
    assert!(!why("odd").contains(hint), "{}", why("odd"));
    let open = ("reads", "stdin = \"open\"", "[\"cat\"]".to_owned());
    Daemon::start(&optional(&[open])).until("reads", ModuleState::Running);
}
