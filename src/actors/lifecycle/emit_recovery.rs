//! What the lifecycle reports of recovery: verdicts, groups, degraded mode, cascades.
//! Owns the messages, and the notification of a module with a connection.
//! Never decides and never publishes.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::group::{GroupId, OnExceeded, Scope};
use mainstay_policy::recovery::{Decision, Failure, Verdict};
use mainstay_policy::spec::Strategy;
use mainstay_protocol::EventKind;
use mainstay_protocol::method::name;
use serde_json::json;

use super::super::event_recorder::{CausedBy, EventBuilder};
use super::super::recovery_trials::RecoveryMsg;
use super::super::root::RootMsg;
use super::super::{ConsoleMessage, RuntimeContext, convert, feature_files};
use super::{LifecycleActorState, STOP_MARGIN};

/// How long a degraded module may take to connect and to answer.
const TELL_TIMEOUT: Duration = Duration::from_secs(30);

impl LifecycleActorState {
    pub(super) fn emit_verdict(
        &mut self,
        module: ModuleId,
        failure: Failure,
        attempt: u32,
        decision: &Decision,
    ) {
        let view = self.policy.view(module);
        self.dirty.insert(module);
        let why = match failure {
            Failure::Probe => self.probe_failed(module),
            Failure::Limit { .. } => self.limit_exceeded(module),
            Failure::Procedure => "what had to be done before its restart failed".to_owned(),
            _ => self.run_end_text(module),
        };
        self.report_failure(module, &why);
        self.emit_exceeded(module, decision);
        let along = match decision.scope {
            Scope::System => Vec::new(),
            scope => self.ctx.plan().groups().taken_along(scope, module),
        };
        let name = &self.ctx.name(module);
        match decision.verdict {
            Verdict::Retry {
                strategy: Strategy::RestartSystem,
                ..
            } => {
                self.notify_user(&format!(
                    "everything is restarted because {name} failed: {why}"
                ));
            }
            Verdict::Propose { strategy } => {
                let strategy = convert::strategy(strategy);
                self.notify_user(&format!(
                    "{name} failed: {why}; proposed: {strategy}; accept it with `mainstay recover \
                     {name}`"
                ));
            }
            Verdict::GiveUp { .. } => {
                self.notify_user(&format!("{name} failed: {why}"));
                if decision.scope == Scope::System {
                    self.emit_shutdown(name, &why, &decision.exceeded);
                }
            }
            Verdict::Retry { .. } | Verdict::Done => {}
        }
        let msg = RecoveryMsg::Judged {
            module,
            generation: view.generation,
            failure,
            why,
            attempt,
            verdict: decision.verdict,
            scope: decision.scope,
            along,
        };
        self.ctx.actor_refs.recovery.cast(msg);
    }

    /// The failure of a module ends everything: the holder learns of it, and the exit code says so.
    fn emit_shutdown(&self, name: &str, why: &str, exceeded: &[GroupId]) {
        let budget = self.ctx.plan().system().shutdown_timeout;
        self.ctx.os.stopping(budget + STOP_MARGIN);
        let plan = self.ctx.plan();
        let group = exceeded
            .last()
            .map(|group| &plan.groups().spec(*group).name);
        let group = group.map_or("", String::as_str);
        let text = format!("{name} failed: {why}; group {group} used up its restarts");
        self.ctx.announce(ConsoleMessage::System(&text));
        self.ctx
            .actor_refs
            .root
            .cast(RootMsg::StartupFailed { text });
    }

    /// Each group whose budget was exceeded, and what it does about it.
    fn emit_exceeded(&self, module: ModuleId, decision: &Decision) {
        let plan = self.ctx.plan();
        let groups = plan.groups();
        let stops = matches!(decision.verdict, Verdict::GiveUp { .. });
        for (at, group) in decision.exceeded.iter().enumerate() {
            let spec = groups.spec(*group);
            let is_last = at + 1 == decision.exceeded.len();
            let action = match spec.on_exceeded {
                OnExceeded::Escalate => "it restarts as one member of the group above it",
                OnExceeded::Shutdown => "everything is stopped",
                OnExceeded::RestartSystem if !(is_last && stops) => "everything is restarted",
                OnExceeded::Degrade if !(is_last && stops) => "its members run degraded",
                _ => "its members are stopped",
            };
            let name = self.ctx.name(module);
            let (most, within) = (spec.max_restarts, humantime::format_duration(spec.within));
            let text = format!("more than {most} restarts in {within}, last of {name}; {action}");
            let entry = EventBuilder::of(EventKind::GroupExceeded)
                .caused_by(CausedBy::Module(module))
                .payload(json!({ "group": spec.name, "text": text }));
            self.ctx.recorder.record(entry);
            self.notify_user(&format!("group {}: {text}", spec.name));
        }
    }

