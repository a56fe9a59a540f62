//! One probe of a module from outside, for readiness and health.
//! Owns which process a probe must find, how a command probes, and the deadline of a check.
//! Never decides when to probe or what follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_process::{ListenerOwner, Probe};

use super::{RuntimeContext, launching};
use crate::os::{CommandResult, LiveProcess, probe};

/// A command that was killed at its timeout may take this long to exit before it is given up.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// What is kept of the output of a failing command, in characters.
const OUTPUT_CHARS_MAX: usize = 2000;

/// One check.
pub(super) struct Check<'a> {
    pub(super) probe: &'a Probe,
    pub(super) owner: ListenerOwner,
    pub(super) timeout: Duration,
    /// Names the command, if it is one.
    pub(super) number: u64,
    /// Whether a command of an earlier check has been killed and has not exited.
    pub(super) lingers: Option<&'a Arc<AtomicBool>>,
}

/// Why a check failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CheckFailure {
    /// What was probed and what was found instead, as text.
    pub(super) text: String,
    /// The end of what a command printed.
    pub(super) output: String,
}

/// Probes once.
///
/// # Errors
/// What was found instead.
pub(super) async fn probe(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    check: Check<'_>,
) -> Result<(), CheckFailure> {
    let what = check.probe;
    let found = answer(ctx, module, check).await;
    found.map_err(|failure| CheckFailure {
        text: format!("{what}: {}", failure.text),
        ..failure
    })
}

/// A message about checks that failed in a row.
pub(super) fn counted(text: &str, failures: u32) -> String {
    match failures {
        0 | 1 => text.to_owned(),
        _ => format!("{text}, {failures} tries"),
    }
}

async fn answer(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    check: Check<'_>,
) -> Result<(), CheckFailure> {
    // Only a listener of the module's own tree counts: another process may hold the port.
    let is_own = check.owner == ListenerOwner::Module;
    let owner = ctx
        .os
        .live_process(&ctx.instance(module))
        .filter(|_| is_own);
    let (owner, limit) = (owner.and_then(LiveProcess::process), check.timeout);
    let found = match check.probe {
        Probe::Tcp(address) => probe::tcp(address, owner, limit).await,
        Probe::Unix(path) => probe::unix(path, limit).await,
        Probe::Http { url, status } => probe::http(url, *status, owner, limit).await,
        Probe::Grpc(target) => probe::grpc(target, owner, limit).await,
        Probe::File(path) => match probe::file(path) {
            true => Ok(()),
            false => Err("there is no such file".to_owned()),
        },
        Probe::Exec(argv) => return command(ctx, module, argv, &check).await,
    };
    found.map_err(|text| CheckFailure {
        text,
        ..CheckFailure::default()
    })
}

/// Runs a command. Its timeout counts even if the kernel cannot end it: the check fails then, and
/// no other command of this probe is started before that one has exited.
async fn command(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    argv: &[String],
    check: &Check<'_>,
) -> Result<(), CheckFailure> {
    let failed = |text: &str| CheckFailure {
        text: text.to_owned(),
        ..CheckFailure::default()
    };
    let lingers = check.lingers.map(Arc::clone).unwrap_or_default();
    if lingers.swap(true, Ordering::AcqRel) {
        return Err(failed(
            "the command of an earlier check was killed and has not exited",
        ));
    }
    let mut request = launching::command_request(ctx, module, argv);
    request.generation = check.number;
    request.timeout_ms = u64::try_from(check.timeout.as_millis()).unwrap_or(u64::MAX);
    let ctx = Arc::clone(ctx);
    let running = tokio::spawn(async move {
        let result = ctx.os.command(request).await;
        lingers.store(false, Ordering::Release);
        result
    });
    match tokio::time::timeout(check.timeout + EXIT_GRACE, running).await {
        Ok(Ok(result)) if result.ok => Ok(()),
        Ok(Ok(result)) => Err(CheckFailure {
            output: last_output(&result),
            text: result.text,
        }),
        Ok(Err(_)) => Err(failed("the check was aborted")),
        Err(_) => Err(failed("it took too long, was killed and has not exited")),
    }
}

fn last_output(result: &CommandResult) -> String {
    let count = result.output.chars().count();
    let chars = result.output.chars();
    chars.skip(count.saturating_sub(OUTPUT_CHARS_MAX)).collect()
}
