//! Probes of real processes: roles, who holds the port, and everything a probe can run into.
//! Owns the odd servers. Never uses a fixed port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay_protocol::health::{HealthParams, SystemHealth};
use mainstay_protocol::methods::name;
use mainstay_protocol::{EventKind, HealthStatus, ModuleState, StateCause};
use mainstay_sdk::{HealthReport, Module};

use crate::daemon::{Daemon, misbehave, prepare, script};
use crate::raw::surroundings;

/// A quick probe of a module that runs on.
fn probed(probe: &str) -> String {
    format!(
        "[recovery]\nmax_attempts = 0\nbackoff = {{ initial = \"10ms\", max = \"50ms\", floor = \"10ms\" }}\n\
         [module.one]\ncommand = {}\n[module.one.health]\ninterval = \"50ms\"\nprobes = [{probe}]\n",
        misbehave("")
    )
}

fn report(daemon: &Daemon, module: &str) -> mainstay_protocol::health::HealthReport {
    let params = HealthParams {
        module: Some(module.to_owned()),
        ..HealthParams::default()
    };
    let client = daemon.client();
    let health: SystemHealth = { client }
        .call(name::HEALTH_REPORT, params)
        .expect("a report");
    health.modules.into_iter().next().expect("its report")
}

/// A server that answers each connection by `answer`, until the test ends. Returns `host:port`, and
/// the count of connections.
fn server(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (count, answer) = (Arc::new(AtomicU32::new(0)), Arc::new(answer));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    (address, count)
}

fn read_request(stream: &mut TcpStream) {
    let mut head = [0; 1024];
    let _closed = stream.read(&mut head);
}

/// The text of the first failure.
fn first_failure(daemon: &Daemon) -> String {
    daemon.wait("a failure", || {
        let events = daemon.events("one").into_iter();
        let changes = events.filter(|event| event.kind == EventKind::ModuleHealthChanged);
        let mut issues = changes.map(|event| event.payload["issues"][0].clone());
        issues.find_map(|issue| issue.as_str().map(str::to_owned))
    })
}

