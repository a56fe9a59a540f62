//! `mainstay up`: becomes the holder, or starts it detached and waits.
//! Owns the output of a start.
//! Never reads the configuration in the foreground: the runtime does.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_holder::RuntimeCommand;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::{ModuleState, ModuleView, SystemStatus, SystemView};

use super::args::{GlobalArgs, UpArgs};
use super::error::CliError;
use super::module_details;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use crate::config::ConfigSources;
use crate::os::preflight::make_folder;
use crate::os::private;
use crate::os::process_limit::with_limit;
use crate::os::succession::ENV_DETACHED;
use crate::runtime::first_plan;

/// Marks a process as the runtime of a holder.
pub(super) const ENV_RUNTIME: &str = "MAINSTAY_RUNTIME";
/// Where a detached system writes what it would print, beside the logs of its modules.
pub(super) const DETACHED_LOG: &str = "mainstay.out";
/// Time a detached `up` waits beyond the configured startup timeout.
const DETACH_MARGIN: Duration = Duration::from_secs(15);
/// Interval at which a detached start is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Interval at which the progress of a detached start is read.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// CREATE_NO_WINDOW of Windows.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// Bytes of the log that are shown after a failed start, at most.
const TAIL_BYTES: u64 = 16 * 1024;

#[expect(
    clippy::disallowed_methods,
    reason = "the exit code of the holder is passed on as it is"
)]
pub(super) fn run(args: &UpArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    if args.detach {
        return detach(args, global);
    }
    if std::env::var_os(ENV_DETACHED).is_some() {
        // A session of its own: signals of the terminal do not reach it.
        #[cfg(unix)]
        let _already_a_leader = nix::unistd::setsid();
    }
    let code = mainstay_holder::run(runtime_command(args, global)?)
        .map_err(|problem| CliError::new(CliExitCode::Failed, with_limit(&problem)))?;
    // Scripts rely on the unchanged exit code.
    std::process::exit(i32::from(code))
}

/// How the holder starts the runtime.
pub(super) fn runtime_command(
    args: &UpArgs,
    global: &GlobalArgs,
) -> Result<RuntimeCommand, CliError> {
    Ok(RuntimeCommand {
        program: running_program()?,
        args: child_args("runtime", args, global),
        env: vec![(ENV_RUNTIME.into(), "1".into())],
    })
}

/// Returns the path of the running program, even while its file is being replaced.
fn running_program() -> Result<PathBuf, CliError> {
    let running = PathBuf::from("/proc/self/exe");
    // Wine has that path too, with another meaning.
    if cfg!(unix) && running.exists() {
        Ok(running)
    } else {
        own_program()
    }
}

fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| {
        CliError::new(
            CliExitCode::Failed,
            format!("cannot find mainstay's own program: {error}"),
        )
    })
}

