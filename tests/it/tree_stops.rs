//! A stop of a whole tree, and its one deadline: for the signal, what a main process leaves behind,
//! the commands after it and the kill. Never looks inside.

use std::time::{Duration, Instant};

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, in_both_ways, kill, misbehave, script};

/// A shell that does not forward the stop signal, and a worker that handles it by `on_term`.
fn shell_with_worker(on_term: &str) -> String {
    script(&format!(
        "sh -c 'trap \"{on_term}\" TERM; echo up; while :; do sleep 0.02; done'; echo after"
    ))
}

const UP: &str = "ready = { log = \"up\" }";

fn stop(daemon: &Daemon) -> Duration {
    let began = Instant::now();
    daemon.change(name::MODULE_STOP, "it");
    began.elapsed()
}

#[test]
fn a_worker_behind_a_shell_gets_the_stop_signal_and_what_is_left_of_the_time() {
    in_both_ways(|| {
        let worker = shell_with_worker("sleep 0.3; echo handled; exit");
        let daemon = Daemon::start(&format!(
            "[module.it]\ncommand = {worker}\nshutdown_timeout = \"30s\"\n{UP}\n"
        ));
        daemon.until("it", ModuleState::Running);
        let took = stop(&daemon);
        assert!(took < Duration::from_secs(20), "{took:?}");
        daemon.wrote("it", "handled");
        let event = daemon.event("it", EventKind::ModuleTreeSignalled);
        let text = mainstay::journal::describe(&event);
        assert!(
            text.contains("SIGTERM was sent to the rest of its tree: sh "),
            "{text}"
        );
        let stopped = &daemon.moves("it", ModuleState::Stopped, 1)[0].payload["text"];
        assert_eq!(stopped, "stopped, killed by SIGTERM", "nothing was forced");
    });
}

#[test]
fn a_worker_behind_a_shell_that_ignores_the_signal_is_killed_in_the_time_of_the_stop() {
    in_both_ways(|| {
        let worker = shell_with_worker("");
        let daemon = Daemon::start(&format!(
            "[module.it]\ncommand = {worker}\nshutdown_timeout = \"700ms\"\n{UP}\n"
        ));
        daemon.until("it", ModuleState::Running);
        let took = stop(&daemon);
        let expected = Duration::from_millis(700)..Duration::from_secs(5);
        assert!(expected.contains(&took), "{took:?}");
        let stopped = &daemon.moves("it", ModuleState::Stopped, 1)[0].payload["text"];
        assert_eq!(stopped, "stopped by force, killed by SIGTERM");
    });
}

#[test]
fn one_deadline_holds_for_the_signal_what_comes_after_it_and_the_kill() {
    in_both_ways(|| {
        let daemon = Daemon::start(&format!(
            "[module.it]\ncommand = {}\nshutdown_timeout = \"2s\"\nready = {{ notify = true }}\n\
             after_stop = [[\"/bin/sh\", \"-c\", \"echo > cleaning; sleep 60\"]]\n",
            misbehave("--slow-stop 1600ms --ready notify")
        ));
        daemon.until("it", ModuleState::Running);
        let took = stop(&daemon);
        assert!(daemon.path("cleaning").exists(), "the command ran");
        let expected = Duration::from_millis(1900)..Duration::from_millis(3000);
        assert!(expected.contains(&took), "{took:?}");
    });
}

#[test]
fn what_cleans_up_runs_within_the_deadline_after_a_kill_too() {
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {}\nshutdown_timeout = \"2s\"\nready = {{ notify = true }}\n\
         after_stop = [[\"/bin/sh\", \"-c\", \"echo > cleaned\"]]\n",
        misbehave("--ignore-sigterm --ready notify")
    ));
    daemon.until("it", ModuleState::Running);
    let took = stop(&daemon);
    assert!(daemon.path("cleaned").exists());
    let expected = Duration::from_millis(1700)..Duration::from_millis(3000);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn a_stop_keeps_its_deadline_over_the_death_of_the_runtime() {
    in_both_ways(|| {
        let daemon = Daemon::start(&format!(
            "[module.it]\ncommand = {}\nshutdown_timeout = \"4s\"\nready = {{ notify = true }}\n",
            misbehave("--ignore-sigterm --ready notify")
        ));
        daemon.until("it", ModuleState::Running);
        let began = Instant::now();
        assert!(daemon.cli(&["stop", "it", "--no-wait"]).status.success());
        daemon.until("it", ModuleState::Stopping);
        daemon.wait("half of the time to pass", || {
            (began.elapsed() > Duration::from_secs(2)).then_some(())
        });
        daemon.kill_runtime();
        daemon.until("it", ModuleState::Stopped);
        let took = began.elapsed();
        let expected = Duration::from_millis(3900)..Duration::from_millis(5500);
        assert!(expected.contains(&took), "no second budget: {took:?}");
    });
}

#[test]
fn status_and_why_say_that_a_module_is_stopped_by_a_signal_and_a_stop_continues_it() {
    in_both_ways(|| {
        let daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
        let pid = daemon
            .until("it", ModuleState::Running)
            .pid
            .expect("it runs");
        kill(pid, libc::SIGSTOP);
        daemon.until_view("the stop to be seen", "it", |view| {
            view.suspended_by.as_deref() == Some("SIGSTOP")
        });
        let says = |words: &[&str]| String::from_utf8_lossy(&daemon.cli(words).stdout).into_owned();
        for words in [&["status"][..], &["status", "it"], &["why", "it"]] {
            let text = says(words);
            assert!(
                text.contains("stopped by a signal (SIGSTOP)"),
                "{words:?}: {text}"
            );
        }
        assert!(says(&["why", "it"]).contains(&format!("Do: kill -CONT {pid}")));
        daemon.kill_runtime();
        daemon.until_view("the stop to be seen again", "it", |view| {
            view.suspended_by.is_some() && view.pid == Some(pid)
        });
        kill(pid, libc::SIGCONT);
        daemon.until_view("the end of it", "it", |view| view.suspended_by.is_none());
        daemon.event("it", EventKind::ModuleContinued);
        kill(pid, libc::SIGSTOP);
        daemon.until_view("the stop to be seen", "it", |view| {
            view.suspended_by.is_some()
        });
        assert!(
            stop(&daemon) < Duration::from_secs(8),
            "the stop continues it"
        );
    });
}
