//! Real servers under supervision: redis, nginx, postgresql as Debian ships them.
//! Owns that they become ready, survive kill -9 of any process, and stop cleanly.
//! Never fails where they are not installed: it says so.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_protocol::{ModuleState, SystemStatus};

use crate::daemon::{Daemon, free_address, kill, lives, prepare, skip};

/// A program in PATH or where servers are.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    folders
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// The processes below one.
fn below(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let children = text
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok());
    children
        .flat_map(|child| std::iter::once(child).chain(below(child)))
        .collect()
}

/// The process below one that calls itself so.
fn named(pid: u32, word: &str) -> Option<u32> {
    below(pid).into_iter().find(|pid| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains(word)
    })
}

/// Kills the main process, waits for the next run, and finds nothing of the one before.
fn survives_the_end_of_its_main_process(daemon: &Daemon) {
    let before = daemon.until("it", ModuleState::Running);
    let main = before.pid.expect("it runs");
    let all: Vec<u32> = std::iter::once(main).chain(below(main)).collect();
    kill(main, libc::SIGKILL);
    daemon.until_view("it to be back", "it", |view| {
        view.state == ModuleState::Running && view.generation > before.generation
    });
    for pid in all {
        assert!(!lives(pid), "{pid} of the run before is left");
    }
}

/// Stops everything: cleanly, and with nothing left.
fn stops_cleanly(daemon: Daemon) {
    let main = daemon
        .until("it", ModuleState::Running)
        .pid
        .expect("it runs");
    let all: Vec<u32> = std::iter::once(main).chain(below(main)).collect();
    assert_eq!(daemon.status().status, SystemStatus::Healthy);
    daemon.change("module.stop", "it");
    let exit = daemon.module("it").last_exit.expect("it ended");
    assert_eq!(exit.code, Some(0), "{}", exit.text);
    daemon.change("module.start", "it");
    daemon.until("it", ModuleState::Running);
    assert_eq!(daemon.stop(), Some(0));
    for pid in all {
        assert!(!lives(pid), "{pid} is left");
    }
}

#[test]
fn redis() {
    let Some(server) = installed("redis-server") else {
        return skip("redis-server is not installed");
    };
    let modules = format!(
        "[module.it]\nready = {{ notify = true }}\ncommand = [{server:?}, \"--port\", \"0\", \
         \"--unixsocket\", \"redis.sock\", \"--supervised\", \"systemd\", \"--daemonize\", \"no\", \
         \"--save\", \"\"]\n"
    );
    let daemon = Daemon::start(&modules);
    let ping = || {
        let mut stream = UnixStream::connect(daemon.path("redis.sock")).expect("it listens");
        stream.write_all(b"PING\r\n").expect("it reads");
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"+PONG\r\n");
    };
    ping();
    let said = daemon.module("it").status_text.unwrap_or_default();
    assert!(said.contains("Ready to accept connections"), "{said}");
    survives_the_end_of_its_main_process(&daemon);
    ping();
    stops_cleanly(daemon);
}

/// A configuration of nginx that keeps all it writes in the test's folder.
pub(crate) fn nginx_conf(address: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind};\n"))
        .concat();
    format!(
        "daemon off;\npid nginx.pid;\nerror_log stderr;\nworker_processes 2;\n\
         events {{ worker_connections 64; }}\nhttp {{\n{temporary}access_log off;\n\
         server {{ listen {address}; location / {{ return 200 \"hello\\n\"; }} }}\n}}\n"
    )
}

fn get(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn nginx() {
    let Some(server) = installed("nginx") else {
        return skip("nginx is not installed");
    };
    for ready in ["tcp", "http"] {
        let address = free_address();
        let (prefix, target) = if ready == "http" {
            ("http://", "/")
        } else {
            ("", "")
        };
        let modules = format!(
            "[module.it]\nready = {{ {ready} = \"{prefix}{address}{target}\" }}\n\
             command = [{server:?}, \"-p\", \"${{project}}\", \"-c\", \"nginx.conf\", \"-e\", \
             \"stderr\"]\nstop_signal = \"SIGQUIT\"\n"
        );
        let dir = prepare("", &modules);
        std::fs::write(dir.path().join("nginx.conf"), nginx_conf(&address)).expect("a file");
        let daemon = Daemon::launch_in(dir);
        let before = daemon.until("it", ModuleState::Running);
        let main = before.pid.expect("it runs");
        assert!(get(&address).contains("hello"));
        let workers = daemon.wait("two workers", || {
            Some(below(main)).filter(|all| all.len() == 2)
        });
        kill(workers[0], libc::SIGKILL);
        daemon.wait("a worker in its place", || {
            let now = below(main);
            (now.len() == 2 && !now.contains(&workers[0])).then_some(())
        });
        assert_eq!(
            daemon.module("it").generation,
            1,
            "a worker is nginx's own affair"
        );
        // The workers of a killed master keep the port: they must be gone before the next run.
        survives_the_end_of_its_main_process(&daemon);
        assert!(get(&address).contains("hello"));
        stops_cleanly(daemon);
    }
}

/// The folder of the newest postgresql.
fn postgresql() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders
        .into_iter()
        .rev()
        .find(|folder| folder.join("initdb").exists())
}

#[test]
fn postgresql_server() {
    let Some(bin) = postgresql() else {
        return skip("postgresql is not installed");
    };
    let root = nix::unistd::geteuid().is_root();
    let owner = nix::unistd::User::from_name("postgres").ok().flatten();
    if root && owner.is_none() {
        return skip("there is no user postgres to run it as");
    }
    let program = |name: &str| bin.join(name).display().to_string();
    let modules = format!(
        "[module.it]\n{}\ndirectory = \"pg\"\nstop_signal = \"SIGINT\"\n\
         before_start = [[\"/bin/sh\", \"-c\", \"[ -e data/PG_VERSION ] || {} -D data -A trust \
         --no-sync --locale=C\"]]\n\
         command = [{:?}, \"-D\", \"data\", \"-k\", \"${{project}}/pg\", \"-h\", \"\", \"-F\"]\n\
         ready = {{ exec = [{:?}, \"-q\", \"-h\", \"${{project}}/pg\"] }}\nstartup_timeout = \"60s\"\n",
        if root { "user = \"postgres\"" } else { "" },
        program("initdb"),
        program("postgres"),
        program("pg_isready"),
    );
    let dir = prepare("", &modules);
    let data = dir.path().join("pg");
    std::fs::create_dir(&data).expect("a folder");
    if let Some(owner) = owner.filter(|_| root) {
        let open = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("permissions");
        nix::unistd::chown(&data, Some(owner.uid), Some(owner.gid)).expect("an owner");
    }
    let daemon = Daemon::launch_in(dir);
    let before = daemon.until("it", ModuleState::Running);
    let main = before.pid.expect("it runs");
    // A worker that is killed makes it start all of them anew, under the same main process.
    let worker = daemon.wait("its checkpointer", || named(main, "checkpointer"));
    kill(worker, libc::SIGKILL);
    daemon.wait("a new one", || {
        named(main, "checkpointer").filter(|now| *now != worker)
    });
    assert_eq!(
        daemon.module("it").generation,
        1,
        "a worker is its own affair"
    );
    survives_the_end_of_its_main_process(&daemon);
    stops_cleanly(daemon);
}
