//! What the lifecycle publishes: the standing of what changed, and of the system.
//! Owns the comparison with what was published before. Never decides.

use mainstay_policy::ModuleId;
use mainstay_policy::states::{self, State};
use mainstay_protocol::{EventKind, SystemStatus};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::chronicle::Entry;
use super::super::module_memory::ModuleMemory;
use super::super::picture::SystemStanding;
use super::super::registry::{RegistryMsg, Standing};
use super::super::{record, words};
use super::Owned;

impl Owned {
    pub(super) fn publish(&mut self, published: Option<oneshot::Sender<()>>) {
        while let Some(module) = self.policy.next_changed_record() {
            self.touched.insert(module);
        }
        if self.touched.is_empty() && published.is_none() {
            return;
        }
        let touched = std::mem::take(&mut self.touched);
        let mut standings = Vec::with_capacity(touched.len());
        for module in touched {
            standings.push(self.standing(module));
            let record = self.record(module);
            self.house
                .os
                .save_record(&self.house.instance(module), record);
        }
        let msg = RegistryMsg::Stands(standings, self.system(), published);
        self.house.switchboard.registry.cast(msg);
    }

    /// What the holder keeps of a module for the next runtime.
    fn record(&self, module: ModuleId) -> String {
        let since = self.since[module.index()].1;
        let mut text = record::encode(&self.policy.record(module), since);
        let open = self.requests.modules.get(&module);
        let memory = ModuleMemory {
            since: Some(since),
            last_seq: self.house.chronicle.newest(module).unwrap_or(0),
            requester: self.asked.get(&module).cloned(),
            request: open.map(|open| (open.seq, open.operation, open.generation)),
            reason: self.reasons[module.index()].clone(),
        };
        memory.append_to(&mut text);
        text
    }

    pub(super) fn standing(&self, module: ModuleId) -> Standing {
        let view = self.policy.view(module);
        Standing {
            module,
            state: words::state(view.state),
            wanted: words::wanted(view.wanted),
            since: self.since[module.index()].1,
            cause: (view.state != State::NotStarted).then(|| words::cause(view.cause)),
            generation: view.generation,
            pid: view.pid.filter(|pid| *pid != 0),
            restarts: u64::from(view.restarts),
            attempts: view.attempts,
            waiting_on: view.waiting_on,
            next_attempt_at: view.retry_at.map(|at| self.house.on_the_wall(at)),
        }
    }

    /// The system's standing, if it is new; a change of status is an event.
    pub(super) fn system(&mut self) -> Option<SystemStanding> {
        let system = self.policy.system();
        let status = match system.status {
            states::Status::Starting => SystemStatus::Starting,
            states::Status::Healthy => SystemStatus::Healthy,
            states::Status::Degraded => SystemStatus::Degraded,
            states::Status::Critical => SystemStatus::Critical,
            states::Status::Stopping => SystemStatus::Stopping,
        };
        let standing = SystemStanding {
            status,
            failing: system.failing,
            degraded: system.degraded,
            stopped: system.stopped,
        };
        if status != self.status {
            let reason = self.house.reason(&standing);
            let mut entry = Entry::of(EventKind::SystemStatusChanged)
                .payload(json!({ "from": self.status, "to": status, "reason": reason }));
            if let (Some(actor), SystemStatus::Stopping) = (&self.asking, status) {
                entry = entry.by(actor.clone());
            }
            self.house.chronicle.tell(entry);
            self.status = status;
        }
        if self.stands.as_ref() == Some(&standing) {
            return None;
        }
        self.stands = Some(standing.clone());
        Some(standing)
    }
}
