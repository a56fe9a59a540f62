//! Stops: in every state, of one module and of everything, within their time.
//! Owns that a stop always ends, and what is forced is counted. Never looks inside.

use std::time::{Duration, Instant};

use mainstay_protocol::method::name;
use mainstay_protocol::{DesiredState, Event, EventKind, ModuleState};

use crate::daemon::{Daemon, in_both_ways, kill, lives, misbehave, script};

/// One optional module named `it`.
fn one(command: &str, more: &str) -> String {
    format!("[module.it]\nrequired = false\ncommand = {command}\n{more}\n")
}

/// One that takes so long from the signal to its end; ready when it hears signals.
fn slow(long: &str) -> String {
    misbehave(&format!("--slow-stop {long} --ready notify"))
}

const HEARS: &str = "ready = { notify = true }";

/// Stops `it` and returns how long that took.
fn stop(daemon: &Daemon) -> Duration {
    let began = Instant::now();
    let view = daemon.change(name::MODULE_STOP, "it");
    assert_eq!(
        (view.state, view.desired, view.pid),
        (ModuleState::Stopped, DesiredState::Down, None)
    );
    began.elapsed()
}

/// It stays stopped: what was due before the stop does not happen after it.
fn stays_stopped(daemon: &Daemon) {
    let before = daemon.module("it");
    daemon.change(name::MODULE_START, "beside");
    daemon.change(name::MODULE_RESTART, "beside");
    let after = daemon.module("it");
    assert_eq!(
        (after.state, after.generation),
        (ModuleState::Stopped, before.generation)
    );
}

const BESIDE: &str = "ready = { settle = \"300ms\" }\nstart = \"lazy\"\n";

fn with_beside(modules: &str) -> String {
    format!(
        "{modules}[module.beside]\ncommand = {}\n{BESIDE}",
        misbehave("")
    )
}

#[test]
fn while_it_waits() {
    let modules = format!(
        "[module.base]\nready = {{ notify = true }}\ncommand = {}\n{}",
        misbehave(""),
        one(&misbehave(""), "requires = [\"base\"]"),
    );
    let daemon = Daemon::launch("", &modules);
    daemon.until("it", ModuleState::Waiting);
    stop(&daemon);
    assert_eq!(daemon.module("it").generation, 0);
}

#[test]
fn while_it_starts_and_is_never_ready() {
    let daemon = Daemon::launch(
        "",
        &with_beside(&one(&misbehave(""), "ready = { notify = true }")),
    );
    let pid = daemon
        .until_view("its process", "it", |view| view.pid.is_some())
        .pid;
    assert!(stop(&daemon) < Duration::from_secs(5));
    assert!(!lives(pid.expect("it ran")));
    stays_stopped(&daemon);
}

#[test]
fn while_the_next_start_is_due() {
    let backoff = "recovery.backoff = { initial = \"200ms\", jitter = 0.0 }";
    let daemon = Daemon::start(&with_beside(&one(&misbehave("--exit-code 1"), backoff)));
    daemon.moves("it", ModuleState::Backoff, 1);
    daemon.until("it", ModuleState::Backoff);
    let view = daemon.change(name::MODULE_STOP, "it");
    assert_eq!(
        (view.state, view.next_attempt_at),
        (ModuleState::Stopped, None)
    );
    stays_stopped(&daemon);
}

#[test]
fn while_it_is_failed_and_on_probation() {
    let recovery = "recovery = { auto = true, max_attempts = 1, \
                    backoff = { initial = \"1ms\" }, probation = { initial = \"300ms\" } }";
    let daemon = Daemon::start(&with_beside(&one(&misbehave("--exit-code 1"), recovery)));
    daemon.until("it", ModuleState::Failed);
    stop(&daemon);
    stays_stopped(&daemon);
}

