//! What one user or one module may spend: connections, requests, refusals, lines.
//! Owns the tests that a client which takes more than its share costs nobody else.
//! Never asserts an exact time: a busy machine is slow for everyone.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_protocol::method::{EventsParams, name};
use mainstay_protocol::{ErrorCode, EventKind, ModuleState};
use serde_json::{Value, json};

use crate::daemon::{Daemon, binary, misbehave, prepare, skip};
use crate::raw::{Raw, code, token};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

fn two() -> String {
    format!(
        "[module.one]\ncommand = {0}\n[module.two]\ncommand = {0}\n",
        misbehave("")
    )
}

/// Refused requests in the journal: rows, and refusals they stand for.
fn refusals(daemon: &Daemon) -> (usize, u64) {
    let params = EventsParams {
        kinds: vec![EventKind::ClientRefused],
        limit: Some(10_000),
        ..EventsParams::default()
    };
    let events = daemon.client().events(&params).expect("events");
    let count = |payload: &Value| payload["count"].as_u64().unwrap_or(1);
    (
        events.len(),
        events.iter().map(|event| count(&event.payload)).sum(),
    )
}

#[test]
fn a_module_token_is_refused_on_the_control_socket() {
    let daemon = Daemon::start(&one());
    let token = token(&daemon, "one");
    let reply = Raw::greeting(&daemon.socket(), Some(&token)).reply();
    assert_eq!(code(&reply), ErrorCode::InvalidToken, "{reply}");
    let reply = Raw::greeting(&daemon.path("run/module.sock"), Some(&token)).reply();
    assert_eq!(reply["result"]["module"], "one", "{reply}");
}

#[test]
fn a_run_that_opens_many_connections_keeps_nobody_out() {
    let daemon = Daemon::start(&two());
    let door = daemon.path("run/module.sock");
    let (greedy, modest) = (token(&daemon, "one"), token(&daemon, "two"));
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..70 {
        let mut raw = Raw::greeting(&door, Some(&greedy));
        let reply = raw.reply();
        if reply["result"].is_object() {
            open.push(raw);
        } else {
            assert_eq!(code(&reply), ErrorCode::TooManyConnections, "{reply}");
            refused += 1;
        }
    }
    assert!(!open.is_empty() && refused > 50, "{} are open", open.len());
    let mut other = Raw::greeting(&door, Some(&modest));
    assert_eq!(other.reply()["result"]["module"], "two");
    assert!(daemon.cli(&["status"]).status.success());
    drop(open);
    daemon.wait("a connection after the others closed", || {
        let reply = Raw::greeting(&door, Some(&greedy)).reply();
        reply["result"].is_object().then_some(())
    });
}

#[test]
fn one_user_does_not_fill_the_control_socket() {
    let daemon = Daemon::start(&one());
    let mut open = Vec::new();
    let refused = loop {
        let mut raw = Raw::greeting(&daemon.socket(), None);
        let reply = raw.reply();
        if reply["error"].is_object() {
            break code(&reply);
        }
        open.push(raw);
        assert!(open.len() < 1000, "there is no limit");
    };
    assert_eq!(refused, ErrorCode::TooManyConnections);
    drop(open);
    daemon.wait("a connection after the others closed", || {
        daemon.cli(&["status"]).status.success().then_some(())
    });
}

#[test]
fn a_person_can_use_the_smallest_allowance() {
    let daemon = Daemon::start(&format!("[ipc]\nrequests_per_second = 1\n{}", two()));
    for words in [
        &["restart", "one", "two"][..],
        &["status", "one"],
        &["stop", "one"],
        &["start", "one", "two"],
        &["config", "set", "module.one.shutdown_timeout", "3s"],
        &["reload"],
    ] {
        let output = daemon.cli(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    }
}

#[test]
fn changes_are_counted_over_all_connections_of_a_user() {
    let daemon = Daemon::start(&format!("[ipc]\nrequests_per_second = 5\n{}", one()));
    let params = json!({ "module": "one", "dry_run": true });
    let mut refused = 0;
    for _ in 0..150 {
        let mut raw = Raw::welcomed(&daemon.socket());
        let reply = raw.call(name::MODULE_START, params.clone());
        if reply["error"].is_object() {
            assert_eq!(code(&reply), ErrorCode::RateLimited, "{reply}");
            refused += 1;
        }
        assert!(raw.call(name::SYSTEM_STATUS, json!({}))["result"].is_object());
    }
    assert!(refused > 0, "a new connection brings a new allowance");
}

#[test]
fn a_module_that_reconnects_to_be_refused_costs_a_few_rows_and_its_own_connection() {
    let daemon = Daemon::start(&two());
    let door = daemon.path("run/module.sock");
    let token = token(&daemon, "one");
    let (mut refused, mut closed) = (0_u64, 0);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let mut raw = Raw::greeting(&door, Some(&token));
        let reply = raw.reply();
        if reply["error"].is_object() {
            assert_eq!(code(&reply), ErrorCode::RateLimited, "{reply}");
            closed += 1;
            continue;
        }
        let reply = raw.call(name::MODULE_STOP, json!({ "module": "two" }));
        match code(&reply) {
            ErrorCode::NotPermitted => refused += 1,
            ErrorCode::RateLimited => {
                refused += 1;
                assert_eq!(raw.reply(), Value::Null, "the connection is closed");
                closed += 1;
            }
            other => panic!("{other}: {reply}"),
        }
    }
    assert!(
        closed > 0 && refused > 30,
        "{refused} refused, {closed} closed"
    );
    let counted = daemon.wait("all refusals in the journal", || {
        let (rows, counted) = refusals(&daemon);
        (counted >= refused).then_some((rows, counted))
    });
    assert!(counted.0 <= 8, "{} rows for {refused} refusals", counted.0);
    assert_eq!(daemon.module("two").state, ModuleState::Running);
}

