//! Every way to be ready, and every edge that waits for something.
//! Owns what counts as ready and what does not: late, twice, by a stranger, in pieces.
//! Never looks inside.

use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};

use mainstay_protocol::{EventKind, ModuleState, StateCause};

use crate::daemon::{Daemon, free_address, kill, misbehave, on_go, prepare, script};

/// One module named `it`.
fn one(ready: &str, command: &str, more: &str) -> String {
    format!("[module.it]\nready = {ready}\ncommand = {command}\n{more}\n")
}

/// One that is never tried again after its start took this long.
fn late(ready: &str, command: &str, within: &str) -> String {
    let more = format!("startup_timeout = \"{within}\"\nrequired = false\nrecovery.auto = false");
    one(ready, command, &more)
}

/// It must not become ready: its start takes too long, and that is said.
fn is_never_ready(modules: &str) -> Daemon {
    stays_unready(Daemon::launch("", modules))
}

fn stays_unready(daemon: Daemon) -> Daemon {
    let failed = daemon.moves("it", ModuleState::Failed, 1);
    let text = failed[0].payload["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("it was not ready in time: "), "{text}");
    assert_eq!(daemon.count("it", EventKind::ModuleReady), 0);
    daemon
}

/// It becomes ready in its first run, and not before the file `go` is there.
fn is_ready_on_go(modules: &str) -> Daemon {
    let daemon = Daemon::launch("", modules);
    daemon.moves("it", ModuleState::Starting, 1);
    daemon.until_view("its process to run", "it", |view| view.pid.is_some());
    assert_eq!(daemon.module("it").state, ModuleState::Starting);
    daemon.touch("go");
    assert_eq!(daemon.until("it", ModuleState::Running).generation, 1);
    daemon
}

#[test]
fn started_is_the_moment_its_program_runs() {
    let daemon = Daemon::start(&one("\"started\"", &misbehave(""), ""));
    assert_eq!(daemon.module("it").state, ModuleState::Running);
    let after = daemon.event("it", EventKind::ModuleReady).payload["after_ms"].as_u64();
    assert!(after.expect("a number") < 1000, "{after:?}");
}

#[test]
fn settle_takes_its_time_and_an_exit_before_it_is_a_failure() {
    let calm = one("{ settle = \"300ms\" }", &misbehave(""), "");
    let hasty = "[module.hasty]\nready = { settle = \"20s\" }\nrequired = false\n\
                 recovery.restart = \"never\"\ncommand = ";
    let hasty = format!("{hasty}{}\n", misbehave("--exit-code 0 --after 10ms"));
    let daemon = Daemon::launch("", &(calm + &hasty));
    daemon.until("it", ModuleState::Running);
    let after = daemon.event("it", EventKind::ModuleReady).payload["after_ms"].as_u64();
    assert!(after.expect("a number") >= 300, "{after:?}");
    daemon.moves("hasty", ModuleState::Stopped, 1);
    assert_eq!(daemon.count("hasty", EventKind::ModuleReady), 0);
}

#[test]
fn notify_waits_for_the_word() {
    is_ready_on_go(&one("{ notify = true }", &on_go("--ready notify"), ""));
}

#[test]
fn saying_ready_twice_is_said_once() {
    let words = "--ready notify --ready-twice --notify STATUS=twice";
    let daemon = Daemon::start(&one("{ notify = true }", &misbehave(words), ""));
    daemon.until_view("its status", "it", |view| {
        view.status_text.as_deref() == Some("twice")
    });
    // What it said came in order; a run more would show in the generation.
    daemon.change("module.restart", "it");
    daemon.until_view("the second run", "it", |view| {
        view.generation == 2 && view.state == ModuleState::Running
    });
    daemon.wait("two words", || {
        (daemon.count("it", EventKind::ModuleReady) == 2).then_some(())
    });
}

#[test]
fn a_quick_word_is_heard_in_every_run() {
    let more = "startup_timeout = \"20s\"";
    let words = misbehave("--ready notify");
    let daemon = Daemon::start(&one("{ notify = true }", &words, more));
    for _ in 0..40 {
        daemon.change("module.restart", "it");
    }
    let view = daemon.until("it", ModuleState::Running);
    assert_eq!(view.generation, 41, "each run was ready at once");
    assert_eq!(daemon.count("it", EventKind::RecoveryStarted), 0);
}

#[test]
fn a_stranger_cannot_say_that_a_module_is_ready() {
    let command = on_go("--ready notify --ready-after 300ms --notify STATUS=mine");
    let daemon = Daemon::launch("", &one("{ notify = true }", &command, ""));
    daemon.until_view("its process to run", "it", |view| view.pid.is_some());
    let socket = daemon.notify_socket();
    let stranger = UnixDatagram::unbound().expect("a socket");
    stranger
        .send_to(b"STATUS=stranger\nREADY=1", &socket)
        .expect("the socket takes it");
    daemon.touch("go");
    // What the module says afterwards is heard, and it is still not ready.
    let view = daemon.until_view("its own word", "it", |view| view.status_text.is_some());
    assert_eq!(view.status_text.as_deref(), Some("mine"));
    assert_eq!(view.state, ModuleState::Starting);
    daemon.until("it", ModuleState::Running);
}

#[test]
fn never_ready_is_a_failure_in_its_time_and_is_tried_again() {
    let more = "startup_timeout = \"200ms\"\n\
                recovery.backoff = { initial = \"10ms\", max = \"10ms\", floor = \"10ms\" }";
    let daemon = Daemon::launch("", &one("{ notify = true }", &misbehave(""), more));
    let backoff = daemon.moves("it", ModuleState::Backoff, 2);
    assert_eq!(backoff[0].cause, Some(StateCause::Timeout));
    let text = backoff[0].payload["text"].as_str().expect("a text");
    assert!(text.starts_with("it was not ready in time"), "{text}");
    assert_eq!(daemon.count("it", EventKind::ModuleReady), 0);
}

#[test]
fn a_module_may_ask_for_more_time_to_start() {
    let words = "--notify EXTEND_TIMEOUT_USEC=20000000 --ready notify --ready-after 900ms";
    let daemon = Daemon::start(&late("{ notify = true }", &misbehave(words), "400ms"));
    assert_eq!(daemon.until("it", ModuleState::Running).generation, 1);
}

#[test]
fn a_port_counts_when_it_is_there() {
    let address = free_address();
    let ready = format!("{{ tcp = {address:?} }}");
    let daemon = is_ready_on_go(&one(&ready, &on_go(&format!("--ready tcp:{address}")), ""));
    // Nobody else has it now, and the next run becomes ready on it too.
    kill(daemon.module("it").pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("the second run", "it", |view| {
        view.generation == 2 && view.state == ModuleState::Running
    });
}

#[test]
fn a_port_that_a_stranger_holds_says_nothing() {
    let address = free_address();
    let _stranger = TcpListener::bind(&address).expect("the port is free");
    is_never_ready(&late(
        &format!("{{ tcp = {address:?} }}"),
        &misbehave(""),
        "400ms",
    ));
}

#[test]
fn a_socket_counts_when_it_accepts() {
    let ready = "{ unix = \"it.sock\" }";
    let daemon = is_ready_on_go(&one(ready, &on_go("--ready unix:it.sock"), ""));
    assert!(daemon.path("it.sock").exists());
}

#[test]
fn a_socket_that_nobody_serves_says_nothing() {
    let dir = prepare("", &late("{ unix = \"it.sock\" }", &misbehave(""), "400ms"));
    // The file of a socket, as an earlier run leaves it.
    drop(UnixListener::bind(dir.path().join("it.sock")).expect("a socket"));
    stays_unready(Daemon::launch_in(dir));
}

#[test]
fn a_url_counts_when_it_answers_as_it_should() {
    let address = free_address();
    let ready = format!("{{ http = \"http://{address}/health\" }}");
    is_ready_on_go(&one(&ready, &on_go(&format!("--ready http:{address}")), ""));
    let address = free_address();
    let ready = format!("{{ http = \"http://{address}/\", status = 204 }}");
    is_never_ready(&late(
        &ready,
        &misbehave(&format!("--ready http:{address}")),
        "500ms",
    ));
}

#[test]
fn a_grpc_server_counts_when_it_says_that_it_serves() {
    let address = free_address();
    let serves = |address: &str| format!("--ready grpc:{address}");
    let ready = format!("{{ grpc = \"{address}\" }}");
    is_ready_on_go(&one(&ready, &on_go(&serves(&address)), ""));
    let address = free_address();
    let ready = format!("{{ grpc = \"{address}/bad\" }}");
    is_never_ready(&late(&ready, &misbehave(&serves(&address)), "500ms"));
    // One that accepts and speaks something else.
    let address = free_address();
    let ready = format!("{{ grpc = \"{address}\" }}");
    let other = misbehave(&format!("--ready http:{address}"));
    is_never_ready(&late(&ready, &other, "500ms"));
}

#[test]
fn a_command_counts_when_it_exits_with_0() {
    is_ready_on_go(&one(
        "{ exec = [\"test\", \"-e\", \"go\"] }",
        &misbehave(""),
        "",
    ));
    is_never_ready(&late("{ exec = [\"/missing\"] }", &misbehave(""), "300ms"));
}

#[test]
fn a_command_that_never_ends_is_no_answer_and_does_not_pile_up() {
    let exec = script("echo $$ >> looks; sleep 60");
    let modules = late(&format!("{{ exec = {exec} }}"), &misbehave(""), "500ms");
    let daemon = is_never_ready(&modules);
    let looks = std::fs::read_to_string(daemon.path("looks")).expect("it was looked at");
    assert_eq!(looks.lines().count(), 1, "one look at a time");
    let look = looks.trim().parse().expect("a pid");
    daemon.wait("the look to be gone with its module", || {
        (!crate::daemon::lives(look)).then_some(())
    });
}

#[test]
fn a_log_line_counts_whole_even_when_it_comes_in_pieces() {
    let text = "printf 'up an'; until [ -e go ]; do sleep 0.02; done\n\
                printf 'd runn'; sleep 0.05; printf 'ing on 1\\n'; exec sleep 60";
    is_ready_on_go(&one(
        "{ log = \"^up and running on \\\\d+$\" }",
        &script(text),
        "",
    ));
}

#[test]
fn a_log_line_that_only_looks_like_it_says_nothing() {
    let command = misbehave("--ready log:not-up-and-running");
    is_never_ready(&late("{ log = \"^up\" }", &command, "300ms"));
}

#[test]
fn a_file_counts_when_it_is_there() {
    is_ready_on_go(&one(
        "{ file = \"ready\" }",
        &on_go("--ready file:ready"),
        "",
    ));
}

#[test]
fn a_newline_on_the_descriptor_counts() {
    is_ready_on_go(&one("{ fd = 3 }", &on_go("--ready fd:3"), ""));
    is_ready_on_go(&one("{ fd = 9 }", &on_go("--ready fd:9"), ""));
}

#[test]
fn a_descriptor_that_is_closed_without_a_newline_says_nothing() {
    is_never_ready(&late(
        "{ fd = 3 }",
        &script("exec 3>&-; exec sleep 60"),
        "300ms",
    ));
}

#[test]
fn who_needs_it_started_does_not_wait_until_it_is_ready() {
    let modules = one("{ notify = true }", &on_go("--ready notify"), "")
        + &needing("early", "started")
        + &needing("late", "ready");
    let daemon = Daemon::launch("", &modules);
    daemon.until("early", ModuleState::Running);
    assert_eq!(daemon.module("it").state, ModuleState::Starting);
    assert_eq!(
        daemon.until("late", ModuleState::Waiting).waiting_on,
        ["it"]
    );
    daemon.touch("go");
    daemon.until("late", ModuleState::Running);
}

fn needing(name: &str, until: &str) -> String {
    format!(
        "[module.{name}]\ncommand = {}\nrequires = [{{ module = \"it\", until = \"{until}\" }}]\n",
        misbehave("")
    )
}

#[test]
fn who_needs_it_healthy_waits_for_the_first_good_look() {
    let probe = "health.probes = [{ exec = [\"test\", \"-e\", \"go\"], interval = \"30ms\", \
                 unhealthy_threshold = 100000 }]";
    let modules = one("\"started\"", &misbehave(""), probe) + &needing("dependent", "healthy");
    let daemon = Daemon::launch("", &modules);
    daemon.until("it", ModuleState::Running);
    assert_eq!(
        daemon.until("dependent", ModuleState::Waiting).waiting_on,
        ["it"]
    );
    daemon.touch("go");
    daemon.until("dependent", ModuleState::Running);
}

#[test]
fn who_needs_it_completed_waits_for_a_clean_end() {
    let task = |script: &str| {
        format!("[module.it]\nkind = \"task\"\nrequired = false\ncommand = {script}\n")
    };
    let good = task(&script("until [ -e go ]; do sleep 0.02; done"));
    let daemon = Daemon::launch("", &(good + &needing("dependent", "completed")));
    daemon.until_view("the task to run", "it", |view| view.pid.is_some());
    assert_eq!(
        daemon.until("dependent", ModuleState::Waiting).waiting_on,
        ["it"]
    );
    daemon.touch("go");
    daemon.until("dependent", ModuleState::Running);
    assert_eq!(
        daemon.until("it", ModuleState::Stopped).desired,
        mainstay_protocol::DesiredState::Up
    );

    // A task that failed at once (before anyone could look) is not completed.
    let optional = needing("dependent", "completed") + "required = false\n";
    let daemon = Daemon::launch("", &(task(&script("exit 3")) + &optional));
    daemon.until("it", ModuleState::Failed);
    assert_eq!(daemon.module("dependent").pid, None);
    assert_ne!(daemon.module("dependent").state, ModuleState::Running);
}

#[test]
fn what_is_only_wanted_does_not_hold_for_ever() {
    let modules = "[module.gone]\ncommand = [\"/missing\"]\nrequired = false\n".to_owned()
        + &format!(
            "[module.slow]\ncommand = {}\nready = {{ notify = true }}\n",
            misbehave("")
        )
        + "startup_timeout = \"500ms\"\nrequired = false\n"
        + &format!(
            "[module.it]\ncommand = {}\nwants = [\"gone\", \"slow\"]\n",
            misbehave("")
        );
    let daemon = Daemon::launch("", &modules);
    let waiting = daemon.moves("it", ModuleState::Waiting, 1);
    assert!(
        waiting[0].payload["text"]
            .as_str()
            .expect("whom")
            .contains("slow")
    );
    daemon.until("it", ModuleState::Running);
    assert_eq!(daemon.module("it").restarts, 0);
}

#[test]
fn a_start_goes_on_under_a_new_runtime() {
    let daemon = Daemon::launch("", &one("{ notify = true }", &on_go("--ready notify"), ""));
    let before = daemon.until_view("its process to run", "it", |view| view.pid.is_some());
    daemon.kill_runtime();
    let adopted = daemon.until_view("it to be adopted", "it", |view| view.pid.is_some());
    assert_eq!(
        (adopted.state, adopted.pid),
        (ModuleState::Starting, before.pid)
    );
    daemon.touch("go");
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!((after.pid, after.generation), (before.pid, 1));
}

#[test]
fn what_is_said_while_no_runtime_listens_is_heard() {
    let daemon = Daemon::launch("", &one("{ notify = true }", &on_go("--ready notify"), ""));
    let before = daemon.until_view("its process to run", "it", |view| view.pid.is_some());
    daemon.touch("go");
    daemon.kill_runtime();
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!((after.pid, after.generation), (before.pid, 1));
}

#[test]
fn the_time_to_start_goes_on_under_a_new_runtime() {
    let modules = late("{ notify = true }", &misbehave(""), "1500ms");
    let daemon = Daemon::launch("", &modules);
    daemon.until_view("its process to run", "it", |view| view.pid.is_some());
    daemon.kill_runtime();
    let failed = daemon.moves("it", ModuleState::Failed, 1);
    assert_eq!(failed[0].generation, Some(1));
}

#[test]
fn what_was_not_ready_in_time_is_named_with_its_last_answer_and_the_count() {
    let rows = [
        (
            "tcp",
            "tcp = \"127.0.0.1:1\"",
            "tcp 127.0.0.1:1: connection refused, ",
        ),
        (
            "http",
            "http = \"http://127.0.0.1:1/up\"",
            "http://127.0.0.1:1/up: connection refused, ",
        ),
        (
            "unix",
            "unix = \"/no/such.sock\"",
            "unix /no/such.sock: no such file or directory, ",
        ),
        (
            "file",
            "file = \"/no/such\"",
            "file /no/such: there is no such file, ",
        ),
        ("exec", "exec = [\"false\"]", "`false`: exit code 1, "),
        ("notify", "notify = true", "it did not send READY=1"),
        (
            "log",
            "log = \"never\"",
            "no line of its output matches \"never\"",
        ),
    ];
    let module = |(name, ready, _): &(&str, &str, &str)| {
        format!(
            "[module.{name}]\nrequired = false\ncommand = {}\nready = {{ {ready} }}\n\
             startup_timeout = \"700ms\"\nrecovery = {{ max_attempts = 1, probation = \"off\" }}\n",
            misbehave("")
        )
    };
    let daemon = Daemon::start(&rows.iter().map(module).collect::<String>());
    for (name, _, expected) in rows {
        daemon.until(name, ModuleState::Failed);
        let event = &daemon.moves(name, ModuleState::Failed, 1)[0];
        let text = event.payload["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let expected = format!("it was not ready in time: {expected}");
        assert!(text.starts_with(&expected), "{name}: {text}");
        assert_eq!(
            expected.ends_with(", "),
            text.ends_with(" tries"),
            "{name}: {text}"
        );
        let why = daemon.cli(&["why", name]);
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains(&expected), "{why}");
        assert!(daemon.printed().contains(&expected), "{}", daemon.printed());
    }
}

/// Another process may answer a command: a module that ends beside that was never ready.
#[test]
fn a_module_that_ends_while_a_command_says_it_is_ready_is_not_up() {
    let modules = format!(
        "[module.pg]\ncommand = {}\nready = {{ exec = [\"true\"] }}\n\
         recovery.max_attempts = 1\nrecovery.backoff.initial = \"10ms\"\n",
        script("sleep 0.1; echo address in use; exit 98")
    );
    let mut daemon = Daemon::launch("", &modules);
    assert_eq!(daemon.ended(), Some(1));
    let printed = daemon.printed();
    assert!(printed.contains("pg failed: exit code 98"), "{printed}");
    assert!(!printed.contains("everything is up"), "{printed}");
}
