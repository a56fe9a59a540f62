//! Installs and removes what a definition says, and finds out whether the system runs it.
//! Owns the order: checks, lock, files, commands, round trip; a first installation that does not
//! start is taken back. Never touches a file that mainstay has not written.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_client::locate::control_socket;

use super::{Installation, MARKER, ServiceCommand, ServiceFile, ServiceSpec};
use crate::os::preflight::make_folder;

/// How long a system that is ready may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a service may take to end once its stop is ordered.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the log that are shown after a failed start.
const LOG_LINES: &str = "15";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// It was started; the pid of the holder.
    Started(u32),
    /// It ran already, as it is defined now.
    Unchanged(u32),
    /// It runs on as it was defined before.
    Refreshed(u32),
    /// It is to start with the system.
    NotStarted,
}

/// How the service manager sees a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServiceState {
    /// In its own word.
    pub(crate) state: String,
    /// Its main process.
    pub(crate) pid: Option<u32>,
    /// It is started with the system, or at login.
    pub(crate) enabled: bool,
}

impl ServiceState {
    fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    fn is_there(&self) -> bool {
        self.is_running() || self.enabled
    }
}

/// A file of the service on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileState {
    Missing,
    /// As it would be written.
    Current,
    /// Written by an installation, and not as it would be now.
    Stale,
    /// Not written by an installation.
    Foreign,
}

/// A service manager that is there.
pub(crate) trait ServiceManager {
    /// What a service is doing.
    fn state(&self, unit: &str) -> Result<ServiceState, String>;
    /// How to look at its log: the command that prints the newest lines.
    fn log(&self, unit: &str, lines: &str) -> Option<ServiceCommand>;
}

/// Installs a service, and starts it.
///
/// # Errors
/// In a sentence: why it is not installed, or not started.
pub(crate) fn install(
    manager: &dyn ServiceManager,
    spec: &ServiceSpec,
    installation: &Installation,
    start: bool,
) -> Result<Installed, String> {
    let cannot = |why: String| format!("cannot install {}: {why}", installation.unit);
    let _lock = lock(installation).map_err(cannot)?;
    let found = files(installation).map_err(cannot)?;
    let is_first = found.iter().all(|file| *file == FileState::Missing);
    let is_current = found.iter().all(|file| *file == FileState::Current);
    let before = manager.state(&installation.unit).map_err(cannot)?;
    if !before.is_running() {
        refuse_other(spec).map_err(cannot)?;
    }
    for folder in &installation.directories {
        make_folder(folder, "its directory").map_err(cannot)?;
    }
    for file in &installation.files {
        write(file).map_err(cannot)?;
    }
    if before.is_running() {
        run_all(&installation.refresh).map_err(cannot)?;
        let pid = verify(manager, spec, installation).map_err(cannot)?;
        return Ok(match is_current {
            true => Installed::Unchanged(pid),
            false => Installed::Refreshed(pid),
        });
    }
    if !start {
        let all = installation.start.split_last();
        run_all(all.map_or(&[], |(_, before)| before)).map_err(cannot)?;
        return Ok(Installed::NotStarted);
    }
    let started = run_all(&installation.start).and_then(|()| verify(manager, spec, installation));
    started.map(Installed::Started).map_err(|why| {
        let log = log(manager, installation);
        let next = match is_first.then(|| remove(installation)) {
            Some(Ok(())) => "nothing of it is left; correct that and install it again",
            _ => {
                "correct that and install it again, or remove it with `mainstay service uninstall`"
            }
        };
        cannot(format!("{why}{log}; {next}"))
    })
}

