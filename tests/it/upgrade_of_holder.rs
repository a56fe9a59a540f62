//! The holder follows an upgrade of the runtime: it executes the new program itself.
//! Owns a copy of the program. Never stops a module.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::daemon::{Daemon, binary, copy_program, in_both_ways, misbehave, wait_for};

/// What the module behind the kept socket answers.
pub(crate) fn answer(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    let timeout = Some(Duration::from_secs(60));
    stream.set_read_timeout(timeout).expect("a timeout");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn the_holder_follows_an_upgrade_and_no_module_notices() {
    in_both_ways(|| {
        let daemon = Daemon::start(&format!(
            "[module.web]\ncommand = {}\nsockets = {{ http = \"${{runtime_dir}}/it.sock\" }}\n\
             [module.top]\ncommand = {}\nrequires = [\"web\"]\n",
            misbehave("--serve"),
            misbehave("")
        ));
        let new = daemon.path("new program");
        copy_program(binary(), &new);
        let runs = || {
            ["web", "top"]
                .map(|name| daemon.module(name))
                .map(|one| (one.pid, one.generation))
        };
        let (before, holder) = (runs(), daemon.status().holder_pid);
        let socket = daemon.path("run/it.sock");
        // Forward and back.
        for program in [new.as_path(), Path::new(binary())] {
            let path = program.to_str().expect("a path");
            let upgraded = daemon.cli(&["upgrade", "--binary", path]);
            assert!(upgraded.status.success(), "{upgraded:?}");
            let program = program.canonicalize().expect("a program");
            let follows = wait_for("the holder runs it too", || {
                let running = fs::read_link(format!("/proc/{holder}/exe"));
                running
                    .is_ok_and(|running| running == program)
                    .then_some(())
            });
            assert_eq!(follows, Some(()), "the holder runs it too");
            assert_eq!(daemon.status().holder_pid, holder);
            assert_eq!(before, runs());
            let web = before[0].0.expect("it runs");
            assert_eq!(answer(&socket), format!("http {web}\n"));
        }
        // It goes on as before: the runtime comes back, modules are stopped and started.
        daemon.kill_runtime();
        let restarted = daemon.cli(&["restart", "web"]);
        assert!(restarted.status.success(), "{restarted:?}");
        let web = daemon.module("web").pid.expect("it runs");
        assert_eq!(answer(&socket), format!("http {web}\n"));
    });
}
