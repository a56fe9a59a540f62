//! A real mainstay in a folder of its own, for one test.
//! Owns the folder, the holder process and their end: whatever a test does, nothing is left.
//! Never sleeps for a fixed time: every wait looks for a condition and has a deadline.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_protocol::method::{ChangeParams, EventsParams};
use mainstay_protocol::{Event, EventKind, ModuleState, ModuleView, SystemView};
use tempfile::TempDir;

/// The longest any wait may take; only reached by failures.
const DEADLINE: Duration = Duration::from_secs(120);

/// The binary under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_mainstay")
}

/// Another program of the workspace, built by the same command.
pub(crate) fn program(name: &str) -> String {
    let path = Path::new(binary()).with_file_name(name);
    assert!(
        path.exists(),
        "cannot find {}: run `cargo test --workspace`",
        path.display()
    );
    path.display().to_string()
}

/// A TOML array that runs misbehave with these words.
pub(crate) fn misbehave(words: &str) -> String {
    let mut argv = vec![program("misbehave")];
    argv.extend(words.split_whitespace().map(str::to_owned));
    format!("{argv:?}")
}

/// A TOML array that runs a script. It may `exec` misbehave as `$misbehave`, and runs in the
/// test's folder.
pub(crate) fn script(text: &str) -> String {
    let text = format!("misbehave={}\n{text}", program("misbehave"));
    format!("{:?}", ["/bin/sh", "-c", &text])
}

/// A script that runs misbehave with these words as soon as the file `go` is there.
pub(crate) fn on_go(words: &str) -> String {
    script(&format!(
        "until [ -e go ]; do sleep 0.02; done; exec $misbehave {words}"
    ))
}