#[test]
fn while_it_is_stopped_or_stopping() {
    let daemon = Daemon::start(&one(&slow("300ms"), HEARS));
    let other = std::thread::scope(|scope| {
        let first = scope.spawn(|| stop(&daemon));
        let second = scope.spawn(|| stop(&daemon));
        (
            first.join().expect("it ends"),
            second.join().expect("it ends"),
        )
    });
    assert!(
        other.0 < Duration::from_secs(5) && other.1 < Duration::from_secs(5),
        "{other:?}"
    );
    stop(&daemon);
    assert_eq!(
        daemon.moves("it", ModuleState::Stopped, 1).len(),
        1,
        "it is stopped once"
    );
}

#[test]
fn one_that_ignores_the_signal_is_killed_in_its_time() {
    in_both_ways(|| {
        let words = misbehave("--ignore-sigterm --children 2 --pids pids");
        let daemon = Daemon::start(&one(&words, "shutdown_timeout = \"400ms\""));
        let pid = daemon
            .until("it", ModuleState::Running)
            .pid
            .expect("it runs");
        daemon.wrote(
            "it",
            &daemon.wait("its children", || {
                let pids = std::fs::read_to_string(daemon.path("pids")).ok()?;
                (pids.lines().count() == 2)
                    .then(|| pids.lines().next().unwrap_or_default().to_owned())
            }),
        );
        let took = stop(&daemon);
        assert!(
            (Duration::from_millis(400)..Duration::from_secs(5)).contains(&took),
            "{took:?}"
        );
        assert!(!lives(pid));
        let text = &daemon.moves("it", ModuleState::Stopped, 1)[0].payload["text"];
        assert_eq!(text, "stopped by force, killed by SIGKILL");
    });
}

