//! Secrets: they reach the modules that use them, and nothing else.
//! Owns planted values, and the search for them in everything that mainstay writes.
//! Never looks into the memory of a process.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;
use tempfile::TempDir;

use super::daemon::{Daemon, binary, misbehave, prepare, script, wait_for};

/// The planted values: as a file, as a variable, and one that is not encrypted by mistake.
const FILE: &str = "planted-file-4711";
const VARIABLE: &str = "planted-variable-4712";
const PLAIN: &str = "planted-plain-4713";

fn secret(dir: &Path, words: &[&str], value: &str) -> Output {
    let mut child = Command::new(binary())
        .args(["secret"])
        .args(words)
        .arg("--config")
        .arg(dir.join("config"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{value}").expect("written");
    drop(input);
    child.wait_with_output().expect("it ends")
}

fn set(dir: &Path, name: &str, value: &str) {
    let output = secret(dir, &["set", name], value);
    assert!(output.status.success(), "{output:?}");
}

/// A key of the kernel's keyring that goes with the test.
#[cfg(target_os = "linux")]
struct KernelKey(String);

#[cfg(target_os = "linux")]
impl Drop for KernelKey {
    fn drop(&mut self) {
        use linux_keyutils::{KeyRing, KeyRingIdentifier};
        let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false);
        let _never_stored = ring.and_then(|ring| ring.unlink_key(ring.search(&self.0)?));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_key_may_be_in_the_keyring_of_the_kernel() {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    if KeyRing::from_special_id(KeyRingIdentifier::User, true).is_err() {
        eprintln!("no keyring may be used here: not tested");
        return;
    }
    let name = format!("test-{}", std::process::id());
    let key = KernelKey(format!("mainstay:{name}"));
    let dir = prepare(&format!("secret_key = \"keyring:{name}\""), "");
    let refused = |words: &[&str], why: &str| {
        let output = secret(dir.path(), words, FILE);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{text}");
    };
    refused(&["set", "db"], "`mainstay secret store-key` puts it there");
    refused(&["store-key"], "no AGE-SECRET-KEY");
    let copy = dir.path().join("copy/secret.key");
    let file = copy.display().to_string();
    let output = secret(dir.path(), &["store-key", "--new", &file], "");
    assert!(output.status.success(), "{output:?}");
    refused(&["store-key", "--new", &file], "there is such a file");
    refused(&["rekey"], "the new key would be in the keyring alone");
    set(dir.path(), "db", FILE);
    let path = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let take = script("cp \"$DB\" got-file; exec $misbehave");
    let module = format!(
        "[module.web]\ncommand = {take}\nsecrets = [\"db\"]\n\
         env = {{ DB = \"${{secrets_dir}}/db\" }}\n"
    );
    fs::write(&path, text + &module).expect("a configuration");
    // The key of the copy is the one in the keyring, which is stored again over itself.
    let output = secret(dir.path(), &["store-key", "--from", &file], "");
    assert!(output.status.success(), "{output:?}");
    fs::remove_file(&copy).expect("the copy is kept elsewhere");
    let daemon = Daemon::launch_in(dir);
    daemon.wait("the module to have its secret", || {
        let got = fs::read_to_string(daemon.path("got-file")).unwrap_or_default();
        (got == FILE).then_some(())
    });
    let state = daemon.path("state/secret.key");
    assert!(!state.exists(), "the key is on no disk");
    // A machine that was started again has it no more.
    drop(key);
    let output = secret(daemon.dir.path(), &["set", "other"], "x");
    assert!(!output.status.success(), "{output:?}");
}

/// A system whose module `web` copies what it got, beside one that uses no secret.
fn system() -> TempDir {
    let dir = prepare("", "");
    set(dir.path(), "db", FILE);
    set(dir.path(), "token", VARIABLE);
    let take = script("cp \"$DB\" got-file; printenv TOKEN > got-variable; exec $misbehave");
    let modules = format!(
        "[module.web]\ncommand = {take}\nsecrets = [\"db\"]\n\
         secret_env = {{ TOKEN = \"token\" }}\nenv = {{ DB = \"${{secrets_dir}}/db\" }}\n\
         [module.other]\ncommand = {}\n",
        misbehave("")
    );
    let path = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, format!("{text}{modules}")).expect("a configuration");
    dir
}

fn launch(dir: TempDir) -> Daemon {
    let daemon = Daemon::launch_in(dir);
    daemon.until("web", ModuleState::Running);
    daemon.until("other", ModuleState::Running);
    daemon
}

fn got(daemon: &Daemon, name: &str, value: &str) {
    daemon.wait("the module to have the value", || {
        let text = fs::read_to_string(daemon.path(name)).unwrap_or_default();
        (text.trim() == value).then_some(())
    });
}

/// The files below a folder that have one of the values in them.
fn found_in(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            if !path.ends_with("run/secrets") {
                found_in(&path, found);
            }
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            found.extend(leaks(&bytes).map(|value| format!("{}: {value}", path.display())));
        }
    }
}

