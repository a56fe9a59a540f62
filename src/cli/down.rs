//! `down`: requests the ordered stop and waits until the holder has exited.
//! Owns the rule when a system is down: the control socket is closed and the holder has exited.
//! Never kills a process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_client::{Error as ClientError, WAIT_TIMEOUT};
#[cfg(unix)]
use mainstay_holder::start_time;
use mainstay_protocol::enums::{CliExitCode, ModuleKind, ModuleState};
use mainstay_protocol::method::{StopParams, name};
use mainstay_protocol::{ErrorCode, Event, ModuleView};

use super::args::{DownArgs, GlobalArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::{self, SystemLocator};
use super::{format, terminal, warnings};
use crate::config::ConfigSources;
use crate::runtime::first_plan;

/// Time beyond the stop budget for forced kills and the exit of the holder.
const MARGIN: Duration = Duration::from_secs(10);
/// Modules that the progress names.
const NAMES_MAX: usize = 2;
const TICK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &DownArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let down_timeout = args
        .timeout
        .map_or(WAIT_TIMEOUT, |timeout| timeout + MARGIN);
    // It is read before the stop: the files may be on a mount that a module provides.
    let state_dir = state_dir(global);
    let since = terminal::now();
    let took = match stop(&instance, args.timeout, down_timeout) {
        Err(CliError::NotRunning { path, name, holder }) => {
            let text =
                format!("cannot stop '{name}': it does not run, nothing listens on {path}{holder}");
            return Err(CliError::new(CliExitCode::NotRunning, text));
        }
        took => format::compact_duration(took?),
    };
    terminal::print_text(&format!(
        "{} is down after {took}\n",
        format::single_line(&instance.name)
    ))?;
    if let Some(state_dir) = state_dir {
        warnings::tell_of_kills_in(&state_dir, since, args.timeout.is_some());
    }
    Ok(CliExitCode::Ok)
}

/// The folder of the journal; none if only a socket is known.
fn state_dir(global: &GlobalArgs) -> Option<PathBuf> {
    let is_set = std::env::var_os("MAINSTAY_CONTROL").is_some_and(|path| !path.is_empty());
    if (global.socket.is_some() || is_set) && global.config.is_none() {
        return None;
    }
    let names = global.name.iter();
    let sets: Vec<String> = names.map(|name| format!("mainstay.name={name}")).collect();
    let sources = ConfigSources::find(global.config.as_deref(), &sets).ok()?;
    let first = first_plan::read(&sources).ok()?;
    Some(first.configuration.system.state_dir.clone())
}

/// Stops the system, waits at most `down_timeout` until it is down, and prints how long it took.
#[expect(clippy::disallowed_methods, reason = "how long a person waited")]
fn stop(
    instance: &SystemLocator,
    timeout: Option<Duration>,
    down_timeout: Duration,
) -> Result<Duration, CliError> {
    let begun = Instant::now();
    let until = begun + down_timeout;
    let mut client = instance.connect_to_change()?;
    let stopping = format!("stopping {}", format::single_line(&instance.name));
    let progress = Progress::start(stopping.as_str());
    let holder = client.status()?.holder_pid;
    let runs = client.modules().map(|modules| running(&modules));
    let runs = runs.unwrap_or_default(); // that it cannot be read holds up no stop
    request_stop(&mut client, timeout, down_timeout)?;
    if wait_closed(&mut client, (&progress, &stopping), until)?
        && wait_gone(instance, holder, until)
    {
        return match left_of(&runs) {
            None => Ok(begun.elapsed()),
            Some(left) => Err(CliError::new(
                CliExitCode::Failed,
                format!(
                    "cannot stop all of '{}': {left} still runs, and mainstay may not end it; end \
                     it as its user or as root",
                    instance.name
                ),
            )),
        };
    }
    let waited = format::compact_duration(begun.elapsed());
    Err(CliError::new(
        CliExitCode::Failed,
        format!(
            "cannot stop '{}': still running after {waited}; run `mainstay status` to see which \
             module is stopping",
            instance.name
        ),
    ))
}