/// The same question for another process of ours.
fn child_args(verb: &str, args: &UpArgs, global: &GlobalArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![verb.into()];
    if let Some(config) = &global.config {
        words.extend(["--config".into(), config.into()]);
    }
    let name = global
        .name
        .iter()
        .map(|name| format!("mainstay.name={name}"));
    let timeout = args
        .timeout
        .iter()
        .map(|limit| format!("mainstay.startup_timeout={}ms", limit.as_millis()));
    if args.strict {
        words.push("--strict".into());
    }
    if args.quiet {
        words.push("--quiet".into());
    }
    for set in args.set.iter().cloned().chain(name).chain(timeout) {
        words.extend(["--set".into(), set.into()]);
    }
    words
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person waits, and gets the exit code as it is"
)]
fn detach(args: &UpArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let words = child_args("up", args, global);
    let sets: Vec<String> = words
        .iter()
        .skip_while(|word| *word != "--set")
        .filter(|word| *word != "--set")
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let first = ConfigSources::find(global.config.as_deref(), &sets)
        .and_then(|sources| {
            let strict = args.strict;
            first_plan::read(&ConfigSources { strict, ..sources })
        })
        .map_err(|problems| CliError::new(CliExitCode::Configuration, problems.to_string()))?;
    let configuration = first.configuration;
    let warnings = super::check::warnings(&configuration);
    let system = &configuration.system;
    let log = system.logs.directory.join(DETACHED_LOG);
    let limit = configuration.system_spec.startup_timeout + DETACH_MARGIN;
    let socket = system.runtime_dir.join("control.sock");
    let name = &system.name;
    let running = SystemLocator {
        name: name.clone(),
        socket: socket.clone(),
        config_dir: Some(system.config_dir.clone()),
    };
    check_not_running(name, &running)?;
    for (folder, key) in [
        (&system.state_dir, "mainstay.state_dir"),
        (&system.logs.directory, "logs.directory"),
    ] {
        make_folder(folder, key).map_err(|problem| {
            CliError::new(
                CliExitCode::Failed,
                format!("cannot start {name}: {problem}"),
            )
        })?;
    }
    if let Some(problem) = first.problem {
        super::terminal::print_error(fallback_text(&problem).trim_end());
    }
    for text in &warnings {
        super::terminal::print_error(&format!("warning: {text}"));
    }
    let begin = fs::metadata(&log).map_or(0, |about| about.len());
    let mut child = start(&words, &log)?;
    let progress = Progress::start(format!("starting {name}"));
    let outcome = wait(&mut child, &socket, Instant::now() + limit, &progress);
    drop(progress);
    match outcome {
        UpOutcome::Up(view) => {
            super::terminal::print_text(&up_line(&view))?;
            tell_of_missing(&running);
            Ok(CliExitCode::Ok)
        }
        UpOutcome::Ended(code) => {
            let said = tail(&log, begin);
            match said.trim_end() {
                "" => super::terminal::print_error(&no_reason_text(name, &log)),
                said => super::terminal::print_error(said),
            }
            // Stopped in order before it was up: nothing is up, and a script must know.
            let code = code.filter(|code| *code != 0);
            std::process::exit(code.unwrap_or(CliExitCode::Failed as i32))
        }
        UpOutcome::TooLong => Err(CliError::new(
            CliExitCode::Failed,
            format!(
                "cannot say that {name} is up: it still starts; \
                 `mainstay status` shows how far it is"
            ),
        )),
    }
}

/// What is said loudly when the files are not what starts.
pub(super) fn fallback_text(problem: &str) -> String {
    format!(
        "WARNING: this start is not what the files say: {problem}\nA saved file without problems \
         is applied; `mainstay up --strict` refuses to start instead.\n"
    )
}

/// Says on stderr what did not start: the system is up without it.
fn tell_of_missing(running: &SystemLocator) {
    let modules = running
        .connect()
        .and_then(|mut client| Ok(client.modules()?));
    // It may be stopping by now: nothing is known then.
    for module in modules.unwrap_or_default() {
        if let Some(text) = missing_text(&module) {
            super::terminal::print_error(&text);
        }
    }
}

/// Why a module that is to be up is not, and what says more.
fn missing_text(module: &ModuleView) -> Option<String> {
    let name = super::format::single_line(&module.module);
    let what = match module.state {
        ModuleState::Failed => "has failed",
        ModuleState::Backoff => "failed and is tried again",
        ModuleState::Waiting => "waits for",
        // Perhaps another process answered for it while it was taken for ready.
        ModuleState::Running if module.attempts > 0 => "runs again after it ended",
        _ => return None,
    };
    let why = match module.state {
        ModuleState::Waiting => module_details::waits_for(module).map(|waits| format!(" {waits}")),
        ModuleState::Running => {
            let times = match module.attempts {
                1 => "once".to_owned(),
                many => format!("{many} times"),
            };
            let why = module_details::reason_text(module);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            Some(format!(" {times}{why}"))
        }
        _ => module_details::failure_text(module).map(|why| format!(": {why}")),
    };
    let why = why.unwrap_or_default();
    Some(format!(
        "{name} {what}{why}; `mainstay why {name}` says more"
    ))
}

/// Describes a completed start: which modules run.
fn up_line(view: &SystemView) -> String {
    let running = view.modules.running;
    let total = view.modules.total - view.modules.done.min(view.modules.total);
    let reason = view.reason.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let mut count = match (running, total) {
        (1, 1) => "1 module running".to_owned(),
        _ if running == total => format!("{running} modules running"),
        _ => format!("{running} of {total} modules running"),
    };
    if view.modules.done > 0 {
        count.push_str(&format!(", {} done", view.modules.done));
    }
    // Modules that are up wait or start from the beginning.
    match view.modules.not_started {
        0 => {}
        1 => count.push_str(", 1 starts when needed"),
        more => count.push_str(&format!(", {more} start when needed")),
    }
    let name = super::format::single_line(&view.name);
    format!("{name} is up ({}{reason}): {count}\n", view.status)
}

