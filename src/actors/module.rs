//! The actor of one module: it starts and stops its process, and reports what became of it.
//! Owns its policy::RunMachine (one run at a time) and one timer; performs what that decided.
//! Never decides.
//! In flight at most: 1 request of lifecycle, the events of one process, 1 check, 1 hook, 1 timer.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::run::{RunEffect, RunEnd, RunEvent, RunMachine, RunReport, RunReportKind};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::{
    Exit, Exited, ProcessEvent, ProcessEventKind, Signal, StartFailure, StartStep, StdStream,
};
use mainstay_protocol::EventKind;
use mainstay_protocol::view::LastExit;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use regex::Regex;
use serde_json::json;
use tokio::sync::oneshot;

use super::event_recorder::EventBuilder;
use super::lifecycle::LifecycleMsg;
use super::notify_parser::{self, ReportedStatus};
use super::registry::RegistryMsg;
use super::timer::DeadlineTimer;
use super::{RuntimeContext, convert, feature_files, launching, readiness, recorded_exits};
use crate::os::forensics::Bundle;
use crate::os::{CommandResult, RunHold};
use crate::os_text::{exit_text, signal_name};

pub(crate) mod delivery;
mod forensics;
mod hooks;
mod log_match;
mod notified;
mod outlook;
mod output_loss;
mod resync;

use forensics::Forensics;
use hooks::Hook;
pub(crate) use outlook::RunOutlook;

/// How far a deadline is moved that has passed while a debugger holds the process.
const DEBUGGER_EXTENSION: Duration = Duration::from_secs(10);

/// Messages of a module actor.
#[derive(Debug)]
pub(crate) enum ModuleMsg {
    /// An order, an answer, or a wake-up.
    Event(RunEvent),
    /// Something happened to its process.
    Process(ProcessEvent),
    /// It was checked whether it is ready.
    Checked {
        /// The run that was checked.
        generation: u64,
        /// What was found instead.
        found: Result<(), String>,
    },
    /// It reported over its own connection that it is ready.
    Ready {
        /// The run that reported it.
        generation: u64,
    },
    /// It reported a status text over its own connection.
    Status {
        /// The run that reported it.
        generation: u64,
        /// One line.
        text: String,
    },
    /// A command before or after a run ended.
    HookEnded {
        /// The number of the command.
        number: u64,
        /// How it ended.
        outcome: CommandResult,
    },
    /// The lifecycle stops this run because it hangs or is over a limit.
    Hangs {
        /// The number of the run.
        generation: u64,
        /// Why, a noun.
        reason: &'static str,
    },
    /// A run that is being stopped is soon killed.
    CaptureDue {
        /// The number of the run.
        generation: u64,
    },
    /// What a run did is read.
    Captured {
        /// The number of the run.
        generation: u64,
        /// Why it was read.
        reason: &'static str,
        /// None: too many were being read.
        bundle: Option<Bundle>,
    },
    /// What is known of its run beside its state?
    Explain(oneshot::Sender<RunOutlook>),
    /// Its settings changed and the run goes on.
    Deliver {
        /// It has accepted them already.
        prepared: bool,
    },
    /// The time for a READY=1 after RELOADING=1 is over.
    ReloadTimeout,
    /// The lifecycle actor is new: report the state of this run to it again.
    Resync,
    /// The module was removed from the plan: its generations start again.
    Forget,
}

/// Which module, and the process a new actor takes over.
pub(crate) struct ModuleArgs {
    pub(crate) ctx: Arc<RuntimeContext>,
    pub(crate) id: ModuleId,
    /// What the rebuilt state starts from.
    pub(crate) adopt: Option<RunEvent>,
}

/// The state.
pub(crate) struct ModuleActorState {
    ctx: Arc<RuntimeContext>,
    id: ModuleId,
    module: RunMachine,
    alarm: DeadlineTimer,
    /// When the run was ordered; None: by another runtime.
    ordered_at: Option<MonoTime>,
    /// The pattern of `ready = { log = … }`, and the unfinished line it is searched in.
    log: Option<(Regex, String)>,
    /// Whether this run has fed its watchdog.
    fed: bool,
    /// What this run reported about itself.
    reported: ReportedStatus,
    /// How the last run ended.
    ended: Option<RunReport>,
    /// The newest run whose end was published.
    published_exit: u64,
    /// Why this run could not start, in full.
    detail: Option<String>,
    /// The hook that is running.
    hook: Option<Hook>,
    /// The newest look by a command whether it is ready.
    readiness_check: Option<u64>,
    /// What the last check found instead, and how many there were in this run.
    not_ready: (Option<String>, u32),
    /// Its output is being lost, and an event recorded that.
    losing_output: bool,
    /// The capture of the current run.
    forensics: Forensics,
    /// The run that said RELOADING=1 and not yet READY=1, and until when it may.
    reloading: Option<(u64, MonoTime)>,
    reload_alarm: DeadlineTimer,
}

