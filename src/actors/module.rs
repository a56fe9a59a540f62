//! A module: one per module of the plan.
//! Owns its policy::Module (one run at a time) and one alarm; performs what that decided.
//! Never decides.
//! In flight at most: 1 order of lifecycle, the facts of one process, 1 look, 1 hook, 1 Woke.

use std::sync::Arc;
use std::time::Duration;

use mainstay_holder::wire::{Exited, Step};
use mainstay_policy::module::{self, Effect, Event, Exit, Module, Report, Reported, StartFailure};
use mainstay_policy::spec::Readiness;
use mainstay_policy::{ModuleId, Time};
use mainstay_protocol::view::LastExit;
use mainstay_protocol::{EventKind, Health};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use regex::Regex;
use serde_json::json;

use super::alarm::Alarm;
use super::chronicle::Entry;
use super::health::HealthMsg;
use super::lifecycle::LifecycleMsg;
use super::notify::{self, Word};
use super::registry::RegistryMsg;
use super::{House, launching, readiness, words};
use crate::os::Fact;

/// What a module actor is told.
#[derive(Debug)]
pub(crate) enum ModuleMsg {
    /// An order, an answer, or a wake-up.
    Event(Event),
    /// Something the machine saw.
    Fact(Fact),
    /// Over its own connection it said that it is ready.
    Ready {
        /// The run that said so.
        generation: u64,
    },
    /// Over its own connection it said what it is doing.
    Status {
        /// The run that said so.
        generation: u64,
        /// One line.
        text: String,
    },
    /// The lifecycle is new: tell it again where this run stands.
    Resync,
}

/// Which module, and the process a new actor takes over.
pub(crate) struct Arguments {
    pub(crate) house: Arc<House>,
    pub(crate) id: ModuleId,
    /// What the rebuilt state starts from.
    pub(crate) adopt: Option<Event>,
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    id: ModuleId,
    module: Module,
    alarm: Alarm,
    /// When the run was ordered.
    ordered_at: Time,
    /// The pattern of `ready = { log = … }`, and the unfinished line it is searched in.
    log: Option<(Regex, String)>,
    /// Whether this run has fed its watchdog.
    fed: bool,
    /// How the last run ended.
    ended: Option<Report>,
}

/// Longest unfinished line kept while waiting for a log line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The actor.
pub(crate) struct ModuleActor;

impl Actor for ModuleActor {
    type Msg = ModuleMsg;
    type State = Owned;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<ModuleMsg>,
        Arguments { house, id, adopt }: Arguments,
    ) -> Result<Owned, ActorProcessingErr> {
        if let Some(event) = adopt {
            me.cast(ModuleMsg::Event(event))?;
        }
        let ordered_at = house.os.now();
        let (module, alarm) = (Module::new(), Alarm::default());
        Ok(Owned {
            house,
            id,
            module,
            alarm,
            ordered_at,
            log: None,
            fed: false,
            ended: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<ModuleMsg>,
        msg: ModuleMsg,
        own: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ModuleMsg::Event(event) => own.note(event),
            ModuleMsg::Fact(fact) => own.hear(fact),
            ModuleMsg::Ready { generation } => own.note(Event::ReadyTold { generation }),
            ModuleMsg::Status { generation, text } => own.said(generation, &text),
            ModuleMsg::Resync => own.resync(),
        }
        own.settle();
        let (now, deadline) = (own.house.os.now(), own.module.deadline());
        own.alarm
            .set(now, deadline, &me, || ModuleMsg::Event(Event::Woke));
        Ok(())
    }
}

impl Owned {
    fn note(&mut self, event: Event) {
        let now = self.house.os.now();
        if let Event::RunAsked { .. } = event {
            self.ordered_at = now;
        }
        self.module.note(self.house.spec(self.id), now, event);
    }