#[test]
fn empty_lines_cost_their_sender_the_connection_and_nobody_time() {
    let daemon = Daemon::start(&one());
    let mut others = Raw::welcomed(&daemon.socket());
    let mut flooders: Vec<Raw> = (0..50).map(|_| Raw::welcomed(&daemon.socket())).collect();
    let empty = vec![b'\n'; 180_000];
    let before = daemon.status().pid;
    std::thread::scope(|scope| {
        for flooder in &flooders {
            let (mut stream, empty) = (&flooder.stream, &empty);
            scope.spawn(move || {
                let _closed = stream.write_all(empty);
            });
        }
        for _ in 0..20 {
            let begun = Instant::now();
            assert!(others.call(name::SYSTEM_STATUS, json!({}))["result"].is_object());
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{:?}",
                begun.elapsed()
            );
        }
    });
    for flooder in &mut flooders {
        let reply = flooder.reply();
        assert!(
            reply.is_null() || code(&reply) == ErrorCode::RateLimited,
            "{reply}"
        );
    }
    assert_eq!(daemon.status().pid, before, "the runtime was not replaced");
}

/// A module may put as many processes above one as it likes, each in a session of its own.
#[test]
fn however_deep_below_a_module_a_process_gets_no_more_than_a_module() {
    let dir = prepare("", "");
    let (folder, mainstay) = (dir.path().display().to_string(), binary());
    let deeper = format!(
        "if [ $1 -gt 0 ]; then setsid sh {folder}/deeper.sh $(($1 - 1)); exit; fi\n\
         env -i {mainstay} stop two --socket {folder}/run/control.sock >>{folder}/words 2>&1\n\
         echo $? >>{folder}/new\n"
    );
    std::fs::write(dir.path().join("deeper.sh"), deeper).expect("a script");
    let script = format!(
        "until [ -S {folder}/run/control.sock ]; do sleep 0.02; done\n\
         for depth in 3 70 200; do sh {folder}/deeper.sh $depth; done\n\
         mv {folder}/new {folder}/codes; exec sleep 600"
    );
    let path = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let modules = format!(
        "[module.one]\ncommand = [\"sh\", \"-c\", {script:?}]\n[module.two]\ncommand = {}\n",
        misbehave("")
    );
    std::fs::write(path, text + &modules).expect("written");
    let daemon = Daemon::launch_as(dir, Command::new(mainstay));
    let codes = daemon.wait("the answers to each of them", || {
        std::fs::read_to_string(daemon.path("codes")).ok()
    });
    let words = std::fs::read_to_string(daemon.path("words")).unwrap_or_default();
    assert_eq!(codes, "4\n4\n4\n", "{words}");
    assert_eq!(daemon.module("two").state, ModuleState::Running);
}

/// The most memory that a process had, in bytes.
#[cfg(target_os = "linux")]
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.expect("a number") * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn unfinished_lines_and_unread_results_of_a_user_share_a_little_memory() {
    let dir = prepare("", &one());
    std::fs::create_dir_all(dir.path().join("state/logs")).expect("folders");
    let log: String = (0..200_000)
        .map(|n| format!("line {n} is neither short nor long: it has so many characters\n"))
        .collect();
    std::fs::write(dir.path().join("state/logs/one.log"), log).expect("a log");
    let daemon = Daemon::launch_in(dir);
    daemon.until("one", ModuleState::Running);
    let pid = daemon.status().pid;
    let before = most_memory(pid);
    let unfinished = vec![b'x'; 900_000];
    let mut raws: Vec<Raw> = (0..120).map(|_| Raw::welcomed(&daemon.socket())).collect();
    for raw in &mut raws {
        let short = Duration::from_millis(50);
        raw.stream
            .set_write_timeout(Some(short))
            .expect("a timeout");
        raw.write(&unfinished);
    }
    drop(raws);
    daemon.wait("room for lines again", || {
        daemon.cli(&["status"]).status.success().then_some(())
    });
    let mut raws: Vec<Raw> = (0..60).map(|_| Raw::welcomed(&daemon.socket())).collect();
    for raw in &mut raws {
        let params = json!({ "module": "one", "lines": 10_000 });
        raw.send(&crate::raw::request(1, name::LOGS_READ, params));
    }
    // A result that is not read within five seconds closes its connection.
    std::thread::scope(|scope| {
        for raw in &mut raws {
            scope.spawn(|| {
                let reply = raw.reply();
                let lines = reply["result"]["lines"].as_array();
                assert!(
                    lines.is_some_and(|lines| lines.len() > 5000),
                    "{reply:.200}"
                );
            });
        }
    });
    let more = most_memory(pid).saturating_sub(before);
    eprintln!("{} KiB more than {} KiB", more / 1024, before / 1024);
    assert!(more < 48 * 1024 * 1024, "{more} bytes more");
}

