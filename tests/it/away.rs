//! What happens while there is no runtime: the next one has to know it all the same.
//! Owns ends that nobody but the holder saw, and the end of the holder. Never looks inside.

use mainstay_client::blocking::Client;
use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{EventKind, ModuleState, StateCause, SystemStatus};

use crate::daemon::{
    Daemon, in_both_ways, kill, lives, misbehave, on_go, script, wait_for, without_succession,
};

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
        view.state == ModuleState::Stopped && view.last_exit.is_some()
    });
    assert_eq!(view.last_exit.expect("it ended").code, Some(0));
    assert_eq!(daemon.count("it", EventKind::RecoveryStarted), 0);
    daemon.change("module.start", "it");
    end_meanwhile(&daemon, "it", libc::SIGKILL);
    let backoff = daemon.moves("it", ModuleState::Backoff, 1);
    assert_eq!(backoff[0].cause, Some(StateCause::Exit));
    let text = backoff[0].payload["text"].as_str().expect("a text");
    assert!(text.contains("SIGKILL"), "{text}");
    daemon.until_view("its third run", "it", |view| {
        view.generation == 3 && view.state == ModuleState::Running
    });
}

/// The holder reports the last end of a module to every runtime; history has it once.
#[test]
fn an_end_that_was_recorded_is_not_recorded_by_later_runtimes() {
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {}\n[module.done]\nkind = \"task\"\ncommand = [\"true\"]\n",
        misbehave("")
    ));
    daemon.event("done", EventKind::ModuleExited);
    for _ in 0..3 {
        daemon.kill_runtime();
        daemon.until("it", ModuleState::Running);
    }
    daemon.until_view("its end", "done", |view| view.last_exit.is_some());
    assert_eq!(daemon.count("done", EventKind::ModuleExited), 1);
}

/// The next run finds the folder as `after_stop` leaves it.
#[test]
fn what_ended_without_a_runtime_is_cleaned_up_after_before_its_next_run() {
    let clean = script("echo cleaned >> order");
    let command = script("echo run >> order; exec $misbehave");
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {command}\nafter_stop = [{clean}]\n"
    ));
    for generation in 2..5 {
        end_meanwhile(&daemon, "it", libc::SIGKILL);
        daemon.until_view("its next run", "it", |view| {
            view.generation == generation && view.state == ModuleState::Running
        });
    }
    // The last run is out before it has written its line.
    let expected = format!("run\n{}", "cleaned\nrun\n".repeat(3));
    daemon.wait("each run, and what follows it", || {
        let order = std::fs::read_to_string(daemon.path("order")).expect("it ran");
        (order.len() >= expected.len()).then(|| assert_eq!(order, expected))
    });
    assert_eq!(daemon.count("it", EventKind::ModuleExited), 3);
}

#[test]
fn the_time_without_a_runtime_includes_the_start_of_the_next() {
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
    let runtime = daemon.status().pid;
    let killed = std::time::Instant::now();
    kill(runtime, libc::SIGKILL);
    daemon.wait("a new runtime", || {
        (daemon.status().pid != runtime).then_some(())
    });
    let longest = killed.elapsed().as_millis();
    let returned = daemon.wait("the event of its return", || {
        let params = EventsParams {
            kinds: vec![EventKind::RuntimeReturned],
            ..EventsParams::default()
        };
        daemon.client().events(&params).expect("events").pop()
    });
    // A program has to be loaded, a configuration and a journal to be opened.
    let away = returned.payload["away_ms"].as_u64().expect("a number");
    assert!((1..=longest).contains(&away.into()), "{away} {longest}");
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
            view.generation == generation && view.state == ModuleState::Running
        });
    }
    assert_eq!(daemon.count("above", EventKind::RecoveryStarted), 0);
}

#[test]
fn the_line_that_says_it_is_ready_counts_whenever_it_was_written() {
    let command = script(
        "until [ -e go ]; do sleep 0.02; done\n\
         rm go; echo up; exec $misbehave",
    );
    let modules = format!(
        "[module.it]\nready = {{ log = \"^up$\" }}\nrequired = false\ncommand = {command}\n\
         startup_timeout = \"20s\"\n"
    );
    let daemon = Daemon::launch("", &modules);
    let ready = |generation: u64| {
        let view = daemon.until_view("its start to be over", "it", |view| {
            view.state != ModuleState::Starting
        });
        assert_eq!(
            (view.state, view.generation),
            (ModuleState::Running, generation)
        );
    };
    let starts = |generation| {
        daemon.until_view("its start", "it", |view| {
            view.generation == generation
                && view.state == ModuleState::Starting
                && view.pid.is_some()
        });
    };
    starts(1);
    // While the runtime is deaf, which then dies of it: it has heard nothing.
    let runtime = daemon.status().pid;
    kill(runtime, libc::SIGSTOP);
    daemon.touch("go");
    daemon.wrote("it", "up");
    kill(runtime, libc::SIGKILL);
    ready(1);
    let restart = ChangeParams {
        module: "it".to_owned(),
        dry_run: false,
        wait: false,
    };
    let asked = daemon.client().change(name::MODULE_RESTART, &restart);
    asked.expect("the change is granted");
    starts(2);
    daemon.kill_runtime();
    // What the run before wrote is in its log, and nothing of this one.
    assert_eq!(daemon.module("it").state, ModuleState::Starting);
    daemon.touch("go");
    ready(2);
}

