//! The rows of the audit for what is done at once.
//! Owns their form: the request, and that it is done.
//! Never used for a change of a module's state: the lifecycle records that.

use mainstay_policy::ModuleId;
use mainstay_protocol::EventKind;
use serde_json::json;

use super::Caller;
use crate::actors::RuntimeContext;
use crate::actors::event_recorder::{CausedBy, EventBuilder};

/// Records that the caller requested an operation, of this run of a module or of the system, and
/// that it is done.
pub(super) fn record(
    ctx: &RuntimeContext,
    caller: &Caller,
    run: Option<(ModuleId, u64)>,
    operation: &str,
) {
    let event = |kind, payload| {
        let event = EventBuilder::of(kind);
        let event = match run {
            Some((module, generation)) => event.module(module, generation),
            None => event,
        };
        event.administrative(caller.label.clone()).payload(payload)
    };
    let requested = event(
        EventKind::OperationRequested,
        json!({ "operation": operation }),
    );
    let seq = ctx.recorder.record(requested);
    let payload = json!({ "operation": operation, "result": "done" });
    let finished = event(EventKind::OperationFinished, payload);
    ctx.recorder
        .record(finished.caused_by(CausedBy::Event(seq)));
}
