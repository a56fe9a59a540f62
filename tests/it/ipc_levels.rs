//! Who may do what over the socket, and what a change does while others ask for one.
//! Owns the tests of levels, tokens, the rate limit and the changing methods.
//! Never trusts what a client says of itself.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use mainstay_protocol::method::{ChangeParams, name};
use mainstay_protocol::{
    AccessLevel, DesiredState, ErrorCode, EventKind, ModuleState, SystemStatus,
};
use serde_json::{Value, json};

use crate::daemon::{Daemon, binary, copy_program, in_both_ways, misbehave, prepare};
use crate::raw::{Raw, code, token};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

fn pair() -> String {
    format!(
        "[module.base]\ncommand = {0}\n[module.top]\ncommand = {0}\nrequires = [\"base\"]\n",
        misbehave("")
    )
}

/// The level a connection got, or why none.
fn level(welcome: &Value) -> Result<AccessLevel, ErrorCode> {
    match welcome["result"]["level"].as_str() {
        Some(level) => Ok(level.parse().expect("a level")),
        None => Err(code(welcome)),
    }
}

#[test]
fn a_token_is_good_for_the_living_run_alone() {
    let daemon = Daemon::start(&one());
    let old = token(&daemon, "one");
    let socket = daemon.path("run/module.sock");
    let welcome = |token: &str| level(&Raw::greeting(&socket, Some(token)).reply());
    assert_eq!(welcome(&old), Ok(AccessLevel::Module));
    let forged = format!("{}0", &old[..old.len() - 1]);
    let forged = if forged == old {
        format!("{}1", &old[..old.len() - 1])
    } else {
        forged
    };
    for forged in [
        forged.as_str(),
        "",
        "one",
        "one.1.",
        "other.1.00",
        "one.99999999999999999999.00",
    ] {
        assert_eq!(welcome(forged), Err(ErrorCode::InvalidToken), "{forged}");
    }
    let before = daemon.module("one").generation;
    daemon.change(name::MODULE_RESTART, "one");
    assert!(daemon.module("one").generation > before);
    assert_eq!(
        welcome(&old),
        Err(ErrorCode::InvalidToken),
        "of an earlier run"
    );
    assert_eq!(welcome(&token(&daemon, "one")), Ok(AccessLevel::Module));
}

#[test]
fn a_module_gets_its_own_methods_and_no_others() {
    let daemon = Daemon::start(&pair());
    let mut module = Raw::greeting(
        &daemon.path("run/module.sock"),
        Some(&token(&daemon, "top")),
    );
    assert_eq!(module.reply()["result"]["module"], "top");
    for (method, params) in [
        (name::MODULE_STOP, json!({ "module": "base" })),
        (name::MODULE_STOP, json!({ "module": "top" })),
        (name::SYSTEM_STOP, json!({})),
        (name::SYSTEM_STATUS, json!({})),
        (name::MODULE_LIST, json!({})),
        (name::EVENTS_SUBSCRIBE, json!({})),
        (name::LOGS_READ, json!({ "module": "base" })),
    ] {
        assert_eq!(
            code(&module.call(method, params)),
            ErrorCode::NotPermitted,
            "{method}"
        );
    }
    let said = module.call(name::MODULE_STATUS, json!({ "text": "busy" }));
    assert_eq!(said["result"], json!({}));
    daemon.until_view("its words", "top", |view| {
        view.status_text.as_deref() == Some("busy")
    });
    assert_eq!(daemon.module("base").state, ModuleState::Running);
    let mut stranger = Raw::greeting(&daemon.path("run/module.sock"), None);
    assert_eq!(
        code(&stranger.reply()),
        ErrorCode::NotPermitted,
        "this door needs a token"
    );
    // The first of each is a row of its own, the others are a count.
    let refused = daemon.wait("the refusals in the journal", || {
        let params = mainstay_protocol::method::EventsParams {
            kinds: vec![EventKind::ClientRefused],
            ..Default::default()
        };
        let events = daemon.client().events(&params).ok()?;
        let count = |payload: &Value| payload["count"].as_u64().unwrap_or(1);
        let counted: u64 = events.iter().map(|event| count(&event.payload)).sum();
        (counted >= 8).then_some((events.len(), counted))
    });
    assert!(refused.0 <= 5 && refused.1 == 8, "{refused:?}");
}