#[test]
fn what_a_module_reports_is_in_status_in_json_in_health_and_in_the_metrics() {
    let daemon = Daemon::start(&probed("{ sdk = true, timeout = \"10s\" }"));
    let module = Module::connect_with(surroundings(&daemon, "one"));
    module.health(|| HealthReport::healthy().metric("count", 5.0));
    let view = daemon.until_view("its metric", "one", |view| !view.metrics.is_empty());
    assert_eq!(view.metrics["count"], 5.0);
    let said = |words: &[&str]| {
        let output = daemon.cli(words);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = said(&["status", "one"]);
    assert!(text.contains("count = 5"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&said(&["status", "one", "--json"])).expect("JSON");
    assert_eq!(json["metrics"]["count"], 5.0);
    let metrics = said(&["metrics"]);
    let line = "mainstay_module_metric{module=\"one\",metric=\"count\"} 5";
    assert!(metrics.contains(line), "{metrics}");
    let text = said(&["health", "one"]);
    assert!(
        text.contains("count = 5") && text.contains("healthy"),
        "{text}"
    );
    let found = report(&daemon, "one");
    assert_eq!((found.score, found.status), (100, HealthStatus::Healthy));
    assert!(found.last_check.is_some());
    assert!(said(&["health"]).contains("machine"));
}

#[test]
fn a_readiness_probe_gates_dependents_and_restarts_nothing() {
    let dir = prepare("", "");
    let flag = dir.path().join("serving").display().to_string();
    let probe = format!(
        "{{ exec = [\"test\", \"-e\", \"{flag}\"], role = \"readiness\", unhealthy_threshold = 1 }}"
    );
    let file = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let dependent = format!(
        "[module.two]\ncommand = {}\nrequires = [\"one\"]\n",
        misbehave("")
    );
    std::fs::write(&file, text + &probed(&probe) + &dependent).expect("written");
    std::fs::write(&flag, "").expect("a file");
    let daemon = Daemon::launch_in(dir);
    let before = daemon.until("two", ModuleState::Running);
    std::fs::remove_file(&flag).expect("a file");
    let view = daemon.until_view("it to be degraded", "one", |view| {
        view.health == HealthStatus::Degraded
    });
    assert_eq!((view.restarts, view.state), (0, ModuleState::Running));
    assert_eq!(
        daemon.module("two").pid,
        before.pid,
        "no dependent was stopped"
    );
    crate::daemon::kill(before.pid.expect("it runs"), libc::SIGKILL);
    let waiting = daemon.until("two", ModuleState::Waiting);
    assert_eq!(waiting.waiting_on, ["one"]);
    std::fs::write(&flag, "").expect("a file");
    daemon.until("two", ModuleState::Running);
    assert_eq!(daemon.module("one").restarts, 0);
}

#[test]
fn a_startup_probe_holds_a_start_and_is_repeated_until_it_succeeds() {
    let dir = prepare("", "");
    let tries = dir.path().join("tries").display().to_string();
    let look = format!("echo x >> {tries}; test $(wc -l < {tries}) -ge 4");
    let probe = format!("{{ exec = [\"sh\", \"-c\", {look:?}], role = \"startup\" }}");
    let file = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let text = text + &probed(&probe).replace("interval = \"50ms\"\n", "");
    std::fs::write(&file, text).expect("written");
    let daemon = Daemon::launch_in(dir);
    let view = daemon.until("one", ModuleState::Running);
    assert_eq!(view.generation, 1);
    let tried = std::fs::read_to_string(&tries)
        .expect("tries")
        .lines()
        .count();
    assert_eq!(tried, 4, "no more once it is ready");
}

#[test]
fn a_port_that_another_process_holds_counts_only_if_any_may_hold_it() {
    let (address, _) = server(drop);
    let liveness =
        |owner: &str| format!("{{ tcp = \"{address}\", unhealthy_threshold = 2{owner} }}");
    let daemon = Daemon::start(&probed(&liveness("")));
    let issue = first_failure(&daemon);
    assert!(
        issue.contains("a process that is not of this module holds it"),
        "{issue}"
    );
    daemon.wait("the restart", || {
        (daemon.module("one").generation > 1).then_some(())
    });
    drop(daemon);
    let daemon = Daemon::start(&probed(&liveness(", owner = \"any\"")));
    daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    // The same for readiness: a stranger on the port before the start is no readiness.
    let ready = |owner: &str| {
        format!(
            "[module.one]\ncommand = {}\nready = {{ tcp = \"{address}\"{owner} }}\n",
            misbehave("")
        )
    };
    drop(daemon);
    let daemon = Daemon::start(&ready(", owner = \"any\""));
    daemon.until("one", ModuleState::Running);
    drop(daemon);
    let modules = ready("")
        + "required = false\nstartup_timeout = \"1s\"\nrecovery = { probation = \"off\", max_attempts = 1 }\n";
    let daemon = Daemon::start(&modules);
    let view = daemon.until("one", ModuleState::Failed);
    assert_eq!(view.cause, Some(StateCause::Timeout));
}

#[test]
fn http_servers_that_trickle_redirect_or_never_end_cost_one_timeout() {
    let trickle = |mut stream: TcpStream| {
        read_request(&mut stream);
        for byte in b"HTTP/1.1 200 OK\r\n\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::park_timeout(Duration::from_secs(1));
        }
    };
    let redirect = |mut stream: TcpStream| {
        read_request(&mut stream);
        let _closed = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n");
    };
    let head_without_end = |mut stream: TcpStream| {
        read_request(&mut stream);
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    };
    let huge = |mut stream: TcpStream| {
        read_request(&mut stream);
        let _closed = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n");
        while stream.write_all(&[0; 65536]).is_ok() {}
    };
    type Answer = Box<dyn Fn(TcpStream) + Send + Sync>;
    let failing: [(Answer, &str); 3] = [
        (Box::new(trickle), "no answer within 300ms"),
        (Box::new(redirect), "status 302 instead of 200"),
        (Box::new(head_without_end), "this is not HTTP"),
    ];
    let probe = |address: &str| {
        format!(
            "{{ http = \"http://{address}/\", owner = \"any\", timeout = \"300ms\", \
             role = \"readiness\", unhealthy_threshold = 1 }}"
        )
    };
    for (answer, expected) in failing {
        let (address, _) = server(answer);
        let daemon = Daemon::start(&probed(&probe(&address)));
        let issue = first_failure(&daemon);
        assert!(issue.contains(expected), "{issue}");
        assert_eq!(daemon.module("one").state, ModuleState::Running);
    }
    let (address, _) = server(huge);
    let daemon = Daemon::start(&probed(&probe(&address).replace("300ms", "10s")));
    daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
}

#[test]
fn commands_that_are_missing_fork_or_flood_fail_or_succeed_as_their_exit_code_says() {
    let failing = [
        ("[\"/no/such/command\"]".to_owned(), "No such file"),
        (
            script("while :; do echo flood; done"),
            "it took too long and was killed: flood",
        ),
        (
            script("sleep 1000 & sleep 1000 & echo forked; exit 3"),
            "exit code 3: forked",
        ),
    ];
    for (command, expected) in failing {
        let probe = format!("{{ exec = {command}, timeout = \"500ms\", unhealthy_threshold = 1 }}");
        let daemon = Daemon::start(&probed(&probe));
        let issue = first_failure(&daemon);
        assert!(issue.contains(expected), "{issue}");
        daemon.wait("the restart", || {
            (daemon.module("one").generation > 1).then_some(())
        });
        let holder = daemon.holder();
        drop(daemon);
        assert!(!crate::daemon::lives(holder));
    }
}

/// Waits in its kernel for a child that never executes a program, and hears no signal but SIGKILL.
#[cfg(target_arch = "x86_64")]
const VFORKS: &str = "import ctypes, time
ctypes.CDLL(None).syscall(56, 0x4000 | 17, 0, 0, 0, 0)
time.sleep(1000)";

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_command_that_waits_in_its_kernel_is_killed_with_the_child_that_it_waits_for() {
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if python.is_err() {
        return crate::daemon::skip("there is no python3");
    }
    let count = AtomicU32::new(0);
    crate::daemon::in_both_ways(|| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let mark = format!("vforks-{}-{number}", std::process::id());
        let probe = format!(
            "{{ exec = {:?}, role = \"readiness\", timeout = \"1s\", \
             unhealthy_threshold = 1 }}",
            ["python3", "-c", VFORKS, &mark]
        );
        let daemon = Daemon::start(&probed(&probe));
        let running = || {
            let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
            let words = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline"));
            let words = entries.filter_map(|entry| words(entry).ok());
            let is_its = |words: &Vec<u8>| String::from_utf8_lossy(words).contains(&mark);
            words.filter(is_its).count()
        };
        let issue = first_failure(&daemon);
        assert!(issue.contains("it took too long and was killed"), "{issue}");
        assert!(running() <= 2, "one check at a time");
        daemon.change("module.stop", "one");
        daemon.wait("all of them to be gone", || (running() == 0).then_some(()));
    });
}