/// Stops a service and removes everything that an installation wrote; false: there was nothing.
///
/// # Errors
/// In a sentence: what is left.
pub(crate) fn uninstall(
    manager: &dyn ServiceManager,
    installation: &Installation,
) -> Result<bool, String> {
    let cannot = |why: String| format!("cannot uninstall {}: {why}", installation.unit);
    let folders = installation
        .files
        .iter()
        .filter_map(|file| file.path.parent());
    if !folders.clone().all(Path::exists) {
        return Ok(false);
    }
    let _lock = lock(installation).map_err(cannot)?;
    let found = files(installation).map_err(cannot)?;
    let has_link = |link: &PathBuf| link.symlink_metadata().is_ok();
    let is_there = found.iter().any(|file| *file != FileState::Missing)
        || installation.links.iter().any(has_link)
        || manager
            .state(&installation.unit)
            .map_err(cannot)?
            .is_there();
    if !is_there {
        return Ok(false);
    }
    remove(installation).map_err(cannot)?;
    // Windows does not wait for a stop.
    let until = now() + STOP_TIMEOUT;
    loop {
        match manager.state(&installation.unit).map_err(cannot)?.pid {
            None => return Ok(true),
            Some(pid) if now() > until => {
                return Err(cannot(format!(
                    "its definition is removed, and process {pid} still runs; stop it with \
                     `mainstay down`"
                )));
            }
            Some(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}

fn remove(installation: &Installation) -> Result<(), String> {
    run_all(&installation.stop)?;
    let files = installation.files.iter().map(|file| &file.path);
    for path in files.chain(&installation.links) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    run_all(&installation.clean)?;
    if let Some(directory) = &installation.surrounding {
        let _others_are_in_it = fs::remove_dir(directory);
    }
    Ok(())
}

/// One installation at a time: the lock of the folder leaves nothing behind.
fn lock(installation: &Installation) -> Result<Vec<File>, String> {
    let folders = installation
        .files
        .iter()
        .filter_map(|file| file.path.parent());
    let lock = |folder: &Path| {
        fs::create_dir_all(folder).map_err(|error| not_written(folder, &error))?;
        let file = File::open(folder).map_err(|error| not_written(folder, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err("another `mainstay service` is at work; try again when it is done".to_owned())
            }
            Err(TryLockError::Error(error)) => Err(not_written(folder, &error)),
        }
    };
    folders.map(lock).collect()
}

/// What is there of its files; one of someone else is an error.
fn files(installation: &Installation) -> Result<Vec<FileState>, String> {
    let state = |file: &ServiceFile| match file_state(file) {
        FileState::Foreign => {
            let path = file.path.display();
            Err(match fs::read_link(&file.path) {
                Ok(to) if to == Path::new("/dev/null") => {
                    format!(
                        "it is masked; unmask it with `systemctl unmask {}`",
                        installation.unit
                    )
                }
                _ => format!(
                    "{path} was not written by mainstay; remove it, or give the system another name"
                ),
            })
        }
        state => Ok(state),
    };
    installation.files.iter().map(state).collect()
}

/// What is there of a file.
pub(crate) fn file_state(file: &ServiceFile) -> FileState {
    let is_link = fs::symlink_metadata(&file.path).is_ok_and(|found| !found.is_file());
    match fs::read_to_string(&file.path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !is_link => FileState::Missing,
        Ok(text) if text == file.text && !is_link => FileState::Current,
        Ok(text) if text.contains(MARKER) && !is_link => FileState::Stale,
        // An older installation was cut off before its first line.
        Ok(text) if text.is_empty() && !is_link => FileState::Stale,
        _ => FileState::Foreign,
    }
}

/// A system that already runs by itself would be in the way of the service.
fn refuse_other(spec: &ServiceSpec) -> Result<(), String> {
    match holder(spec) {
        Ok(pid) => Err(format!(
            "{} is up already, without a service (pid {pid}); stop it with `mainstay down` first",
            spec.name
        )),
        Err(_) => Ok(()),
    }
}

/// The process that answers on the control socket.
pub(crate) fn holder(spec: &ServiceSpec) -> Result<u32, mainstay_client::Error> {
    let mut client = Client::connect(control_socket(&spec.runtime_dir))?;
    Ok(client.status()?.holder_pid)
}

/// The round trip: the process that the service manager started is the one that answers.
fn verify(
    manager: &dyn ServiceManager,
    spec: &ServiceSpec,
    installation: &Installation,
) -> Result<u32, String> {
    let until = now() + ANSWER_TIMEOUT;
    loop {
        let state = manager.state(&installation.unit)?;
        let why = match (state.pid, holder(spec)) {
            (Some(pid), Ok(holder)) if pid == holder => return Ok(pid),
            (Some(pid), Ok(holder)) => format!(
                "process {pid} is the service, and process {holder} answers on its socket; stop \
                 the other one with `mainstay down`"
            ),
            (Some(pid), Err(error)) => format!("process {pid} runs and does not answer: {error}"),
            (None, _) => format!("it does not run ({})", state.state),
        };
        if now() > until {
            return Err(why);
        }
        pause();
    }
}

/// Replaces a file as a whole; everyone may read it.
fn write(file: &ServiceFile) -> Result<(), String> {
    if file_state(file) == FileState::Current {
        return Ok(());
    }
    let fresh = file.path.with_extension("new");
    let written = || -> io::Result<()> {
        let _left_over = fs::remove_file(&fresh);
        let mut new = File::create_new(&fresh)?;
        new.write_all(file.text.as_bytes())?;
        #[cfg(unix)]
        new.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        new.sync_all()?;
        fs::rename(&fresh, &file.path)
    };
    written().map_err(|error| {
        let _there_may_be_none = fs::remove_file(&fresh);
        not_written(&file.path, &error)
    })
}

fn not_written(path: &Path, error: &io::Error) -> String {
    let next = match error.kind() {
        ErrorKind::PermissionDenied => "; run it as root, or with --user",
        _ => "",
    };
    format!("cannot write {}: {error}{next}", path.display())
}

fn run_all(commands: &[ServiceCommand]) -> Result<(), String> {
    commands
        .iter()
        .try_for_each(|command| run(command).map(drop))
}

/// Runs a command of the service manager to its end.
///
/// # Errors
/// What it printed, unless it may fail.
pub(crate) fn run(command: &ServiceCommand) -> Result<String, String> {
    let shown = command.argv.join(" ");
    let cannot = |why: String| format!("`{shown}` failed: {why}");
    let output = output(command).map_err(|error| cannot(error.to_string()))?;
    if !output.status.success() && !command.may_fail {
        // Windows has its errors on the standard output.
        let printed = [&output.stderr, &output.stdout];
        let printed = printed.map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let text = printed.into_iter().find(|text| !text.is_empty());
        let text = text.unwrap_or_default().replace('\n', "; ");
        return Err(cannot(match text.is_empty() {
            true => output.status.to_string(),
            false => text,
        }));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command of the service manager, which a person waits for"
)]
fn output(command: &ServiceCommand) -> io::Result<Output> {
    let (program, words) = command.argv.split_first().ok_or(ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .env("SYSTEMD_PAGER", "")
        .env("SYSTEMD_COLORS", "0")
        .output()
}

/// The newest lines that the service printed, for the message of a failed start.
fn log(manager: &dyn ServiceManager, installation: &Installation) -> String {
    let command = manager.log(&installation.unit, LOG_LINES);
    let text = command
        .and_then(|command| run(&command).ok())
        .unwrap_or_default();
    match text.trim() {
        "" => String::new(),
        text => format!("; it printed:\n{text}\n"),
    }
}
