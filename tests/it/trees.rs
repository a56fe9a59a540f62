//! Everything a module starts is the module's: children, escapees, hooks and probes.
//! Owns that nothing of a run outlives it. Never looks inside.

use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, in_both_ways, kill, lives, misbehave, script};

/// One module named `it`.
fn one(command: &str, more: &str) -> String {
    format!("[module.it]\ncommand = {command}\n{more}\n")
}

/// The processes it wrote down, as soon as there are so many.
fn pids(daemon: &Daemon, count: usize) -> Vec<u32> {
    daemon.wait(&format!("{count} processes"), || {
        let text = std::fs::read_to_string(daemon.path("pids")).unwrap_or_default();
        let pids: Vec<u32> = text
            .lines()
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect();
        (pids.len() >= count).then_some(pids)
    })
}

fn alive(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|pid| lives(*pid)).collect()
}

/// All of it is gone when it is stopped, and when it crashed before the next run begins.
fn leaves_nothing(words: &str, count: usize) {
    in_both_ways(|| leaves_nothing_this_way(words, count));
}

fn leaves_nothing_this_way(words: &str, count: usize) {
    let words = format!("{words} --pids pids --stamp stamps");
    let daemon = Daemon::start(&one(&misbehave(&words), ""));
    let first = pids(&daemon, count);
    assert!(alive(&first).len() >= count, "they live before the stop");
    daemon.change("module.stop", "it");
    assert_eq!(alive(&first), [0; 0], "left behind by a stop");
    std::fs::remove_file(daemon.path("pids")).expect("it was written");

    daemon.change("module.start", "it");
    let second = pids(&daemon, count);
    let main = daemon.module("it");
    std::fs::remove_file(daemon.path("pids")).expect("it was written");
    kill(main.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("the next run", "it", |view| {
        view.generation > main.generation
    });
    daemon.until_view("its process", "it", |view| {
        view.generation > main.generation && view.pid.is_some()
    });
    assert_eq!(alive(&second), [0; 0], "left behind by a crash");
    let third = pids(&daemon, count);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(alive(&third), [0; 0], "left behind by the end of it all");
}

#[test]
fn children_end_with_it() {
    leaves_nothing("--children 3", 3);
}

#[test]
fn children_that_ignore_the_signal_end_with_it() {
    leaves_nothing(
        "--children 2 --ignore-sigterm --slow-stop 0s --exit-code 0 --until-file never",
        2,
    );
}

#[test]
fn one_that_escaped_into_a_session_of_its_own_ends_with_it() {
    leaves_nothing("--escape", 1);
}

#[test]
fn a_tree_of_a_hundred_ends_with_it() {
    leaves_nothing("--fork-bomb 100", 100);
}

#[test]
fn a_daemon_that_leaves_its_first_process_does_not_outlive_the_run() {
    in_both_ways(|| {
        // Its first process ends at once: that is the end of the run, and what it left goes.
        let more = "required = false\nrecovery.restart = \"never\"";
        let daemon = Daemon::start(&one(&misbehave("--double-fork --pids pids"), more));
        daemon.moves("it", ModuleState::Stopped, 1);
        let left = pids(&daemon, 1);
        daemon.wait("the daemon to be gone", || {
            alive(&left).is_empty().then_some(())
        });
    });
}

#[test]
fn commands_before_and_after_run_in_turn_around_each_run() {
    let more = format!(
        "before_start = [{}, {}]\nafter_stop = [{}]",
        script("echo before one $MAINSTAY_MODULE >> story"),
        script("echo before two >> story"),
        script("echo after >> story"),
    );
    let main = script("echo main >> story; exec $misbehave");
    let daemon = Daemon::start(&one(&main, &more));
    let story = || std::fs::read_to_string(daemon.path("story")).unwrap_or_default();
    let round = "before one it\nbefore two\nmain\nafter\n";
    daemon.wait("main", || story().contains("main").then_some(()));
    kill(daemon.module("it").pid.expect("it runs"), libc::SIGKILL);
    daemon.wait("the second main", || {
        (story().matches("main").count() == 2).then_some(())
    });
    assert!(
        story().starts_with(&format!("{round}before one it\n")),
        "{}",
        story()
    );
    let path = daemon.path("story");
    let dir = daemon.change("module.stop", "it");
    assert_eq!(dir.state, ModuleState::Stopped);
    assert_eq!(
        std::fs::read_to_string(path).expect("it is there"),
        round.repeat(2)
    );
}

#[test]
fn a_command_before_that_fails_is_a_failed_start_and_is_told() {
    let more = format!(
        "required = false\nbefore_start = [{}, {}]\nrecovery.auto = false",
        script("echo no such database; exit 4"),
        script("touch second"),
    );
    let daemon = Daemon::start(&one(&script("touch main; exec $misbehave"), &more));
    let failed = daemon.moves("it", ModuleState::Failed, 1);
    let text = failed[0].payload["text"].as_str().expect("a text");
    assert!(text.contains("exit code 4: no such database"), "{text}");
    let told = daemon.cli(&["status", "it"]).stdout;
    assert!(
        String::from_utf8_lossy(&told).contains("no such database"),
        "{told:?}"
    );
    for file in ["second", "main"] {
        assert!(!daemon.path(file).exists(), "{file} was run");
    }
    assert_eq!(daemon.count("it", EventKind::ModuleExited), 0);
}

#[test]
fn a_command_after_that_fails_does_not_hide_how_it_ended() {
    let more = format!(
        "required = false\nrecovery.restart = \"never\"\nafter_stop = [{}]",
        script("exit 9"),
    );
    let daemon = Daemon::start(&one(&misbehave("--exit-code 3"), &more));
    let view = daemon.until("it", ModuleState::Failed);
    assert_eq!(view.last_exit.expect("it ended").code, Some(3));
}

/// A command that writes its pid down, starts one that escapes, and hears nothing.
fn deaf() -> String {
    script("trap '' TERM; echo hook $$ >> pids; setsid sleep 60 & sleep 60; sleep 60")
}

#[test]
fn a_command_before_ends_with_its_tree_at_the_end_of_its_time() {
    in_both_ways(|| {
        let more = format!(
            "required = false\nbefore_start = [{}]\nrecovery.auto = false\n\
         startup_timeout = \"300ms\"\nshutdown_timeout = \"200ms\"",
            deaf(),
        );
        let daemon = Daemon::launch("", &one(&misbehave(""), &more));
        let hook = pids(&daemon, 1);
        let failed = daemon.moves("it", ModuleState::Failed, 1);
        assert_eq!(failed[0].payload["text"], "it was not ready in time");
        assert_eq!(alive(&hook), [0; 0]);
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn a_stop_ends_a_command_before_and_does_not_wait_for_it() {
    in_both_ways(|| {
        let friendly = script("echo hook $$ >> pids; exec sleep 60");
        for (hook, timeout) in [(friendly, "20s"), (deaf(), "200ms")] {
            let more = format!(
                "required = false\nbefore_start = [{hook}, {}]\nshutdown_timeout = \"{timeout}\"",
                script("touch second"),
            );
            let daemon = Daemon::launch("", &one(&misbehave(""), &more));
            let hook = pids(&daemon, 1);
            let began = std::time::Instant::now();
            daemon.change("module.stop", "it");
            assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
            assert_eq!(daemon.until("it", ModuleState::Stopped).pid, None);
            assert_eq!(alive(&hook), [0; 0]);
            assert!(
                !daemon.path("second").exists(),
                "nothing comes after a stop"
            );
        }
    });
}

#[test]
fn a_command_after_ends_at_the_end_of_its_time() {
    in_both_ways(|| {
        let more = format!("after_stop = [{}]\nshutdown_timeout = \"300ms\"", deaf());
        let daemon = Daemon::start(&one(&misbehave(""), &more));
        let began = std::time::Instant::now();
        daemon.change("module.stop", "it");
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
        daemon.until("it", ModuleState::Stopped);
        assert_eq!(alive(&pids(&daemon, 1)), [0; 0]);
    });
}

#[test]
fn a_probe_ends_at_its_timeout_and_with_its_module() {
    in_both_ways(|| {
        let probe = |timeout: &str| {
            format!(
                "health.probes = [{{ exec = {}, interval = \"10ms\", timeout = \"{timeout}\", \
             unhealthy_threshold = 100 }}]",
                deaf(),
            )
        };
        let daemon = Daemon::start(&one(&misbehave(""), &probe("150ms")));
        let looks = pids(&daemon, 3);
        assert_eq!(alive(&looks[..2]), [0; 0], "one look at a time");

        let daemon = Daemon::start(&one(&misbehave(""), &probe("60s")));
        let look = pids(&daemon, 1);
        daemon.change("module.stop", "it");
        daemon.wait("the look to be gone", || {
            alive(&look).is_empty().then_some(())
        });
    });
}

#[test]
fn a_command_of_a_runtime_that_died_does_not_go_on_beside_the_next() {
    in_both_ways(|| {
        let more = format!("required = false\nbefore_start = [{}]", deaf());
        let daemon = Daemon::launch("", &one(&misbehave(""), &more));
        let hook = pids(&daemon, 1);
        daemon.kill_runtime();
        pids(&daemon, 2);
        assert_eq!(alive(&hook), [0; 0], "two at once");
    });
}
