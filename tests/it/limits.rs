//! Limits that bite: hogs that are held, leaks that are restarted, nothing that stays frozen.
//! Owns an observer from outside, which reads /proc. Measures, and asserts with a wide margin: the
//! machine may be busy.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use mainstay_protocol::enums::Rung;
use mainstay_protocol::{EventKind, ModuleState, StateCause};

use crate::daemon::{
    Daemon, binary, in_both_ways, kill, lives, misbehave, prepare, script, without_succession,
};

/// Quick samples and a quick ladder.
pub(crate) const QUICK: &str = "[resources]\ncheck_interval = \"200ms\"\ndwell = \"300ms\"\n\
                     release = \"500ms\"\n";

/// Windows of 5 s in which a hog has to be at its ceiling once, if the machine was not busy in this
/// many of them.
const WINDOWS_MAX: usize = 6;
const CALM_MIN: usize = 2;
/// Percent of a core that a hog without a limit gets on a machine that is not busy.
const LEFT_MIN: f64 = 50.0;

/// All processes of the session that a module's main process leads.
pub(crate) fn tree(main: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| field(*pid, 3) == u64::from(main))
        .collect()
}

/// A field of /proc/PID/stat; the first one after the name has number 0.
fn field(pid: u32, number: usize) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = rest.split(' ').nth(number);
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") T "))
}

/// CPU time of a tree in milliseconds.
pub(crate) fn used(main: u32) -> u64 {
    let ticks = tree(main)
        .into_iter()
        .map(|pid| field(pid, 11) + field(pid, 12));
    ticks.sum::<u64>() * 10
}

/// Percent of a core that each tree uses over a time.
pub(crate) fn observe(mains: &[u32], span: Duration) -> Vec<f64> {
    let before: Vec<u64> = mains.iter().map(|main| used(*main)).collect();
    let began = Instant::now();
    std::thread::sleep(span);
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let after = mains.iter().zip(before);
    after
        .map(|(main, before)| (used(*main) - before) as f64 / took * 100.0)
        .collect()
}

/// A script that keeps so many processes busy.
pub(crate) fn hog(processes: usize) -> String {
    let spin = "(while :; do :; done) & ";
    script(&format!("{} wait", spin.repeat(processes)))
}

pub(crate) fn main_of(daemon: &Daemon, name: &str) -> u32 {
    daemon.module(name).pid.expect("it runs")
}

#[test]
fn hogs_of_one_four_and_fifty_processes_and_of_fifty_threads_are_held() {
    in_both_ways(|| {
        let module = |name: &str, command: &str| {
            format!("[module.{name}]\ncommand = {command}\nlimits = {{ cpu_percent = 20 }}\n")
        };
        let modules = [
            QUICK.to_owned(),
            module("one", &hog(1)),
            module("four", &hog(4)),
            module("fifty", &hog(50)),
            module("threads", &misbehave("--burn-cpu 50")),
            format!(
                "[module.free]\ncommand = {}\nlimits = {{ nice = 5 }}\n",
                hog(1)
            ),
        ];
        let daemon = Daemon::start(&modules.concat());
        let names = ["one", "four", "fifty", "threads"];
        let all = names.iter().chain([&"free"]);
        let mains: Vec<u32> = all.map(|name| main_of(&daemon, name)).collect();
        std::thread::sleep(Duration::from_secs(2));
        // A hog without a limit says what the machine has left: where that is little, a hog at its
        // ceiling gets less than its share, and so does the governor.
        let (mut kept, mut calm) = ([false; 4], 0);
        let mut seen = Vec::new();
        for _ in 0..WINDOWS_MAX {
            let mut shares = observe(&mains, Duration::from_secs(5));
            let left = shares.pop().unwrap_or_default();
            eprintln!(
                "limits: cpu_percent = 20, over 5 s: {shares:.1?}; without a limit {left:.1}"
            );
            calm += usize::from(left >= LEFT_MIN);
            for (kept, share) in kept.iter_mut().zip(&shares) {
                *kept |= (18.0..=22.0).contains(share);
            }
            seen.push(shares);
            if kept == [true; 4] {
                break;
            }
        }
        let windows = seen.len() as f64;
        for (at, name) in names.iter().enumerate() {
            let mean = seen.iter().map(|shares| shares[at]).sum::<f64>() / windows;
            assert!(mean < 40.0, "{name}: {seen:.1?}");
            assert!(kept[at] || calm < CALM_MIN, "{name}: {seen:.1?}");
        }
    });
}