/// How much later than its deadline the holder ends a stop that no runtime ends: one that runs
/// kills in time, and knows then that it had to.
const BACKSTOP_DELAY: Duration = Duration::from_millis(250);

/// The actor.
pub(crate) struct ModuleActor;

impl Actor for ModuleActor {
    type Msg = ModuleMsg;
    type State = ModuleActorState;
    type Arguments = ModuleArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ModuleMsg>,
        ModuleArgs { ctx, id, adopt }: ModuleArgs,
    ) -> Result<ModuleActorState, ActorProcessingErr> {
        if let Some(event) = adopt {
            myself.cast(ModuleMsg::Event(event))?;
        }
        let (module, alarm) = (RunMachine::new(), DeadlineTimer::default());
        Ok(ModuleActorState {
            ctx,
            id,
            module,
            alarm,
            ordered_at: None,
            log: None,
            fed: false,
            reported: ReportedStatus::default(),
            ended: None,
            published_exit: 0,
            detail: None,
            hook: None,
            readiness_check: None,
            not_ready: (None, 0),
            losing_output: false,
            forensics: Forensics::default(),
            reloading: None,
            reload_alarm: DeadlineTimer::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ModuleMsg>,
        msg: ModuleMsg,
        state: &mut ModuleActorState,
    ) -> Result<(), ActorProcessingErr> {
        if let ModuleMsg::Event(RunEvent::StartRequested { .. }) = msg {
            feature_files::until_written(&state.ctx, state.id).await;
        }
        match msg {
            ModuleMsg::Event(event) => state.note(event),
            ModuleMsg::Process(event) => state.on_process_event(&myself, event),
            ModuleMsg::Deliver { prepared } => state.deliver(prepared),
            ModuleMsg::ReloadTimeout => state.on_reload_timeout(),
            ModuleMsg::Checked { generation, found } => state.on_checked(generation, found),
            ModuleMsg::Ready { generation } => state.note(RunEvent::ReadyReported { generation }),
            ModuleMsg::Status { generation, text } => state.set_status_text(generation, &text),
            ModuleMsg::HookEnded { number, outcome } => state.hook_ended(number, &outcome),
            ModuleMsg::Hangs { generation, reason } => state.note_hang(generation, reason),
            ModuleMsg::CaptureDue { generation } => state.capture_due(generation),
            ModuleMsg::Captured {
                generation,
                reason,
                bundle,
            } => state.captured(generation, reason, bundle),
            ModuleMsg::Explain(answer) => {
                let _asker_left = answer.send(state.outlook());
            }
            ModuleMsg::Resync => state.resync(),
            ModuleMsg::Forget => state.forget(),
        }
        state.perform_effects();
        let (now, deadline) = (state.ctx.os.now(), state.module.deadline());
        state.alarm.set(now, deadline, &myself, || {
            ModuleMsg::Event(RunEvent::TimerFired)
        });
        Ok(())
    }
}

impl ModuleActorState {
    fn note(&mut self, event: RunEvent) {
        let now = self.ctx.os.now();
        if let RunEvent::StartRequested { .. } = event {
            self.ordered_at = Some(now);
            self.detail = None;
        }
        self.module.apply(&self.ctx.spec(self.id), now, event);
        if let RunEvent::Adopted { ready: false, .. } = event {
            self.start_log_match(true);
        }
    }

    fn perform_effects(&mut self) {
        loop {
            let now = self.ctx.os.now();
            let Some(effect) = self.module.next_effect(&self.ctx.spec(self.id), now) else {
                return;
            };
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: RunEffect) {
        match effect {
            RunEffect::Prepare { generation } => self.run_hook(generation, true, 0),
            RunEffect::CleanUp { generation } => self.run_hook(generation, false, 0),
            RunEffect::Spawn { generation } => self.spawn(generation),
            RunEffect::Probe {
                generation,
                startup,
            } => {
                let number = readiness::check_once(&self.ctx, self.id, generation, startup);
                self.readiness_check = Some(number);
            }
            RunEffect::DrainNotify { generation } => {
                let instance = self.ctx.instance(self.id);
                self.ctx.os.drain_notify(&instance, generation);
            }
            RunEffect::Terminate { generation, within } => {
                self.cancel_readiness_check();
                if !self.stop_hook(within + BACKSTOP_DELAY)
                    && !self.holds_signal(generation, within)
                {
                    self.send_stop_signal(generation, within);
                }
            }
            RunEffect::Kill { generation } => {
                self.killed(generation);
                self.cancel_readiness_check();
                if !self.kill_hook() {
                    let instance = self.ctx.instance(self.id);
                    self.ctx.os.kill(&instance, generation);
                }
            }
            RunEffect::Report(report) => self.report(report),
        }
    }

    fn send_stop_signal(&self, generation: u64, within: Duration) {
        let signal = self.ctx.launch(self.id).stop_signal;
        let instance = self.ctx.instance(self.id);
        let within = within + BACKSTOP_DELAY;
        self.ctx.os.stop(&instance, generation, signal, within);
    }

    fn report(&mut self, report: RunReport) {
        match report.what {
            RunReportKind::Started { .. }
            | RunReportKind::Extended { .. }
            | RunReportKind::Ending { .. } => {}
            RunReportKind::Ready => self.record_ready(report.generation),
            RunReportKind::Ended(ending) => {
                self.cancel_readiness_check();
                if ending == RunEnd::StartTimeout {
                    self.detail = self.timeout_text();
                }
                self.ended = Some(report);
            }
        }
        self.send_report(report);
    }

    fn send_report(&self, report: RunReport) {
        let ended = matches!(report.what, RunReportKind::Ended(_));
        let msg = LifecycleMsg::RunReported {
            module: self.id,
            report,
            detail: self.detail.clone().filter(|_| ended),
        };
        self.ctx.actor_refs.lifecycle.cast(msg);
    }

    fn on_checked(&mut self, generation: u64, found: Result<(), String>) {
        let ok = found.is_ok();
        if generation == self.module.generation() {
            let count = self.not_ready.1.saturating_add(1);
            let found = found.err();
            if found != self.not_ready.0 {
                let msg = RegistryMsg::NotReady(self.id, found.clone());
                self.ctx.actor_refs.registry.cast(msg);
            }
            self.not_ready = (found, count);
        }
        self.note(RunEvent::Probed { generation, ok });
    }

    /// Why it was not ready in time: what was checked, the last answer and how often.
    fn timeout_text(&self) -> Option<String> {
        let spec = self.ctx.spec(self.id);
        let (found, count) = &self.not_ready;
        let found = found.clone().unwrap_or(readiness::missing(&spec.readiness));
        let text = super::probing::counted(&found, *count);
        (!text.is_empty()).then(|| format!("it was not ready in time: {text}"))
    }

    /// Drops the result of a readiness check that is in flight.
    fn cancel_readiness_check(&mut self) {
        if let Some(number) = self.readiness_check.take() {
            let command = self.ctx.instance(self.id).with_command(number);
            self.ctx.os.kill(&command, number);
        }
    }

    fn spawn(&mut self, generation: u64) {
        let resources = launching::check_resources(&self.ctx, self.id);
        let ready = resources.and_then(|()| self.ctx.write_secrets(self.id));
        if let Err(short) = ready {
            self.publish_exit(generation, None, None, short.clone());
            self.detail = Some(short);
            let failure = StartFailure {
                step: StartStep::Resources,
                errno: 0,
            };
            return self.note(RunEvent::SpawnFailed {
                generation,
                failure,
            });
        }
        self.fed = false;
        self.not_ready = (None, 0);
        self.reported = ReportedStatus::default();
        self.start_log_match(false);
        self.ctx
            .actor_refs
            .registry
            .cast(RegistryMsg::RunStarted(self.id));
        self.ctx
            .os
            .spawn(launching::main_request(&self.ctx, self.id, generation));
    }

    fn on_process_event(&mut self, myself: &ActorRef<ModuleMsg>, event: ProcessEvent) {
        let generation = event.generation;
        match event.what {
            ProcessEventKind::Spawned { pid, .. } => {
                self.note(RunEvent::Spawned { generation, pid });
            }
            ProcessEventKind::SpawnFailed { failure, message } => {
                if generation == self.module.generation() {
                    self.detail = Some(message.clone());
                }
                self.publish_exit(generation, None, None, message);
                self.note(RunEvent::SpawnFailed {
                    generation,
                    failure,
                });
            }
            ProcessEventKind::MainChanged { pid, .. } => {
                let module = &*self.ctx.name(self.id);
                tracing::info!(module, pid, "the module named another main process");
                self.note(RunEvent::MainChanged { generation, pid });
            }
            ProcessEventKind::Suspended { signal } => self.on_suspended(generation, Some(signal)),
            ProcessEventKind::Continued => self.on_suspended(generation, None),
            ProcessEventKind::TreeSignalled {
                signal,
                processes,
                total,
            } => {
                let entry = EventBuilder::of(EventKind::ModuleTreeSignalled)
                    .module(self.id, generation)
                    .payload(json!({
                        "signal": signal.0, "processes": processes, "total": total,
                    }));
                self.ctx.recorder.record(entry);
            }
            ProcessEventKind::NotifyRejected { message } => {
                tracing::warn!(module = &*self.ctx.name(self.id), "{message}");
            }
            ProcessEventKind::NotifyDrained => {
                self.hold_for_debugger(generation);
                self.note(RunEvent::NotifyDrained { generation });
            }
            ProcessEventKind::Exited(exited) => self.on_exit(generation, &exited),
            ProcessEventKind::Notify { text, .. } => {
                notify_parser::parse(&text)
                    .for_each(|word| self.on_notify(myself, generation, word));
            }
            ProcessEventKind::Output {
                text,
                stream,
                dropped_bytes,
            } => {
                self.match_log(generation, &text);
                self.send_output((&text, stream), dropped_bytes);
            }
            dropped @ ProcessEventKind::OutputDropped { .. } => self.on_output_dropped(dropped),
            // The router handles the first; the second is what only a newer holder reports.
            ProcessEventKind::SocketActivated { .. } | ProcessEventKind::Other => {}
        }
    }

    /// A process that a debugger holds feeds no watchdog and is ready no sooner: a deadline that
    /// has passed is moved.
    fn hold_for_debugger(&mut self, generation: u64) {
        let (instance, now) = (self.ctx.instance(self.id), self.ctx.os.now());
        if self.ctx.os.held_since(&instance, now) == Some(RunHold::Debugger) {
            let by = DEBUGGER_EXTENSION;
            self.note(RunEvent::Held { generation, by });
        }
    }

    /// A signal of another process stopped the main process, or it was continued. Nothing follows:
    /// probes and the watchdog decide.
    fn on_suspended(&mut self, generation: u64, signal: Option<Signal>) {
        if !self.is_current_run(generation) {
            return;
        }
        let signal = signal.map(signal_name);
        let id = self.id;
        if self.ctx.snapshots.module(id).suspended_by == signal {
            return;
        }
        let kind = match signal {
            Some(_) => EventKind::ModuleSuspended,
            None => EventKind::ModuleContinued,
        };
        let pid = self.module.pid();
        let entry = EventBuilder::of(kind).module(id, generation);
        let entry = entry.payload(json!({ "signal": signal, "pid": pid }));
        self.ctx.recorder.record(entry);
        let registry = &self.ctx.actor_refs.registry;
        registry.cast(RegistryMsg::Suspended(id, signal));
    }

    fn on_exit(&mut self, generation: u64, exited: &Exited) {
        self.end_reload(generation);
        let exit = exited.exit;
        let ran_ms = self.since_order(MonoTime(exited.at));
        let message = convert::task_message(exited);
        let mut text = message.unwrap_or_else(|| exit_text(exit));
        if self.is_current_run(generation) {
            text += &self.reported.reason();
        }
        let entry = recorded_exits::exit_event((self.id, generation), exited, ran_ms, &text);
        let recorded = self.ctx.recorded_exits.get();
        if recorded.and_then(|them| them.get(&self.id)) != Some(&generation) {
            self.ctx.recorder.record(entry);
        }
        if generation == self.module.generation() {
            self.detail.get_or_insert_with(|| text.clone());
        }
        self.publish_exit(generation, Some(exit), ran_ms, text);
        self.note(RunEvent::Exited { generation, exit });
    }

    /// Whether this generation is the current one. The events of a run that ended while the runtime
    /// was away arrive before those of any other.
    fn is_current_run(&self, generation: u64) -> bool {
        [generation, 0].contains(&self.module.generation())
    }

    fn publish_exit(
        &mut self,
        generation: u64,
        exit: Option<Exit>,
        ran_ms: Option<u64>,
        text: String,
    ) {
        // The end of an earlier run may arrive after that of a newer one, never the other way
        // round.
        if generation < self.published_exit {
            return;
        }
        self.published_exit = generation;
        let exit = LastExit {
            code: exit.and_then(Exit::code),
            signal: exit.and_then(Exit::signal).map(|signal| signal.0),
            at: self.ctx.os.wall_clock(),
            ran_ms,
            text,
        };
        self.ctx
            .actor_refs
            .registry
            .cast(RegistryMsg::RunEnded(self.id, exit));
    }

    /// Sends output to the clients that follow it.
    fn send_output(&self, output: (&str, StdStream), dropped_bytes: u64) {
        let followers = &self.ctx.log_followers;
        followers.dispatch_output(self.id, output, dropped_bytes);
    }

    /// Milliseconds from the order to run until then.
    fn since_order(&self, then: MonoTime) -> Option<u64> {
        let passed = then.since(self.ordered_at?).as_millis();
        Some(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    fn record_ready(&self, generation: u64) {
        let after_ms = self.since_order(self.ctx.os.now());
        let entry = EventBuilder::of(EventKind::ModuleReady)
            .module(self.id, generation)
            .payload(json!({ "after_ms": after_ms }));
        self.ctx.recorder.record(entry);
    }
}
