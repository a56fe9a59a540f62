//! `system.upgrade`: the runtime is replaced by another program.
//! Owns what is checked of the program before anything is touched, and the row of the request.
//! Never replaces anything: the holder does, and the runtime after this one records the result.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use mainstay_policy::states::Status;
use mainstay_process::{Instance, SpawnRequest};
use mainstay_protocol::method::UpgradeResult;
use mainstay_protocol::methods::SystemUpgrade;
use mainstay_protocol::{ErrorCode, EventKind, RequestError};
use serde_json::json;

use super::{Answer, Caller, MethodResult, internal};
use crate::actors::RuntimeContext;
use crate::actors::event_recorder::{CausedBy, EventBuilder};
use crate::actors::upgrade::{ProgramVersions, UpgradeNote};
use crate::config::{check_program, named_owner};
use crate::os::{UpgradeRequest, program};

/// Time the program has to print its versions.
const CHECK_TIMEOUT_MS: u64 = 5000;
const REPLACED: &str = "the file was replaced while it was checked; run the command again";
/// The verb by which a program prints its versions.
const VERSIONS_VERB: &str = "versions";

impl Answer for SystemUpgrade {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        if ctx.snapshots.system().summary.status == Status::Stopping {
            let text = "cannot upgrade: the system is stopping";
            return Err(RequestError::new(ErrorCode::ShuttingDown, text));
        }
        let program = params.program;
        let refused = |code, cause: String| {
            let text = format!("cannot upgrade to {program}: {cause}");
            RequestError::new(code, text)
        };
        let unusable = |cause| refused(ErrorCode::InvalidParams, cause);
        let (file, real) = open(&program).await?.map_err(unusable)?;
        let new = versions(ctx, &real).await.map_err(unusable)?;
        let running = ProgramVersions::own();
        if let Some(problem) = new.problem(&running) {
            return Err(unusable(problem));
        }
        if !program::is_at(&file, Path::new(&program)) {
            return Err(unusable(REPLACED.to_owned()));
        }
        let note = UpgradeNote {
            program: program.clone(),
            from: running.version,
            to: new.version,
            requester: caller.label.clone(),
            requested_at: ctx.os.wall_clock(),
        };
        let result = UpgradeResult {
            from: note.from.clone(),
            to: note.to.clone(),
        };
        request(ctx, caller, (&program, file), &note)
            .await
            .map_err(|cause| refused(ErrorCode::Busy, cause))?;
        Ok(MethodResult::Now(result))
    }
}

/// Requests the upgrade from the holder. The row of the request is recorded before: this runtime
/// ends once it is accepted.
async fn request(
    ctx: &RuntimeContext,
    caller: &Caller,
    (program, file): (&str, File),
    note: &UpgradeNote,
) -> Result<(), String> {
    let operation = format!("upgrade to {program}");
    let row = |kind, payload| {
        let event = EventBuilder::of(kind).administrative(caller.label.clone());
        event.payload(payload)
    };
    let requested = row(
        EventKind::OperationRequested,
        json!({ "operation": operation }),
    );
    let seq = ctx.recorder.record(requested);
    let upgrade = UpgradeRequest {
        program: program.to_owned(),
        file,
        note: serde_json::to_string(note).unwrap_or_default(),
    };
    let accepted = ctx.os.upgrade(upgrade).await;
    if let Err(cause) = &accepted {
        let payload = json!({ "operation": operation, "result": "refused", "text": cause });
        let finished = row(EventKind::OperationFinished, payload);
        ctx.recorder
            .record(finished.caused_by(CausedBy::Event(seq)));
    }
    accepted
}

/// Opens the program: what is checked is what is started later, whatever becomes of its path.
/// Returns its path after its links, too.
async fn open(program: &str) -> Result<Result<(File, String), String>, RequestError> {
    let path = program.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let path = Path::new(&path);
        if !path.is_absolute() {
            return Err("the path is not absolute".to_owned());
        }
        let file = program::open(path).map_err(|error| error.to_string())?;
        let real = check_program(&file, path, named_owner()).map_err(|error| error.to_string())?;
        // A user that may exchange a link may have done so since the file was opened.
        if !program::is_at(&file, &real) {
            return Err(REPLACED.to_owned());
        }
        let real = real.into_os_string().into_string();
        Ok((file, real.map_err(|_| "its path is no UTF-8".to_owned())?))
    });
    opened.await.map_err(internal)
}

/// The versions that the program prints. It is run as a short-lived command of the holder, with a
/// deadline.
async fn versions(ctx: &RuntimeContext, program: &str) -> Result<ProgramVersions, String> {
    let directory = &ctx.configuration().system.state_dir;
    let instance = Instance::new("mainstay.program", 1);
    let argv = vec![program.to_owned(), VERSIONS_VERB.to_owned()];
    let spawn = SpawnRequest {
        timeout_ms: CHECK_TIMEOUT_MS,
        ..SpawnRequest::command(instance, argv, directory.display().to_string())
    };
    let ended = ctx.os.command(spawn).await;
    let printed = ended.output.lines().rev();
    let versions = printed
        .filter_map(|line| serde_json::from_str(line).ok())
        .next();
    match versions {
        Some(versions) if ended.ok => Ok(versions),
        _ if ended.ok => Err(format!(
            "`{VERSIONS_VERB}` of it prints no versions: it is not a mainstay that can upgrade"
        )),
        _ => Err(format!("`{VERSIONS_VERB}` of it failed: {}", ended.text)),
    }
}