/// An address of this machine that no other test uses: each has a host of its own.
pub(crate) fn free_address() -> String {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let host = COUNT.fetch_add(1, Ordering::Relaxed) % 250 + 2;
    let any = format!("127.{}.{low}.{host}:0", high % 250 + 2);
    let listener = std::net::TcpListener::bind(any).expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

thread_local! {
    /// How the daemons that this test starts keep trees together; None: as its own environment
    /// says.
    static CGROUP: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs a test with control groups, and once more with daemons that must walk process trees.
/// Where there are no control groups, both times are the second.
pub(crate) fn in_both_ways(test: impl Fn()) {
    for way in ["on", "off"] {
        eprintln!("MAINSTAY_CGROUP={way}");
        CGROUP.set(Some(way));
        test();
    }
}

/// Whether the daemons that this test starts from here on use control groups.
#[cfg(target_os = "linux")]
pub(crate) fn with_control_groups(on: bool) {
    CGROUP.set(Some(if on { "on" } else { "off" }));
}

thread_local! {
    /// Whether another holder goes on in the place of one of this test that is killed; None: as its
    /// own environment says.
    static SUCCESSION: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The daemons that this test starts from here on get another holder when theirs is killed.
#[cfg(target_os = "linux")]
pub(crate) fn with_succession() {
    SUCCESSION.set(Some("on"));
}

/// The daemons that this test starts from here on end with their holder, as everywhere but on a
/// new Linux.
pub(crate) fn without_succession() {
    SUCCESSION.set(Some("off"));
}

/// A running mainstay.
pub(crate) struct Daemon {
    pub(crate) dir: TempDir,
    child: Child,
}

impl Daemon {
    /// Starts `mainstay up` with these modules and waits until the first start is over.
    pub(crate) fn start(modules: &str) -> Daemon {
        let daemon = Daemon::launch("", modules);
        daemon.wait("the first start to be over", || {
            let status = daemon.try_status()?.status;
            (status != mainstay_protocol::SystemStatus::Starting).then_some(())
        });
        daemon
    }

    /// Starts `mainstay up` and waits for nothing. `head` goes into `[mainstay]`.
    pub(crate) fn launch(head: &str, modules: &str) -> Daemon {
        Daemon::launch_in(prepare(head, modules))
    }

    /// Starts `mainstay up` in a folder that is prepared.
    pub(crate) fn launch_in(dir: TempDir) -> Daemon {
        Daemon::launch_as(dir, Command::new(binary()))
    }

    /// Starts it by a command of the test's own, which gets the words of `up`.
    pub(crate) fn launch_as(dir: TempDir, mut command: Command) -> Daemon {
        let log = fs::File::create(dir.path().join("up.log")).expect("a log");
        let errors = log.try_clone().expect("the same log");
        if let Some(way) = CGROUP.get() {
            command.env("MAINSTAY_CGROUP", way);
        }
        if let Some(word) = SUCCESSION.get() {
            command.env("MAINSTAY_SUCCESSION", word);
        }
        let child = command
            .args(["up", "--config"])
            .arg(dir.path().join("config"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .env_remove("MAINSTAY_CONFIG")
            .spawn()
            .expect("mainstay starts");
        Daemon { dir, child }
    }

    /// A path in the test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the one module that has a notify socket sends its messages: it is told its module
    /// alone, and no other user can list the directory.
    pub(crate) fn notify_socket(&self) -> PathBuf {
        const NAME_LENGTH: usize = 16;
        let entries = fs::read_dir(self.path("run/notify")).expect("a directory");
        let paths = entries.flatten().map(|one| one.path());
        let has_name = |path: &PathBuf| path.file_name().is_some_and(|n| n.len() == NAME_LENGTH);
        let mut paths: Vec<PathBuf> = paths.filter(has_name).collect();
        assert_eq!(paths.len(), 1, "{paths:?}");
        paths.remove(0)
    }

    /// What `up` printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    /// The holder's process.
    pub(crate) fn holder(&self) -> u32 {
        self.child.id()
    }

    /// A connection of its own.
    pub(crate) fn client(&self) -> Client {
        self.wait("the socket to answer", || {
            Client::connect(self.socket()).ok()
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    fn try_status(&self) -> Option<SystemView> {
        Client::connect(self.socket()).ok()?.status().ok()
    }

    pub(crate) fn status(&self) -> SystemView {
        self.wait("a status", || self.try_status())
    }

    pub(crate) fn module(&self, name: &str) -> ModuleView {
        self.wait("a view of the module", || {
            Client::connect(self.socket()).ok()?.module(name).ok()
        })
    }

    /// Waits until a module is in a state, and returns its view.
    pub(crate) fn until(&self, name: &str, state: ModuleState) -> ModuleView {
        self.until_view(&format!("{name} to be {state}"), name, |view| {
            view.state == state
        })
    }

    /// Waits until a module's view is as asked.
    pub(crate) fn until_view(
        &self,
        what: &str,
        name: &str,
        is: impl Fn(&ModuleView) -> bool,
    ) -> ModuleView {
        self.wait(what, || {
            let view = Client::connect(self.socket()).ok()?.module(name).ok()?;
            is(&view).then_some(view)
        })
    }

    /// Asks for a change and waits until it is reached.
    pub(crate) fn change(&self, method: &str, module: &str) -> ModuleView {
        let params = ChangeParams {
            module: module.to_owned(),
            dry_run: false,
            wait: true,
        };
        self.client()
            .change(method, &params)
            .expect("the change is granted")
            .module
    }

    /// All events of a module so far, oldest first.
    pub(crate) fn events(&self, module: &str) -> Vec<Event> {
        let params = EventsParams {
            module: Some(module.to_owned()),
            limit: Some(1000),
            ..EventsParams::default()
        };
        self.client().events(&params).expect("events")
    }

    /// Waits until an event of a kind has happened to a module.
    pub(crate) fn event(&self, module: &str, kind: EventKind) -> Event {
        self.wait(&format!("{kind} of {module}"), || {
            self.events(module)
                .into_iter()
                .rev()
                .find(|event| event.kind == kind)
        })
    }

    /// Waits until a module has moved to a state for this many times, and returns those events.
    pub(crate) fn moves(&self, module: &str, to: ModuleState, count: usize) -> Vec<Event> {
        self.wait(&format!("{module} to have been {to} {count} times"), || {
            let mut events = self.events(module);
            events.retain(|event| event.payload["to"] == to.as_str());
            (events.len() >= count).then_some(events)
        })
    }

    /// How many events of a kind happened to a module so far.
    pub(crate) fn count(&self, module: &str, kind: EventKind) -> usize {
        self.events(module)
            .iter()
            .filter(|event| event.kind == kind)
            .count()
    }

    /// What a module wrote, as far as it is in the current file.
    pub(crate) fn output(&self, module: &str) -> String {
        let path = self.path(&format!("state/logs/{module}.log"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Waits until a module has written this line, and returns all it wrote.
    pub(crate) fn wrote(&self, module: &str, line: &str) -> String {
        self.wait(&format!("{module} to write {line:?}"), || {
            let output = self.output(module);
            output.lines().any(|one| one == line).then_some(output)
        })
    }

    /// Creates a file in the test's folder that modules wait for.
    pub(crate) fn touch(&self, name: &str) {
        fs::write(self.path(name), "").expect("a file");
    }

    /// The process that was started.
    pub(crate) fn child_pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the runtime and waits until a new one answers.
    pub(crate) fn kill_runtime(&self) {
        let before = self.status().pid;
        kill(before, libc::SIGKILL);
        self.wait("a new runtime", || {
            self.try_status().filter(|status| status.pid != before)
        });
    }

    /// Runs the command line against this instance.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(self.path("config"))
            .output()
            .expect("the command line runs")
    }

    /// Waits for a condition; panics with what was printed when it does not come.
    pub(crate) fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        wait_for(what, look).unwrap_or_else(|| {
            panic!(
                "waited in vain for {what}; printed so far:\n{}",
                self.printed()
            )
        })
    }

    /// Sends a signal to the holder.
    pub(crate) fn signal(&self, signal: i32) {
        kill(self.holder(), signal);
    }

    /// Waits for the end of `up` and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the holder is our child") {
                return status.code();
            }
            assert!(
                Instant::now() < end,
                "mainstay did not end; printed:\n{}",
                self.printed()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ctrl-C, and the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(libc::SIGINT);
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill(self.child.id(), libc::SIGTERM);
            let end = Instant::now() + Duration::from_secs(15);
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _already_gone = self.child.kill();
            let _reaped = self.child.wait();
        }
        remove_groups(&self.path("state"));
    }
}

/// Removes the control groups that a holder of this state directory left when it was killed. A later
/// holder would, minutes later; what lives in one ends just now.
pub(crate) fn remove_groups(state_dir: &Path) {
    let secret = fs::read_to_string(state_dir.join("mark")).unwrap_or_default();
    let about = fs::metadata(state_dir).ok();
    let Some((about, secret)) = about.zip(secret.get(..16)) else {
        return; // it was removed, or nothing was started in it
    };
    let name = format!("-{secret}.{:x}.{:x}", about.dev(), about.ino());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4));
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(site) = mount
        .zip(own)
        .map(|(mount, own)| Path::new(mount).join(own))
    else {
        return;
    };
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| entry.path()).collect()
    };
    let is_its = |path: &PathBuf| path.to_string_lossy().ends_with(&name);
    for group in folders(&site).into_iter().filter(is_its) {
        let end = Instant::now() + Duration::from_secs(2);
        while group.exists() && Instant::now() < end {
            for module in folders(&group) {
                let _something_dies_in_it = fs::remove_dir(module);
            }
            let _something_is_in_it = fs::remove_dir(&group);
        }
    }
}

/// Copies a program by a process of its own: a child that another test forks meanwhile would have
/// it open for writing until its exec, and nobody could execute it.
pub(crate) fn copy_program(from: impl AsRef<OsStr>, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "no copy");
}

/// A folder with a configuration in it.
pub(crate) fn prepare(head: &str, modules: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[mainstay]\nname = \"test\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n{head}\n{modules}\n",
        dir.path().display()
    );
    fs::create_dir(dir.path().join("config")).expect("a folder");
    fs::write(dir.path().join("config/mainstay.toml"), text).expect("a configuration");
    dir
}

/// Says why a test looks at nothing here.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Looks again and again until it sees something, or the deadline.
pub(crate) fn wait_for<T>(_what: &str, look: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process of this test.
pub(crate) fn kill(pid: u32, signal: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let signal = nix::sys::signal::Signal::try_from(signal).expect("a signal");
    let _already_gone = nix::sys::signal::kill(pid, signal);
}

/// Whether a process lives (a zombie does not).
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    })
}