#[test]
fn what_needs_less_again_is_released() {
    let busy = "until [ -e calm ]; do :; done; exec sleep 1000";
    let modules = format!(
        "{QUICK}[module.it]\ncommand = {}\nlimits = {{ cpu_percent = 4 }}\n",
        script(busy)
    );
    in_both_ways(|| {
        let daemon = Daemon::start(&modules);
        let view = daemon.until_view("the cap", "it", |view| view.throttle.rung == Rung::Cap);
        let mechanism = view.throttle.mechanism.as_str();
        assert!(["governor", "cgroup2"].contains(&mechanism), "{mechanism}");
        let throttled = daemon.event("it", EventKind::ModuleThrottled);
        assert_eq!(throttled.cause, Some(StateCause::Limit));
        daemon.touch("calm");
        daemon.until_view("the release", "it", |view| view.throttle.rung == Rung::None);
        daemon.event("it", EventKind::ModuleReleased);
        assert_eq!(daemon.module("it").state, ModuleState::Running);
    });
}

#[test]
fn a_leak_climbs_the_ladder_and_is_restarted_by_recovery() {
    let modules = format!(
        "{QUICK}[module.it]\ncommand = {}\nlimits = {{ memory_mb = 40 }}\n",
        misbehave("--leak 60 --leak-max 300 --once-file leaked")
    );
    let daemon = Daemon::start(&modules);
    let restarted = daemon.until_view("its second run", "it", |view| {
        view.generation == 2 && view.state == ModuleState::Running
    });
    assert_eq!(
        restarted.throttle.rung,
        Rung::None,
        "a new run begins below"
    );
    let events = daemon.events("it");
    let rungs: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == EventKind::ModuleThrottled)
        .filter_map(|event| event.payload["to"].as_str())
        .collect();
    assert!(
        rungs.starts_with(&["notice", "priority"]) && rungs.ends_with(&["restart"]),
        "{rungs:?}"
    );
    let stopping = events
        .iter()
        .position(|event| event.payload["to"] == "stopping");
    let restart = events
        .iter()
        .position(|event| event.payload["to"] == "restart");
    assert!(restart < stopping, "the event comes first");
    let stopping = &events[stopping.expect("it was stopped")];
    assert_eq!(stopping.cause, Some(StateCause::Limit));
    let why = daemon.cli(&["why", "it"]).stdout;
    let why = String::from_utf8_lossy(&why).into_owned();
    assert!(why.contains("limits.memory_mb = 40"), "{why}");
}

#[test]
fn a_module_whose_ladder_ends_with_stop_stays_stopped() {
    let modules = format!(
        "{QUICK}[module.it]\nrequired = false\ncommand = {}\nlimits = {{ memory_mb = 20 }}\n\
         rungs = [\"notice\", \"stop\"]\n",
        misbehave("--leak 60 --leak-max 200")
    );
    let daemon = Daemon::start(&modules);
    let view = daemon.until("it", ModuleState::Failed);
    assert_eq!(view.next_attempt_at, None);
    assert_eq!(view.generation, 1);
}

