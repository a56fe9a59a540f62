//! `mainstay upgrade`: the runtime is replaced under traffic, or the old program runs again.
//! Owns programs that are not what they seem, made with the C compiler. Never stops a module.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::view::{UpgradeOutcome, UpgradeView};
use mainstay_protocol::{Event, EventKind, ModuleState, ModuleView};

use crate::daemon::{Daemon, binary, copy_program, in_both_ways, kill, misbehave, script, skip};
use crate::sockets::{answering, ask};

/// Behaves as its file name says; `versions` is what the real program prints, if not.
const IMPOSTOR: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char name[4096] = {0};
    if (readlink("/proc/self/exe", name, sizeof name - 1) < 0) return 9;
    char *file = strrchr(name, '/') + 1;
    if (argc > 1 && !strcmp(argv[1], "versions")) {
        if (!strcmp(file, "mute")) for (;;) pause();
        if (!strcmp(file, "broken")) abort();
        if (!strcmp(file, "older")) {
            puts("{\"version\":\"0.0.1\",\"channel\":3,\"journal\":0,\"state\":1}");
            return 0;
        }
        if (!strcmp(file, "other")) {
            puts("{\"version\":\"9.0.0\",\"channel\":99,\"journal\":9,\"state\":9}");
            return 0;
        }
        argv[0] = REAL;
        return execv(REAL, argv), 9;
    }
    if (!strcmp(file, "crashes")) abort();
    if (!strcmp(file, "exits")) return 3;
    for (;;) pause();
}
"#;

/// A program in the test's folder that behaves as its name says.
fn impostor(daemon: &Daemon, name: &str) -> PathBuf {
    let (source, program) = (daemon.path("impostor.c"), daemon.path(name));
    fs::write(&source, IMPOSTOR).expect("a source");
    let built = Command::new("cc")
        .arg(format!("-DREAL=\"{}\"", binary()))
        .arg("-o")
        .args([&program, &source])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "no C compiler");
    program
}

/// The exit code of an upgrade, and what it printed.
fn upgrade(daemon: &Daemon, program: &Path) -> (Option<i32>, String) {
    let path = program.to_str().expect("a path");
    let output = daemon.cli(&["upgrade", "--binary", path]);
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The program that the runtime is an execution of.
fn in_use(daemon: &Daemon) -> PathBuf {
    let runtime = daemon.status().pid;
    fs::read_link(format!("/proc/{runtime}/exe")).expect("a program")
}

/// What an upgrade must not change of a module.
fn identity(view: &ModuleView) -> (Option<u32>, u64, u32, u64, ModuleState) {
    let ModuleView {
        pid,
        generation,
        attempts,
        restarts,
        state,
        ..
    } = view;
    (*pid, *generation, *attempts, *restarts, *state)
}

/// The process and generation of each module: attempts are given back with time.
fn runs(daemon: &Daemon) -> [(Option<u32>, u64, ModuleState); 3] {
    MODULES.map(|name| {
        let view = daemon.module(name);
        (view.pid, view.generation, view.state)
    })
}

fn results(daemon: &Daemon) -> Vec<Event> {
    let params = EventsParams {
        kinds: vec![EventKind::RuntimeUpgraded, EventKind::RuntimeUpgradeFailed],
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events")
}

/// A module that answers on a socket that mainstay keeps, with its pid; one that has failed once;
/// one that needs the first.
fn modules() -> String {
    let failing = script("[ -e failed ] || { touch failed; exit 1; }; exec $misbehave");
    format!(
        "{}[module.once]\ncommand = {failing}\nrequired = false\n\
         [module.top]\ncommand = {}\nrequires = [\"web\"]\n",
        answering("web", ""),
        misbehave("")
    )
}

/// All of them run, after the failure.
fn start() -> Daemon {
    let daemon = Daemon::start(&modules());
    daemon.until_view("its second run", "once", |view| {
        view.generation == 2 && view.state == ModuleState::Running
    });
    daemon
}

const MODULES: [&str; 3] = ["web", "once", "top"];

#[test]
fn an_upgrade_under_traffic_touches_no_module_and_is_told() {
    in_both_ways(|| {
        let daemon = start();
        let new = daemon.path("new program");
        copy_program(binary(), &new);
        let before = MODULES.map(|name| identity(&daemon.module(name)));
        let web = before[0].0.expect("it runs");
        let over = AtomicBool::new(false);
        let answers = std::thread::scope(|scope| {
            let asks = scope.spawn(|| ask(&daemon, web, Duration::ZERO, &over));
            let upgraded = std::panic::catch_unwind(AssertUnwindSafe(|| {
                for number in 1..=3 {
                    let (code, text) = upgrade(&daemon, &new);
                    assert_eq!(code, Some(0), "{text}");
                    assert!(text.contains("is upgraded to"), "{text}");
                    let last = daemon.status().upgrade.expect("an upgrade");
                    let done = (number, UpgradeOutcome::Done);
                    assert_eq!((last.number, last.outcome), done);
                }
            }));
            over.store(true, Ordering::Relaxed);
            upgraded.expect("three upgrades");
            asks.join().expect("answers by the same process")
        });
        assert!(answers > 3, "there was traffic");
        assert_eq!(in_use(&daemon), new);
        assert_eq!(before, MODULES.map(|name| identity(&daemon.module(name))));
        let told = results(&daemon);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0].kind, EventKind::RuntimeUpgraded);
        assert_eq!(told[0].payload["program"], new.to_str().expect("a path"));
        assert!(told[0].actor.is_some(), "who requested it");
        // The holder follows, and that is told.
        let event = daemon.wait("the holder to follow", || followed(&daemon).pop());
        assert_eq!(event.kind, EventKind::HolderUpgraded, "{event:?}");
        assert_eq!(event.payload["to"], daemon.status().version);
        let path = format!("/proc/{}/exe", daemon.holder());
        assert_eq!(fs::read_link(path).expect("a program"), new);
        let status = daemon.status();
        assert_eq!(status.holder_version, Some(status.version));
        // Nothing of the journal is lost, and later runtimes are of the new program.
        assert_eq!(gaps(&daemon), 0);
        daemon.kill_runtime();
        assert_eq!(in_use(&daemon), new);
        assert_eq!(results(&daemon).len(), 3, "told once");
        let verified = daemon.cli(&["audit", "verify"]);
        assert!(verified.status.success(), "{verified:?}");
    });
}

