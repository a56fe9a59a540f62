//! What the lifecycle reports of a change: to the journal, the console and other actors.
//! Owns the messages. Never decides and never publishes.

use std::sync::Arc;

use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{DependencyNotice, StartupFailure};
use mainstay_policy::recovery::{Failure, FailureClass};
use mainstay_policy::run::RunEnd;
use mainstay_policy::spec::RestartPolicy;
use mainstay_policy::states::{self, State};
use mainstay_process::{Exit, Stdin};
use mainstay_protocol::EventKind;
use serde_json::json;

use super::super::event_recorder::{CausedBy, EventBuilder};
use super::super::health::HealthMsg;
use super::super::module::ModuleMsg;
use super::super::recovery_trials::RecoveryMsg;
use super::super::resources::ResourcesMsg;
use super::super::root::RootMsg;
use super::super::{ConsoleMessage, convert, readiness};
use super::LifecycleActorState;
use crate::os_text::{duration_text, exit_text};

impl LifecycleActorState {
    pub(super) fn emit_state_change(
        &mut self,
        module: ModuleId,
        from: State,
        to: State,
        cause: states::Cause,
        by: Option<ModuleId>,
    ) {
        let view = self.policy.view(module);
        // What was found as it was has been so for longer than this runtime knows it.
        let (found, kept) = (
            cause == states::Cause::Adopted,
            self.modules[module.index()].since.1,
        );
        let since = if found {
            kept
        } else {
            self.ctx.os.wall_clock()
        };
        // What was found was recorded in this state, or its record was lost.
        let from = match found {
            true => self.modules[module.index()].since.0,
            false => from,
        };
        self.modules[module.index()].since = (to, since);
        self.dirty.insert(module);
        // What has failed, or has no longer, is what others wait for, at any remove.
        if matches!((from, to), (State::Failed | State::Stopped, _))
            || matches!(to, State::Failed | State::Stopped)
        {
            self.mark_waiting(module);
        } else {
            let plan = self.ctx.plan();
            let dependents = plan.dependents(module).iter().map(|edge| edge.from);
            self.dirty
                .extend(dependents.filter(|by| self.modules[by.index()].since.0 == State::Waiting));
        }
        let text = self.state_text(module, to);
        self.keep_reason(module, to, cause);
        if matches!(to, State::Stopped | State::Failed) {
            self.ctx.remove_secrets(module);
        }
        let waiting_on: Vec<Arc<str>> = view
            .waiting_on
            .iter()
            .map(|on| self.ctx.name(*on))
            .collect();
        let reason = self.modules[module.index()].reason.as_ref();
        let was = reason.filter(|_| found && to == State::Running);
        let mut entry = EventBuilder::of(EventKind::ModuleStateChanged)
            .module(module, view.generation)
            .cause(convert::cause(cause))
            .payload(json!({
                "from": convert::state(from), "to": convert::state(to), "text": text,
                "by": by.map(|by| self.ctx.name(by)),
                "needed": by.map(|by| self.needs(by, module)),
                "waiting_on": waiting_on,
                "since": found.then(|| since.to_string()),
                "was": was, "forced": self.forced_end(module, from, found),
            }));
        if let Some(by) = by {
            entry = entry.caused_by(CausedBy::Module(by));
        }
        let entry = self.with_requester(entry, module, cause);
        self.ctx.recorder.record(entry);
        let name = &self.ctx.name(module);
        self.announce_state(module, from, to, &text);
        self.ctx.bus.publish_internal(
            self.ctx.os.wall_clock(),
            "mainstay.module.state_changed",
            || json!({ "module": name, "from": convert::state(from), "to": convert::state(to) }),
        );
        self.notify_readiness(module, from, to, found);
        self.report_state(module);
    }

    /// How the process of a run ended that had to be killed because its stop took too long.
    fn forced_end(&self, module: ModuleId, from: State, found: bool) -> Option<String> {
        match self.policy.view(module).last_ending {
            Some(RunEnd::Stopped {
                exit: Some(exit),
                forced: true,
            }) if from == State::Stopping && !found => Some(exit_text(exit)),
            _ => None,
        }
    }