/// What an orphan of a module, in a session of its own, is told without a token by a holder that is
/// PID 1: the exit codes of its commands, and the states of the modules after them.
#[test]
fn an_orphan_of_a_module_gets_no_more_than_a_module_when_the_holder_is_pid_1() {
    const NAMESPACE: [&str; 3] = ["--pid", "--fork", "--mount-proc"];
    let can = Command::new("unshare").args(NAMESPACE).arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skip("no PID namespace can be made here (it needs root and unshare)");
    }
    let dir = prepare("", "");
    let (folder, mainstay) = (dir.path().display().to_string(), binary());
    let socket = format!("{folder}/run/control.sock");
    let attack = format!(
        "until [ -S {socket} ]; do sleep 0.02; done\n\
         for request in 'stop two' down status; do\n\
         {mainstay} $request --socket {socket} >>{folder}/words 2>&1; echo $? >>{folder}/new; done\n\
         mv {folder}/new {folder}/codes\n"
    );
    std::fs::write(dir.path().join("attack.sh"), attack).expect("a script");
    let script = format!("setsid setsid --fork sh {folder}/attack.sh; exec sleep 600");
    let path = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let modules = format!(
        "[module.one]\ncommand = [\"sh\", \"-c\", {script:?}]\n[module.two]\ncommand = {}\n",
        misbehave("")
    );
    std::fs::write(path, text + &modules).expect("written");
    let mut command = Command::new("unshare");
    command
        .args(NAMESPACE)
        .args(["--kill-child=TERM", mainstay]);
    let mut daemon = Daemon::launch_as(dir, command);
    let codes = daemon.wait("the answers to the orphan", || {
        std::fs::read_to_string(daemon.path("codes")).ok()
    });
    let words = std::fs::read_to_string(daemon.path("words")).unwrap_or_default();
    assert_eq!(codes, "4\n4\n4\n", "{words}");
    // A program that enters the namespace from outside is no orphan of a module.
    let children = format!("/proc/{0}/task/{0}/children", daemon.child_pid());
    let holder = std::fs::read_to_string(children).expect("the namespace's first process");
    let enter = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", holder.trim(), "--pid", mainstay])
            .args(words);
        command
            .args(["--socket", &socket])
            .output()
            .expect("nsenter runs")
    };
    let status = enter(&["status", "two", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("a module");
    assert_eq!(status["state"], "running", "{status}");
    let _killed_with_its_namespace = enter(&["down"]);
    assert_eq!(daemon.ended(), Some(0));
}

#[test]
fn a_user_follows_so_many_streams_over_all_connections() {
    let daemon = Daemon::start(&one());
    let mut open = Vec::new();
    let (mut followed, mut refused) = (0, 0);
    for _ in 0..6 {
        let mut raw = Raw::welcomed(&daemon.socket());
        for number in 0..60 {
            let follows_log = number % 2 == 0;
            let reply = match follows_log {
                true => raw.call(name::LOGS_READ, json!({ "module": "one", "follow": true })),
                false => raw.call(name::EVENTS_SUBSCRIBE, json!({ "kinds": ["module.ready"] })),
            };
            match reply["result"].is_object() {
                true => followed += 1,
                false => {
                    assert_eq!(code(&reply), ErrorCode::Busy, "{reply}");
                    refused += 1;
                }
            }
        }
        open.push(raw);
    }
    assert_eq!((followed, refused), (256, 104));
    // Another connection of the same user may still ask, and close one to follow again.
    assert!(daemon.client().status().is_ok());
    open.pop();
    open.remove(0);
    let again = crate::daemon::wait_for("a stream to be free", || {
        let mut raw = Raw::welcomed(&daemon.socket());
        let reply = raw.call(name::EVENTS_SUBSCRIBE, json!({}));
        reply["result"].is_object().then_some(())
    });
    assert!(again.is_some());
}
