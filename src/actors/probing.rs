//! One probe of a module from outside, for readiness and health.
//! Owns which process a probe must find, and how a command probes.
//! Never decides when to probe or what follows.

use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_process::Probe;

use super::{RuntimeContext, launching};
use crate::os::{LiveProcess, probe};

/// Probes once; `number` names the command, if it is one.
///
/// # Errors
/// What was probed and what was found instead, in words.
pub(super) async fn probe(
    ctx: &RuntimeContext,
    module: ModuleId,
    number: u64,
    what: &Probe,
    timeout: Duration,
) -> Result<(), String> {
    let answer = answer(ctx, module, number, what, timeout).await;
    answer.map_err(|found| format!("{what}: {found}"))
}

/// A message about checks that failed in a row.
pub(super) fn counted(text: &str, failures: u32) -> String {
    match failures {
        0 | 1 => text.to_owned(),
        _ => format!("{text}, {failures} tries"),
    }
}

async fn answer(
    ctx: &RuntimeContext,
    module: ModuleId,
    number: u64,
    what: &Probe,
    timeout: Duration,
) -> Result<(), String> {
    // Only a listener of the module's own tree counts: another process may hold the port.
    let owner = ctx.os.live_process(&ctx.instance(module));
    let owner = owner.and_then(LiveProcess::process);
    match what {
        Probe::Tcp(address) => probe::tcp(address, owner, timeout).await,
        Probe::Unix(path) => probe::unix(path, timeout).await,
        Probe::Http { url, status } => probe::http(url, *status, owner, timeout).await,
        Probe::Grpc(target) => probe::grpc(target, owner, timeout).await,
        Probe::File(path) => match probe::file(path) {
            true => Ok(()),
            false => Err("there is no such file".to_owned()),
        },
        Probe::Exec(argv) => {
            let mut command = launching::command_request(ctx, module, argv);
            command.generation = number;
            command.timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let result = ctx.os.command(command).await;
            match result.ok {
                true => Ok(()),
                false => Err(result.text),
            }
        }
    }
}
