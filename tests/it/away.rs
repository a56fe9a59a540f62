//! What happens while there is no runtime: the next one has to know it all the same.
//! Owns ends that nobody but the holder saw. Never looks inside.

use mainstay_protocol::{Cause, EventKind, State};

use crate::daemon::{Daemon, kill, misbehave};

/// Ends a module by a signal while its runtime is away.
fn end_meanwhile(daemon: &Daemon, module: &str, signal: i32) {
    let (runtime, pid) = (daemon.status().pid, daemon.module(module).pid);
    kill(runtime, libc::SIGKILL);
    kill(pid.expect("it runs"), signal);
    daemon.wait("a new runtime", || {
        (daemon.status().pid != runtime).then_some(())
    });
}

#[test]
fn an_end_that_no_runtime_saw_is_judged_by_how_it_was() {
    let modules = format!(
        "[module.it]\nrequired = false\nready = {{ notify = true }}\ncommand = {}\n\
         recovery.restart = \"on_failure\"\n",
        misbehave("--ready notify")
    );
    let daemon = Daemon::start(&modules);
    end_meanwhile(&daemon, "it", libc::SIGTERM);
    // Clean: that is no failure.
    let view = daemon.until_view("its end", "it", |view| {
        view.state == State::Stopped && view.last_exit.is_some()
    });
    assert_eq!(view.last_exit.expect("it ended").code, Some(0));
    assert_eq!(daemon.count("it", EventKind::RecoveryStarted), 0);
    daemon.change("module.start", "it");
    end_meanwhile(&daemon, "it", libc::SIGKILL);
    let backoff = daemon.moves("it", State::Backoff, 1);
    assert_eq!(backoff[0].cause, Some(Cause::Exit));
    let text = backoff[0].payload["text"].as_str().expect("a text");
    assert!(text.contains("SIGKILL"), "{text}");
    daemon.until_view("its third run", "it", |view| {
        view.generation == 3 && view.state == State::Running
    });
}

#[test]
fn who_restarts_with_what_it_needs_does_so_when_no_runtime_saw_the_end() {
    let modules = format!(
        "[module.base]\ncommand = {0}\n[module.above]\ncommand = {0}\nrequires = [\"base\"]\n\
         recovery.on_dependency_restart = \"restart\"\n",
        misbehave("")
    );
    let daemon = Daemon::start(&modules);
    for generation in 2..5 {
        end_meanwhile(&daemon, "base", libc::SIGKILL);
        daemon.until_view("the run above", "above", |view| {
            view.generation == generation && view.state == State::Running
        });
    }
    assert_eq!(daemon.count("above", EventKind::RecoveryStarted), 0);
}
