//! Which ends of runs an earlier runtime recorded: the holder reports the last one of each module
//! to every runtime. Owns the comparison with the journal.
//! Never decides what follows an end: that is judged whether it was recorded or not.

use std::collections::HashMap;
use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, EventKind};

use super::RuntimeContext;

/// Ends that are looked through, the newest ones. What is older was recorded.
const SCANNED_MAX: usize = 1000;

/// The newest generation of each module whose end is in the journal.
pub(crate) type RecordedExits = HashMap<ModuleId, u64>;

/// Looks for the `ended` runs in the journal, before they are reported.
pub(crate) async fn find(ctx: &Arc<RuntimeContext>, ended: RecordedExits) {
    if ended.is_empty() {
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
    let recorded = |(module, generation): &(ModuleId, u64)| {
        let name = ctx.name(*module);
        let of_module = |event: &&Event| event.module.as_deref() == Some(&*name);
        // A module that was removed and came back has begun to count again.
        match events.iter().rfind(of_module) {
            Some(newest) => newest.generation == Some(*generation),
            None => events.len() >= SCANNED_MAX,
        }
    };
    let _set_once = ctx
        .recorded_exits
        .set(ended.into_iter().filter(recorded).collect());
}
