//! `run`: starts a task, shows what it writes, and ends as it ends.
//! Owns the exit code: that of the task, as a shell has it.
//! Never ends the task: an interrupted `run` leaves it to the runtime.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::enums::{CliExitCode, LogStream, ModuleKind, ModuleState};
use mainstay_protocol::method::{ChangeAction, ChangeParams, LogLines, LogsParams};
use mainstay_protocol::{ErrorCode, ModuleView};

use super::args::{GlobalArgs, RunArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::{format, module_details, terminal, terminal_text};

/// Output pauses this long before the state of the task is read.
const QUIET: Duration = Duration::from_millis(100);

#[expect(
    clippy::disallowed_methods,
    reason = "the exit code of the task is passed on as it is"
)]
pub(crate) fn run(args: &RunArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let mut client = instance.connect_to_change()?;
    let task = client.module(&args.task)?;
    check(&task)?;
    let mut output = follow(&instance, &task.module)?;
    let started = client.start(&ChangeParams {
        module: task.module.clone(),
        dry_run: false,
        wait: false,
    })?;
    let mut steps = started.steps.iter();
    let along: Vec<String> = steps
        .by_ref()
        .filter(|step| step.action == ChangeAction::Start && step.module != task.module)
        .map(|step| step.module.clone())
        .collect();
    if !along.is_empty() {
        terminal::print_error(&format!("starting {} with it", format::list(&along)));
    }
    let mut end = None;
    loop {
        match output.notification::<LogLines>(Some(QUIET)) {
            Ok(Some(lines)) => show(&lines)?,
            Ok(None) if end.is_some() => break,
            Ok(None) => end = ended(&instance, &mut client, &task)?,
            Err(ClientError::Closed { .. }) => {
                client = instance.connect_again()?;
                output = follow(&instance, &task.module)?;
                terminal::print_error("the connection was lost; output may be missing here");
            }
            Err(error) => return Err(error.into()),
        }
    }
    match end.map_or(Err("it ended".to_owned()), |end| exit_code(&end)) {
        Ok(code) => std::process::exit(code),
        Err(why) => {
            let text = format!("cannot run {}: {why}", format::single_line(&task.module));
            Err(CliError::new(CliExitCode::Failed, text))
        }
    }
}

/// Refuses what does not complete, and what runs already.
fn check(module: &ModuleView) -> Result<(), CliError> {
    let name = format::single_line(&module.module);
    let why = match module.state {
        _ if module.kind != ModuleKind::Task => format!(
            "it is a {}, which does not complete; `mainstay start {name}` starts it",
            module.kind
        ),
        ModuleState::Stopped | ModuleState::NotStarted | ModuleState::Failed => return Ok(()),
        state => format!(
            "it is {state} already; `mainstay logs -f {name}` shows what it writes, \
             `mainstay stop {name}` stops it"
        ),
    };
    let text = format!("cannot run {name}: {why}");
    Err(CliError::new(CliExitCode::Refused, text))
}

fn follow(instance: &SystemLocator, module: &str) -> Result<Client, CliError> {
    let mut client = instance.connect()?;
    client.logs(&LogsParams {
        module: module.to_owned(),
        lines: Some(0),
        follow: true,
        ..LogsParams::default()
    })?;
    Ok(client)
}

/// Output that a terminal may get; a pipe gets the bytes. What is known to be of stderr goes there.
fn show(lines: &LogLines) -> Result<(), CliError> {
    let stamp = lines.stamps.first().copied().unwrap_or_default();
    let is_error = stamp.stream == Some(LogStream::Stderr);
    let is_terminal = match is_error {
        true => std::io::stderr().is_terminal(),
        false => std::io::stdout().is_terminal(),
    };
    let mut out = String::new();
    for line in &lines.lines {
        match is_terminal {
            true => out.push_str(&terminal_text::for_terminal(line)),
            false => out.push_str(line),
        }
        out.push('\n');
    }
    if is_error {
        terminal::print_error_as_is(out.trim_end_matches('\n'));
        return Ok(());
    }
    terminal::print(&out)
}

/// The task after its run, unless it is still under way.
fn ended(
    instance: &SystemLocator,
    client: &mut Client,
    before: &ModuleView,
) -> Result<Option<ModuleView>, CliError> {
    let now = look(instance, client, &before.module)?;
    Ok(now.filter(|now| is_over(now, before.generation)))
}

/// A module as it is; None: the runtime is being replaced, or all stops.
fn look(
    instance: &SystemLocator,
    client: &mut Client,
    module: &str,
) -> Result<Option<ModuleView>, CliError> {
    match client.module(module) {
        Err(ClientError::Closed { .. }) => {
            *client = instance.connect_again()?;
            Ok(None)
        }
        Err(ClientError::Refused(refusal)) if refusal.data.code == ErrorCode::ShuttingDown => {
            Ok(None)
        }
        now => Ok(Some(now?)),
    }
}

