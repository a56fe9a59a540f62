//! A system before it is started: its folder, its configuration, the programs in it.
//! Owns the folder and hands it on to the running system.
//! Never starts a module that is not in the text.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::attacker::NICE;
use crate::system::System;

/// The user that attackers are when the tests are root. Nobody else should have this number.
pub(crate) const STRANGER: u32 = 12345;

/// How mainstay finds the processes of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trees {
    /// By control groups, where there are any.
    Grouped,
    /// By looking at all processes.
    Walked,
}

/// Milliseconds for which an attack goes on: longer than it takes to measure.
pub(crate) const LASTS: &str = "1400";

/// Both ways.
pub(crate) const BOTH: [Trees; 2] = [Trees::Grouped, Trees::Walked];

/// What to start.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    modules: String,
    trees: Trees,
    pub(crate) output: Option<(Stdio, Stdio)>,
    pub(crate) program: Command,
    pub(crate) insiders: Vec<String>,
}

/// The program under test, beside ours.
pub(crate) fn mainstay() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_hostile")).with_file_name("mainstay");
    let at = path.display();
    assert!(
        path.exists(),
        "cannot find {at}: run `cargo test --workspace`"
    );
    path
}

/// Whether the tests may become somebody else; says so if not.
pub(crate) fn is_root() -> bool {
    let is = geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can let an attacker be another user");
    }
    is
}

/// Whether this process is the one that runs in a namespace of its own, which has few numbers for
/// processes; if not, runs this test there and asserts that it passes.
pub(crate) fn in_small_namespace(test: &str) -> bool {
    const INSIDE: &str = "HOSTILE_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("this program");
    let mut inside = Command::new(env!("CARGO_BIN_EXE_hostile"));
    inside
        .args(["small-namespace", "400"])
        .arg(this)
        .env(INSIDE, "1");
    let output = inside.args(["--exact", test, "--nocapture"]).output();
    let output = output.expect("a namespace");
    let (out, errors) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(errors);
    eprintln!("{text}");
    assert!(text.contains("1 passed"), "it failed in the namespace");
    false
}

impl Setup {
    /// A folder that others may enter, and the modules that are to be left alone: `talker`
    /// writes, `reborn` is killed again and again by the test, `mute` never says that it is ready.
    pub(crate) fn new(trees: Trees) -> Setup {
        let dir = tempfile::Builder::new().prefix("hostile-").tempdir();
        let dir = dir.expect("a folder");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("permissions");
        // A program of this folder alone; another process copies it, so that no other test's
        // child has it open for writing when it is to be executed.
        let ours = env!("CARGO_BIN_EXE_hostile");
        let copied = Command::new("cp").arg(ours).arg(dir.path()).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy");
        fs::write(dir.path().join("births"), "").expect("a file");
        fs::create_dir(dir.path().join("config")).expect("a folder");
        let mut program = Command::new(mainstay());
        if trees == Trees::Walked {
            program.env("MAINSTAY_CGROUP", "off");
        }
        let births = dir.path().join("births").display().to_string();
        Setup {
            dir,
            modules: String::new(),
            trees,
            output: None,
            program,
            insiders: Vec::new(),
        }
        .module("talker", &["talk"], "")
        .module("reborn", &["stamp", &births], "")
        .module(
            "mute",
            &["wait"],
            "start = \"lazy\"\nready = { notify = true }\nstartup_timeout = \"10m\"",
        )
    }

    /// One more module, which runs one of our programs.
    pub(crate) fn module(self, name: &str, words: &[&str], more: &str) -> Setup {
        let mut argv = vec![self.path("hostile").display().to_string()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        self.module_of(name, &format!("{argv:?}"), more)
    }

    /// One more module with a command as it stands in the configuration.
    pub(crate) fn module_of(mut self, name: &str, command: &str, more: &str) -> Setup {
        let text = &mut self.modules;
        writeln!(text, "[module.{name}]\ncommand = {command}\n{more}\n").expect("a text grows");
        self
    }

    /// One more module that is an attacker, and has its name: it starts when the test says so, as
    /// another user where that is possible. `CONTROL` and `MODULE` among its words are mainstay's sockets.
    pub(crate) fn insider(self, words: &[&str], more: &str) -> Setup {
        let user = match geteuid().is_root() {
            true => format!("user = \"{STRANGER}\"\ngroup = \"{STRANGER}\"\n"),
            false => String::new(),
        };
        self.insider_as_ours(words, &(user + more))
    }

    /// The same as the user that mainstay runs as.
    pub(crate) fn insider_as_ours(mut self, words: &[&str], more: &str) -> Setup {
        let control = self.path("run/control.sock").display().to_string();
        let module = self.path("run/module.sock").display().to_string();
        let named = |word: &&str| match *word {
            "CONTROL" => control.clone(),
            "MODULE" => module.clone(),
            word => word.to_owned(),
        };
        let words: Vec<String> = words.iter().map(named).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let more =
            format!("start = \"lazy\"\nrequired = false\nrecovery.restart = \"never\"\n{more}");
        let program = self.path("hostile").display().to_string();
        let argv = [&["nice", "-n", NICE, &program][..], &words].concat();
        self.insiders.push(words[0].to_owned());
        self.module_of(words[0], &format!("{argv:?}"), &more)
    }

    /// Lets it print to these.
    pub(crate) fn printing_to(mut self, out: Stdio, errors: Stdio) -> Setup {
        self.output = Some((out, errors));
        self
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration and starts it.
    pub(crate) fn start(self) -> System {
        let text = format!(
            "[mainstay]\nname = \"test\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n\
             shutdown_timeout = \"8s\"\n\
             [recovery]\nmax_attempts = 0\nconcurrent_restarts = 0\n\
             backoff = {{ initial = \"0s\", floor = \"0s\" }}\n{1}",
            self.dir.path().display(),
            self.modules
        );
        fs::write(self.path("config/mainstay.toml"), text).expect("a configuration");
        eprintln!("trees are {:?}", self.trees);
        System::start(self)
    }
}