/// How far a start is: `starting app: 3/7 ready, waiting for storage: tcp 127.0.0.1:9000`.
fn starting_text(system: &SystemView, modules: &[ModuleView]) -> String {
    let (name, counts) = (super::format::single_line(&system.name), &system.modules);
    let ready = counts.running + counts.done;
    let total = counts.total - counts.not_started;
    let is_up =
        |module: &&ModuleView| matches!(module.state, ModuleState::Starting | ModuleState::Backoff);
    let pending: Vec<&ModuleView> = modules.iter().filter(is_up).collect();
    let waiting = pending.first().map_or_else(String::new, |first| {
        let module = super::format::single_line(&first.module);
        let what = match first.state {
            ModuleState::Starting => module_details::waits_for(first),
            _ => module_details::failure_text(first),
        };
        let what = what.map_or_else(String::new, |what| format!(": {what}"));
        let more = match pending.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(", waiting for {module}{what}{more}")
    });
    format!("starting {name}: {ready}/{total} ready{waiting}")
}

/// Refuses a second start before it truncates the log of the running system.
fn check_not_running(name: &str, running: &SystemLocator) -> Result<(), CliError> {
    match Client::connect(&running.socket).and_then(|mut client| client.status()) {
        Ok(view) if view.status != SystemStatus::Stopping => {
            let pid = view.holder_pid;
            let why = match running.other_config_dir() {
                None => format!(
                    "it is up already (pid {pid}); `mainstay status` shows it, `mainstay down` \
                     stops it"
                ),
                Some((theirs, ours)) => format!(
                    "a system of that name is up already (pid {pid}) with the configuration \
                     {theirs}, and the one here is {ours}; set another mainstay.name here, or \
                     stop that one with `mainstay down --config {theirs}`"
                ),
            };
            let text = format!("cannot start {name}: {why}");
            Err(CliError::new(CliExitCode::Failed, text))
        }
        _ => Ok(()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the holder itself has no parent of ours"
)]
fn start(words: &[OsString], log: &Path) -> Result<Child, CliError> {
    let failed = |what: &str, error: std::io::Error| {
        let next = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
                "; set another mainstay.state_dir"
            }
            _ => "",
        };
        CliError::new(CliExitCode::Failed, format!("cannot {what}: {error}{next}"))
    };
    let file =
        private::append(log).map_err(|error| failed(&format!("write {}", log.display()), error))?;
    let errors = file
        .try_clone()
        .map_err(|error| failed("share the log", error))?;
    let mut command = Command::new(own_program()?);
    // A hidden console of its own, by which modules are told to stop.
    #[cfg(windows)]
    {
        std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NO_WINDOW);
        // A reader of this process's output must not wait for the detached one.
        crate::os::machine::keep_standard_handles();
    }
    command
        .args(words)
        .env(ENV_DETACHED, "1")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed("start mainstay in the background", error))
}

enum UpOutcome {
    Up(Box<SystemView>),
    Ended(Option<i32>),
    TooLong,
}