/// A module whose shell asks for the status without its token, from wherever `how` leads.
fn asks_from_inside(how: &str) -> Daemon {
    let dir = prepare("", "");
    let answer = dir.path().join("answer").display().to_string();
    let ask = format!(
        "{} status --socket {}/run/control.sock",
        binary(),
        dir.path().display()
    );
    let script = format!(
        "until [ -S {0}/run/control.sock ]; do sleep 0.02; done; {how} sh -c '{ask} > {answer}.new 2>&1; \
         echo code $? >> {answer}.new; mv {answer}.new {answer}' ; exec sleep 600",
        dir.path().display()
    );
    let text = std::fs::read_to_string(dir.path().join("config/mainstay.toml")).expect("there");
    let module = format!("[module.inside]\ncommand = [\"sh\", \"-c\", {script:?}]\n");
    std::fs::write(dir.path().join("config/mainstay.toml"), text + &module).expect("written");
    Daemon::launch_in(dir)
}

#[test]
fn whoever_is_inside_a_module_gets_no_more_than_a_module_not_even_root() {
    in_both_ways(|| {
        for how in ["", "setsid", "setsid setsid --fork"] {
            let daemon = asks_from_inside(how);
            let answer = daemon.wait("an answer inside the module", || {
                std::fs::read_to_string(daemon.path("answer")).ok()
            });
            assert!(answer.contains("code 4"), "{how}: {answer}");
            assert!(answer.contains("inside a module"), "{how}: {answer}");
        }
    });
}

#[test]
fn a_dead_child_that_connected_for_another_proves_nothing() {
    let daemon = Daemon::start(&one());
    // The shell's child connects and dies; this process goes on with its socket.
    let script = "import socket,os,sys,json\n\
        s=socket.socket(socket.AF_UNIX)\n\
        pid=os.fork()\n\
        if pid==0:\n\
        \x20s.connect(sys.argv[1]); os._exit(0)\n\
        os.waitpid(pid,0)\n\
        s.sendall(json.dumps({'jsonrpc':'2.0','id':1,'method':'hello','params':{'client':'x','protocol':1}}).encode()+b'\\n')\n\
        print(s.makefile().readline())\n";
    let asked = Command::new("python3")
        .args(["-c", script])
        .arg(daemon.socket())
        .output();
    let Ok(asked) = asked.as_ref().map(|asked| &asked.stdout).map_err(|_| ()) else {
        eprintln!("no python3 here: not tested");
        return;
    };
    let welcome: Value = serde_json::from_slice(asked).expect("a reply");
    assert_eq!(level(&welcome), Err(ErrorCode::NotPermitted));
}

/// What a user other than the one mainstay runs as is told; None where that cannot be tried.
fn as_nobody(daemon: &Daemon, words: &[&str]) -> Option<(i32, String)> {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("needs root to become another user: not tested");
        return None;
    }
    // The test's folder is private; mainstay's own is not.
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(daemon.dir.path(), open).expect("our own folder");
    // A copy: the build folder may not be open to others.
    let program = daemon.path("mainstay");
    if !program.exists() {
        copy_program(binary(), &program);
    }
    let output = Command::new(program)
        .args(words)
        .arg("--socket")
        .arg(daemon.socket())
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.code().expect("a code"), text.into_owned()))
}

#[test]
fn levels_come_from_who_the_user_is() {
    for (lists, looks, restarts, stops) in [
        ("", 1, 1, 1),
        ("observers = [\"user\", \"uid:65534\"]", 0, 4, 4),
        ("operators = [\"user\", \"uid:65534\"]", 0, 0, 4),
        ("admins = [\"any\"]", 0, 0, 0),
        ("observers = [\"uid:1\"]", 4, 4, 4),
    ] {
        let daemon = Daemon::start(&format!("[ipc]\n{lists}\n{}", one()));
        for (words, expected) in [
            (&["status"][..], looks),
            (&["restart", "one"][..], restarts),
            (&["down"][..], stops),
        ] {
            let Some((code, text)) = as_nobody(&daemon, words) else {
                return;
            };
            assert_eq!(code, expected, "{lists}: {words:?}: {text}");
        }
    }
}

