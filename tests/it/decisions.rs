//! What is decided when modules, failures and requests meet, seen from outside the real program.
//! Owns the tests of what a start that cannot succeed says, of needs that are started again, and
//! of an honest status. Never asserts a time that the machine decides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_protocol::method::{ChangeParams, name};
use mainstay_protocol::{HealthStatus, ModuleState, SystemStatus};

use crate::daemon::{Daemon, kill, misbehave, script};

#[test]
fn a_start_whose_need_has_failed_returns_at_once_and_names_it() {
    let daemon = Daemon::start(
        "[module.a]\ncommand = [\"sh\", \"-c\", \"sleep 0.1; exit 1\"]\nstart = \"lazy\"\n\
         ready = { settle = \"1s\" }\nstartup_timeout = \"4s\"\n\
         [module.a.recovery]\nmax_attempts = 1\nprobation = \"off\"\n\
         [module.b]\ncommand = [\"sleep\", \"1000\"]\nstart = \"lazy\"\nrequires = [\"a\"]\n\
         [module.c]\ncommand = [\"sleep\", \"1000\"]\nstart = \"lazy\"\nrequires = [\"b\"]\n",
    );
    let output = daemon.cli(&["start", "b"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("b is waiting after")
            && text.contains("waits for a, which failed: exit code 1; no further try"),
        "{text}"
    );
    let why = daemon.cli(&["why", "b"]);
    let text = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(text.contains("a, which failed: exit code 1"), "{text}");
    // By way of another that waits; and a request starts what has failed too.
    let output = daemon.cli(&["start", "c"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("waits for b; a failed: exit code 1"),
        "{text}"
    );
    assert_eq!(daemon.moves("a", ModuleState::Failed, 2).len(), 2);
}

#[test]
fn an_initial_startup_that_cannot_succeed_ends_at_once_and_names_the_cause() {
    let mut daemon = Daemon::launch(
        "startup_timeout = \"10m\"",
        "[module.t]\ncommand = [\"false\"]\nkind = \"task\"\nrequired = false\n\
         [module.d]\ncommand = [\"sleep\", \"1000\"]\n\
         requires = [{ module = \"t\", until = \"completed\" }]\n",
    );
    assert_eq!(daemon.ended(), Some(1), "{}", daemon.printed());
    let text = daemon.printed();
    assert!(
        text.contains("cannot start: d waits for t to complete, which failed: exit code 1"),
        "{text}"
    );
}

#[test]
fn a_need_that_ended_as_it_may_is_started_again_with_its_dependent() {
    let daemon = Daemon::start(&format!(
        "[module.lib]\ncommand = {}\nrequired = false\n\
         [module.lib.recovery]\nrestart = \"on_failure\"\n\
         [module.app]\ncommand = {}\nrequires = [\"lib\"]\n\
         [module.app.recovery]\nbackoff = {{ initial = \"50ms\" }}\n",
        script("until [ -e go ]; do sleep 0.02; done; rm go"),
        misbehave("")
    ));
    daemon.until("lib", ModuleState::Running);
    daemon.touch("go");
    let lib = daemon.until("lib", ModuleState::Stopped);
    let app = daemon.until("app", ModuleState::Running);
    kill(app.pid.expect("a process"), libc::SIGKILL);
    daemon.until_view("another run", "lib", |view| {
        view.generation > lib.generation
    });
    let before = app.generation;
    daemon.until_view("another run", "app", |view| {
        view.generation > before && view.state == ModuleState::Running
    });
}

#[test]
fn a_system_without_a_required_module_is_degraded_and_says_which() {
    let daemon = Daemon::start(&format!(
        "[module.base]\ncommand = {}\nready = {{ file = \"${{project}}/never\" }}\nstart = \"lazy\"\n\
         [module.top]\ncommand = {}\nrequires = [\"base\"]\nstart = \"lazy\"\n",
        misbehave(""),
        misbehave("")
    ));
    assert_eq!(daemon.status().status, SystemStatus::Healthy);
    let output = daemon.cli(&["start", "top", "--no-wait"]);
    assert!(output.status.success());
    daemon.until("base", ModuleState::Starting);
    let status = daemon.wait("the system to miss it", || {
        let status = daemon.status();
        (status.status == SystemStatus::Degraded).then_some(status)
    });
    assert_eq!(status.reason.as_deref(), Some("not running: base, top"));
    let waits = daemon.until("top", ModuleState::Waiting).waits_for;
    assert_eq!(waits.as_deref(), Some("base to be ready"));
    daemon.change(name::MODULE_STOP, "base");
}

#[test]
fn a_module_is_healthy_when_each_of_its_probes_has_answered_well() {
    let daemon = Daemon::launch(
        "",
        &format!(
            "[module.base]\ncommand = {}\n[module.base.health]\nprobes = [\
             {{ exec = {}, interval = \"20ms\" }}, \
             {{ exec = {}, timeout = \"10m\", interval = \"20ms\" }}]\n\
             [module.top]\ncommand = {}\n\
             requires = [{{ module = \"base\", until = \"healthy\" }}]\n",
            misbehave(""),
            script("echo well >> answers"),
            script("until [ -e go ]; do sleep 0.02; done"),
            misbehave("")
        ),
    );
    daemon.wait("three answers of the first probe", || {
        let answers = std::fs::read_to_string(daemon.path("answers")).ok()?;
        (answers.lines().count() >= 3).then_some(())
    });
    let waits = daemon.until("top", ModuleState::Waiting);
    assert_eq!(waits.waits_for.as_deref(), Some("base to be healthy"));
    assert_eq!(daemon.module("base").health, HealthStatus::Unknown);
    daemon.touch("go");
    daemon.until("top", ModuleState::Running);
    assert_eq!(daemon.module("base").health, HealthStatus::Healthy);
}

/// The shortest of five measurements: of a busy machine the others say little.
fn shortest(measure: impl FnMut(usize) -> Duration) -> Duration {
    let times: Vec<Duration> = (0..5).map(measure).collect();
    eprintln!("{times:?}");
    times.into_iter().min().unwrap_or_default()
}

fn wait_for_start(daemon: &Daemon, module: &str) -> SystemTime {
    let params = ChangeParams {
        module: module.to_owned(),
        dry_run: false,
        wait: true,
    };
    let done = daemon.client().change(name::MODULE_START, &params);
    done.expect("an answer");
    SystemTime::now()
}

const AT_ONCE: Duration = Duration::from_millis(100);

#[test]
fn who_waits_for_a_start_is_answered_at_once_when_what_it_needs_has_failed() {
    let daemon = Daemon::start(
        "[module.a]\ncommand = [\"sh\", \"-c\", \"sleep 0.1; exit 1\"]\nstart = \"lazy\"\n\
         ready = { settle = \"1s\" }\nstartup_timeout = \"4s\"\n\
         [module.a.recovery]\nmax_attempts = 1\nprobation = \"off\"\n\
         [module.b]\ncommand = [\"sleep\", \"1000\"]\nstart = \"lazy\"\nrequires = [\"a\"]\n",
    );
    let late = shortest(|nth| {
        let answered = wait_for_start(&daemon, "b");
        let failed = daemon.moves("a", ModuleState::Failed, nth + 1)[nth].at;
        let answered = answered.duration_since(UNIX_EPOCH).expect("after 1970");
        answered.saturating_sub(Duration::from_millis(failed.0))
    });
    assert!(late < AT_ONCE, "{late:?}");
}

#[test]
fn who_waits_for_a_start_is_answered_at_once_when_somebody_stops_it() {
    let daemon = Daemon::start(
        "[module.a]\ncommand = [\"false\"]\nrequired = false\n[module.a.recovery]\n\
         backoff = { initial = \"10m\", max = \"10m\" }\nmax_attempts = 100\n\
         [module.b]\ncommand = [\"sleep\", \"1000\"]\nstart = \"lazy\"\nrequires = [\"a\"]\n",
    );
    daemon.until("a", ModuleState::Backoff);
    let late = shortest(|_| {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| wait_for_start(&daemon, "b"));
            daemon.until("b", ModuleState::Waiting);
            let asked = SystemTime::now();
            daemon.change(name::MODULE_STOP, "b");
            let answered = waits.join().expect("an answer");
            answered.duration_since(asked).unwrap_or_default()
        })
    });
    assert!(late < AT_ONCE, "{late:?}");
}
