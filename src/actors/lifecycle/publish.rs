//! What the lifecycle publishes: the state of the modules that changed, and of the system.
//! Owns the comparison with what was published before.
//! Never decides.

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ModuleInfo, SystemInfo};
use mainstay_protocol::{EventKind, SystemStatus};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::event_recorder::EventBuilder;
use super::super::module_memory::ModuleMemory;
use super::super::registry::RegistryMsg;
use super::super::snapshots::LifecycleInfo;
use super::super::{convert, record};
use super::LifecycleActorState;

impl LifecycleActorState {
    /// Everything is published again.
    pub(super) fn republish(&mut self) {
        self.published_summary = None;
        self.dirty.extend(self.ctx.plan().ids());
    }

    pub(super) fn publish(&mut self, published: Option<oneshot::Sender<()>>) {
        while let Some(module) = self.policy.next_changed_record() {
            self.dirty.insert(module);
        }
        if self.dirty.is_empty() && published.is_none() {
            return;
        }
        let touched = std::mem::take(&mut self.dirty);
        let mut changed = Vec::with_capacity(touched.len());
        for module in touched {
            changed.push((module, self.lifecycle_info(module)));
            // What left the plan was forgotten: a record would bring it back.
            if self.policy.spec(module).is_some() {
                self.save_record(module);
            }
        }
        let msg = RegistryMsg::Lifecycle(changed, self.system(), published);
        self.ctx.actor_refs.registry.cast(msg);
    }

    pub(super) fn save_record(&self, module: ModuleId) {
        let record = self.record(module);
        self.ctx.os.save_record(&self.ctx.instance(module), record);
    }

    /// What the holder keeps of a module for the next runtime.
    fn record(&self, module: ModuleId) -> String {
        let since = self.modules[module.index()].since.1;
        let mut text = record::encode(&self.policy.record(module), since);
        let open = self.requests.modules.get(&module);
        let memory = ModuleMemory {
            since: Some(since),
            last_seq: self.ctx.recorder.last_seq(module).unwrap_or(0),
            requester: self.requesters.get(&module).cloned(),
            request: open.map(|open| (open.seq, open.operation, open.generation)),
            reason: self.modules[module.index()].reason.clone(),
            held_by: self.modules[module.index()].held_by.clone(),
            started_because: (self.modules[module.index()].started_because.as_deref())
                .map(str::to_owned),
        };
        memory.append_to(&mut text);
        text
    }

    pub(super) fn lifecycle_info(&self, module: ModuleId) -> LifecycleInfo {
        let info = self.policy.view(module);
        LifecycleInfo {
            requester: self.requesters.get(&module).cloned(),
            held_by: self.modules[module.index()].held_by.clone(),
            since: self.modules[module.index()].since.1,
            reason: self.modules[module.index()].reason.clone(),
            waits_for: self.waiting_text(module, &info),
            started_because: self.modules[module.index()].started_because.clone(),
            next_attempt_at: info.retry_at.map(|at| self.ctx.to_wall_clock(at)),
            info: ModuleInfo {
                pid: info.pid.filter(|pid| *pid != 0),
                ..info
            },
        }
    }

    /// Returns the summary of the system if it is new; a change of status is an event.
    pub(super) fn system(&mut self) -> Option<SystemInfo> {
        let summary = self.policy.system();
        let (from, to) = (self.status, convert::status(summary.status));
        if from != to {
            let reason = self.ctx.reason(&summary);
            let mut entry = EventBuilder::of(EventKind::SystemStatusChanged)
                .payload(json!({ "from": from, "to": to, "reason": reason }));
            if let (Some(requester), SystemStatus::Stopping) = (&self.stop_requested_by, to) {
                entry = entry.by(requester.clone());
            }
            self.ctx.recorder.record(entry);
            self.status = to;
        }
        if self.published_summary.as_ref() == Some(&summary) {
            return None;
        }
        self.published_summary = Some(summary.clone());
        Some(summary)
    }
}