#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn wait(child: &mut Child, socket: &Path, by: Instant, progress: &Progress) -> UpOutcome {
    let own = child.id();
    let mut told = Instant::now();
    while Instant::now() < by {
        if let Ok(Some(status)) = child.try_wait() {
            return UpOutcome::Ended(status.code());
        }
        let asked = Client::connect(socket).and_then(|mut client| Ok((client.status()?, client)));
        // Another system of the same name may answer while this start is being refused.
        if let Ok((view, mut client)) = asked
            && view.holder_pid == own
        {
            if !matches!(view.status, SystemStatus::Starting | SystemStatus::Stopping) {
                return UpOutcome::Up(Box::new(view));
            }
            if told.elapsed() > PROGRESS_INTERVAL {
                told = Instant::now();
                let modules = client.modules().unwrap_or_default(); // it may be stopping
                progress.update(starting_text(&view, &modules));
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    UpOutcome::TooLong
}

/// Returns the message for a start that failed without writing a reason to its log.
fn no_reason_text(name: &str, log: &Path) -> String {
    let log = log.display();
    format!(
        "cannot start {name}: it exited, and {log} does not say why; is that disk full? \
         `mainstay up` in the foreground says more"
    )
}

/// Returns the end of what was written after the first `begin` bytes.
fn tail(log: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    let read = private::open_regular(log).and_then(|mut file| {
        let length = file.seek(SeekFrom::End(0))?;
        // One that is shorter now was rotated.
        let begin = if begin > length { 0 } else { begin };
        file.seek(SeekFrom::Start(
            begin.max(length.saturating_sub(TAIL_BYTES)),
        ))?;
        file.take(TAIL_BYTES).read_to_end(&mut bytes)
    });
    let _unreadable = read; // then it says nothing
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    #[test]
    fn a_start_under_way_names_what_it_waits_for() {
        let mut view: SystemView =
            serde_json::from_value(golden("system.status")["reply"]["result"].clone())
                .expect("a view");
        (view.modules.total, view.modules.not_started) = (8, 1);
        (view.modules.running, view.modules.done) = (2, 1);
        let mut storage = crate::cli::module_details::tests::example();
        storage.state = ModuleState::Starting;
        storage.waits_for = Some("tcp 127.0.0.1:9000".to_owned());
        let mut modules = vec![storage.clone()];
        let text = starting_text(&view, &modules);
        let expected = "starting skelly-jelly: 3/7 ready, waiting for storage: tcp 127.0.0.1:9000";
        assert_eq!(text, expected);
        storage.state = ModuleState::Backoff;
        modules.insert(0, storage);
        let text = starting_text(&view, &modules);
        assert!(
            text.ends_with("waiting for storage: exit code 1 and 1 more"),
            "{text}"
        );
    }

    #[test]
    fn each_module_that_is_not_up_has_a_line_with_its_reason() {
        let mut module = crate::cli::module_details::tests::example();
        (module.state, module.reason) = (ModuleState::Failed, Some("exit code 17".to_owned()));
        let failed = "storage has failed: exit code 17; `mainstay why storage` says more";
        assert_eq!(missing_text(&module).as_deref(), Some(failed));
        module.state = ModuleState::Waiting;
        module.waits_for = Some("pg, which failed: exit code 1".to_owned());
        let waits = "storage waits for pg, which failed: exit code 1; `mainstay why storage` says \
                     more";
        assert_eq!(missing_text(&module).as_deref(), Some(waits));
        (module.state, module.reason) = (ModuleState::Running, Some("exit code 1".to_owned()));
        module.attempts = 2;
        let again = "storage runs again after it ended 2 times: exit code 1; `mainstay why \
                     storage` says more";
        assert_eq!(missing_text(&module).as_deref(), Some(again));
        module.attempts = 0;
        assert_eq!(missing_text(&module), None);
    }

    #[test]
    fn what_is_up_is_counted_and_what_is_missing_is_named() {
        let mut view: SystemView =
            serde_json::from_value(golden("system.status")["reply"]["result"].clone())
                .expect("a view");
        view.name = "app".to_owned();
        view.modules.not_started = 0;
        (view.modules.running, view.modules.total) = (1, 2);
        (view.status, view.reason) = (SystemStatus::Degraded, Some("not well: a".to_owned()));
        assert_eq!(
            up_line(&view),
            "app is up (degraded: not well: a): 1 of 2 modules running\n"
        );
        view.modules.not_started = 1;
        let told = up_line(&view);
        assert!(
            told.ends_with(": 1 of 2 modules running, 1 starts when needed\n"),
            "{told}"
        );
        (view.modules.not_started, view.modules.done) = (0, 1);
        (view.modules.running, view.modules.total) = (1, 2);
        assert!(up_line(&view).ends_with(": 1 module running, 1 done\n"));
        view.modules.done = 0;
        (view.modules.running, view.modules.total) = (2, 2);
        (view.status, view.reason) = (SystemStatus::Healthy, None);
        assert_eq!(up_line(&view), "app is up (healthy): 2 modules running\n");
    }
}
