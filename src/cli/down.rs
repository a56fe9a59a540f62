//! `down`: ask for the ordered stop and wait until nothing of the instance is left.
//! Owns what "gone" means: the control socket answers no more and the holder has ended.
//! Never kills anything.

use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_client::{Error as ClientError, WAIT_TIMEOUT};
use mainstay_protocol::method::{StopParams, name};
use mainstay_protocol::words::ExitCode;
use mainstay_protocol::{Event, RefusalCode, SystemView};

use super::args::{Down, Global};
use super::failure::Failure;
use super::instance::{self, Instance};
use super::progress::Progress;
use super::{human, screen};

/// Beyond the stop budget: forced kills, the holder's own end.
const MARGIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &Down, global: &Global) -> Result<ExitCode, Failure> {
    let instance = Instance::find(global)?;
    let begun = Instant::now();
    let mut client = instance.connect()?;
    let progress = Progress::start(format!("stopping {}", human::clean(&instance.name)));
    let holder = client.status()?.holder_pid;
    let patience = args
        .timeout
        .map_or(WAIT_TIMEOUT, |timeout| timeout + MARGIN);
    ask(&mut client, args, patience)?;
    let until = begun + patience;
    let gone = closed(&mut client, &progress, until)? && left(&instance, holder, until);
    drop(progress);
    if !gone {
        let waited = human::span(begun.elapsed());
        return Err(Failure::new(
            ExitCode::Failed,
            format!(
                "cannot see '{}' end: it still runs after {waited}; `mainstay status` says what \
                 it waits for",
                instance.name
            ),
        ));
    }
    let took = human::span(begun.elapsed());
    screen::print(&format!(
        "{} is down after {took}\n",
        human::clean(&instance.name)
    ))?;
    Ok(ExitCode::Ok)
}

/// Asks for the stop. One that is under way already, or over before its answer, is as good.
fn ask(client: &mut Client, args: &Down, patience: Duration) -> Result<(), Failure> {
    let timeout_ms = args
        .timeout
        .map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let params = StopParams { timeout_ms };
    match client.call_within::<serde_json::Value>(name::SYSTEM_STOP, params, patience) {
        Ok(_) | Err(ClientError::Closed { .. }) => Ok(()),
        Err(ClientError::Refused(refusal)) if refusal.data.code == RefusalCode::ShuttingDown => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until mainstay closes the connection, and tells how far it is meanwhile.
fn closed(client: &mut Client, progress: &Progress, until: Instant) -> Result<bool, Failure> {
    while Instant::now() < until {
        match client.notification::<Event>(Some(TICK)) {
            Err(ClientError::Closed { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        match client.call_within::<SystemView>(name::SYSTEM_STATUS, serde_json::json!({}), TICK) {
            Ok(system) => progress.say(left_over(&system)),
            Err(ClientError::Closed { .. }) => return Ok(true),
            // Busy going down: the connection's end is what counts.
            Err(ClientError::Refused(_) | ClientError::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn left_over(system: &SystemView) -> String {
    let counts = &system.modules;
    let alive = counts.running + counts.starting + counts.stopping;
    format!(
        "stopping {}: {alive} of {} still run",
        human::clean(&system.name),
        counts.total
    )
}

/// Waits until nobody listens, or another holder does, and the holder's process has ended.
fn left(instance: &Instance, holder: u32, until: Instant) -> bool {
    let silent = || match instance.connect() {
        Err(Failure::NotRunning { .. }) => true,
        Err(_) => false,
        Ok(mut client) => client
            .status()
            .is_ok_and(|system| system.holder_pid != holder),
    };
    let ended = || i32::try_from(holder).map_or(true, |pid| !instance::lives(pid));
    while Instant::now() < until {
        if silent() && ended() {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}
