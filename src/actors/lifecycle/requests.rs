//! The open request of each module, and that for a stop of everything, with their requesters.
//! Owns its two administrative rows: the request when it is made, the result when it is known.
//! Never decides.

use std::collections::HashMap;
use std::time::Duration;

use mainstay_policy::lifecycle::{LifecycleEvent, ModuleInfo, Operation};
use mainstay_policy::states::{Desired, State};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use serde_json::json;

use super::super::event_recorder::{CausedBy, EventBuilder};
use super::super::module_memory::operation_str;
use super::LifecycleActorState;

/// The requester of a stop that an earlier runtime had begun.
pub(in crate::actors) const CONTINUED_STOP: &str = "mainstay";

/// Who requests the restart of a module whose files changed.
const WATCH: &str = "watch";

/// Files that a module is made of changed.
#[derive(Debug)]
pub(crate) struct FilesChanged {
    pub(crate) module: ModuleId,
    /// The first file.
    pub(crate) path: Option<String>,
    /// How many changes there were.
    pub(crate) count: u32,
}

/// A request that has no result yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenRequest {
    /// The row of the request.
    pub(super) seq: u64,
    pub(super) operation: Operation,
    pub(super) requester: String,
    /// The run before it.
    pub(super) generation: u64,
    /// When it was made, if this runtime made it.
    at: Option<MonoTime>,
    /// Whether the module changed its state since.
    pub(super) changed: bool,
}

/// The requests that have no result yet.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    pub(super) modules: HashMap<ModuleId, OpenRequest>,
    /// For a stop of everything: its row and its requester.
    system_stop: Option<(u64, String)>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestResult {
    Done,
    Unchanged,
    Failed,
    Overtaken,
    Refused,
}

impl RequestResult {
    fn as_str(self) -> &'static str {
        match self {
            RequestResult::Done => "done",
            RequestResult::Unchanged => "unchanged",
            RequestResult::Failed => "failed",
            RequestResult::Overtaken => "overtaken",
            RequestResult::Refused => "refused",
        }
    }
}

impl OpenRequest {
    /// A request that a runtime before recorded.
    pub(super) fn adopted(
        seq: u64,
        operation: Operation,
        requester: String,
        generation: u64,
    ) -> OpenRequest {
        OpenRequest {
            seq,
            operation,
            requester,
            generation,
            at: None,
            changed: true,
        }
    }

    /// Returns the result of a module in this state, if it is one.
    fn result(&self, info: &ModuleInfo) -> Option<RequestResult> {
        let is_new_run = info.generation > self.generation;
        let waits_in_vain = info.held_by_failed.is_some();
        let reached = is_reached(self.operation, info.state, is_new_run, waits_in_vain)?;
        match (reached, self.changed) {
            (true, true) => Some(RequestResult::Done),
            (true, false) => Some(RequestResult::Unchanged),
            (false, true) => Some(RequestResult::Failed),
            // What it failed for came before the request.
            (false, false) => (self.operation == Operation::Stop).then_some(RequestResult::Failed),
        }
    }
}

/// Whether a request has reached its goal in this state (true), or cannot any more (false); None:
/// it is pending. A module waits in vain for what has failed.
pub(crate) fn is_reached(
    operation: Operation,
    state: State,
    is_new_run: bool,
    waits_in_vain: bool,
) -> Option<bool> {
    match (operation, state) {
        (Operation::Stop, State::Stopped | State::NotStarted) => Some(true),
        // It could not be ended.
        (Operation::Stop, State::Failed) => Some(false),
        (Operation::Stop, _) => None,
        (Operation::Start | Operation::Wake, State::Running) => Some(true),
        (Operation::Restart | Operation::Recover, State::Running) => is_new_run.then_some(true),
        // The procedure before the restart is not over.
        (Operation::Recover, State::Backoff) => None,
        // A task that is done.
        (_, State::Stopped) => is_new_run.then_some(true),
        (_, State::Backoff | State::Failed) => Some(false),
        (_, State::Waiting) if waits_in_vain => Some(false),
        _ => None,
    }
}