    fn announce_state(&self, module: ModuleId, from: State, to: State, text: &str) {
        // The cause of its failure was recorded when it failed.
        let is_known = to == State::Stopped && matches!(from, State::Failed | State::Backoff);
        let is_starting = to == State::Starting && self.ctx.announce.is_some();
        let awaits = is_starting
            .then(|| readiness::awaited(&self.ctx.spec(module).readiness))
            .flatten();
        self.ctx.announce(ConsoleMessage::StateChanged {
            module: &self.ctx.name(module),
            state: convert::state(to),
            text: if is_known { "" } else { text },
            awaits: awaits.as_deref(),
        });
    }

    /// Notifies health and recovery that a module became ready, or is no longer ready.
    fn notify_readiness(&self, module: ModuleId, from: State, to: State, found: bool) {
        let running = to == State::Running;
        if running || from == State::Running {
            let generation = self.policy.view(module).generation;
            let msg = HealthMsg::ReadinessChanged {
                module,
                generation,
                running,
                found,
            };
            self.ctx.actor_refs.health.cast(msg);
            let msg = ResourcesMsg::ReadinessChanged {
                module,
                generation,
                running,
            };
            self.ctx.actor_refs.resources.cast(msg);
            if running {
                let msg = RecoveryMsg::Running { module, generation };
                self.ctx.actor_refs.recovery.cast(msg);
            }
        }
    }

    /// Adds the requester, if a request is the cause.
    fn with_requester(
        &mut self,
        entry: EventBuilder,
        module: ModuleId,
        cause: states::Cause,
    ) -> EventBuilder {
        if let Some(open) = self.requests.modules.get_mut(&module) {
            open.changed = true;
        }
        if !matches!(cause, states::Cause::Requested | states::Cause::Adopted) {
            self.requesters.remove(&module);
        }
        match self.requesters.get(&module) {
            Some(requester) => entry.by(requester.clone()),
            None => entry,
        }
    }

    /// Remembers why a module failed or stopped, until it is started on request.
    fn keep_reason(&mut self, module: ModuleId, to: State, cause: states::Cause) {
        let started = matches!(cause, states::Cause::Requested | states::Cause::Boot);
        let reason = match to {
            State::Backoff | State::Failed => Some(self.reason(module, to)),
            State::Stopped => Some(self.run_end_text(module)),
            State::Waiting | State::Starting if started => None,
            _ => return,
        };
        self.modules[module.index()].reason = reason.filter(|reason| !reason.is_empty());
    }

    /// Why a module failed, and why it is or is not tried again.
    pub(super) fn reason(&self, module: ModuleId, to: State) -> String {
        self.run_end_text(module) + self.class_text(module, to)
    }

    /// Whether `by` is one of those that need `module`, at some remove.
    pub(super) fn needs(&self, by: ModuleId, module: ModuleId) -> bool {
        self.ctx.plan().rank(by) > self.ctx.plan().rank(module)
    }

    /// What the console shows after the new state.
    pub(super) fn state_text(&self, module: ModuleId, to: State) -> String {
        let view = self.policy.view(module);
        match to {
            // Its start was lost with the holder.
            State::Waiting if view.cause == states::Cause::Startup => self.run_end_text(module),
            State::Waiting => {
                let text = self.waiting_text(module, &view);
                text.map_or_else(String::new, |text| format!("for {text}"))
            }
            State::Running => view
                .pid
                .filter(|pid| *pid != 0)
                .map_or_else(String::new, |pid| format!("pid {pid}")),
            State::Backoff => {
                let wait = view
                    .retry_at
                    .map_or(Duration::ZERO, |at| at.since(self.ctx.os.now()));
                let why = self.reason(module, to);
                match wait.is_zero() {
                    true => why,
                    false => format!("{why}; next start in {}", duration_text(wait)),
                }
            }
            State::Failed => self.reason(module, to),
            State::Stopped => self.run_end_text(module),
            State::NotStarted | State::Starting | State::Stopping => String::new(),
        }
    }

