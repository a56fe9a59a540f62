//! What the lifecycle publishes: the standing of what changed, and of the system.
//! Owns the comparison with what was published before. Never decides.

use mainstay_policy::ModuleId;
use mainstay_policy::states::{self, State};
use mainstay_protocol::{EventKind, SystemStatus};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::event_recorder::EventBuilder;
use super::super::module_memory::ModuleMemory;
use super::super::registry::RegistryMsg;
use super::super::snapshots::{LifecycleInfo, SystemSummary};
use super::super::{convert, record};
use super::LifecycleActorState;

impl LifecycleActorState {
    pub(super) fn publish(&mut self, published: Option<oneshot::Sender<()>>) {
        while let Some(module) = self.policy.next_changed_record() {
            self.dirty.insert(module);
        }
        if self.dirty.is_empty() && published.is_none() {
            return;
        }
        let touched = std::mem::take(&mut self.dirty);
        let mut standings = Vec::with_capacity(touched.len());
        for module in touched {
            standings.push((module, self.lifecycle_info(module)));
            // What left the plan was forgotten: a record would bring it back.
            if self.policy.spec(module).is_some() {
                let record = self.record(module);
                self.ctx.os.save_record(&self.ctx.instance(module), record);
            }
        }
        let msg = RegistryMsg::Lifecycle(standings, self.system(), published);
        self.ctx.actor_refs.registry.cast(msg);
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
        };
        memory.append_to(&mut text);
        text
    }

    pub(super) fn lifecycle_info(&self, module: ModuleId) -> LifecycleInfo {
        let view = self.policy.view(module);
        LifecycleInfo {
            state: convert::state(view.state),
            desired: convert::desired(view.desired),
            requester: self.requesters.get(&module).cloned(),
            since: self.modules[module.index()].since.1,
            cause: (view.state != State::NotStarted).then(|| convert::cause(view.cause)),
            generation: view.generation,
            pid: view.pid.filter(|pid| *pid != 0),
            restarts: u64::from(view.restarts),
            attempts: view.attempts,
            failed_need: view.held_by_failed,
            waits_for: self.waiting_text(module, &view),
            waiting_on: view.waiting_on,
            next_attempt_at: view.retry_at.map(|at| self.ctx.to_wall_clock(at)),
            proposal: view.proposal.map(convert::strategy),
            degraded: view.degraded,
        }
    }

    /// The system's standing, if it is new; a change of status is an event.
    pub(super) fn system(&mut self) -> Option<SystemSummary> {
        let system = self.policy.system();
        let status = match system.status {
            states::Status::Starting => SystemStatus::Starting,
            states::Status::Healthy => SystemStatus::Healthy,
            states::Status::Degraded => SystemStatus::Degraded,
            states::Status::Critical => SystemStatus::Critical,
            states::Status::Stopping => SystemStatus::Stopping,
        };
        let standing = SystemSummary {
            status,
            failing: system.failing,
            degraded: system.degraded,
            missing: system.missing,
            stopped: system.stopped,
        };
        if status != self.status {
            let reason = self.ctx.reason(&standing);
            let mut entry = EventBuilder::of(EventKind::SystemStatusChanged)
                .payload(json!({ "from": self.status, "to": status, "reason": reason }));
            if let (Some(actor), SystemStatus::Stopping) = (&self.stop_requested_by, status) {
                entry = entry.by(actor.clone());
            }
            self.ctx.recorder.record(entry);
            self.status = status;
        }
        if self.published_summary.as_ref() == Some(&standing) {
            return None;
        }
        self.published_summary = Some(standing.clone());
        Some(standing)
    }
}
