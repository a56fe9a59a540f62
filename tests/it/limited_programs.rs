//! Real servers that are probed and limited at once, under load: redis and nginx.
//! Owns the load. Never fails where they are not installed: it says so.

#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mainstay_protocol::HealthStatus;
use mainstay_protocol::enums::Rung;

use crate::daemon::{Daemon, free_address, in_both_ways, prepare, skip};
use crate::limits::{QUICK, main_of, observe};
use crate::real_programs::{installed, nginx_conf};

/// Threads that ask a server without a pause until they are dropped.
struct Load {
    done: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Sends `request` again and again, as soon as some bytes of the answer to the last one came.
    fn on(address: &str, request: &'static [u8]) -> Load {
        let (done, answers) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = (0..4).map(|_| {
            let (done, answers) = (Arc::clone(&done), Arc::clone(&answers));
            let address = address.to_owned();
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(&address).expect("it listens");
                let limit = Some(Duration::from_secs(20));
                stream.set_read_timeout(limit).expect("a timeout");
                let mut answer = [0; 65536];
                while !done.load(Ordering::Relaxed) {
                    let sent = stream.write_all(request);
                    match sent.and_then(|()| stream.read(&mut answer)) {
                        Ok(1..) => answers.fetch_add(1, Ordering::Relaxed),
                        _ => {
                            stream = TcpStream::connect(&address).expect("it listens");
                            stream.set_read_timeout(limit).expect("a timeout");
                            0
                        }
                    };
                }
            })
        });
        Load {
            threads: threads.collect(),
            done,
            answers,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| drop(thread.join()));
    }
}

/// It is probed and at its ceiling under load, and the same process is healthy all the time.
fn stays_up(daemon: &Daemon, address: &str, request: &'static [u8]) {
    let before = daemon.until_view("it to be healthy", "it", |view| {
        view.health == HealthStatus::Healthy
    });
    let main = main_of(daemon, "it");
    let load = Load::on(address, request);
    daemon.until_view("the cap", "it", |view| view.throttle.rung == Rung::Cap);
    let share = daemon.wait("it to be held", || {
        let share = observe(&[main], Duration::from_secs(3))[0];
        (share < 15.0).then_some(share)
    });
    let answers = load.answers.load(Ordering::Relaxed);
    eprintln!("{share:.1} % under cpu_percent = 10, {answers} answers");
    assert!(answers > 0);
    drop(load);
    let after = daemon.until_view("its release", "it", |view| {
        view.throttle.rung == Rung::None && view.health == HealthStatus::Healthy
    });
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
    assert_eq!(after.generation, before.generation);
}

const LIMITS: &str =
    "importance = \"critical\"\nlimits = { cpu_percent = 10, memory_mb = 300, threads = 50 }\n";

#[test]
fn redis_is_probed_limited_and_stays_up() {
    let Some(server) = installed("redis-server") else {
        return skip("redis-server is not installed");
    };
    in_both_ways(|| {
        let address = free_address();
        let (host, port) = address.rsplit_once(':').expect("a port");
        let exec = match installed("redis-cli") {
            Some(cli) => format!(
                ", {{ exec = [{cli:?}, \"-h\", \"{host}\", \"-p\", \"{port}\", \"ping\"], \
                 interval = \"1s\", timeout = \"10s\" }}"
            ),
            None => String::new(),
        };
        let daemon = Daemon::start(&format!(
            "{QUICK}[module.it]\ncommand = [{server:?}, \"--port\", \"{port}\", \"--bind\", \
             \"{host}\", \"--daemonize\", \"no\", \"--save\", \"\"]\n{LIMITS}\
             ready = {{ tcp = \"{address}\" }}\nhealth.probes = [{{ tcp = \"{address}\", \
             interval = \"200ms\", timeout = \"10s\" }}{exec}]\n"
        ));
        stays_up(
            &daemon,
            &address,
            b"PING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\n",
        );
    });
}

#[test]
fn nginx_is_probed_limited_and_stays_up() {
    let Some(server) = installed("nginx") else {
        return skip("nginx is not installed");
    };
    in_both_ways(|| {
        let address = free_address();
        let modules = format!(
            "{QUICK}[module.it]\nready = {{ http = \"http://{address}/\" }}\n\
             command = [{server:?}, \"-p\", \"${{project}}\", \"-c\", \"nginx.conf\", \"-e\", \
             \"stderr\"]\nstop_signal = \"SIGQUIT\"\n{LIMITS}health.probes = [\
             {{ http = \"http://{address}/\", interval = \"200ms\", timeout = \"10s\" }}]\n"
        );
        let dir = prepare("", &modules);
        std::fs::write(dir.path().join("nginx.conf"), nginx_conf(&address)).expect("a file");
        let daemon = Daemon::launch_in(dir);
        stays_up(&daemon, &address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    });
}
