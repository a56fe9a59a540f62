//! What a system remembers over the death of its runtime: why each module is where it is.
//! Owns the answers of `why` after kill -9. Never waits for a probe longer than it takes.

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;

use crate::daemon::{Daemon, kill, misbehave, script};

fn why(daemon: &Daemon, module: &str) -> String {
    let output = daemon.cli(&["why", module]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn modules() -> String {
    let once = "required = false\nrecovery = { max_attempts = 1, probation = \"off\", \
                backoff = { initial = \"10ms\", floor = \"10ms\" } }\n";
    format!(
        "[module.exits]\ncommand = {exits}\n{once}\
         [module.absent]\ncommand = [\"/nowhere/program\"]\n{once}\
         [module.ill]\ncommand = {runs}\n{once}\
         health = {{ probes = [{{ exec = [\"sh\", \"-c\", \"echo the disk is gone; exit 1\"], \
         interval = \"50ms\", unhealthy_threshold = 1 }}] }}\n\
         [module.halted]\ncommand = {runs}\nrequired = false\n\
         [module.killed]\ncommand = {runs}\nrecovery = {{ backoff = {{ initial = \"10ms\", floor = \"10ms\" }} }}\n",
        exits = script("exit 7"),
        runs = misbehave(""),
    )
}

fn all_there(daemon: &Daemon) {
    for failed in ["exits", "absent", "ill"] {
        daemon.until(failed, ModuleState::Failed);
    }
    daemon.change(name::MODULE_STOP, "halted");
    let before = daemon.module("killed");
    kill(before.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("it to be back", "killed", |view| {
        view.state == ModuleState::Running && view.generation > before.generation
    });
}

fn remembered(daemon: &Daemon) {
    for (module, words) in [
        ("exits", &["exit code 7"][..]),
        ("absent", &["/nowhere/program"]),
        ("ill", &["liveness probe", "the disk is gone"]),
        ("halted", &["requested by", "uid"]),
        ("killed", &["SIGKILL"]),
    ] {
        let story = why(daemon, module);
        for word in words {
            assert!(story.contains(word), "{module} forgot {word:?}:\n{story}");
        }
        assert!(!story.contains("nobody knows"), "{story}");
    }
}

#[test]
fn reasons_survive_the_runtime_once_and_again() {
    let daemon = Daemon::start(&modules());
    all_there(&daemon);
    remembered(&daemon);
    for _ in 0..2 {
        daemon.kill_runtime();
        remembered(&daemon);
    }
}

#[test]
fn reasons_survive_the_journal_too() {
    let daemon = Daemon::start(&modules());
    all_there(&daemon);
    let state = daemon.path("state");
    daemon.wait("the directory to be gone", || {
        let _again = std::fs::remove_dir_all(&state);
        (!state.join("journal.db").exists()).then_some(())
    });
    daemon.kill_runtime();
    remembered(&daemon);
}