fn leaks(bytes: &[u8]) -> impl Iterator<Item = &'static str> {
    let values = [FILE, VARIABLE, PLAIN].into_iter();
    values.filter(|value| {
        bytes
            .windows(value.len())
            .any(|part| part == value.as_bytes())
    })
}

#[test]
fn a_secret_reaches_its_module_and_no_other_place() {
    let daemon = launch(system());
    got(&daemon, "got-file", FILE);
    got(&daemon, "got-variable", VARIABLE);
    let path = daemon.path("run/secrets/web/db");
    let about = fs::metadata(&path).expect("a file");
    let mode = std::os::unix::fs::MetadataExt::mode(&about);
    assert_eq!(mode & 0o777, 0o600);
    assert!(!daemon.path("run/secrets/other").exists());

    // A value that is not encrypted is refused, and not shown.
    let own = daemon.path("config/conf.d/plain.toml");
    fs::write(&own, format!("[secrets]\nplain = \"{PLAIN}\"\n")).expect("a file");
    let problem = daemon.wait("the problem", || daemon.status().config_problem);
    assert!(
        problem.contains("secrets.plain: it is not encrypted"),
        "{problem}"
    );
    let checked = daemon.cli(&["check"]);
    assert_eq!(checked.status.code(), Some(5), "{checked:?}");
    fs::remove_file(&own).expect("removed");
    daemon.wait("the problem to be gone", || {
        daemon.status().config_problem.is_none().then_some(())
    });

    let mut outputs = vec![checked];
    for words in [
        &["status", "--json"][..],
        &["status", "--all", "--json"],
        &["status", "web"],
        &["config", "get"],
        &["config", "get", "secrets", "--json"],
        &["config", "get", "secrets.db", "--origin"],
        &["plan"],
        &["check"],
        &["events", "-n", "1000"],
        &["events", "-n", "1000", "--json"],
        &["why", "web"],
        &["audit", "list"],
        &["graph"],
        &["doctor", "--json"],
        &["metrics"],
        &["secret", "list"],
        &["logs", "web"],
    ] {
        let output = daemon.cli(words);
        assert_ne!(output.status.code(), Some(2), "{words:?}: {output:?}");
        outputs.push(output);
    }
    for output in &outputs {
        let leaks: Vec<&str> = leaks(&output.stdout).chain(leaks(&output.stderr)).collect();
        assert!(leaks.is_empty(), "{leaks:?} in {output:?}");
    }
    if cfg!(target_os = "linux") {
        let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.status().pid));
        let limits = limits.expect("limits");
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<&str> = core.expect("a line").split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "the runtime leaves no core file");
    }
    for name in ["got-file", "got-variable"] {
        fs::remove_file(daemon.path(name)).expect("removed");
    }
    let mut found = Vec::new();
    found_in(daemon.dir.path(), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_secret_that_is_rotated_restarts_its_users_alone() {
    let daemon = launch(system());
    got(&daemon, "got-file", FILE);
    let (web, other) = (daemon.module("web"), daemon.module("other"));
    let output = secret(daemon.dir.path(), &["rotate", "db"], "another");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("used by web"));
    daemon.until_view("a new run", "web", |view| view.generation > web.generation);
    got(&daemon, "got-file", "another");
    assert_eq!(daemon.module("other").generation, other.generation);
    let missing = secret(daemon.dir.path(), &["rotate", "none"], "x");
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn files_of_secrets_are_there_while_their_module_runs() {
    let daemon = launch(system());
    let path = daemon.path("run/secrets/web/db");
    daemon.change(name::MODULE_STOP, "web");
    assert!(!path.exists(), "it is stopped");
    daemon.change(name::MODULE_START, "web");
    assert_eq!(fs::read_to_string(&path).expect("a file"), FILE);
    daemon.kill_runtime();
    assert_eq!(fs::read_to_string(&path).expect("it runs on"), FILE);
    daemon.change(name::MODULE_RESTART, "web");
    assert_eq!(fs::read_to_string(&path).expect("a file"), FILE);
    let folder = daemon.path("run/secrets");
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert!(wait_for("the folder to be gone", || (!folder.exists()).then_some(())).is_some());
}

#[test]
fn a_key_that_is_missing_or_open_to_others_is_said_and_a_new_one_changes_no_value() {
    let dir = system();
    let key = dir.path().join("state/secret.key");
    let old = fs::read(&key).expect("a key");
    let rekeyed = secret(dir.path(), &["rekey"], "");
    assert!(rekeyed.status.success(), "{rekeyed:?}");
    assert_ne!(fs::read(&key).expect("a key"), old);
    let daemon = launch(dir);
    got(&daemon, "got-file", FILE);
    got(&daemon, "got-variable", VARIABLE);

    // The running system refuses what it cannot decrypt, and goes on.
    let both = fs::read_to_string(&key).expect("two keys");
    let new = both.lines().find(|line| line.starts_with("AGE-SECRET-KEY"));
    let new = new.expect("the new key").to_owned() + "\n";
    fs::write(&key, &old).expect("the old key");
    let other = daemon.path("config/conf.d/secrets.toml");
    let text = fs::read_to_string(&other).expect("the secrets");
    let before = daemon.module("web").generation;
    set(daemon.dir.path(), "db", "of the old key");
    fs::write(&key, new).expect("the new key");
    daemon.cli(&["reload"]);
    let problem = daemon.wait("the problem", || daemon.status().config_problem);
    assert!(
        problem.contains("cannot use the secret db of web"),
        "{problem}"
    );
    assert_eq!(daemon.module("web").generation, before);
    fs::write(&other, text).expect("the secrets");

    let dir = system();
    fs::remove_file(dir.path().join("state/secret.key")).expect("removed");
    let mut daemon = Daemon::launch_in(dir);
    assert_eq!(daemon.ended(), Some(1));
    assert!(
        daemon
            .printed()
            .contains("cannot use the secret db of web: cannot read the key"),
        "{}",
        daemon.printed()
    );
}

/// As with sudo in the folder of another user.
#[cfg(unix)]
#[test]
fn what_root_writes_for_another_user_is_theirs() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !nix::unistd::geteuid().is_root() {
        return crate::daemon::skip("only root can write for another user");
    }
    let dir = prepare("", "");
    let config = dir.path().join("config");
    for path in [&config, &config.join("mainstay.toml")] {
        chown(path, Some(4711), Some(4711)).expect("another owner");
    }
    let file = config.join("conf.d/secrets.toml");
    for name in ["db", "token"] {
        let output = Command::new(binary())
            .args(["secret", "set", name, "--generate", "--config"])
            .arg(&config)
            .env("MAINSTAY_TRUST_OWNER", "4711")
            .output()
            .expect("the command line runs");
        assert!(output.status.success(), "{output:?}");
        let about = fs::metadata(&file).expect("written");
        assert_eq!((about.uid(), about.mode() & 0o777), (4711, 0o600));
    }
    let folder = fs::metadata(config.join("conf.d")).expect("made");
    assert_eq!(folder.uid(), 4711);
}