    /// Too many modules failed permanently: their branches stop.
    pub(super) fn emit_cascade(&mut self, failed: &[ModuleId], branch: &[ModuleId]) {
        let names = |ids: &[ModuleId]| -> Vec<String> {
            ids.iter()
                .map(|id| self.ctx.name(*id).to_string())
                .collect()
        };
        let payload = json!({ "failed": names(failed), "stopped": names(branch) });
        let entry = EventBuilder::of(EventKind::CascadeStopped).payload(payload);
        self.ctx.recorder.record(entry);
        self.notify_user(&format!(
            "too many modules failed ({}): what depends on them is stopped until it is started",
            self.ctx.names(failed)
        ));
        self.dirty.extend(branch);
    }

    /// Something a person should know, for a UI to show.
    fn notify_user(&self, text: &str) {
        let entry = EventBuilder::of(EventKind::UserNotified).payload(json!({ "text": text }));
        self.ctx.recorder.record(entry);
    }

    /// A module that is ready runs with features switched off, or with all of them again.
    pub(super) fn emit_degraded(&mut self, module: ModuleId, generation: u64, degraded: bool) {
        self.dirty.insert(module);
        let degrade = &self.ctx.launch(module).degrade;
        let mut parts = degrade.disable.clone();
        parts.extend(degrade.reduce_load.map(load_text));
        let (kind, text) = match (degraded, parts.is_empty()) {
            (true, false) => (
                EventKind::ModuleDegraded,
                format!("without {}", parts.join(", ")),
            ),
            (true, true) => (EventKind::ModuleDegraded, "in degraded mode".to_owned()),
            (false, _) => (EventKind::ModuleRestored, "its run is stable".to_owned()),
        };
        let payload = json!({
            "text": text, "features": degrade.disable, "load_factor": degrade.reduce_load,
        });
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .payload(payload);
        self.ctx.recorder.record(entry);
        let name = &self.ctx.name(module);
        if degraded {
            self.ctx
                .announce(ConsoleMessage::System(&format!("{name} runs {text}")));
        }
        tell_module(&self.ctx, module, generation, degraded);
        feature_files::set_degraded(&self.ctx, module, degraded);
        self.tell_dependents(module, degraded);
    }

    /// Dependents that run learn on the bus that a module is degraded, or whole again.
    fn tell_dependents(&self, module: ModuleId, degraded: bool) {
        let (plan, at) = (self.ctx.plan(), self.ctx.os.wall_clock());
        let (name, word) = (
            self.ctx.name(module),
            if degraded { "degraded" } else { "restored" },
        );
        for dependent in plan.dependents(module) {
            if self.policy.view(dependent.from).ready {
                self.ctx
                    .bus
                    .notify_dependency(at, dependent.from, &name, word);
            }
        }
        let subject = format!("mainstay.module.{word}");
        let payload = || json!({ "module": name });
        self.ctx.bus.publish_internal(at, &subject, payload);
    }
}

/// What is left of the load, as a part of a message.
pub(crate) fn load_text(share: f64) -> String {
    format!("{:.0} % of its load", (1.0 - share) * 100.0)
}

/// Tells the module over its connection, if it makes one and its run goes on.
fn tell_module(ctx: &Arc<RuntimeContext>, module: ModuleId, generation: u64, degraded: bool) {
    let degrade = ctx.launch(module).degrade.clone();
    let feature = |feature: &String| {
        // What is configured as off stays off.
        let value = !degraded && ctx.feature(module, feature).unwrap_or(true);
        (
            name::FEATURE_SET,
            json!({ "name": feature, "value": value }),
        )
    };
    let mut requests: Vec<_> = degrade.disable.iter().map(feature).collect();
    requests.extend(degrade.reduce_load.map(|share| {
        let factor = if degraded { share } else { 1.0 };
        (name::LOAD_REDUCE, json!({ "factor": factor }))
    }));
    if requests.is_empty() {
        return;
    }
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        let connected = ctx.bus.wait_connected(module);
        if tokio::time::timeout(TELL_TIMEOUT, connected).await.is_err() {
            return; // a module without the SDK has its environment
        }
        for (method, params) in requests {
            let goes_on = ctx.snapshots.module(module).lifecycle.info.generation <= generation;
            if !goes_on {
                return;
            }
            if let Err(error) = ctx.bus.request(module, method, params, TELL_TIMEOUT).await {
                tracing::warn!(module = &*ctx.name(module), "{method}: {}", error.message);
            }
        }
    });
}