    fn settle(&mut self) {
        loop {
            let now = self.house.os.now();
            let Some(effect) = self.module.settle(self.house.spec(self.id), now) else {
                return;
            };
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let (house, name) = (&self.house, self.house.name(self.id));
        match effect {
            Effect::Prepare { generation } => self.run_hooks(generation, true),
            Effect::CleanUp { generation } => self.run_hooks(generation, false),
            Effect::Spawn { generation } => self.spawn(generation),
            Effect::Probe { generation } => readiness::look_once(house, self.id, generation),
            Effect::Terminate { generation } => {
                house
                    .os
                    .signal(name, generation, house.launch(self.id).stop_signal, true);
            }
            Effect::Kill { generation } => house.os.kill(name, generation),
            Effect::Report(report) => {
                match report.what {
                    Reported::Started { .. } => {}
                    Reported::Ready => self.tell_ready(report.generation),
                    Reported::Ended(_) => self.ended = Some(report),
                }
                let module = self.id;
                self.house
                    .switchboard
                    .lifecycle
                    .cast(LifecycleMsg::Reported { module, report });
            }
        }
    }

    fn spawn(&mut self, generation: u64) {
        if let Err(short) = launching::has_what_it_needs(&self.house, self.id) {
            self.tell_end(generation, None, None, short);
            let failure = StartFailure {
                step: module::Step::Resources,
                errno: 0,
            };
            return self.note(Event::SpawnFailed {
                generation,
                failure,
            });
        }
        self.fed = false;
        self.log = match &self.house.spec(self.id).readiness {
            // The pattern was compiled once when the configuration was checked.
            Readiness::Log(pattern) => Regex::new(pattern)
                .ok()
                .map(|pattern| (pattern, String::new())),
            _ => None,
        };
        let name = self.house.name(self.id);
        if self.log.is_some() {
            self.house.os.tap(name, true);
        }
        self.house
            .switchboard
            .registry
            .cast(RegistryMsg::Began(self.id));
        self.house
            .os
            .spawn(launching::main_process(&self.house, self.id, generation));
    }

    fn hear(&mut self, fact: Fact) {
        match fact {
            Fact::Spawned {
                generation, pid, ..
            } => self.note(Event::Spawned { generation, pid }),
            Fact::SpawnFailed {
                generation,
                step,
                errno,
                message,
                ..
            } => {
                self.tell_end(generation, None, None, message);
                let failure = StartFailure {
                    step: step_to_policy(step),
                    errno,
                };
                self.note(Event::SpawnFailed {
                    generation,
                    failure,
                });
            }
            Fact::Exited(exited) => self.hear_exit(&exited),
            Fact::Notify {
                generation, text, ..
            } => {
                notify::parse(&text).for_each(|word| self.hear_word(generation, word));
            }
            Fact::Output {
                generation,
                text,
                dropped_bytes,
                ..
            } => {
                self.search(generation, &text);
                self.house.bus.follow_logs(self.id, &text, dropped_bytes);
            }
            Fact::OutputDropped { total_bytes, .. } => {
                let registry = &self.house.switchboard.registry;
                registry.cast(RegistryMsg::Dropped(self.id, total_bytes));
            }
            Fact::StopAsked | Fact::ReloadAsked | Fact::HolderGone => {}
        }
    }

    fn hear_exit(&mut self, exited: &Exited) {
        let exit = exit_to_policy(exited);
        let generation = exited.generation;
        let ran = Time(exited.at).since(self.ordered_at);
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry::of(EventKind::ModuleExited)
            .module(self.id, generation)
            .payload(json!({
                "pid": exited.pid, "code": exited.code, "signal": exited.signal,
                "core_dumped": exited.core, "ran_ms": ran_ms, "text": words::exit_text(exit),
            }));
        self.house.chronicle.tell(entry);
        self.tell_end(
            generation,
            exited.code,
            exited.signal,
            words::exit_text(exit),
        );
        self.note(Event::Exited { generation, exit });
    }

    fn tell_end(&self, generation: u64, code: Option<i32>, signal: Option<i32>, text: String) {
        if generation != self.module.generation() {
            return;
        }
        let exit = LastExit {
            code,
            signal,
            at: self.house.os.wall(),
            text,
        };
        self.house
            .switchboard
            .registry
            .cast(RegistryMsg::Ended(self.id, exit));
    }

    fn hear_word(&mut self, generation: u64, word: Word) {
        match word {
            Word::Ready => self.note(Event::ReadyTold { generation }),
            Word::Status(text) => self.said(generation, &text),
            Word::Watchdog => {
                self.note(Event::WatchdogFed { generation });
                if !std::mem::replace(&mut self.fed, true) {
                    let (module, health) = (self.id, Health::Healthy);
                    let fed = HealthMsg::Fed {
                        module,
                        generation,
                        health,
                    };
                    self.house.switchboard.health.cast(fed);
                }
            }
            Word::WatchdogTrigger => self.note(Event::WatchdogTriggered { generation }),
            Word::WatchdogEvery(every) => self.note(Event::WatchdogSet { generation, every }),
            Word::ExtendTimeout(by) => self.note(Event::TimeoutExtended { generation, by }),
            Word::Stopping => self.said(generation, "stopping"),
            Word::Reloading | Word::Errno(_) => {}
        }
    }

    fn said(&self, generation: u64, text: &str) {
        if generation == self.module.generation() {
            let text = Arc::from(notify::one_line(text));
            self.house
                .switchboard
                .registry
                .cast(RegistryMsg::Said(self.id, text));
        }
    }

    /// Looks for the readiness line in what it wrote; lines may arrive in pieces.
    fn search(&mut self, generation: u64, text: &str) {
        let Some((pattern, unfinished)) = &mut self.log else {
            return;
        };
        unfinished.push_str(text);
        let found = unfinished.lines().any(|line| pattern.is_match(line));
        match unfinished.rfind('\n') {
            Some(end) => drop(unfinished.drain(..=end)),
            None if unfinished.len() > LINE_BYTES_MAX => unfinished.clear(),
            None => {}
        }
        if found {
            self.log = None;
            self.house
                .bus
                .release_tap(&*self.house.os, self.house.name(self.id), self.id);
            self.note(Event::ReadyTold { generation });
        }
    }

    fn tell_ready(&self, generation: u64) {
        let after = self.house.os.now().since(self.ordered_at);
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry::of(EventKind::ModuleReady)
            .module(self.id, generation)
            .payload(json!({ "after_ms": after_ms }));
        self.house.chronicle.tell(entry);
    }

    /// Runs before_start or after_stop commands one after the other, within the module's timeouts.
    fn run_hooks(&self, generation: u64, before: bool) {
        let (house, id) = (Arc::clone(&self.house), self.id);
        tokio::spawn(async move {
            let (spec, launch) = (house.spec(id), house.launch(id));
            let (commands, limit) = if before {
                (&launch.before_start, spec.startup_timeout)
            } else {
                (&launch.after_stop, spec.shutdown_timeout)
            };
            let ok = run_in_turn(&house, id, commands, limit).await;
            let event = if before {
                Event::Prepared { generation, ok }
            } else {
                Event::CleanedUp { generation }
            };
            house.switchboard.module(id).cast(ModuleMsg::Event(event));
        });
    }

    /// What a new lifecycle has to hear; what it knows already changes nothing there.
    fn resync(&self) {
        let generation = self.module.generation();
        let started = self.module.pid().map(|pid| Reported::Started { pid });
        let ready = self.module.is_ready().then_some(Reported::Ready);
        let ended = self.ended.filter(|_| self.module.is_idle());
        let reports = [started, ready].into_iter().flatten();
        let reports = reports.map(|what| Report { generation, what });
        for report in reports.chain(ended) {
            let module = self.id;
            self.house
                .switchboard
                .lifecycle
                .cast(LifecycleMsg::Reported { module, report });
        }
    }
}

async fn run_in_turn(
    house: &House,
    id: ModuleId,
    commands: &[Vec<String>],
    limit: Duration,
) -> bool {
    for argv in commands {
        let mut spawn = launching::command(house, id, argv);
        spawn.kill_after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let outcome = house.os.command(spawn).await;
        if !outcome.ok {
            let text = format!("`{}` failed: {}", argv.join(" "), outcome.text);
            tracing::warn!(module = house.name(id), "{text}");
            let exit = LastExit {
                code: None,
                signal: None,
                at: house.os.wall(),
                text,
            };
            house
                .switchboard
                .registry
                .cast(RegistryMsg::Ended(id, exit));
            return false;
        }
    }
    true
}

/// The wire's word for how a process ended, as policy's.
pub(super) fn exit_to_policy(exited: &Exited) -> Exit {
    match (exited.oom, exited.code, exited.signal) {
        (true, _, _) => Exit::Oom,
        (_, Some(code), _) => Exit::Code(code),
        (_, None, Some(signal)) => Exit::Signal {
            signal,
            core: exited.core,
        },
        (_, None, None) => Exit::Code(-1),
    }
}

fn step_to_policy(step: Step) -> module::Step {
    match step {
        Step::Fence => module::Step::Fence,
        Step::Pipe => module::Step::Pipe,
        Step::Fork => module::Step::Fork,
        Step::Session => module::Step::Session,
        Step::Directory => module::Step::Directory,
        Step::Limits => module::Step::Limits,
        Step::Group => module::Step::Group,
        Step::User => module::Step::User,
        Step::Descriptors => module::Step::Descriptors,
        Step::Exec => module::Step::Exec,
    }
}