#[test]
fn changes_are_rate_limited_and_looking_is_not() {
    let daemon = Daemon::start(&format!("[ipc]\nrequests_per_second = 5\n{}", one()));
    let mut raw = Raw::welcomed(&daemon.socket());
    let params = json!({ "module": "one", "dry_run": true });
    let mut refused = 0;
    for _ in 0..150 {
        let reply = raw.call(name::MODULE_START, params.clone());
        if reply["error"].is_object() {
            assert_eq!(code(&reply), ErrorCode::RateLimited);
            refused += 1;
        }
        assert!(raw.call(name::SYSTEM_STATUS, json!({}))["result"].is_object());
    }
    assert!(
        refused > 0,
        "150 changes at once went through a limit of 5 a second"
    );
    let raw = std::cell::RefCell::new(raw);
    daemon.wait("the allowance to come back", || {
        raw.borrow_mut().call(name::MODULE_START, params.clone())["result"]
            .is_object()
            .then_some(())
    });
}

#[test]
fn what_is_part_of_mainstay_is_not_stopped_by_itself() {
    let daemon = Daemon::start(&format!(
        "[module.event-bus]\nkind = \"builtin\"\n{}",
        one()
    ));
    for verb in ["stop", "restart"] {
        let output = daemon.cli(&[verb, "event-bus"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
    }
    let output = daemon.cli(&["start", "event-bus"]);
    assert_eq!(output.status.code(), Some(0), "it is up: {output:?}");
}

#[test]
fn a_dry_run_tells_the_steps_and_changes_nothing() {
    let daemon = Daemon::start(&pair());
    let before = [daemon.module("base"), daemon.module("top")];
    let newest = daemon
        .client()
        .events(&mainstay_protocol::method::EventsParams::default());
    let newest = newest.expect("events").last().map(|event| event.seq);
    let mut client = daemon.client();
    for (method, first, count) in [
        (name::MODULE_STOP, "top", 2),
        (name::MODULE_RESTART, "base", 2),
        (name::MODULE_START, "", 0),
    ] {
        let params = ChangeParams {
            module: "base".to_owned(),
            dry_run: true,
            wait: true,
        };
        let steps = client.change(method, &params).expect("told").steps;
        assert_eq!(steps.len(), count, "{method}: {steps:?}");
        assert_eq!(
            steps.first().map_or("", |step| step.module.as_str()),
            first,
            "{method}"
        );
    }
    for old in before {
        let new = daemon.module(&old.module);
        assert_eq!(
            (new.pid, new.desired, new.state),
            (old.pid, DesiredState::Up, ModuleState::Running)
        );
    }
    let after = daemon
        .client()
        .events(&mainstay_protocol::method::EventsParams::default());
    assert_eq!(
        after.expect("events").last().map(|event| event.seq),
        newest,
        "no event either"
    );
}

#[test]
fn a_change_that_waits_answers_when_it_is_reached() {
    let slow = misbehave("--slow-stop 300ms --ready notify --ready-after 300ms");
    let daemon = Daemon::start(&format!(
        "[module.one]\ncommand = {slow}\nready = {{ notify = true }}\n"
    ));
    let before = daemon.module("one");
    assert_eq!(
        daemon.change(name::MODULE_STOP, "one").state,
        ModuleState::Stopped
    );
    assert_eq!(
        daemon.change(name::MODULE_START, "one").state,
        ModuleState::Running
    );
    let after = daemon.change(name::MODULE_RESTART, "one");
    assert_eq!(after.state, ModuleState::Running);
    assert_eq!(after.generation, before.generation + 2);
    // Without waiting the answer comes at once and says where it stands.
    let params = ChangeParams {
        module: "one".to_owned(),
        dry_run: false,
        wait: false,
    };
    let noted = daemon.client().stop(&params).expect("noted").module;
    assert_eq!(
        (noted.state, noted.desired),
        (ModuleState::Stopping, DesiredState::Down)
    );
}

#[test]
fn two_clients_that_restart_the_same_module_both_get_a_running_one() {
    let daemon = Daemon::start(&pair());
    let before = daemon.module("base").generation;
    let both: Vec<_> = std::thread::scope(|scope| {
        let restart = || daemon.change(name::MODULE_RESTART, "base");
        let threads = [scope.spawn(restart), scope.spawn(restart)];
        threads
            .map(|thread| thread.join().expect("answered"))
            .into()
    });
    for view in &both {
        assert_eq!(view.state, ModuleState::Running, "{view:?}");
        assert!(view.generation > before);
    }
    let now = daemon.until("base", ModuleState::Running);
    assert!(now.generation <= before + 2, "one restart each at most");
    assert_eq!(now.attempts, 0, "a wish is no failure");
    daemon.until("top", ModuleState::Running);
}

#[test]
fn while_it_goes_down_it_changes_nothing_and_still_answers() {
    let daemon = Daemon::start(&format!(
        "[module.one]\ncommand = {}\nready = {{ notify = true }}\n",
        misbehave("--slow-stop 2s --ready notify")
    ));
    let mut raw = Raw::welcomed(&daemon.socket());
    assert_eq!(raw.call(name::SYSTEM_STOP, json!({}))["result"], json!({}));
    daemon.wait("it to be stopping", || {
        (daemon.status().status == SystemStatus::Stopping).then_some(())
    });
    for method in [name::MODULE_START, name::MODULE_STOP, name::MODULE_RESTART] {
        let reply = raw.call(method, json!({ "module": "one" }));
        assert_eq!(code(&reply), ErrorCode::ShuttingDown, "{method}");
    }
    assert_eq!(daemon.module("one").state, ModuleState::Stopping);
    let mut daemon = daemon;
    assert_eq!(daemon.ended(), Some(0));
}

#[test]
fn no_reply_holds_an_environment_a_command_line_or_a_token() {
    let secret = "hunter2-in-the-environment";
    let argument = "hunter3-on-the-command-line";
    let daemon = Daemon::start(&format!(
        "[module.one]\ncommand = {}\nenv = {{ PASSWORD = \"{secret}\" }}\nsettings = {{ key = \"{secret}\" }}\n\
         [module.bad]\ncommand = [\"/nowhere/at/all\", \"{argument}\"]\nrequired = false\n\
         env = {{ PASSWORD = \"{secret}\" }}\n[module.bad.recovery]\nmax_attempts = 1\n",
        misbehave(&format!("--label {argument}")),
    ));
    daemon.until("bad", ModuleState::Failed);
    let token = token(&daemon, "one");
    let mut raw = Raw::welcomed(&daemon.socket());
    for (method, params) in [
        (name::SYSTEM_STATUS, json!({})),
        (name::MODULE_LIST, json!({})),
        (name::MODULE_GET, json!({ "module": "bad" })),
        (name::EVENTS_LIST, json!({ "limit": 10_000 })),
        (name::LOGS_READ, json!({ "module": "one" })),
        (name::WHY, json!({ "module": "bad" })),
        (name::GRAPH, json!({})),
        (name::MODULE_RESTART, json!({ "module": "one" })),
    ] {
        let reply = raw.call(method, params).to_string();
        for hidden in [secret, argument, &token] {
            assert!(!reply.contains(hidden), "{method} shows {hidden}: {reply}");
        }
    }
    // What the configuration says is for administrators, and without what modules are given.
    let reply = raw.call(name::CONFIG_GET, json!({})).to_string();
    assert!(reply.contains("module.one.env.PASSWORD"), "{reply}");
    for hidden in [secret, &token] {
        assert!(
            !reply.contains(hidden),
            "config.get shows {hidden}: {reply}"
        );
    }
    for hidden in [secret, argument, &token] {
        assert!(!daemon.printed().contains(hidden), "up shows {hidden}");
        let journal = std::fs::read(daemon.path("state/journal.db")).expect("a journal");
        let found = journal
            .windows(hidden.len())
            .any(|window| window == hidden.as_bytes());
        assert!(!found, "the journal shows {hidden}");
    }
}
