//! One short life, in each place where mainstay may run: as root and not, with control groups and
//! walked, in the foreground, detached, as the first and as the second process of a namespace, as the
//! program and inside of an application, which is this test started again.
//! Owns what it starts, by a number of its own. What this machine does not permit is told.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{binary, kill, prepare, skip, wait_for};

/// A user without an account.
const OTHER: u32 = 12345;

/// Makes this test an application with mainstay inside: its configuration.
const APPLICATION: &str = "MATRIX_APPLICATION";

/// How `up` is started.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Foreground,
    Detached,
    First,
    Second,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Inside of an application, instead of the program.
    embedded: bool,
    place: Place,
    other_user: bool,
    cgroup: &'static str,
}

/// One life of a system.
struct Life {
    case: Case,
    dir: tempfile::TempDir,
    /// What the command lines of its modules have and no others.
    number: String,
    up: Child,
}

impl Case {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.other_user {
            command = Command::new("setpriv");
            command.args([
                "--reuid",
                "12345",
                "--regid",
                "12345",
                "--clear-groups",
                program,
            ]);
        }
        command.env("MAINSTAY_CGROUP", self.cgroup);
        command.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
        command
    }

    fn namespace(&self) -> Command {
        let mut command = self.command("unshare");
        command.args(if self.other_user { &["-Ur"][..] } else { &[] });
        command.args(["-pf", "--mount-proc"]);
        command
    }

    /// Why it cannot be tried here.
    fn obstacle(&self) -> Option<&'static str> {
        if self.embedded && self.place == Place::Detached {
            return Some("an application detaches itself");
        }
        let works = |mut command: Command| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let root = nix::unistd::geteuid().is_root();
        if self.other_user && (!root || !works(self.command("true"))) {
            return Some("only root can start it as another user, with setpriv");
        }
        let mut namespace = self.namespace();
        namespace.arg("true");
        let nested = matches!(self.place, Place::First | Place::Second);
        if nested && !works(namespace) {
            return Some("no namespace of processes is permitted");
        }
        None
    }

    fn up(&self, config: &Path) -> Command {
        let test = std::env::current_exe().expect("this test is a file");
        let program = match self.embedded {
            true => test.to_str().expect("its name is text"),
            false => binary(),
        };
        let mut command = match self.place {
            Place::Foreground | Place::Detached => self.command(program),
            Place::First => {
                let mut command = self.namespace();
                command.arg(program);
                command
            }
            Place::Second => {
                let mut command = self.namespace();
                command
                    .args(["sh", "-c", "\"$0\" \"$@\" & wait $!"])
                    .arg(program);
                command
            }
        };
        if self.embedded {
            command.env(APPLICATION, config);
            command.args(["--exact", "matrix::an_application", "--nocapture"]);
            command.arg(config); // no test has that name: its processes are found by it
            return command;
        }
        command.args(["up", "--config"]).arg(config);
        if self.place == Place::Detached {
            command.arg("-d");
        }
        command
    }
}

impl Life {
    fn begin(case: Case) -> Life {
        let number = format!("{}{:09}", std::process::id(), nanoseconds());
        let b = format!(
            "trap '' TERM; (exec sleep 98762.{number}) & while :; do sleep 98763.{number}; done"
        );
        let dir = prepare(
            "",
            &format!(
                "[module.a]\ncommand = [\"sleep\", \"98761.{number}\"]\n\
                 recovery.backoff = {{ initial = \"10ms\" }}\n\
                 [module.b]\ncommand = {:?}\nshutdown_timeout = \"1s\"\n",
                ["/bin/sh", "-c", &b]
            ),
        );
        if case.other_user {
            for path in [dir.path().to_owned(), dir.path().join("config")] {
                chown(path, Some(OTHER), Some(OTHER)).expect("given away");
            }
        }
        let log = fs::File::create(dir.path().join("up.log")).expect("a log");
        let same = log.try_clone().expect("the same log");
        let up = case
            .up(&dir.path().join("config"))
            .stdout(log)
            .stderr(same)
            .spawn();
        Life {
            case,
            number,
            up: up.expect("it starts"),
            dir,
        }
    }

    fn cli(&self, words: &[&str]) -> Output {
        let mut command = match self.member() {
            Some(pid) => {
                let mut command = self.case.command("nsenter");
                let user = &["-U", "--preserve-credentials"][..];
                command.args(if self.case.other_user { user } else { &[] });
                command
                    .args(["-p", "-m", "-t", &pid.to_string()])
                    .arg(binary());
                command
            }
            None => self.case.command(binary()),
        };
        command.arg("--config").arg(self.dir.path().join("config"));
        command.args(words).output().expect("it runs")
    }