/// A thousand probes, and then as many as there are in `MAINSTAY_PROBE_SECONDS`.
#[test]
fn a_hundred_probes_a_second_on_one_server_fail_none() {
    let seconds = std::env::var("MAINSTAY_PROBE_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(0);
    let (address, count) = server(|mut stream| {
        read_request(&mut stream);
        let _closed = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let mut modules = String::from("[health]\nadaptive = false\n");
    for number in 0..10 {
        modules += &format!(
            "[module.m{number}]\ncommand = {}\n[module.m{number}.health]\nprobes = [{{ \
             http = \"http://{address}/\", owner = \"any\", interval = \"100ms\", \
             timeout = \"5s\" }}]\n",
            misbehave("")
        );
    }
    let daemon = Daemon::start(&modules);
    let began = Instant::now();
    daemon.wait("a thousand probes", || {
        (count.load(Ordering::Relaxed) > 1000).then_some(())
    });
    std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
    let probes = count.load(Ordering::Relaxed);
    eprintln!("probes: {probes} in {:?}", began.elapsed());
    for number in 0..10 {
        let view = daemon.module(&format!("m{number}"));
        assert_eq!((view.health, view.restarts), (HealthStatus::Healthy, 0));
        let module = format!("m{number}");
        let unwell = daemon.events(&module).into_iter();
        let unwell = unwell.filter(|event| event.kind == EventKind::ModuleHealthChanged);
        assert!(
            unwell.clone().all(|event| event.payload["to"] == "healthy"),
            "{module}"
        );
    }
}

/// Attaches to a process, stops it, and lets it go when its input ends.
#[cfg(target_os = "linux")]
const DEBUGGER: &str = "import ctypes, sys
ptrace = ctypes.CDLL(None).ptrace
pid = int(sys.argv[1])
seized, stopped = ptrace(0x4206, pid, 0, 0), ptrace(0x4207, pid, 0, 0)
print('attached' if seized == stopped == 0 else 'refused', flush=True)
sys.stdin.read()";

#[test]
#[cfg(target_os = "linux")]
fn probes_and_the_watchdog_pause_while_a_debugger_holds_the_process() {
    use std::process::{Command, Stdio};
    let probes = "{ exec = [\"false\"], initial_delay = \"5s\", unhealthy_threshold = 1 }, \
                  { watchdog = \"1s\" }";
    let modules = probed(probes).replace(&misbehave(""), &misbehave("--ready notify"));
    let daemon = Daemon::start(&modules);
    let before = daemon.until("one", ModuleState::Running);
    let pid = before.pid.expect("it runs").to_string();
    let debugger = Command::new("python3")
        .args(["-c", DEBUGGER, &pid])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut debugger) = debugger else {
        return crate::daemon::skip("there is no python3");
    };
    let mut answer = [0; 8];
    let mut output = debugger.stdout.take().expect("its output");
    output.read_exact(&mut answer).expect("it answers");
    if answer != *b"attached" {
        debugger.wait().expect("it ends");
        let now = daemon.module("one").pid;
        assert_eq!(now, before.pid, "restarted before it was attached");
        return crate::daemon::skip("ptrace is not allowed here");
    }
    let end = Instant::now() + Duration::from_secs(8);
    daemon.wait("the pause", || {
        let mut probes = report(&daemon, "one").probes.into_iter();
        probes.find_map(|probe| probe.paused)
    });
    // Stopped, it feeds no watchdog.
    daemon.wait("eight watchdogs", || (Instant::now() > end).then_some(()));
    let now = daemon.module("one");
    assert_eq!(
        (now.pid, now.restarts, now.state),
        (before.pid, 0, ModuleState::Running),
        "it was left alone"
    );
    drop(debugger.stdin.take());
    debugger.wait().expect("it ends");
    daemon.wait("the restart", || {
        (daemon.module("one").generation > 1).then_some(())
    });
}
