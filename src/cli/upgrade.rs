//! `upgrade`: replaces the running runtime by another program, and says what became of it.
//! Owns the waiting for the runtime after it.
//! Never replaces anything: the holder does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mainstay_client::Error as ClientError;
use mainstay_protocol::SystemView;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{UpgradeParams, UpgradeResult, name};
use mainstay_protocol::view::{UpgradeOutcome, UpgradeView};

use super::args::{GlobalArgs, UpgradeArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::{format, terminal};
use crate::runtime::ProgramVersions;

/// Time the old runtime has to end, the new one to be ready and the old one to be back.
const RESULT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &UpgradeArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let failed = |cause: String| {
        let text = format!("cannot upgrade: {cause}");
        CliError::new(CliExitCode::Failed, text)
    };
    let program = match &args.binary {
        Some(path) => std::path::absolute(path),
        None => std::env::current_exe(),
    };
    let program = program
        .map_err(|error| failed(error.to_string()))
        .and_then(|program| text(program).map_err(failed))?;
    let instance = SystemLocator::find(global)?;
    let mut client = instance.connect_to_change()?;
    let before = client.status()?;
    let number = before.upgrade.as_ref().map_or(0, |last| last.number);
    let progress = Progress::start(format!("upgrading {}", before.name));
    let params = UpgradeParams {
        program: program.clone(),
    };
    let accepted = match client.call::<UpgradeResult>(name::SYSTEM_UPGRADE, params) {
        Ok(_) => true,
        Err(ClientError::Closed { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let last = wait(&instance, number, |system| {
        // Every runtime after one that was accepted knows of it.
        let is_lost = !accepted && system.pid != before.pid;
        let cause = "the runtime ended before it answered; run the command again";
        is_lost.then(|| failed(cause.to_owned()))
    });
    drop(progress);
    let Some((system, last)) = last? else {
        let seconds = RESULT_TIMEOUT.as_secs();
        let cause = format!("no runtime told its result within {seconds} s; run `mainstay status`");
        return Err(failed(cause));
    };
    if last.program != program {
        let cause = format!(
            "another upgrade was made meanwhile, to {}; run `mainstay events` to see which were \
             made, or the command again",
            format::single_line(&last.program)
        );
        return Err(failed(cause));
    }
    if args.json {
        terminal::print_json(&last)?;
    } else if last.outcome == UpgradeOutcome::Done {
        terminal::print_text(&done_text(&system, &last))?;
    }
    match (&last.outcome, args.json) {
        (UpgradeOutcome::Done, _) => Ok(CliExitCode::Ok),
        (_, true) => Ok(CliExitCode::Failed),
        (_, false) => Err(CliError::new(CliExitCode::Failed, rolled_back_text(&last))),
    }
}

fn text(program: PathBuf) -> Result<String, String> {
    let text = program.into_os_string().into_string();
    text.map_err(|path| format!("{} is not valid UTF-8", path.display()))
}

/// Waits for the result of an upgrade after this one; None: there is none in time.
#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn wait(
    instance: &SystemLocator,
    before: u32,
    lost: impl Fn(&SystemView) -> Option<CliError>,
) -> Result<Option<(SystemView, UpgradeView)>, CliError> {
    let until = Instant::now() + RESULT_TIMEOUT;
    while Instant::now() < until {
        let asked = instance.connect().map(|mut client| client.status());
        match asked {
            Ok(Ok(mut system)) => match system.upgrade.take().filter(|last| last.number > before) {
                Some(last) if last.outcome == UpgradeOutcome::Pending => {}
                Some(last) => return Ok(Some((system, last))),
                None => {
                    if let Some(error) = lost(&system) {
                        return Err(error);
                    }
                }
            },
            Ok(Err(_)) | Err(CliError::NotAnswering { .. }) => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(POLL);
    }
    Ok(None)
}

fn done_text(system: &SystemView, last: &UpgradeView) -> String {
    let name = format::single_line(&system.name);
    let change = match last.from == last.to {
        true => format!("version {}", last.to),
        false => format!("version {}, was {}", last.to, last.from),
    };
    let program = format::single_line(&last.program);
    format!(
        "{name} is upgraded to {program} ({change}); the holder follows, or does at the next \
         `mainstay up`\n"
    )
}

fn rolled_back_text(last: &UpgradeView) -> String {
    let program = format::single_line(&last.program);
    let problem = last.problem.as_deref().unwrap_or("it was not ready");
    let problem = format::single_line(problem);
    format!("cannot upgrade to {program}: {problem}; the program before runs again")
}

/// Prints the versions of this program, for a runtime that is to be replaced by it.
pub(crate) fn versions() -> Result<CliExitCode, CliError> {
    terminal::print_json_line(&ProgramVersions::own())?;
    Ok(CliExitCode::Ok)
}
