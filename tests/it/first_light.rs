//! The life of an application: start in order, stay up, answer, stop.
//! Owns the promises of the README. Never looks inside.

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, HealthStatus, ModuleState, SystemStatus};

use crate::daemon::{Daemon, in_both_ways, kill, lives, misbehave};

fn pair() -> String {
    format!(
        "[module.base]\ncommand = {}\nready = {{ notify = true }}\n\
         [module.top]\ncommand = {}\nrequires = [\"base\"]\n",
        misbehave("--ready notify --ready-after 50ms"),
        misbehave(""),
    )
}

#[test]
fn modules_start_in_the_order_of_their_needs_and_only_when_those_are_ready() {
    let daemon = Daemon::start(&pair());
    let ready = daemon.event("base", EventKind::ModuleReady);
    let started = daemon.wait("top to have been started", || {
        daemon
            .events("top")
            .into_iter()
            .find(|event| event.payload["to"] == "starting")
    });
    assert!(
        ready.seq < started.seq,
        "base was ready (#{}) after top started",
        ready.seq
    );
    let status = daemon.status();
    assert_eq!(status.status, SystemStatus::Healthy);
    assert_eq!(status.modules.running, 2, "without the event bus");
    assert_eq!(daemon.module("event-bus").health, HealthStatus::Healthy);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_killed_module_comes_back_and_its_dependents_are_told_and_go_on() {
    let daemon = Daemon::start(&format!("[recovery]\nstable_after = \"1s\"\n{}", pair()));
    let (base, top) = (daemon.module("base"), daemon.module("top"));
    kill(base.pid.expect("it runs"), libc::SIGKILL);
    let back = daemon.until_view("base to be back", "base", |view| {
        view.state == ModuleState::Running && view.generation > base.generation
    });
    assert_ne!(back.pid, base.pid);
    assert_eq!(back.restarts, 1);
    assert_eq!(
        back.last_exit.expect("it ended").signal,
        Some(libc::SIGKILL)
    );
    assert_eq!(daemon.module("top").pid, top.pid, "the dependent goes on");
    daemon.event("top", EventKind::ModuleRestored);
    let told = daemon.event("top", EventKind::ModuleDegraded);
    assert!(told.cause_seq.is_some(), "the story has a cause");
    daemon.event("base", EventKind::RecoveryCompleted);
}

#[test]
fn why_tells_the_story_of_a_crash() {
    let daemon = Daemon::start(&pair());
    kill(daemon.module("base").pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("a restart", "base", |view| {
        view.restarts == 1 && view.state == ModuleState::Running
    });
    let why = daemon.wait("the whole story", || {
        let why = daemon.client().why("base").ok()?;
        why.chain
            .iter()
            .any(|link| link.kind == EventKind::RecoveryStarted)
            .then_some(why)
    });
    let texts: Vec<&str> = why.chain.iter().map(|link| link.text.as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("killed by SIGKILL")),
        "{texts:?}"
    );
    let printed = daemon.cli(&["why", "base"]);
    assert!(printed.status.success());
    assert!(String::from_utf8_lossy(&printed.stdout).contains("SIGKILL"));
}

#[test]
fn a_killed_runtime_returns_and_no_module_notices() {
    in_both_ways(|| {
        let daemon = Daemon::start(&pair());
        let before = (daemon.module("base"), daemon.module("top"), daemon.status());
        kill(before.2.pid, libc::SIGKILL);
        let after = daemon.wait("a new runtime", || {
            let status = daemon.status();
            (status.pid != before.2.pid && status.modules.running == 2).then_some(status)
        });
        assert_eq!(after.holder_pid, before.2.holder_pid);
        assert_eq!(after.status, SystemStatus::Healthy);
        for (name, old) in [("base", &before.0), ("top", &before.1)] {
            let new = daemon.module(name);
            assert_eq!(
                (new.pid, new.generation),
                (old.pid, old.generation),
                "{name} was touched"
            );
        }
        // And it is in control: what dies now comes back.
        kill(before.0.pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("base to be back", "base", |view| {
            view.state == ModuleState::Running && view.generation > before.0.generation
        });
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn ctrl_c_stops_in_reverse_order_and_leaves_nothing_behind() {
    in_both_ways(|| {
        let daemon = Daemon::start(&pair());
        let pids: Vec<u32> = ["base", "top"]
            .iter()
            .filter_map(|m| daemon.module(m).pid)
            .collect();
        let (run, printed) = (daemon.path("run"), daemon.path("up.log"));
        let status = daemon.status();
        let mut daemon = daemon;
        daemon.signal(libc::SIGINT);
        assert_eq!(daemon.ended(), Some(0));
        assert!(
            pids.iter().all(|pid| !lives(*pid)),
            "a module outlived the stop"
        );
        assert!(!lives(status.pid), "the runtime outlived the stop");
        let left: Vec<_> = std::fs::read_dir(&run)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "left behind: {left:?}");
        let printed = std::fs::read_to_string(printed).expect("printed");
        let at = |text: &str| {
            printed
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {printed}"))
        };
        assert!(
            at("top                  stopped") < at("base                 stopping"),
            "{printed}"
        );
    });
}

#[test]
fn stop_and_start_take_along_what_must_come_along() {
    let daemon = Daemon::start(&pair());
    let dry = daemon.cli(&["stop", "base", "--dry-run"]);
    assert!(
        String::from_utf8_lossy(&dry.stdout).contains("top"),
        "{dry:?}"
    );
    assert_eq!(
        daemon.module("top").state,
        ModuleState::Running,
        "a dry run changes nothing"
    );
    daemon.change(name::MODULE_STOP, "base");
    let top = daemon.until("top", ModuleState::Waiting);
    assert_eq!(top.waiting_on, ["base"]);
    assert_eq!(
        top.desired,
        mainstay_protocol::DesiredState::Up,
        "it rises by itself"
    );
    let without = daemon.wait("the system to miss it", || {
        let status = daemon.status();
        (status.status == SystemStatus::Degraded).then_some(status)
    });
    assert_eq!(
        without.reason.as_deref(),
        Some("base was stopped on request; not running: top")
    );
    daemon.change(name::MODULE_START, "base");
    daemon.until("top", ModuleState::Running);
    let status = daemon.status();
    assert_eq!(
        (status.status, status.reason),
        (SystemStatus::Healthy, None)
    );
    // Without top too, as it is asked; what only waits for it is not told apart.
    daemon.change(name::MODULE_STOP, "top");
    daemon.change(name::MODULE_STOP, "base");
    let both = daemon.status().reason;
    assert_eq!(both.as_deref(), Some("base, top were stopped on request"));
    daemon.kill_runtime();
    let after = daemon.status();
    assert_eq!((after.status, after.reason), (SystemStatus::Degraded, both));
}

#[test]
fn only_one_mainstay_has_a_state_directory() {
    let daemon = Daemon::start(&pair());
    let second = daemon.cli(&["up"]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let complaint = String::from_utf8_lossy(&second.stderr);
    assert!(
        complaint.contains(&daemon.holder().to_string()),
        "it says who: {complaint}"
    );
    assert_eq!(daemon.status().modules.running, 2, "the first goes on");
}

#[test]
fn a_place_that_cannot_be_used_is_named_with_the_next_step() {
    for (key, place) in [
        ("state_dir", "state"),
        ("runtime_dir", "run"),
        ("logs", "state/logs"),
    ] {
        let dir = crate::daemon::prepare("", "");
        if key == "logs" {
            std::fs::create_dir(dir.path().join("state")).expect("a folder");
        }
        let file = dir.path().join(place);
        std::fs::write(&file, "").expect("a file in the way");
        let mut daemon = Daemon::launch_in(dir);
        assert_eq!(daemon.ended(), Some(1), "{key}");
        let printed = daemon.printed();
        let file = file.display();
        assert!(
            printed.contains(&format!("cannot use {file}: Not a directory (ENOTDIR)"))
                && printed.contains(&format!(
                    "{file} is no directory: move it away, or set another"
                ))
                && printed.contains(key),
            "{key}: {printed}"
        );
        let detached = daemon.cli(&["up", "-d"]);
        assert_eq!(detached.status.code(), Some(1), "{key}");
        let error = String::from_utf8_lossy(&detached.stderr).into_owned();
        assert_eq!(error, printed, "{key}: detached it says the same");
    }
}

#[test]
fn a_detached_start_that_could_not_write_why_it_ended_says_where_to_look() {
    let dir = crate::daemon::prepare("", "");
    std::fs::write(dir.path().join("run"), "").expect("a file in the way");
    let logs = dir.path().join("state/logs");
    std::fs::create_dir_all(&logs).expect("folders");
    // What is written there is lost, as on a full disk.
    std::os::unix::fs::symlink("/dev/null", logs.join("mainstay.out")).expect("a link");
    let output = std::process::Command::new(crate::daemon::binary())
        .args(["up", "-d", "--config"])
        .arg(dir.path().join("config"))
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let (_, err) = crate::history::both(&output);
    assert!(
        err.contains("it exited, and") && err.contains("mainstay.out"),
        "{err}"
    );
    assert!(err.contains("`mainstay up` in the foreground"), "{err}");
}