/// Main processes: module, pid and, where it is known, start time.
fn running(modules: &[ModuleView]) -> Vec<(String, u32, Option<u64>)> {
    let pids = modules
        .iter()
        .filter_map(|view| Some((view.module.clone(), view.pid?)));
    pids.map(|(module, pid)| (module, pid, start_time(pid)))
        .collect()
}

/// Nothing outlives its job.
#[cfg(windows)]
fn start_time(_: u32) -> Option<u64> {
    None
}

/// The first of them that has not exited: a program of another user may have become one that this
/// user must not signal.
fn left_of(runs: &[(String, u32, Option<u64>)]) -> Option<String> {
    let mut left = runs
        .iter()
        .filter(|(_, pid, start)| start.is_some() && start_time(*pid) == *start);
    left.next()
        .map(|(module, pid, _)| format!("process {pid} of {}", format::single_line(module)))
}

/// Requests the stop. A stop in progress, or one completed before its reply, counts as success.
fn request_stop(
    client: &mut Client,
    timeout: Option<Duration>,
    down_timeout: Duration,
) -> Result<(), CliError> {
    let timeout_ms = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let params = StopParams { timeout_ms };
    match client.call_within::<serde_json::Value>(name::SYSTEM_STOP, params, down_timeout) {
        Ok(_) | Err(ClientError::Closed { .. }) => Ok(()),
        Err(ClientError::Refused(refusal)) if refusal.data.code == ErrorCode::ShuttingDown => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until the runtime closes the connection, and shows the progress meanwhile.
#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn wait_closed(
    client: &mut Client,
    (progress, stopping): (&Progress, &str),
    until: Instant,
) -> Result<bool, CliError> {
    while Instant::now() < until {
        match client.notification::<Event>(Some(TICK)) {
            Err(ClientError::Closed { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let params = serde_json::json!({});
        match client.call_within::<Vec<ModuleView>>(name::MODULE_LIST, params, TICK) {
            Ok(modules) => progress.update(format!("{stopping}: {}", remaining(&modules))),
            Err(ClientError::Closed { .. }) => return Ok(true),
            // The runtime is stopping: only the end of the connection matters.
            Err(ClientError::Refused(_) | ClientError::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// How many modules still run, with names of at most two: those first that are asked to end.
fn remaining(modules: &[ModuleView]) -> String {
    let own = modules.iter().filter(|it| it.kind != ModuleKind::Builtin);
    let total = own.clone().count();
    let mut alive: Vec<&ModuleView> = own
        .filter(|it| {
            matches!(
                it.state,
                ModuleState::Running | ModuleState::Starting | ModuleState::Stopping
            )
        })
        .collect();
    alive.sort_by_key(|it| it.state != ModuleState::Stopping);
    let names = alive.iter().take(NAMES_MAX);
    let names: Vec<_> = names.map(|it| format::single_line(&it.module)).collect();
    let more = match alive.len() > NAMES_MAX {
        true => ", …",
        false => "",
    };
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(" ({}{more})", names.join(", ")),
    };
    format!("{} of {total} still run{names}", alive.len())
}

/// Waits until no process or another holder listens, and the holder has exited.
#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
fn wait_gone(instance: &SystemLocator, holder: u32, until: Instant) -> bool {
    let silent = || match instance.connect() {
        Err(CliError::NotRunning { .. }) => true,
        Err(_) => false,
        Ok(mut client) => client
            .status()
            .is_ok_and(|system| system.holder_pid != holder),
    };
    let ended = || i32::try_from(holder).map_or(true, |pid| !system_locator::lives(pid));
    while Instant::now() < until {
        if silent() && ended() {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::cli::fake::{FakePeer, FakeServer};
    use crate::cli::module_details::tests::golden;
    use serde_json::{Value, json};

    const LONG: Duration = Duration::from_secs(20);

    fn status(holder: u32) -> Value {
        let mut view = golden("system.status")["reply"]["result"].clone();
        view["holder_pid"] = json!(holder);
        view
    }

    /// The number of a process that has ended.
    #[expect(
        clippy::disallowed_methods,
        reason = "a process that nobody supervises"
    )]
    fn ended() -> u32 {
        let mut child = std::process::Command::new("true").spawn().expect("started");
        child.wait().expect("collected");
        child.id()
    }

    #[test]
    fn it_is_down_when_nobody_listens_and_the_holder_has_ended() {
        let holder = ended();
        let fake = FakeServer::start(vec![Box::new(move |peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(holder));
            peer.answers(name::MODULE_LIST, json!([]));
            let asked = peer.answers(name::SYSTEM_STOP, json!({}));
            assert_eq!(asked, json!({"timeout_ms": 1500}));
        })]);
        let timeout = Some(Duration::from_millis(1500));
        stop(&fake.instance(), timeout, LONG).expect("down");
        fake.ends();
    }

    #[test]
    fn a_stop_under_way_or_over_before_its_answer_is_as_good() {
        let holder = ended();
        let refuses = move |peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(holder));
            peer.answers(name::MODULE_LIST, json!([]));
            peer.refuses(name::SYSTEM_STOP, ErrorCode::ShuttingDown);
        };
        let leaves = move |peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(holder));
            peer.answers(name::MODULE_LIST, json!([]));
            peer.hears(name::SYSTEM_STOP);
        };
        for script in [
            Box::new(refuses) as crate::cli::fake::FakeScript,
            Box::new(leaves),
        ] {
            let fake = FakeServer::start(vec![script]);
            stop(&fake.instance(), None, LONG).expect("down");
            fake.ends();
        }
    }

    #[test]
    fn the_progress_names_what_still_runs() {
        let module = |name: &str, state: &str| {
            let mut view = golden("module.get")["reply"]["result"].clone();
            (view["module"], view["state"]) = (json!(name), json!(state));
            serde_json::from_value::<ModuleView>(view).expect("a view")
        };
        let mut modules = vec![module("web", "stopped"), module("db", "stopping")];
        assert_eq!(remaining(&modules), "1 of 2 still run (db)");
        modules.insert(0, module("cache", "running"));
        assert_eq!(remaining(&modules), "2 of 3 still run (db, cache)");
        modules.push(module("queue", "stopping"));
        assert_eq!(remaining(&modules), "3 of 4 still run (db, queue, …)");
        assert_eq!(remaining(&modules[1..2]), "0 of 1 still run");
    }

    #[test]
    fn a_new_holder_on_the_socket_is_another_instance() {
        let holder = ended();
        let old = move |peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(holder));
            peer.answers(name::MODULE_LIST, json!([]));
            peer.answers(name::SYSTEM_STOP, json!({}));
        };
        let new = |peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(std::process::id()));
        };
        let fake = FakeServer::start(vec![Box::new(old), Box::new(new)]);
        stop(&fake.instance(), None, LONG).expect("down");
        fake.ends();
    }

    #[test]
    fn a_holder_that_stays_is_not_down() {
        let fake = FakeServer::start(vec![Box::new(|peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(std::process::id()));
            peer.answers(name::MODULE_LIST, json!([]));
            peer.answers(name::SYSTEM_STOP, json!({}));
        })]);
        let failure = stop(&fake.instance(), None, Duration::from_millis(200)).expect_err("stays");
        assert_eq!(failure.code(), CliExitCode::Failed);
        assert!(
            failure
                .to_string()
                .starts_with("cannot stop 'app': still running"),
            "{failure}"
        );
        fake.ends();
    }

    #[test]
    fn a_refusal_ends_it() {
        let fake = FakeServer::start(vec![Box::new(|peer: &mut FakePeer| {
            peer.answers(name::SYSTEM_STATUS, status(1));
            peer.answers(name::MODULE_LIST, json!([]));
            peer.refuses(name::SYSTEM_STOP, ErrorCode::NotPermitted);
        })]);
        let failure = stop(&fake.instance(), None, LONG).expect_err("refused");
        assert_eq!(failure.code(), CliExitCode::Refused);
        fake.ends();
    }
}
