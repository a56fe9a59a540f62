//! `why`, `what-if` and `chaos` against the real program.
//! Owns the promise that what they say is what happens. Never asserts a time that the machine
//! decides: what is forecast is compared with what came.

use mainstay_protocol::method::{
    ChangeAction, NotStartedResult, WhatIfResult, WhyParams, WhyResult, name,
};
use mainstay_protocol::{EventKind, ModuleState, SystemStatus};
use serde_json::json;

use crate::daemon::{Daemon, free_address, kill, misbehave, script};

fn why(daemon: &Daemon, module: &str) -> WhyResult {
    daemon.client().why(module).expect("an answer")
}

fn what_if(daemon: &Daemon, action: &str, module: &str) -> WhatIfResult {
    let params = json!({ "action": action, "module": module });
    daemon
        .client()
        .call(name::WHAT_IF, params)
        .expect("an answer")
}

/// Names of modules in the order in which they first moved to `to` after event `since`.
fn moved(daemon: &Daemon, since: u64, to: ModuleState) -> Vec<String> {
    let params = mainstay_protocol::method::EventsParams {
        since: Some(since),
        limit: Some(1000),
        ..Default::default()
    };
    let events = daemon.client().events(&params).expect("events");
    let mut names: Vec<String> = Vec::new();
    for event in events
        .iter()
        .filter(|event| event.payload["to"] == to.as_str())
    {
        let name = event.module.clone().unwrap_or_default();
        if event.kind == EventKind::ModuleStateChanged && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn newest(daemon: &Daemon) -> u64 {
    let params = mainstay_protocol::method::EventsParams {
        limit: Some(1),
        ..Default::default()
    };
    let events = daemon.client().events(&params).expect("events");
    events.last().map_or(0, |event| event.seq)
}

fn steps(result: &WhatIfResult, action: ChangeAction) -> Vec<String> {
    let such = result.steps.iter().filter(|step| step.action == action);
    such.map(|step| step.module.clone()).collect()
}

fn tree() -> String {
    let run = misbehave("");
    format!(
        "[recovery]\nbackoff = {{ initial = \"50ms\", max = \"50ms\", floor = \"50ms\" }}\n\
         max_attempts = 2\nprobation = \"off\"\n[chaos]\nallowed = true\n\
         [module.base]\ncommand = {run}\n\
         [module.mid]\ncommand = {run}\nrequires = [\"base\"]\n\
         recovery.on_dependency_restart = \"restart\"\n\
         [module.top]\ncommand = {run}\nrequires = [\"mid\"]\n\
         [module.apart]\ncommand = {run}\n"
    )
}

#[test]
fn what_if_says_what_a_stop_then_does() {
    let daemon = Daemon::start(&tree());
    let said = what_if(&daemon, "stop", "mid");
    assert_eq!(daemon.status().modules.running, 4, "nothing was touched");
    let since = newest(&daemon);
    daemon.change(name::MODULE_STOP, "mid");
    let done = moved(&daemon, since, ModuleState::Stopping);
    assert_eq!(steps(&said, ChangeAction::Stop), done);
    let status = daemon.status();
    assert_eq!((said.status, said.reason), (status.status, status.reason));
}

#[test]
fn what_if_says_what_a_kill_then_does() {
    let daemon = Daemon::start(&tree());
    let said = what_if(&daemon, "kill", "base");
    let since = newest(&daemon);
    kill(daemon.module("base").pid.expect("it runs"), libc::SIGKILL);
    let restarted = steps(&said, ChangeAction::Restart);
    daemon.wait("as many to run again", || {
        (moved(&daemon, since, ModuleState::Running).len() == restarted.len()).then_some(())
    });
    let mut done = moved(&daemon, since, ModuleState::Running);
    let mut restarted = restarted;
    done.sort();
    restarted.sort();
    assert_eq!(done, restarted);
    let status = daemon.status();
    assert_eq!((said.status, said.reason), (status.status, status.reason));
    assert!(said.worst >= SystemStatus::Degraded, "{:?}", said.worst);
}

#[test]
fn what_if_says_what_failures_without_end_then_do() {
    let daemon = Daemon::start(&tree());
    let said = what_if(&daemon, "fail", "base");
    assert_eq!(steps(&said, ChangeAction::Fail), ["base"]);
    loop {
        let base = daemon.until_view("it to run or to have failed", "base", |view| {
            view.state == ModuleState::Failed || view.pid.is_some()
        });
        match base.pid {
            Some(pid) => kill(pid, libc::SIGKILL),
            None => break,
        }
        daemon.until_view("that run to end", "base", |view| view.pid != base.pid);
    }
    for stopped in steps(&said, ChangeAction::Stop) {
        daemon.until_view("it to be down", &stopped, |view| view.pid.is_none());
    }
    daemon.until("apart", ModuleState::Running);
    let status = daemon.status();
    assert_eq!((said.status, said.reason), (status.status, status.reason));
}

#[test]
fn a_probe_that_fails_is_forecast_to_restart_when_it_then_does() {
    let address = free_address();
    let serve = misbehave(&format!("--ready http:{address}"));
    let daemon = Daemon::start(&format!(
        "[recovery]\nbackoff = {{ initial = \"10ms\", floor = \"10ms\" }}\n\
         [module.it]\ncommand = {serve}\nready = {{ tcp = \"{address}\" }}\n\
         health = {{ probes = [{{ http = \"http://{address}/\", interval = \"200ms\", \
         timeout = \"300ms\" }}] }}\n"
    ));
    daemon.until_view("it to be well", "it", |view| {
        view.health == mainstay_protocol::HealthStatus::Healthy
    });
    let before = daemon.module("it");
    kill(before.pid.expect("it runs"), libc::SIGSTOP);
    let forecast = daemon.wait("the confirmations to be forecast", || {
        let next = why(&daemon, "it").next?;
        next.text
            .contains("two confirmations, then a restart")
            .then_some(next)
    });
    assert!(forecast.estimated && forecast.at.is_some(), "{forecast:?}");
    let found = why(&daemon, "it").evidence;
    let found: Vec<&str> = found.iter().map(|it| it.source.as_str()).collect();
    assert!(
        found.iter().any(|it| it.starts_with("the probe http")),
        "{found:?}"
    );
    let after = daemon.until_view("a new run", "it", |view| {
        view.generation > before.generation && view.state == ModuleState::Running
    });
    let because = after.started_because.expect("a cause of this run");
    assert!(
        because.starts_with("restarted: a liveness probe failed"),
        "{because}"
    );
}

#[test]
fn status_gives_the_reason_that_why_gives() {
    let rest = "required = false\nrecovery.restart = \"never\"\n";
    let command = misbehave("--ready notify --watchdog-stop-after 1s");
    let mut modules =
        format!("[module.silent]\nhealth.probes = [{{ watchdog = \"500ms\" }}]\n{rest}");
    modules += &format!("ready = {{ notify = true }}\ncommand = {command}\n[module.late]\n{rest}");
    modules += "ready = { notify = true }\nstartup_timeout = \"300ms\"\n";
    modules += &format!("command = {}\n", misbehave(""));
    let daemon = Daemon::launch("", &modules);
    for (module, reason) in [
        ("late", "it was not ready in time"),
        ("silent", "it did not feed its watchdog"),
    ] {
        let failed = daemon.moves(module, ModuleState::Failed, 1);
        let text = failed[0].payload["text"].as_str().expect("a reason");
        assert!(text.starts_with(reason), "{text}");
        let view = daemon.until(module, ModuleState::Failed);
        assert_eq!(view.reason.as_deref(), Some(text));
        for words in [&["status", module][..], &["why", module]] {
            let (printed, _) = crate::history::both(&daemon.cli(words));
            assert!(printed.contains(text), "{words:?}: {printed}");
        }
    }
}

#[test]
fn restarts_on_request_are_told_apart_and_each_run_has_its_cause() {
    let daemon = Daemon::start(&tree());
    let first = daemon.module("apart");
    assert_eq!((first.restarts, first.requested_restarts), (0, 0));
    assert_eq!(
        first.started_because.as_deref(),
        Some("started by the initial startup")
    );
    let requested = daemon.change(name::MODULE_RESTART, "apart");
    assert_eq!((requested.restarts, requested.requested_restarts), (0, 1));
    let because = requested.started_because.unwrap_or_default();
    assert!(
        because.starts_with("started by ") && because.contains("uid"),
        "{because}"
    );
    kill(requested.pid.expect("it runs"), libc::SIGKILL);
    let after = daemon.until_view("it to be back", "apart", |view| {
        view.generation > requested.generation && view.state == ModuleState::Running
    });
    assert_eq!((after.restarts, after.requested_restarts), (1, 1));
    let expected = Some("restarted: killed by SIGKILL".to_owned());
    assert_eq!(after.started_because, expected);
    daemon.kill_runtime();
    let returned = daemon.until("apart", ModuleState::Running);
    assert_eq!(returned.started_because, expected);
    assert_eq!((returned.restarts, returned.requested_restarts), (1, 1));
    let printed = daemon.cli(&["status", "apart"]);
    let printed = String::from_utf8_lossy(&printed.stdout);
    assert!(printed.contains("1 automatic, 1 requested"), "{printed}");
}

#[test]
fn a_chain_of_waiting_modules_ends_at_its_root_cause_over_a_returned_runtime_too() {
    let run = misbehave("");
    let daemon = Daemon::start(&format!(
        "[module.root]\ncommand = {}\nrequired = false\n\
         recovery = {{ max_attempts = 1, probation = \"off\", \
         backoff = {{ initial = \"10ms\", floor = \"10ms\" }} }}\nready = {{ settle = \"5s\" }}\n\
         [module.mid]\ncommand = {run}\nrequires = [\"root\"]\nrequired = false\n\
         [module.top]\ncommand = {run}\nrequires = [\"mid\"]\nrequired = false\n\
         [module.asleep]\ncommand = {run}\nstart = \"lazy\"\n",
        script("echo the disk is full; exit 7"),
    ));
    daemon.until("root", ModuleState::Failed);
    for way in ["as it was seen", "as it was remembered"] {
        let top = why(&daemon, "top");
        assert!(
            top.summary.contains("root failed: exit code 7"),
            "{way}: {}",
            top.summary
        );
        let [mid, root] = &top.because[..] else {
            panic!("{way}: {:?}", top.because)
        };
        assert!(mid.starts_with("mid waits for root"), "{mid}");
        assert!(root.starts_with("root has failed: exit code 7"), "{root}");
        let next = top.next.expect("what follows").text;
        assert!(
            next.contains("will not start by itself: root is not tried again"),
            "{next}"
        );
        let root = why(&daemon, "root");
        assert_eq!(root.affects, ["mid", "top"]);
        let log = &root.evidence[0];
        assert!(
            log.lines.contains(&"the disk is full".to_owned()),
            "{way}: {log:?}"
        );
        let down: NotStartedResult = daemon
            .client()
            .call(name::WHY_NOT_STARTED, json!({}))
            .expect("groups");
        let groups: Vec<(Option<&str>, usize)> = down
            .groups
            .iter()
            .map(|group| (group.root.as_deref(), group.modules.len()))
            .collect();
        let mut sorted = groups;
        sorted.sort();
        assert_eq!(sorted, [(None, 1), (Some("root"), 3)], "{way}");
        daemon.kill_runtime();
    }
}

#[test]
fn the_whole_history_is_longer_than_what_explains_the_state() {
    let daemon = Daemon::start(&tree());
    for _ in 0..3 {
        daemon.change(name::MODULE_RESTART, "apart");
    }
    let short = why(&daemon, "apart").chain.len();
    let params = WhyParams {
        module: "apart".to_owned(),
        full: true,
    };
    let full: WhyResult = daemon.client().call(name::WHY, params).expect("an answer");
    assert!(
        full.chain.len() > short + 6,
        "{} and {short}",
        full.chain.len()
    );
    let printed = daemon.cli(&["why", "apart", "--full"]);
    let lines = String::from_utf8_lossy(&printed.stdout).lines().count();
    assert!(lines > full.chain.len(), "{lines}");
}

#[test]
fn faults_on_request_are_permitted_journaled_and_recovered() {
    let daemon = Daemon::start(&tree().replace("allowed = true", "allowed = false"));
    let refused = daemon.cli(&["chaos", "kill", "base"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("[chaos] allowed"), "{told}");
    drop(daemon);
    let daemon = Daemon::start(&tree());
    let before = daemon.module("apart");
    let done = daemon.cli(&["chaos", "kill", "apart"]);
    assert!(done.status.success(), "{done:?}");
    let after = daemon.until_view("it to be back", "apart", |view| {
        view.generation > before.generation && view.state == ModuleState::Running
    });
    assert_eq!(after.restarts, 1);
    let event = daemon.event("apart", EventKind::ChaosInjected);
    assert!(event.actor.is_some_and(|actor| actor.contains("uid")));
    let listed = daemon.cli(&["audit", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("chaos kill apart"), "{listed}");
    assert!(daemon.cli(&["audit", "verify"]).status.success());
}

/// A run that hangs because somebody asked for that is not excused: mainstay does not know better
/// than its probes.
#[test]
#[cfg(target_os = "linux")]
fn a_hang_on_request_is_noticed_like_any_other() {
    crate::daemon::in_both_ways(|| {
        let address = free_address();
        let told = misbehave(&format!("--ready http:{address}"));
        let fed = misbehave("--ready notify");
        let daemon = Daemon::start(&format!(
            "[chaos]\nallowed = true\n[recovery]\nmax_attempts = 0\n\
             [module.probed]\ncommand = {told}\nready = {{ http = \"http://{address}/\" }}\n\
             health.probes = [{{ http = \"http://{address}/\", interval = \"100ms\", \
             timeout = \"500ms\", unhealthy_threshold = 2 }}]\n\
             [module.watched]\ncommand = {fed}\nhealth.probes = [{{ watchdog = \"500ms\" }}]\n"
        ));
        for module in ["probed", "watched"] {
            let before = daemon.until_view("it to be healthy", module, |view| {
                view.health == mainstay_protocol::HealthStatus::Healthy
            });
            let done = daemon.cli(&["chaos", "hang", module, "--for", "10m"]);
            assert!(done.status.success(), "{done:?}");
            let paused = || {
                let params = json!({ "module": module });
                let health: mainstay_protocol::health::SystemHealth = daemon
                    .client()
                    .call(name::HEALTH_REPORT, params)
                    .expect("an answer");
                let mut probes = health.modules.into_iter().flat_map(|it| it.probes);
                probes.find_map(|probe| probe.paused)
            };
            let excuse = daemon.wait("the hang to be noticed, or excused", || {
                let view = daemon.module(module);
                let is_back =
                    view.generation > before.generation && view.state == ModuleState::Running;
                let excuse = paused();
                (is_back || excuse.is_some()).then_some(excuse)
            });
            assert_eq!(excuse, None, "{module} was excused");
        }
    });
}

#[test]
fn between_two_failures_why_says_how_often_it_failed_and_what_it_may() {
    let recovery = "recovery = { max_attempts = 3, window = \"10m\", \
                    backoff = { initial = \"60s\", max = \"60s\" } }";
    let crash = script("until [ -e crash ]; do sleep 0.02; done; rm crash; exit 17");
    let daemon = Daemon::start(&format!("[module.it]\n{recovery}\ncommand = {crash}\n"));
    daemon.touch("crash");
    daemon.until("it", ModuleState::Backoff);
    let told = why(&daemon, "it");
    let tried = told.tried.expect("a restart");
    assert!(
        tried.ends_with("(1 of 3 attempts within 10 min)"),
        "{tried}"
    );
    let next = told.next.expect("a restart").text;
    assert_eq!(next, "it is restarted (attempt 1 of 3 within 10 min)");
}

#[test]
fn while_it_runs_again_why_still_says_how_often_it_failed() {
    let recovery = "recovery = { max_attempts = 5, backoff = { initial = \"10ms\" } }";
    let crash = script("echo run >> runs; test $(wc -l < runs) -gt 2 || exit 17; exec sleep 600");
    let daemon = Daemon::start(&format!("[module.it]\n{recovery}\ncommand = {crash}\n"));
    daemon.until_view("its third run", "it", |view| {
        view.attempts == 2 && view.state == ModuleState::Running
    });
    let told = why(&daemon, "it");
    assert!(
        told.summary.contains("it ended 2 times in"),
        "{}",
        told.summary
    );
    let tried = told.tried.expect("restarts");
    assert!(tried.contains("(2 of 5 attempts within"), "{tried}");
}

#[cfg(unix)]
#[test]
fn the_words_of_an_earlier_run_are_no_evidence_of_a_start_that_failed() {
    use std::os::unix::fs::PermissionsExt;
    let recovery = "recovery = { max_attempts = 1, probation = \"off\", \
                    backoff = { initial = \"50ms\", max = \"50ms\" } }";
    let module = format!("[module.it]\nrequired = false\n{recovery}\ncommand = [\"./once\"]\n");
    let dir = crate::daemon::prepare("", &module);
    let program = dir.path().join("once");
    std::fs::write(
        &program,
        "#!/bin/sh\necho words of the first run\nrm -f \"$0\"\nexit 3\n",
    )
    .expect("a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
    let daemon = Daemon::launch_in(dir);
    daemon.until("it", ModuleState::Failed);
    assert!(daemon.output("it").contains("words of the first run"));
    let told = why(&daemon, "it");
    assert!(told.summary.contains("once"), "{}", told.summary);
    let sources = told.evidence.iter().map(|it| it.source.as_str());
    let sources: Vec<&str> = sources.collect();
    assert!(
        !sources.contains(&"its log ends with"),
        "{:?}",
        told.evidence
    );
}

#[test]
fn those_that_why_calls_affected_are_those_that_what_if_stop_names() {
    let run = misbehave("");
    let daemon = Daemon::start(&format!(
        "[module.base]\ncommand = {run}\n[module.once]\nkind = \"task\"\ncommand = {}\n\
         [module.mid]\ncommand = {run}\n\
         requires = [\"base\", {{ module = \"once\", until = \"completed\" }}]\n\
         [module.top]\ncommand = {run}\nrequires = [\"mid\"]\n\
         [module.idle]\nstart = \"lazy\"\ncommand = {run}\nrequires = [\"base\"]\n",
        script("exit 0"),
    ));
    daemon.until("top", ModuleState::Running);
    let agree = |module: &str, expected: &[&str]| {
        let mut named: Vec<String> = what_if(&daemon, "stop", module)
            .steps
            .into_iter()
            .map(|step| step.module)
            .filter(|name| name != module)
            .collect();
        named.sort();
        assert_eq!(named, expected, "{module}");
        assert_eq!(why(&daemon, module).affects, expected, "{module}");
    };
    agree("base", &["mid", "top"]);
    agree("once", &[]);
    agree("top", &[]);
    daemon.change(name::MODULE_STOP, "base");
    agree("base", &["mid", "top"]);
    agree("mid", &["top"]);
}
