//! New settings of modules that go on running: by signal, by command, over the connection.
//! Owns what each way does when the module agrees, refuses, fails or says nothing any more.
//! Never asserts how long a module takes to follow.

use std::fs;
use std::path::Path;

use mainstay_protocol::{ModuleState, SystemStatus};

use crate::daemon::{Daemon, binary, kill, misbehave, script};
use crate::reload::edit;

/// Nothing is applied by itself, so that each result is seen.
const SHORT: &str = "reload = \"manual\"\nreload_watch = \"300ms\"";

fn module(command: &str, settings: &str, rest: &str) -> String {
    format!("[module.one]\ncommand = {command}\nsettings = {settings}\n{rest}\n")
}

fn launch(modules: &str) -> Daemon {
    let daemon = Daemon::launch(SHORT, modules);
    daemon.wait("the first start to be over", || {
        let status = daemon.status().status;
        (status != SystemStatus::Starting).then_some(())
    });
    daemon
}

#[track_caller]
fn reload(daemon: &Daemon, modules: &str, code: i32) -> String {
    edit(daemon.dir.path(), SHORT, modules);
    let output = daemon.cli(&["reload", "--wait"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn settings(daemon: &Daemon) -> String {
    let text = fs::read_to_string(daemon.path("run/settings/one.json"));
    text.unwrap_or_default().split_whitespace().collect()
}

#[test]
fn a_signal_tells_a_module_and_it_goes_on() {
    let reads = "trap 'echo now $(tr -d \" \\n\" < \"$MAINSTAY_SETTINGS\")' HUP; echo up\n\
                 while :; do sleep 0.05; done";
    let way = "reload_signal = \"SIGHUP\"";
    let daemon = launch(&module(&script(reads), "{ level = 1 }", way));
    daemon.wrote("one", "up");
    let pid = daemon.module("one").pid;
    let changed = module(&script(reads), "{ level = 2 }", way);
    edit(daemon.dir.path(), SHORT, &changed);
    let plan = daemon.cli(&["plan"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("one  notify  settings changed"), "{plan}");
    reload(&daemon, &changed, 0);
    daemon.wrote("one", "now {\"level\":2}");
    assert_eq!(daemon.module("one").pid, pid);
    // One that does not run begins with them, and stays down.
    daemon.cli(&["stop", "one"]);
    daemon.until("one", ModuleState::Stopped);
    reload(&daemon, &module(&script(reads), "{ level = 3 }", way), 0);
    assert_eq!(daemon.module("one").state, ModuleState::Stopped);
    assert_eq!(settings(&daemon), "{\"level\":3}");
}

#[test]
fn a_command_tells_a_module_and_its_failure_rolls_back() {
    let tells = |script: &str| format!("reload_command = [\"/bin/sh\", \"-c\", {script:?}]");
    let copy = tells("cp \"$MAINSTAY_SETTINGS\" told");
    let daemon = launch(&module(&misbehave(""), "{ level = 1 }", &copy));
    let pid = daemon.module("one").pid;
    reload(&daemon, &module(&misbehave(""), "{ level = 2 }", &copy), 0);
    let told = fs::read_to_string(daemon.path("told")).expect("the command ran");
    assert!(told.contains("\"level\": 2"), "{told}");
    assert_eq!(daemon.module("one").pid, pid);
    let fails = tells("exit 4");
    let text = reload(&daemon, &module(&misbehave(""), "{ level = 3 }", &fails), 1);
    assert!(text.contains("failed: exit code 4"), "{text}");
    assert_eq!(settings(&daemon), "{\"level\":2}");
    // It may have read the settings that are no more.
    let one = daemon.until("one", ModuleState::Running);
    assert_ne!(one.pid, pid);
}

/// Prints the features in its file when it starts and when it is told.
const READS: &str = "now() { tr -d \" \\n\" < \"$MAINSTAY_FEATURES_FILE\"; }\n\
     trap 'echo now $(now)' HUP; echo up $(now)\nwhile :; do sleep 0.05; done";

#[test]
fn a_module_without_the_sdk_is_told_of_its_features_and_goes_on() {
    let modules = |features: &str| {
        format!(
            "[features]\n{features}\n[module.one]\ncommand = {}\nreload_signal = \"SIGHUP\"\n\
             [module.two]\ncommand = {}\n\
             reload_command = [\"/bin/sh\", \"-c\", \"echo features $MAINSTAY_FEATURES > told\"]\n",
            script(READS),
            misbehave("")
        )
    };
    let daemon = launch(&modules("search = true\nthumbnails = false"));
    daemon.wrote("one", "up {\"search\":true,\"thumbnails\":false}");
    let pids = [daemon.module("one").pid, daemon.module("two").pid];
    reload(&daemon, &modules("search = true\nthumbnails = true"), 0);
    daemon.wrote("one", "now {\"search\":true,\"thumbnails\":true}");
    daemon.wait("the command to have run", || {
        let told = fs::read_to_string(daemon.path("told")).unwrap_or_default();
        (told.trim() == "features search,thumbnails").then_some(())
    });
    assert_eq!([daemon.module("one").pid, daemon.module("two").pid], pids);
    // A reload that changes no feature tells nothing.
    let shown = daemon.output("one");
    let other = modules("search = true\nthumbnails = true") + "shutdown_timeout = \"9s\"\n";
    reload(&daemon, &other, 0);
    assert_eq!(daemon.output("one"), shown);
}

/// The most that the runtime had in memory, in kB.
fn most_memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.status().pid));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn a_features_file_that_its_module_makes_endless_is_replaced_and_not_read() {
    let grows = "truncate -s 1G \"$MAINSTAY_FEATURES_FILE\"; echo grown\n\
                 trap 'echo told' HUP; while :; do sleep 0.05; done";
    let modules = |value: bool| {
        let command = script(grows);
        format!(
            "[features]\nsearch = {value}\n[module.one]\ncommand = {command}\n\
             reload_signal = \"SIGHUP\"\n"
        )
    };
    let daemon = launch(&modules(true));
    daemon.wrote("one", "grown");
    reload(&daemon, &modules(false), 0);
    daemon.wrote("one", "told");
    let file = fs::metadata(daemon.path("run/settings/features/one.json")).expect("a file");
    assert!(file.len() < 1000, "{}", file.len());
    let most = most_memory(&daemon);
    assert!(most < 500_000, "{most} kB");
}

#[test]
fn a_degraded_module_without_the_sdk_is_told_when_it_is_whole_again() {
    let daemon = launch(&format!(
        "[features]\nthumbnails = true\n[recovery]\nstable_after = \"1s\"\n\
         backoff = {{ initial = \"0s\", floor = \"0s\" }}\n\
         [module.one]\ncommand = {}\nreload_signal = \"SIGHUP\"\n[module.one.recovery]\n\
         max_attempts = 0\non_failure = [\"degrade\", \"stop\"]\n\
         degrade = {{ disable = [\"thumbnails\"] }}\n",
        script(READS)
    ));
    daemon.wrote("one", "up {\"thumbnails\":true}");
    let pid = daemon.module("one").pid.expect("it runs");
    kill(pid, libc::SIGKILL);
    daemon.wrote("one", "up {\"thumbnails\":false}");
    daemon.wrote("one", "now {\"thumbnails\":true}");
    assert!(daemon.module("one").degraded.is_empty());
}

#[test]
fn a_folder_of_features_that_does_not_answer_holds_nobody_up() {
    let modules = |features: &str| {
        format!(
            "[features]\n{features}\n[module.one]\ncommand = {}\nreload_signal = \"SIGHUP\"\n\
             [module.two]\ncommand = {}\nreload_signal = \"SIGHUP\"\n",
            script(READS),
            script(READS)
        )
    };
    let daemon = launch(&modules("a = false\nb = false"));
    daemon.wrote("one", "up {\"a\":false,\"b\":false}");
    // Who reads the features that were there waits until somebody writes.
    let file = daemon.path("run/settings/features/one.json");
    fs::remove_file(&file).expect("a file");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    reload(&daemon, &modules("a = true\nb = false"), 0);
    let before = daemon.module("two");
    kill(before.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("a new run", "two", |view| {
        view.generation > before.generation && view.state == ModuleState::Running
    });
    reload(&daemon, &modules("a = true\nb = true"), 0);
    drop(
        fs::File::options()
            .write(true)
            .open(&file)
            .expect("it is read"),
    );
    for name in ["one", "two"] {
        daemon.wrote(name, "now {\"a\":true,\"b\":true}");
    }
    let output = daemon.output("one");
    let first = "\"a\":true,\"b\":false";
    assert!(!output.contains(first), "the newest counts: {output}");
}

#[test]
fn who_says_reloading_has_to_say_ready() {
    let way = "ready = { notify = true }\nreload_signal = \"SIGHUP\"\nstartup_timeout = \"5s\"";
    let both = misbehave("--ready notify --on-hup RELOADING=1 --on-hup READY=1");
    let daemon = launch(&module(&both, "{ level = 1 }", way));
    let pid = daemon.module("one").pid;
    reload(&daemon, &module(&both, "{ level = 2 }", way), 0);
    assert_eq!(daemon.module("one").pid, pid);
    let half = misbehave("--ready notify --on-hup RELOADING=1");
    reload(&daemon, &module(&half, "{ level = 2 }", way), 0);
    let text = reload(&daemon, &module(&half, "{ level = 3 }", way), 1);
    assert!(
        text.contains("it said RELOADING=1 and not READY=1 within 5s"),
        "{text}"
    );
    assert_eq!(settings(&daemon), "{\"level\":2}");
}

/// The example of the documentation, on the SDK.
#[test]
fn a_module_on_the_sdk_accepts_refuses_and_asks_for_a_restart() {
    let example = Path::new(binary())
        .with_file_name("examples")
        .join("module");
    assert!(
        example.exists(),
        "cannot find {}: run `cargo test --workspace`",
        example.display()
    );
    let command = format!("[{:?}]", example.display().to_string());
    let way = "ready = { notify = true }";
    let daemon = launch(&module(&command, "{ step = 1 }", way));
    daemon.wrote("one", "1");
    let pid = daemon.module("one").pid;
    reload(&daemon, &module(&command, "{ step = 1000 }", way), 0);
    assert_eq!(daemon.module("one").pid, pid);
    daemon.wait("a long step", || {
        let last = daemon.output("one").lines().last()?.parse::<u64>().ok()?;
        (last > 1000).then_some(())
    });
    let plan = daemon.status().plan;
    let text = reload(&daemon, &module(&command, "{ step = 0 }", way), 5);
    assert!(
        text.contains("one refused its settings: step is at least 1"),
        "{text}"
    );
    assert_eq!(
        (daemon.module("one").pid, daemon.status().plan),
        (pid, plan)
    );
    assert_eq!(settings(&daemon), "{\"step\":1000}");
    assert!(daemon.status().config_problem.is_some());
    reload(
        &daemon,
        &module(&command, "{ step = 2, fresh = true }", way),
        0,
    );
    let one = daemon.until("one", ModuleState::Running);
    assert_ne!(one.pid, pid);
    assert_eq!(daemon.status().config_problem, None);
}