    /// Why an end is treated as it is, where that is no matter of course.
    fn class_text(&self, module: ModuleId, to: State) -> &'static str {
        let recovery = &self.ctx.spec(module).recovery;
        let view = self.policy.view(module);
        let by_itself = !matches!(view.cause, states::Cause::Probe | states::Cause::Limit);
        let ending = view.last_ending.filter(|_| by_itself);
        let class = ending.map(|ending| Failure::from(ending).class(recovery));
        let is_null = self.ctx.launch(module).stdin == Stdin::Null;
        let is_zero = ending == Some(RunEnd::Exited(Exit::Code(0)));
        // Quick runs only: a stable one pays attempts back.
        let may_read = is_null && is_zero && (view.attempts > 1 || to == State::Failed);
        match (to, class) {
            (State::Backoff, Some(FailureClass::Clean)) if may_read => concat!(
                ", a clean end, but recovery.restart is \"always\"; ",
                "if it exits at the end of its input, set stdin = \"open\""
            ),
            (State::Backoff, Some(FailureClass::Clean)) => {
                ", a clean end, but recovery.restart is \"always\""
            }
            (State::Failed, Some(FailureClass::Clean))
                if may_read && recovery.restart == RestartPolicy::Always =>
            {
                "; if it exits at the end of its input, set stdin = \"open\""
            }
            (State::Failed, Some(FailureClass::Configuration)) => {
                "; it is not tried again until it is started by hand"
            }
            (State::Failed, Some(_)) if recovery.restart == RestartPolicy::Never => {
                "; it is not tried again: recovery.restart is \"never\""
            }
            _ => "",
        }
    }

    /// How its last run ended, in words: a start that failed with all that is known of it, a task
    /// in its own words where it had some.
    pub(super) fn run_end_text(&self, module: ModuleId) -> String {
        let view = self.policy.view(module);
        match view.cause {
            states::Cause::Probe => return self.probe_failed(module),
            states::Cause::Limit => return self.limit_exceeded(module),
            states::Cause::Idle => return self.unused_text(module),
            _ => {}
        }
        if let (State::Failed, states::Cause::Group, Some(by)) = (view.state, view.cause, view.by) {
            return format!("stopped along with {}, which failed", &self.ctx.name(by));
        }
        match view.last_ending {
            Some(ending @ (RunEnd::NotStarted(_) | RunEnd::StartTimeout | RunEnd::Exited(_))) => {
                let detail = self.modules[module.index()].detail.clone();
                detail
                    .or_else(|| self.task_message(module))
                    .unwrap_or_else(|| convert::ending_text(ending))
            }
            Some(ending) => convert::ending_text(ending),
            None => match &self.modules[module.index()].reason {
                Some(reason) => reason.clone(),
                None if matches!(view.state, State::Backoff | State::Failed) => {
                    "it exited while no runtime was there to see how".to_owned()
                }
                None => String::new(),
            },
        }
    }

    /// Tells a module that its run is to be stopped because it hangs or is over a limit.
    pub(super) fn report_hang(&self, module: ModuleId, generation: u64) {
        let reason = match self.policy.view(module).cause {
            states::Cause::Probe => "a liveness probe that failed",
            states::Cause::Limit => "a limit that was exceeded",
            _ => return,
        };
        let msg = ModuleMsg::Hangs { generation, reason };
        self.ctx.actor_refs.module(module).cast(msg);
    }

    pub(super) fn limit_exceeded(&self, module: ModuleId) -> String {
        match &self.modules[module.index()].exceeded {
            Some(text) => format!("it exceeded a limit: {text}"),
            None => "it exceeded a limit".to_owned(),
        }
    }

    pub(super) fn unused_text(&self, module: ModuleId) -> String {
        match self.ctx.launch(module).idle_stop {
            Some(span) => format!("it was not used for {}", duration_text(span)),
            None => "it was not used".to_owned(),
        }
    }

    pub(super) fn probe_failed(&self, module: ModuleId) -> String {
        let found = self.modules[module.index()]
            .liveness_issue
            .as_deref()
            .unwrap_or_default();
        match found {
            "" => "a liveness probe failed".to_owned(),
            found => format!("a liveness probe failed: {found}"),
        }
    }

    pub(super) fn task_message(&self, module: ModuleId) -> Option<String> {
        let last = self.ctx.os.last_exit(&self.ctx.instance(module))?;
        let current = last.generation == self.policy.view(module).generation;
        convert::task_message(&last.exited).filter(|_| current)
    }

    /// Notifies a dependent that keeps running about what it depends on.
    pub(super) fn notify_dependent(
        &mut self,
        module: ModuleId,
        about: ModuleId,
        news: DependencyNotice,
    ) {
        let (kind, word) = match news {
            DependencyNotice::Restarting => (EventKind::ModuleDegraded, "restarting"),
            DependencyNotice::Failed => (EventKind::ModuleDegraded, "failed"),
            DependencyNotice::Recovered => (EventKind::ModuleRestored, "recovered"),
        };
        let about_name = &self.ctx.name(about);
        let entry = EventBuilder::of(kind)
            .module(module, self.policy.view(module).generation)
            .cause(mainstay_protocol::StateCause::Dependency)
            .caused_by(CausedBy::Module(about))
            .payload(
                json!({ "text": format!("told that {about_name} is {word}"), "by": about_name }),
            );
        self.ctx.recorder.record(entry);
        let at = self.ctx.os.wall_clock();
        self.ctx.bus.notify_dependency(at, module, about_name, word);
    }

    /// What a person can do about a failed startup. The runtime has exited by then: the text names
    /// a
    /// file, no command that needs the runtime.
    fn next_step(&self, module: ModuleId) -> String {
        if let Some(RunEnd::NotStarted(_)) = self.policy.view(module).last_ending {
            return "correct that and run `mainstay up` again".to_owned();
        }
        let log = self.ctx.log_file(module);
        format!("what it wrote is in {}", log.display())
    }

    /// A module that is not ready, and what its last check found or what it waits for.
    fn missing_text(&self, module: ModuleId) -> String {
        let (name, view) = (self.ctx.name(module), self.policy.view(module));
        let why = match view.state {
            State::Starting => {
                let found = self.ctx.snapshots.module(module).not_ready.clone();
                let spec = self.ctx.spec(module);
                Some(found.unwrap_or_else(|| readiness::missing(&spec.readiness)))
            }
            State::Backoff | State::Failed => Some(self.reason(module, view.state)),
            _ => self
                .waiting_text(module, &view)
                .map(|what| format!("waits for {what}")),
        };
        match why.filter(|why| !why.is_empty()) {
            Some(why) => format!("{name} ({why})"),
            None => name.to_string(),
        }
    }

    /// The initial startup has ended; what is optional may still be missing.
    pub(super) fn startup_completed(&self) {
        let took = duration_text(self.ctx.os.now().since(self.ctx.up_since));
        let missing: Vec<ModuleId> = self
            .ctx
            .plan()
            .ids()
            .filter(|id| {
                let state = self.policy.view(*id).state;
                matches!(state, State::Backoff | State::Failed)
            })
            .collect();
        let text = if missing.is_empty() {
            format!("everything is up after {took}")
        } else {
            let names = self.ctx.names(&missing);
            format!("up after {took}, without {names}; `mainstay why MODULE` says why")
        };
        self.ctx.announce(ConsoleMessage::System(&text));
        self.ctx.actor_refs.root.cast(RootMsg::StartupCompleted);
    }

    pub(super) fn startup_failed(&mut self, reason: StartupFailure) {
        let mut console = None;
        let text = match reason {
            StartupFailure::RequiredModuleFailed { module } => {
                let why = self.run_end_text(module);
                let name = &self.ctx.name(module);
                let next = self.next_step(module);
                let text = |why: &str| format!("cannot start: {name} failed: {why}; {next}");
                // The line of its state has named the next step.
                console = why.split_once("; ").map(|(cause, _)| text(cause));
                text(&why)
            }
            StartupFailure::DependencyFailed { module, needed_by } => {
                let view = self.policy.view(needed_by);
                let waits = self.failed_need_text(needed_by, &view, module);
                let name = &self.ctx.name(needed_by);
                let next = self.next_step(module);
                format!("cannot start: {name} waits for {waits}; {next}")
            }
            StartupFailure::TimedOut { missing } => {
                let missing = missing.iter().map(|module| self.missing_text(*module));
                format!(
                    "cannot start: not ready within mainstay.startup_timeout: {}",
                    missing.collect::<Vec<String>>().join("; ")
                )
            }
        };
        // Reported before the stop that follows from it.
        let console = console.as_deref().unwrap_or(&text);
        self.ctx.announce(ConsoleMessage::System(console));
        self.ctx
            .actor_refs
            .root
            .cast(RootMsg::StartupFailed { text });
    }
}