    /// A process of the namespace that it runs in, if that is one of its own: from outside of it a
    /// client is nobody.
    fn member(&self) -> Option<u32> {
        let nested = matches!(self.case.place, Place::First | Place::Second);
        let folder = self.dir.path().display().to_string();
        let is_member = |pid: &u32| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            numbers(*pid).len() > 1 && String::from_utf8_lossy(&text).contains(&folder)
        };
        nested.then(|| all_pids().into_iter().find(is_member))?
    }

    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let found = wait_for(what, look);
        let log = || fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default();
        found.unwrap_or_else(|| panic!("{:?}: waited in vain for {what}:\n{}", self.case, log()))
    }

    /// A view in JSON.
    fn view(&self, words: &[&str]) -> Option<Value> {
        let output = self.cli(&[&["status", "--json"], words].concat());
        serde_json::from_slice(&output.stdout).ok()
    }

    fn generation_of_a(&self) -> Option<u64> {
        let view = self.view(&["a"])?;
        (view["state"] == "running").then(|| view["generation"].as_u64())?
    }

    /// The processes of its modules, by the numbers of this namespace.
    fn processes(&self, which: &str) -> Vec<u32> {
        let needle = format!("{which}.{}", self.number);
        let has = |pid: &u32| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&needle)
        };
        all_pids().into_iter().filter(has).collect()
    }

    /// The runtime, by its number in this namespace.
    fn runtime(&self) -> Option<u32> {
        let inside = self.view(&[])?["pid"].as_u64()?.to_string();
        let module = self.processes("98761").first().copied()?;
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(module)?;
        all_pids().into_iter().find(|pid| {
            numbers(*pid).last() == Some(&inside) && namespace(*pid) == Some(own.clone())
        })
    }

    /// Another runtime takes over, and the modules do not notice.
    fn kill_runtime(&self, generation: u64) {
        let (kept, runtime) = (self.processes("98761"), self.runtime());
        kill(runtime.expect("a runtime"), libc::SIGKILL);
        let returned = self.wait("another runtime", || {
            let now = self.runtime()?;
            (Some(now) != runtime).then(|| self.generation_of_a())?
        });
        let found = (returned, self.processes("98761"));
        assert_eq!(found, (generation, kept), "{:?}", self.case);
    }

    fn live(mut self) {
        let case = self.case;
        let first = self.wait("a to run", || self.generation_of_a());
        self.wait("b to run", || {
            (self.processes("98763").len() == 2).then_some(())
        });
        for pid in self.processes("98761") {
            kill(pid, libc::SIGKILL);
        }
        let second = self.wait("a to be back", || {
            self.generation_of_a()
                .filter(|generation| *generation > first)
        });
        let began = Instant::now();
        let stopped = self.cli(&["stop", "b"]);
        assert!(stopped.status.success(), "{case:?}: {stopped:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{case:?}");
        for which in ["98762", "98763"] {
            let left = self.processes(which);
            assert!(left.is_empty(), "{case:?}: the tree of b is gone: {left:?}");
        }
        // The runtime of an application is the application: nothing of it returns.
        if !case.embedded {
            self.kill_runtime(second);
        }
        let down = self.cli(&["down"]);
        // With the first process of a namespace the kernel ends all others in it.
        let with_namespace = down.status.signal() == Some(libc::SIGKILL);
        let nested = matches!(case.place, Place::First | Place::Second);
        let is_done = down.status.success() || (nested && with_namespace);
        assert!(is_done, "{case:?}: {down:?}");
        self.wait("the end of up", || {
            self.processes("").is_empty().then_some(())
        });
        self.wait("its process to end", || {
            let socket = self.dir.path().join("run/control.sock");
            (!socket.exists()).then_some(())
        });
        self.up.wait().expect("it has ended");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cli(&["down", "--timeout", "1s"]);
            // The first process of a namespace ends all others in it.
            let first = self.member().into_iter().chain(all_pids()).find(|pid| {
                let folder = self.dir.path().display().to_string();
                let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let is_first = numbers(*pid).last().is_some_and(|number| number == "1");
                is_first && String::from_utf8_lossy(&text).contains(&folder)
            });
            let left = first.into_iter().chain(self.processes(""));
            left.for_each(|pid| kill(pid, libc::SIGKILL));
            let _has_ended = self.up.kill().and_then(|()| self.up.wait());
        }
    }
}

/// The numbers of a process, in this namespace first.
fn numbers(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = numbers.unwrap_or_default().split_whitespace();
    numbers.map(str::to_owned).collect()
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.collect()
}

fn nanoseconds() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.subsec_nanos())
}

/// What an application with mainstay inside does: for other tests nothing.
#[tokio::test]
async fn an_application() {
    let Some(config) = std::env::var_os(APPLICATION) else {
        return;
    };
    let mainstay = mainstay::Runtime::builder().config(config).start().await;
    let mainstay = mainstay.expect("it starts");
    mainstay.wait_started().await.expect("everything comes up");
    let report = mainstay.wait_ended().await;
    assert_eq!(report.failure, None);
}

#[test]
fn a_short_life_is_the_same_in_every_place_where_mainstay_may_run() {
    let places = [
        Place::Foreground,
        Place::Detached,
        Place::First,
        Place::Second,
    ];
    for place in places {
        for (embedded, other_user) in [(false, false), (false, true), (true, false), (true, true)] {
            for cgroup in ["on", "off"] {
                let case = Case {
                    embedded,
                    place,
                    other_user,
                    cgroup,
                };
                match case.obstacle() {
                    Some(why) => skip(&format!("{case:?}: {why}")),
                    None => Life::begin(case).live(),
                }
            }
        }
    }
}