/// Whether a run later than `generation` is over, or will not come.
pub(crate) fn is_over(now: &ModuleView, generation: u64) -> bool {
    match now.state {
        ModuleState::Stopped => now.generation > generation,
        ModuleState::Failed => true,
        _ => now.failed_need.is_some(),
    }
}

/// How a person waits for a task: how often it is looked at, and for how long at most.
struct TaskWait {
    interval: Duration,
    limit: Option<Duration>,
}

impl TaskWait {
    /// Until it is there, however long that takes.
    const LONG: TaskWait = TaskWait {
        interval: QUIET,
        limit: None,
    };

    /// How long a task that was started may take to end before it is said that it runs.
    const MOMENT: TaskWait = TaskWait {
        interval: Duration::from_millis(20),
        limit: Some(Duration::from_secs(1)),
    };

    /// Waits until a module is as asked; None: it was not within the limit.
    #[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
    fn until(
        self,
        instance: &SystemLocator,
        client: &mut Client,
        module: &str,
        is: impl Fn(&ModuleView) -> bool,
    ) -> Result<Option<ModuleView>, CliError> {
        let begun = Instant::now();
        loop {
            if let Some(now) = look(instance, client, module)?.filter(&is) {
                return Ok(Some(now));
            }
            if self.limit.is_some_and(|limit| begun.elapsed() >= limit) {
                return Ok(None);
            }
            std::thread::sleep(self.interval);
        }
    }
}

/// A task that was started is given a moment to end: that it runs says little of it.
pub(crate) fn after_a_moment(instance: &SystemLocator, module: ModuleView) -> ModuleView {
    let runs = |module: &ModuleView| {
        module.kind == ModuleKind::Task
            && matches!(module.state, ModuleState::Starting | ModuleState::Running)
    };
    if !runs(&module) {
        return module;
    }
    let Ok(mut client) = instance.connect() else {
        return module; // it is stopping
    };
    let rests = |module: &ModuleView| !runs(module);
    let rested = TaskWait::MOMENT.until(instance, &mut client, &module.module, rests);
    rested.ok().flatten().unwrap_or(module)
}

/// Waits until the run of a task is over.
pub(crate) fn wait_for_end(
    instance: &SystemLocator,
    client: &mut Client,
    task: &ModuleView,
) -> Result<ModuleView, CliError> {
    let name = format::single_line(&task.module);
    let _progress = Progress::start(format!("waiting until {name} is done"));
    let before = task.generation.saturating_sub(1);
    let is_at_end = |now: &ModuleView| is_over(now, before);
    let end = TaskWait::LONG.until(instance, client, &task.module, is_at_end)?;
    Ok(end.unwrap_or_else(|| task.clone()))
}

/// The exit code of the task as a shell has it, or why there is none.
fn exit_code(end: &ModuleView) -> Result<i32, String> {
    if let Some(waits) = module_details::waits_for(end) {
        return Err(format!("it waits for {waits}"));
    }
    match &end.last_exit {
        Some(exit) => match (exit.signal, exit.code) {
            (Some(signal), _) => Ok(128 + signal),
            (None, Some(code)) => Ok(code),
            (None, None) => Err(module_details::exit_text(exit)),
        },
        None => Err("how it ended is unknown".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::example;

    fn task(state: ModuleState) -> ModuleView {
        ModuleView {
            kind: ModuleKind::Task,
            state,
            waits_for: None,
            waiting_on: Vec::new(),
            failed_need: None,
            ..example()
        }
    }

    #[test]
    fn only_a_task_at_rest_is_run() {
        assert!(check(&task(ModuleState::Stopped)).is_ok());
        assert!(check(&task(ModuleState::Failed)).is_ok());
        let running = check(&task(ModuleState::Running)).expect_err("running");
        assert!(running.to_string().contains("running already"), "{running}");
        let service = check(&example()).expect_err("a service");
        assert!(
            service.to_string().contains("does not complete"),
            "{service}"
        );
    }

    #[test]
    fn it_is_over_after_a_later_run_or_without_hope() {
        let stopped = task(ModuleState::Stopped);
        assert!(!is_over(&stopped, stopped.generation));
        assert!(is_over(&stopped, stopped.generation - 1));
        assert!(!is_over(&task(ModuleState::Backoff), 0));
        let mut waiting = task(ModuleState::Waiting);
        assert!(!is_over(&waiting, 0));
        waiting.failed_need = Some("db".to_owned());
        assert!(is_over(&waiting, 0));
    }

    #[test]
    fn a_signal_is_a_code_as_in_a_shell() {
        let mut end = task(ModuleState::Failed);
        let exit = end.last_exit.as_mut().expect("an exit");
        exit.signal = Some(9);
        assert_eq!(exit_code(&end), Ok(137));
        let exit = end.last_exit.as_mut().expect("an exit");
        (exit.signal, exit.code) = (None, Some(3));
        assert_eq!(exit_code(&end), Ok(3));
        end.last_exit = None;
        assert!(exit_code(&end).is_err());
    }
}