/// The processes of the module that live: each wrote itself down when it began.
fn living(daemon: &Daemon) -> Vec<u32> {
    let stamps = std::fs::read_to_string(daemon.path("stamps")).unwrap_or_default();
    let pids = stamps
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.parse().ok());
    pids.filter(|pid| lives(*pid)).collect()
}

#[test]
fn orphan_adoption_leaves_one_process_wherever_the_runtime_died() {
    in_both_ways(|| {
        let words = misbehave("--ready notify --stamp stamps");
        let module = format!("[module.it]\nready = {{ notify = true }}\ncommand = {words}\n");
        let daemon = Daemon::start(&module);
        for round in 0_u64..6 {
            let (runtime, pid) = (daemon.status().pid, daemon.module("it").pid);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let restart = ChangeParams {
                        module: "it".to_owned(),
                        dry_run: false,
                        wait: false,
                    };
                    // A refusal, or that it is gone, is an answer too.
                    while lives(runtime) {
                        let _answer = Client::connect(daemon.socket())
                            .and_then(|mut client| client.change(name::MODULE_RESTART, &restart));
                    }
                });
                // Somewhere in the middle of that: other rounds, other moments.
                for _ in 0..round * 977 % 6 * 300 {
                    let _looked = lives(runtime);
                }
                if let Some(pid) = pid.filter(|_| round % 3 == 0) {
                    kill(pid, libc::SIGKILL);
                }
                kill(runtime, libc::SIGKILL);
            });
            daemon.wait("one process, and a runtime that knows it", || {
                let living = living(&daemon);
                assert!(living.len() <= 1, "round {round}: {living:?} at once");
                let view = Client::connect(daemon.socket()).ok()?.module("it").ok()?;
                let agreed =
                    view.state == ModuleState::Running && view.pid == living.first().copied();
                (agreed && view.pid.is_some() && daemon.status().pid != runtime).then_some(())
            });
        }
    });
}

/// Kills the holder: its runtime ends what runs, and then itself.
fn ends_without_its_holder(daemon: &Daemon) {
    let runtime = daemon.status().pid;
    kill(daemon.holder(), libc::SIGKILL);
    let ended = wait_for("its end", || (!lives(runtime)).then_some(()));
    if ended.is_none() {
        kill(runtime, libc::SIGKILL);
    }
    assert!(ended.is_some(), "it goes on for ever; {}", daemon.printed());
}

#[test]
fn what_cleans_up_does_not_hold_a_runtime_that_lost_its_holder() {
    without_succession(); // what holds where no other one can go on
    let clean = script("touch cleaned");
    let command = misbehave("");
    let modules = format!("[module.it]\ncommand = {command}\nafter_stop = [{clean}]\n");
    let daemon = Daemon::start(&modules);
    let pid = daemon.module("it").pid.expect("it runs");
    ends_without_its_holder(&daemon);
    assert!(!lives(pid), "it ended before its runtime");
}

#[test]
fn what_left_its_session_ends_with_a_runtime_that_lost_its_holder() {
    crate::daemon::in_both_ways(|| {
        let escape = "setsid sleep 300 & echo $! > $0.new; mv $0.new $0; wait";
        let command = format!("[\"sh\", \"-c\", \"{escape}\", \"escapee\"]");
        let daemon = Daemon::start(&format!("[module.it]\ncommand = {command}\n"));
        let file = daemon.path("escapee");
        let read = || std::fs::read_to_string(&file).ok()?.trim().parse().ok();
        let escapee: u32 = daemon.wait("an escapee", read);
        assert!(lives(escapee));
        ends_without_its_holder(&daemon);
        assert!(!lives(escapee), "it ended before its runtime");
    });
}

#[test]
fn a_start_that_no_holder_answers_any_more_does_not_hold_the_runtime() {
    without_succession(); // what holds where no other one can go on
    let modules = format!("[module.it]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&modules);
    daemon.change(name::MODULE_STOP, "it");
    kill(daemon.holder(), libc::SIGSTOP);
    let start = ChangeParams {
        module: "it".to_owned(),
        dry_run: false,
        wait: false,
    };
    let asked = daemon.client().change(name::MODULE_START, &start);
    asked.expect("the change is granted");
    daemon.until("it", ModuleState::Starting);
    ends_without_its_holder(&daemon);
}

/// Two that start one after the other; the first is ready when it is told to be.
fn slow_first(timeout: &str) -> Daemon {
    let head = format!("startup_timeout = \"{timeout}\"\n");
    let modules = format!(
        "[module.slow]\nready = {{ notify = true }}\ncommand = {}\n\
         [module.above]\nrequires = [\"slow\"]\ncommand = {}\n",
        on_go("--ready notify"),
        misbehave("")
    );
    let daemon = Daemon::launch(&head, &modules);
    daemon.until_view("its process", "slow", |view| view.pid.is_some());
    daemon.kill_runtime();
    assert_eq!(daemon.status().status, SystemStatus::Starting);
    daemon
}

#[test]
fn a_first_start_goes_on_under_the_next_runtime() {
    let daemon = slow_first("60s");
    daemon.touch("go");
    daemon.until("above", ModuleState::Running);
    daemon.wait("word of it", || {
        daemon.printed().contains("everything is up").then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_first_start_is_over_time_under_the_next_runtime_too() {
    let mut daemon = slow_first("8s");
    assert_eq!(daemon.ended(), Some(1));
    let printed = daemon.printed();
    assert!(
        printed.contains("not ready within mainstay.startup_timeout"),
        "{printed}"
    );
}