impl LifecycleActorState {
    /// Holds a module until then, or releases it.
    pub(super) fn apply_hold(
        &mut self,
        module: ModuleId,
        until: Option<MonoTime>,
        requester: String,
    ) {
        self.dirty.insert(module);
        self.modules[module.index()].held_by = until.map(|_| requester);
        self.mark_waiting(module);
        self.note(LifecycleEvent::Held { module, until });
    }

    /// A module with desired state down stays down when its files change.
    pub(super) fn apply_files_changed(&mut self, change: &FilesChanged) {
        let module = change.module;
        if self.policy.spec(module).is_none() {
            return;
        }
        let view = self.policy.view(module);
        // Who holds it replaces them, and restarts it when that is done.
        let restart =
            view.desired == Desired::Up && !self.is_held(&view) && !self.policy.system().stopping;
        let event = EventBuilder::of(EventKind::ModuleFilesChanged)
            .module(module, view.generation)
            .payload(json!({
                "path": change.path, "count": change.count, "restart": restart,
            }));
        self.ctx.recorder.record(event);
        if restart {
            self.dirty.insert(module);
            self.requesters.insert(module, WATCH.to_owned());
            let operation = Operation::Restart;
            self.note(LifecycleEvent::Requested { module, operation });
        }
    }

    /// Records a request and its requester; it overtakes an earlier one without a result.
    pub(super) fn record_request(
        &mut self,
        module: ModuleId,
        operation: Operation,
        requester: &str,
    ) {
        let word = operation_str(operation);
        self.finish_request(module, RequestResult::Overtaken, &|| {
            format!("{requester} requested {word}")
        });
        let generation = self.policy.view(module).generation;
        let event = EventBuilder::of(EventKind::OperationRequested)
            .module(module, generation)
            .administrative(requester.to_owned())
            .payload(json!({ "operation": word }));
        let request = OpenRequest {
            seq: self.ctx.recorder.record(event),
            operation,
            requester: requester.to_owned(),
            generation,
            at: Some(self.ctx.os.now()),
            changed: false,
        };
        self.requests.modules.insert(module, request);
        if self.policy.system().stopping {
            self.finish_request(module, RequestResult::Refused, &|| {
                "the system is stopping".to_owned()
            });
        }
    }

    /// Records the result of each request that has one now.
    pub(super) fn finish_requests(&mut self) {
        if self.requests.modules.is_empty() {
            return;
        }
        let dirty: Vec<ModuleId> = self.dirty.iter().copied().collect();
        for module in dirty {
            let info = self.policy.view(module);
            let request = self.requests.modules.get(&module);
            let result = request.and_then(|open| open.result(&info));
            if let Some(result) = result {
                let text = match result {
                    RequestResult::Failed => self.state_text(module, info.state),
                    _ => String::new(),
                };
                self.finish_request(module, result, &|| text.clone());
            }
        }
    }

    fn finish_request(
        &mut self,
        module: ModuleId,
        result: RequestResult,
        text: &dyn Fn() -> String,
    ) {
        let Some(open) = self.requests.modules.remove(&module) else {
            return;
        };
        let took = open.at.map(|at| self.ctx.os.now().since(at));
        let after_ms = took.filter(|_| result == RequestResult::Done).map(millis);
        let event = EventBuilder::of(EventKind::OperationFinished)
            .module(module, self.policy.view(module).generation)
            .caused_by(CausedBy::Event(open.seq))
            .administrative(open.requester)
            .payload(json!({
                "operation": operation_str(open.operation), "result": result.as_str(),
                "text": text(), "after_ms": after_ms,
            }));
        self.ctx.recorder.record(event);
    }