#[test]
fn one_that_is_frozen_ends_at_once() {
    in_both_ways(|| {
        let daemon = Daemon::start(&one(&misbehave("--hang"), "shutdown_timeout = \"30s\""));
        let pid = daemon
            .until("it", ModuleState::Running)
            .pid
            .expect("it runs");
        daemon.wait("it to be frozen", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
        let took = stop(&daemon);
        assert!(
            took < Duration::from_secs(3),
            "it was continued and ended: {took:?}"
        );
        assert_eq!(
            daemon.module("it").last_exit.expect("it ended").code,
            Some(0)
        );
    });
}

#[test]
fn another_signal_asks_it_where_that_is_said() {
    let command = script("trap 'exit 5' INT; while :; do sleep 0.05; done");
    let daemon = Daemon::start(&one(&command, "stop_signal = \"SIGINT\""));
    daemon.until("it", ModuleState::Running);
    stop(&daemon);
    let exit = daemon.module("it").last_exit.expect("it ended");
    assert!(
        exit.code == Some(5) || exit.signal == Some(libc::SIGINT),
        "{exit:?}"
    );
}

/// Modules that each need the one before and ignore the signal.
fn deaf_chain(count: usize) -> String {
    (0..count)
        .map(|n| {
            let needs = if n == 0 {
                String::new()
            } else {
                format!("\"m{}\"", n - 1)
            };
            format!(
                "[module.m{n}]\nrequires = [{needs}]\ncommand = {}\nshutdown_timeout = \"20s\"\n\
                 ready = {{ notify = true }}\n",
                // Ready means deaf: before that a signal would still end it.
                misbehave("--ignore-sigterm --ready notify")
            )
        })
        .collect()
}

/// The whole stop ends within this after what asked for it.
fn ends_within(daemon: &mut Daemon, limit: Duration, ask: impl Fn(&Daemon)) -> (i32, String) {
    let pids: Vec<u32> = daemon
        .client()
        .modules()
        .expect("a list")
        .iter()
        .filter_map(|view| view.pid)
        .collect();
    let runtime = daemon.status().pid;
    let began = Instant::now();
    ask(daemon);
    let code = daemon.ended().expect("it exits");
    let took = began.elapsed();
    assert!(took < limit, "it took {took:?}:\n{}", daemon.printed());
    for pid in pids.into_iter().chain([runtime]) {
        assert!(!lives(pid), "{pid} was left behind");
    }
    (code, daemon.printed())
}

#[test]
fn everything_ends_within_the_total_budget_and_force_is_counted() {
    in_both_ways(|| {
        let mut daemon = Daemon::launch("shutdown_timeout = \"2s\"", &deaf_chain(4));
        daemon.until("m3", ModuleState::Running);
        let (code, printed) = ends_within(&mut daemon, Duration::from_secs(4), |daemon| {
            daemon.signal(libc::SIGTERM)
        });
        assert_eq!(code, 0);
        assert!(
            printed.contains("everything is stopped; 4 modules had to be killed"),
            "{printed}"
        );
        let at = |text: &str| {
            printed
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {printed}"))
        };
        for n in 1..4 {
            let (above, below) = (format!("m{n}                   stopped"), n - 1);
            assert!(
                at(&above) < at(&format!("m{below}                   stopping")),
                "{printed}"
            );
        }
    });
}

#[test]
fn ctrl_c_twice_is_quick() {
    in_both_ways(|| {
        let mut daemon = Daemon::start(&deaf_chain(3));
        let (code, printed) = ends_within(&mut daemon, Duration::from_secs(10), |daemon| {
            daemon.signal(libc::SIGINT);
            daemon.until("m2", ModuleState::Stopping);
            daemon.signal(libc::SIGINT);
        });
        assert_eq!(code, 0);
        assert!(printed.contains("3 modules had to be killed"), "{printed}");
    });
}

#[test]
fn down_waits_until_all_is_gone() {
    let daemon = Daemon::start(&one(&slow("300ms"), HEARS));
    let pid = daemon
        .until("it", ModuleState::Running)
        .pid
        .expect("it runs");
    let mut daemon = daemon;
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert!(
        !lives(pid) && !lives(daemon.holder()),
        "down returned too early"
    );
    assert_eq!(daemon.ended(), Some(0));
    assert_eq!(
        daemon.cli(&["down"]).status.code(),
        Some(3),
        "there is none any more"
    );
}

#[test]
fn down_with_a_time_of_its_own_ends_what_is_deaf() {
    let mut daemon = Daemon::start(&deaf_chain(2));
    let (code, printed) = ends_within(&mut daemon, Duration::from_secs(8), |daemon| {
        let told = warned(&daemon.cli(&["down", "--timeout", "1s"]));
        for module in ["m0", "m1"] {
            let warning = format!("warning: {module} did not end within ");
            assert!(told.contains(&warning), "{told}");
        }
        assert!(told.contains("or --timeout of down)"), "{told}");
    });
    assert_eq!(code, 0);
    assert!(printed.contains("2 modules had to be killed"), "{printed}");
}

/// Where trees are walked the walk of a kill may end after the next run has begun: the more
/// processes there are, the longer it lasts.
#[test]
fn the_kill_of_a_restart_does_not_reach_the_next_run() {
    let crowd = script("for _ in $(seq 300); do sleep 1000 & done; wait");
    let deaf = misbehave("--ignore-sigterm --ready notify");
    let modules = format!(
        "[module.crowd]\ncommand = {crowd}\n{}",
        one(&deaf, &format!("shutdown_timeout = \"100ms\"\n{HEARS}")),
    );
    in_both_ways(|| {
        let daemon = Daemon::start(&modules);
        daemon.until("it", ModuleState::Running);
        for restarts in 1..=5 {
            let told = warned(&daemon.cli(&["restart", "it"]));
            assert!(told.contains("and was killed by SIGKILL"), "{told}");
            let generation = daemon.module("it").generation;
            assert_eq!(generation, restarts + 1, "each restart is one run");
        }
        let is_failure = |event: &Event| event.kind == EventKind::RecoveryStarted;
        let failures: Vec<Event> = daemon.events("it").into_iter().filter(is_failure).collect();
        assert!(failures.is_empty(), "{failures:?}");
    });
}

/// What was printed on stderr by a command that ended with 0.
fn warned(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_kill_is_told_by_the_command_that_led_to_it() {
    in_both_ways(|| {
        let deaf = misbehave("--ignore-sigterm --ready notify");
        let modules = format!(
            "[module.good]\ncommand = {}\n{}",
            misbehave(""),
            one(&deaf, &format!("shutdown_timeout = \"300ms\"\n{HEARS}")),
        );
        let mut daemon = Daemon::start(&modules);
        daemon.until("it", ModuleState::Running);
        let is_told = |text: &str, key: &str| {
            let told = format!("ms and was killed by SIGKILL ({key})");
            assert!(text.contains("warning: it did not end within "), "{text}");
            assert!(text.contains(&told), "{text}");
            assert!(!text.contains("good"), "{text}");
        };
        is_told(&warned(&daemon.cli(&["restart", "it"])), "shutdown_timeout");
        is_told(&warned(&daemon.cli(&["stop", "it"])), "shutdown_timeout");
        assert_eq!(warned(&daemon.cli(&["start", "it"])), "");
        assert_eq!(warned(&daemon.cli(&["restart", "good"])), "");
        is_told(&warned(&daemon.cli(&["down"])), "shutdown_timeout");
        assert_eq!(daemon.ended(), Some(0));
    });
}

#[test]
fn a_stop_while_everything_starts_ends_what_began_and_begins_nothing() {
    let modules = format!(
        "[module.base]\ncommand = {}\n[module.slow]\nready = {{ notify = true }}\ncommand = {}\n\
         requires = [\"base\"]\n[module.never]\ncommand = {}\nrequires = [\"slow\"]\n",
        misbehave(""),
        misbehave(""),
        script("touch began; exec $misbehave"),
    );
    let mut daemon = Daemon::launch("", &modules);
    daemon.until_view("a start on its way", "slow", |view| view.pid.is_some());
    let began = daemon.path("began");
    let (code, printed) = ends_within(&mut daemon, Duration::from_secs(5), |daemon| {
        daemon.signal(libc::SIGINT)
    });
    assert_eq!(code, 0, "{printed}");
    assert!(!began.exists());
}

#[test]
fn a_stop_begun_before_the_runtime_died_is_finished_by_the_next() {
    in_both_ways(|| {
        let daemon = Daemon::start(&one(&slow("1s"), HEARS));
        let before = daemon.until("it", ModuleState::Running);
        let runtime = daemon.status().pid;
        let mut daemon = daemon;
        daemon.signal(libc::SIGTERM);
        daemon.until("it", ModuleState::Stopping);
        kill(runtime, libc::SIGKILL);
        assert_eq!(daemon.ended(), Some(0), "{}", daemon.printed());
        assert!(!lives(before.pid.expect("it ran")));
    });
}

#[test]
fn a_stop_of_one_module_survives_the_runtime() {
    let daemon = Daemon::start(&one(&slow("800ms"), HEARS));
    let before = daemon.until("it", ModuleState::Running);
    let ask = ["stop", "it", "--no-wait"];
    assert!(daemon.cli(&ask).status.success());
    daemon.until("it", ModuleState::Stopping);
    daemon.kill_runtime();
    let after = daemon.until("it", ModuleState::Stopped);
    assert_eq!(
        (after.desired, after.generation),
        (DesiredState::Down, before.generation)
    );
    assert_eq!(
        daemon.count("it", EventKind::RecoveryStarted),
        0,
        "a wish is no failure"
    );
}

#[test]
fn a_restart_is_no_failure_and_counts_no_attempt() {
    let daemon = Daemon::start(&one(&misbehave(""), "recovery.restart = \"never\""));
    let before = daemon.until("it", ModuleState::Running);
    for _ in 0..5 {
        daemon.change(name::MODULE_RESTART, "it");
    }
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!(after.generation, before.generation + 5);
    assert_eq!(after.attempts, 0);
    assert_eq!(daemon.count("it", EventKind::RecoveryStarted), 0);
}
