//! Which ends of runs an earlier runtime recorded: the holder reports the last one of each module
//! to every runtime, and a few before it. Owns the comparison with the journal.
//! Never decides what follows an end: that is judged whether it was recorded or not.

use std::collections::HashMap;
use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_process::{EarlierExit, Exited};
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, EventKind};
use serde_json::json;

use super::RuntimeContext;
use super::event_recorder::EventBuilder;
use crate::os_text::exit_text;

/// Ends that are looked through, the newest ones. What is older was recorded.
const SCANNED_MAX: usize = 1000;

/// The newest generation of each module whose end is in the journal.
pub(crate) type RecordedExits = HashMap<ModuleId, u64>;

/// What the holder knows of the ends of a module's runs.
pub(crate) struct KnownExits {
    pub(crate) module: ModuleId,
    /// The last run, if it has ended.
    pub(crate) ended: Option<u64>,
    /// Runs before it, the oldest first.
    pub(crate) earlier: Vec<EarlierExit>,
}

/// Looks for the last runs that ended in the journal, before they are reported, and writes down
/// the ends of runs before them that it lacks: their runtime was gone too soon.
pub(crate) async fn find(ctx: &Arc<RuntimeContext>, known: Vec<KnownExits>) {
    if known.is_empty() {
        return;
    }
    let reader = Arc::clone(ctx);
    let read = tokio::task::spawn_blocking(move || {
        let params = EventsParams {
            kinds: vec![EventKind::ModuleExited],
            limit: Some(SCANNED_MAX),
            ..EventsParams::default()
        };
        reader.recorder.journal().read(&params)
    });
    let Ok(Ok(events)) = read.await else {
        return;
    };
    let mut recorded = RecordedExits::new();
    let mut missed = Vec::new();
    for one in &known {
        let name = ctx.name(one.module);
        let of_module = |event: &&Event| event.module.as_deref() == Some(&*name);
        let ends = events.iter().rev().filter(of_module);
        // A module that was removed and came back has begun to count again.
        let newest: Vec<_> = ends.take(one.earlier.len() + 1).collect();
        let newest: Vec<_> = newest.iter().map(|event| event.generation).collect();
        let has_all = events.len() < SCANNED_MAX;
        if let Some(generation) = one.ended {
            let last = newest.first();
            let is_recorded = last.map_or(!has_all, |last| *last == Some(generation));
            recorded.extend(is_recorded.then_some((one.module, generation)));
        }
        if has_all || newest.len() > one.earlier.len() {
            let lacks = |end: &&EarlierExit| !newest.contains(&Some(end.generation));
            missed.extend(
                one.earlier
                    .iter()
                    .filter(lacks)
                    .map(|end| (one.module, end)),
            );
        }
    }
    missed.sort_by_key(|(_, end)| end.exited.at);
    for (module, end) in missed {
        let text = format!("{}, told by the holder later", exit_text(end.exited.exit));
        let run = (module, end.generation);
        ctx.recorder
            .record(exit_event(run, &end.exited, None, &text));
    }
    let _set_once = ctx.recorded_exits.set(recorded);
}

/// The event of the end of a run; `ran_ms` is not known of one that an earlier runtime ordered.
pub(crate) fn exit_event(
    (module, generation): (ModuleId, u64),
    exited: &Exited,
    ran_ms: Option<u64>,
    text: &str,
) -> EventBuilder {
    let exit = exited.exit;
    EventBuilder::of(EventKind::ModuleExited)
        .module(module, generation)
        .payload(json!({
            "pid": exited.pid, "code": exit.code(), "signal": exit.signal(),
            "core_dumped": exit.dumped_core(), "ran_ms": ran_ms, "text": text,
        }))
}