/// What became of the program of the holder.
fn followed(daemon: &Daemon) -> Vec<Event> {
    let params = EventsParams {
        kinds: vec![EventKind::HolderUpgraded, EventKind::HolderUpgradeFailed],
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events")
}

fn gaps(daemon: &Daemon) -> usize {
    let params = EventsParams {
        kinds: vec![EventKind::JournalGap],
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events").len()
}

#[test]
fn a_program_that_does_not_become_ready_is_rolled_back_and_told() {
    for (name, cause) in [
        ("crashes", "SIGABRT"),
        ("exits", "exit code 3"),
        ("hangs", "10s"),
    ] {
        let daemon = Daemon::start(&format!("[module.a]\ncommand = {}\n", misbehave("")));
        let (program, before) = (in_use(&daemon), identity(&daemon.module("a")));
        let (code, text) = upgrade(&daemon, &impostor(&daemon, name));
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains(cause), "{name}: {text}");
        assert!(text.contains("the program before runs again"), "{text}");
        assert_eq!(in_use(&daemon), program);
        assert_eq!(before, identity(&daemon.module("a")));
        let told = results(&daemon);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].kind, EventKind::RuntimeUpgradeFailed);
        let reason = told[0].payload["reason"].as_str().expect("a reason");
        assert!(reason.contains(cause), "{reason}");
        // The next one is another one.
        let new = daemon.path("new");
        copy_program(binary(), &new);
        let (code, text) = upgrade(&daemon, &new);
        assert_eq!(code, Some(0), "{text}");
        let last = daemon.status().upgrade.expect("an upgrade");
        assert_eq!((last.number, last.outcome), (2, UpgradeOutcome::Done));
    }
}

#[test]
fn a_program_that_cannot_be_it_is_refused_before_anything_is_touched() {
    let daemon = Daemon::start(&format!("[module.a]\ncommand = {}\n", misbehave("")));
    let runtime = daemon.status().pid;
    let foreign = daemon.path("foreign");
    copy_program(binary(), &foreign);
    let mut elf = fs::read(&foreign).expect("a program");
    elf[18..20].copy_from_slice(&[22, 0]); // S390
    fs::write(&foreign, elf).expect("a program");
    let wrapper = daemon.path("wrapper");
    fs::write(&wrapper, "#!/bin/sh\nexec mainstay \"$@\"\n").expect("a script");
    for (program, cause) in [
        (impostor(&daemon, "mute"), "took too long"),
        (impostor(&daemon, "broken"), "SIGABRT"),
        (impostor(&daemon, "older"), "of the journal"),
        (impostor(&daemon, "other"), "holder channel"),
        (foreign, "format"),
        (wrapper, "is a script"),
        (daemon.path("missing"), "No such file"),
        (daemon.path("config"), "not a file"),
        (PathBuf::from("/bin/true"), "prints no versions"),
    ] {
        let (code, text) = upgrade(&daemon, &program);
        assert_eq!(code, Some(4), "{}: {text}", program.display());
        let lower = text.to_lowercase();
        assert!(lower.contains(&cause.to_lowercase()), "{cause}: {text}");
    }
    assert_eq!(daemon.status().pid, runtime);
    assert_eq!(daemon.status().upgrade, None);
    assert!(results(&daemon).is_empty());
}