    /// Records a stop of everything and its requester; it overtakes each pending start.
    pub(super) fn record_system_stop(&mut self, requester: &str) {
        if requester == CONTINUED_STOP {
            return;
        }
        self.finish_system_stop(
            RequestResult::Overtaken,
            &format!("{requester} requested stop"),
        );
        let event = EventBuilder::of(EventKind::OperationRequested)
            .administrative(requester.to_owned())
            .payload(json!({ "operation": "stop" }));
        let seq = self.ctx.recorder.record(event);
        self.requests.system_stop = Some((seq, requester.to_owned()));
        let starts = self.requests.modules.iter();
        let starts = starts.filter(|(_, open)| open.operation != Operation::Stop);
        let starts: Vec<ModuleId> = starts.map(|(module, _)| *module).collect();
        for module in starts {
            self.finish_request(module, RequestResult::Overtaken, &|| {
                format!("{requester} requested a stop of the system")
            });
        }
    }

    /// Records that everything is stopped, and how many modules had to be killed.
    pub(super) fn system_stopped(&mut self, forced: u32) {
        let text = match forced {
            0 => String::new(),
            1 => "1 module was killed".to_owned(),
            forced => format!("{forced} modules were killed"),
        };
        self.finish_system_stop(RequestResult::Done, &text);
    }

    fn finish_system_stop(&mut self, result: RequestResult, text: &str) {
        let Some((seq, requester)) = self.requests.system_stop.take() else {
            return;
        };
        let event = EventBuilder::of(EventKind::OperationFinished)
            .caused_by(CausedBy::Event(seq))
            .administrative(requester)
            .payload(json!({ "operation": "stop", "result": result.as_str(), "text": text }));
        self.ctx.recorder.record(event);
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use mainstay_policy::states::State;

    use super::*;

    fn open(operation: Operation, changed: bool) -> OpenRequest {
        OpenRequest {
            seq: 1,
            operation,
            requester: "ann".to_owned(),
            generation: 3,
            at: None,
            changed,
        }
    }

    #[test]
    fn a_request_of_a_module_that_waits_for_what_failed_has_failed() {
        let info = ModuleInfo {
            state: State::Waiting,
            held_by_failed: Some(ModuleId(1)),
            ..ModuleInfo::default()
        };
        for operation in [Operation::Start, Operation::Restart] {
            let result = open(operation, true).result(&info);
            assert_eq!(result, Some(RequestResult::Failed));
        }
        assert_eq!(open(Operation::Stop, true).result(&info), None);
    }

    #[test]
    fn a_request_has_a_result_when_its_module_is_where_it_leads() {
        use Operation::{Restart, Start, Stop};
        use RequestResult::{Done, Failed, Unchanged};
        for (operation, changed, state, generation, result) in [
            (Stop, true, State::Stopped, 3, Some(Done)),
            (Stop, false, State::NotStarted, 0, Some(Unchanged)),
            (Stop, true, State::Stopping, 3, None),
            (Stop, false, State::Running, 3, None),
            (Stop, true, State::Failed, 3, Some(Failed)),
            (Start, false, State::Running, 3, Some(Unchanged)),
            (Start, true, State::Running, 4, Some(Done)),
            (Start, true, State::Backoff, 4, Some(Failed)),
            (Start, true, State::Waiting, 3, None),
            (Start, true, State::Stopped, 4, Some(Done)),
            (Start, false, State::Stopped, 3, None),
            (Restart, false, State::Running, 3, None),
            (Restart, true, State::Running, 4, Some(Done)),
            (Restart, true, State::Failed, 4, Some(Failed)),
            (Restart, false, State::Failed, 3, None),
        ] {
            let info = ModuleInfo {
                state,
                generation,
                ..ModuleInfo::default()
            };
            assert_eq!(
                open(operation, changed).result(&info),
                result,
                "{operation:?} {changed} {state:?} {generation}"
            );
        }
    }
}
