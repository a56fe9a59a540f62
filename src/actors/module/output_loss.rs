//! Output that does not reach its file: an event when the loss begins, another when it has ended.
//! Owns the text of the reason. Never counts: the holder does.

use mainstay_process::ProcessEventKind;
use mainstay_protocol::EventKind;
use serde_json::json;

use super::ModuleActorState;
use crate::actors::event_recorder::EventBuilder;
use crate::actors::registry::RegistryMsg;

impl ModuleActorState {
    /// The holder dropped output of the module, or writes it again.
    pub(super) fn on_output_dropped(&mut self, event: ProcessEventKind) {
        let ProcessEventKind::OutputDropped {
            total_bytes,
            errno,
            reason,
            over,
        } = event
        else {
            return;
        };
        let reason = (!over).then(|| reason.unwrap_or_else(|| loss_reason(errno)));
        let (kind, news) = match &reason {
            Some(_) => (EventKind::ModuleOutputLost, !self.losing_output),
            None => (EventKind::ModuleOutputRestored, self.losing_output),
        };
        self.losing_output = reason.is_some();
        if news {
            let payload = match &reason {
                Some(reason) => json!({ "total_bytes": total_bytes, "reason": reason }),
                None => json!({ "total_bytes": total_bytes }),
            };
            let generation = self.ctx.snapshots.module(self.id).lifecycle.info.generation;
            let entry = EventBuilder::of(kind)
                .module(self.id, generation)
                .payload(payload);
            self.ctx.recorder.record(entry);
        }
        let registry = &self.ctx.actor_refs.registry;
        registry.cast(RegistryMsg::OutputDropped(self.id, total_bytes, reason));
    }
}

/// Returns why a write fails, from the error of the system; none: the disk is too slow.
fn loss_reason(errno: Option<i32>) -> String {
    use std::io::{Error, ErrorKind};
    let Some(errno) = errno else {
        return "it comes faster than the disk takes it".to_owned();
    };
    let next = match Error::from_raw_os_error(errno).kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; the disk is full: make room on it",
        ErrorKind::ReadOnlyFilesystem => "; the file system is read-only",
        ErrorKind::PermissionDenied => "; let mainstay's user write it",
        _ => "",
    };
    format!("{}{next}", crate::os_text::errno_text(errno))
}