/// How often a test kills: so often, or as the environment says (MAINSTAY_TEST_KILLS=100).
fn kills(usual: u32) -> u32 {
    let asked = std::env::var("MAINSTAY_TEST_KILLS").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[test]
fn nothing_stays_frozen_when_the_runtime_is_killed() {
    in_both_ways(|| {
        let modules = format!(
            "[module.it]\ncommand = {}\nlimits = {{ cpu_percent = 5 }}\n",
            hog(3)
        );
        let daemon = Daemon::start(&modules);
        let main = main_of(&daemon, "it");
        for _ in 0..kills(20) {
            daemon.kill_runtime();
            let before = used(main);
            daemon.wait("it to run on", || (used(main) > before).then_some(()));
        }
        assert_eq!(main_of(&daemon, "it"), main, "no runtime touched it");
        // The new runtime holds it again.
        daemon.wait("it to be held", || {
            let share = observe(&[main], Duration::from_secs(2))[0];
            (share < 40.0).then_some(())
        });
    });
}

#[test]
fn nothing_stays_behind_frozen_when_the_holder_is_killed() {
    without_succession(); // what holds where no other one can go on
    in_both_ways(|| {
        for _ in 0..kills(5) {
            let modules = format!(
                "[module.it]\ncommand = {}\nlimits = {{ cpu_percent = 5 }}\n",
                hog(3)
            );
            let mut daemon = Daemon::start(&modules);
            let processes = tree(main_of(&daemon, "it"));
            std::thread::sleep(Duration::from_millis(300));
            daemon.signal(libc::SIGKILL);
            daemon.ended();
            daemon.wait("all of it to be gone", || {
                processes.iter().all(|pid| !lives(*pid)).then_some(())
            });
        }
    });
}

#[test]
fn a_child_that_a_person_stopped_is_not_continued() {
    in_both_ways(|| {
        let command = script("sleep 1000 & echo child $! > pids; while :; do :; done");
        let modules =
            format!("[module.it]\ncommand = {command}\nlimits = {{ cpu_percent = 10 }}\n");
        let daemon = Daemon::start(&modules);
        let main = main_of(&daemon, "it");
        let child = daemon.wait("its child", || {
            let text = std::fs::read_to_string(daemon.path("pids")).ok()?;
            text.trim().rsplit_once(' ')?.1.parse::<u32>().ok()
        });
        // Between two stops of the governor, which would continue what it stopped itself.
        daemon.wait("the child to stay stopped", || {
            kill(child, libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(700));
            is_stopped(child).then_some(())
        });
        let before = used(main);
        daemon.wait("the rest to run on", || {
            (used(main) > before + 50).then_some(())
        });
        assert!(is_stopped(child));
    });
}

#[test]
fn what_has_to_be_enforced_and_cannot_is_refused_before_anything_starts() {
    let modules = format!(
        "[resources]\nenforcement = \"required\"\n[module.it]\ncommand = {}\n\
         limits = {{ processes = 4 }}\n",
        script("touch started; exec sleep 1000")
    );
    let dir = prepare("", &modules);
    let up = std::process::Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .env("MAINSTAY_CGROUP", "off")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&up.stderr).into_owned();
    assert_eq!(up.status.code(), Some(5), "{text}");
    assert!(
        text.contains("cannot enforce module.it.limits.processes"),
        "{text}"
    );
    assert!(text.contains("mainstay.toml:"), "the line is named: {text}");
    assert!(!dir.path().join("started").exists());
}

#[test]
fn doctor_and_metrics_answer_for_a_running_system_and_doctor_without_one() {
    let modules = format!("{QUICK}[module.it]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&modules);
    let said = |words: &[&str]| {
        let output = daemon.cli(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(said(&["doctor"]).contains("limits of the running system"));
    let report: serde_json::Value =
        serde_json::from_str(&said(&["doctor", "--json"])).expect("JSON");
    assert_eq!(report["limits"][0]["limit"], "cpu_percent");
    let metrics = said(&["metrics"]);
    assert!(
        metrics.contains("mainstay_module_up{module=\"it\"} 1"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let file = daemon.path("mainstay.prom");
    said(&["metrics", "--output", &file.display().to_string()]);
    assert!(std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with("# EOF\n")));
    let dir = prepare("", "");
    let doctor = std::process::Command::new(binary())
        .args(["doctor", "--config"])
        .arg(dir.path().join("config"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        text.contains("started from here") && text.contains("cpu_percent"),
        "{text}"
    );
}
