//! `mainstay import`: what it writes is checked, run and asked.
//! Owns the runs of the samples of `src/import/samples`.
//! Never asserts on what each key becomes: the snapshots beside the import do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mainstay_protocol::ModuleState;
use tempfile::TempDir;

use super::daemon::{Daemon, binary};

/// A folder with a sample in it, imported.
fn imported(samples: &[&str]) -> (TempDir, Output) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/samples");
    let dir = tempfile::tempdir().expect("a folder");
    for sample in samples {
        fs::copy(from.join(sample), dir.path().join(sample)).expect("a copy");
    }
    let output = import(dir.path(), samples);
    assert!(output.status.success(), "{output:?}");
    (dir, output)
}

fn import(dir: &Path, words: &[&str]) -> Output {
    Command::new(binary())
        .current_dir(dir)
        .arg("import")
        .args(words)
        .env_remove("MAINSTAY_CONFIG")
        .output()
        .expect("the command line runs")
}

/// Runs what was imported, with `more` over it.
fn run((dir, _): (TempDir, Output), more: &str) -> Daemon {
    let at = dir.path().display();
    let own = format!(
        "[mainstay]\nname = \"test\"\nstate_dir = \"{at}/state\"\nruntime_dir = \"{at}/run\"\n{more}"
    );
    fs::create_dir(dir.path().join("config/conf.d")).expect("a folder");
    fs::write(dir.path().join("config/conf.d/test.toml"), own).expect("a file");
    Daemon::launch_in(dir)
}

fn until_running(daemon: &Daemon, modules: &[&str]) {
    for module in modules {
        daemon.until(module, ModuleState::Running);
    }
}

#[test]
fn a_procfile_runs() {
    let daemon = run(imported(&["Procfile"]), "");
    until_running(&daemon, &["web", "worker", "clock"]);
}

#[test]
fn a_process_compose_file_runs() {
    let daemon = run(imported(&["process-compose.yaml"]), "");
    until_running(&daemon, &["api", "ui", "pair-0", "pair-1"]);
    assert_eq!(daemon.module("setup").state, ModuleState::Stopped);
    assert_eq!(daemon.module("off").state, ModuleState::NotStarted);
    daemon.wrote("ui", "listening [ok]");
}

#[test]
fn a_supervisor_file_runs() {
    let daemon = run(imported(&["supervisord.conf"]), "");
    until_running(&daemon, &["broker", "worker_00", "worker_01"]);
    daemon.wrote("worker_01", "1 100%");
    assert_eq!(daemon.module("off").state, ModuleState::NotStarted);
}

#[test]
fn a_compose_file_runs() {
    // Without containers: what would run in one is a command of this machine here.
    let more = "[module.db]\ncommand = [\"sleep\", \"60\"]\nhealth.probes = []\n";
    let daemon = run(imported(&["compose.yml"]), more);
    until_running(&daemon, &["db", "web"]);
    assert_eq!(daemon.module("cache").state, ModuleState::NotStarted);
}

#[test]
fn an_ecosystem_file_runs() {
    let imported = imported(&["ecosystem.json"]);
    let bin = imported.0.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    fs::write(bin.join("app.sh"), "echo \"$PORT $4\"; exec sleep 60").expect("a file");
    let daemon = run(imported, "");
    until_running(&daemon, &["my-app", "sleep-0", "sleep-1"]);
    daemon.wrote("my-app", "3000 a b");
}

#[test]
fn service_units_run() {
    let more = "[module.store]\nready = \"started\"\nhealth.probes = []\n\
                command = [\"sleep\", \"60\"]\n";
    let imported = imported(&["web@1.service", "store.service"]);
    let module = imported.0.path().join("config/modules/store/module.toml");
    let text = fs::read_to_string(&module).expect("a module");
    // An ordinary user may not change the user.
    fs::write(&module, text.replace("user = \"nobody\"\n", "")).expect("a module");
    let daemon = run(imported, more);
    until_running(&daemon, &["store", "web-1"]);
    let output = daemon.wrote("web-1", "good day");
    assert_eq!(output.trim(), "good day");
}

#[test]
fn nothing_is_overwritten_and_what_was_lost_is_said() {
    let (dir, output) = imported(&["supervisord.conf"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "wrote ",
        "supervisord.conf:28: worker_00: umask is not kept",
        "supervisord.conf:37: [group:all] is not kept",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let module = dir.path().join("config/modules/broker/module.toml");
    fs::write(&module, "# mine\n").expect("a file");
    fs::remove_file(dir.path().join("config/mainstay.toml")).expect("removed");
    let again = import(dir.path(), &["supervisord.conf"]);
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("it is there already"), "{said}");
    assert_eq!(fs::read_to_string(&module).expect("there"), "# mine\n");
    assert!(
        !dir.path().join("config/mainstay.toml").exists(),
        "all or none"
    );
    let forced = import(dir.path(), &["supervisord.conf", "--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert_ne!(fs::read_to_string(&module).expect("there"), "# mine\n");
}

#[test]
fn each_name_that_changes_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let text =
        "processes:\n  _worker2:\n    command: sleep 60\n  Web.App:\n    command: sleep 60\n";
    fs::write(dir.path().join("process-compose.yaml"), text).expect("a file");
    let output = import(dir.path(), &["process-compose.yaml", "--name", "My Shop"]);
    let refused = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{refused}");
    fs::write(
        dir.path().join("process-compose.yaml"),
        format!("name: My Shop\n{text}"),
    )
    .expect("a file");
    let output = import(dir.path(), &["process-compose.yaml"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for part in [
        "the system \"My Shop\" is called my-shop here",
        "\"_worker2\" is called worker2 here",
        "\"Web.App\" is called web-app here",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}