#[test]
fn a_link_to_a_program_that_another_user_may_exchange_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return skip("not root: a folder cannot be another user's");
    }
    let daemon = Daemon::start(&format!("[module.a]\ncommand = {}\n", misbehave("")));
    let theirs = daemon.path("theirs");
    fs::create_dir(&theirs).expect("a folder");
    copy_program(binary(), &theirs.join("mainstay"));
    chown(&theirs, Some(12345), None).expect("theirs");
    let link = daemon.path("link");
    symlink(theirs.join("mainstay"), &link).expect("a link");
    let (code, text) = upgrade(&daemon, &link);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("12345"), "{text}");
    assert!(results(&daemon).is_empty());
}

#[test]
fn of_two_upgrades_at_once_each_is_made_or_refused_and_none_is_lost() {
    let daemon = start();
    let before = MODULES.map(|name| identity(&daemon.module(name)));
    let programs = ["one", "two", "three"].map(|name| daemon.path(name));
    for program in &programs {
        copy_program(binary(), program);
    }
    let mut done = 0;
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let upgrades = programs
                .each_ref()
                .map(|program| scope.spawn(|| upgrade(&daemon, program)));
            for one in upgrades {
                let (code, text) = one.join().expect("an answer");
                match code {
                    Some(0) => done += 1,
                    _ => assert!(text.starts_with("cannot upgrade"), "{code:?}: {text}"),
                }
            }
        });
    }
    assert!(done > 0, "one of them at least");
    let last = daemon.status().upgrade.expect("an upgrade");
    assert!(last.number >= done && last.outcome == UpgradeOutcome::Done);
    assert_eq!(in_use(&daemon).to_str(), Some(&*last.program));
    assert_eq!(results(&daemon).len(), last.number as usize, "each is told");
    assert_eq!(before, MODULES.map(|name| identity(&daemon.module(name))));
}

#[test]
fn a_runtime_that_is_killed_in_the_middle_of_an_upgrade_leaves_one_that_works() {
    let daemon = start();
    let before = runs(&daemon);
    let new = daemon.path("new");
    copy_program(binary(), &new);
    for round in 0..8 {
        let number = daemon.status().upgrade.map_or(0, |last| last.number);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Two runtimes are killed, each at some moment of its life.
                let (mut killed, mut count) = (0, 0);
                while count < 2 && !over.load(Ordering::Relaxed) {
                    let holder = fs::read(daemon.path("run/holder.json")).unwrap_or_default();
                    let holder: serde_json::Value =
                        serde_json::from_slice(&holder).unwrap_or_default();
                    let pid = holder["runtime_pid"].as_u64().unwrap_or(0);
                    if pid != 0 && pid != killed {
                        std::thread::sleep(Duration::from_millis(round * 4));
                        kill(u32::try_from(pid).expect("a pid"), libc::SIGKILL);
                        (killed, count) = (pid, count + 1);
                    }
                }
            });
            let path = new.to_str().expect("a path");
            let _any_result = daemon.cli(&["upgrade", "--binary", path]);
            over.store(true, Ordering::Relaxed);
        });
        let last = daemon.wait("the result", || {
            let last = daemon.status().upgrade;
            let is_pending = |last: &UpgradeView| last.outcome == UpgradeOutcome::Pending;
            (!last.as_ref().is_some_and(is_pending)).then_some(last)
        });
        assert!(last.map_or(0, |last| last.number) <= number + 1, "once");
        assert_eq!(before, runs(&daemon));
    }
    let (code, text) = upgrade(&daemon, &new);
    assert_eq!(code, Some(0), "{text}");
    let number = daemon.status().upgrade.expect("an upgrade").number;
    let told = results(&daemon).into_iter();
    let told: BTreeSet<Option<u64>> = told.map(|one| one.payload["number"].as_u64()).collect();
    let all = (1..=u64::from(number)).map(Some).collect();
    assert_eq!(told, all, "each is told");
}
