//! A runtime that keeps modules running, as the holder sees it: requests, exits, a return.
//! Owns what this one runtime believes; that is lost with it.
//! Never reads the roster: it knows what it was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_holder::messages::{HolderMessage, InstanceInfo};
use mainstay_process::ProcessEventKind;

use super::{Checked, HolderBug, HolderViolation, Item, Sim};

const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A request, with what the simulation needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Configure,
    Spawn {
        name: String,
        generation: u64,
        timeout: Duration,
        /// Sent to be refused; the runtime does not count on it.
        hostile: bool,
    },
    Signal {
        name: String,
        generation: u64,
    },
    /// A signal, and a kill once the time is over.
    Stop {
        name: String,
        generation: u64,
        within: Duration,
    },
    Kill {
        name: String,
        generation: u64,
    },
    SaveRecord {
        name: String,
        record: String,
    },
    Forget {
        name: String,
    },
    Ready,
    Pong,
    Upgrade,
    Stopping {
        timeout: Duration,
    },
    Exit {
        code: u8,
    },
}

/// What the holder sends.
#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Takeover(Vec<InstanceInfo>),
    Message(Box<HolderMessage>),
    Ping,
    StopRequested {
        time_left: Option<Duration>,
    },
    /// The setup cannot be used.
    Refused,
    UpgradeAnswered {
        accepted: bool,
    },
}

/// What the runtime does by itself, later.
#[derive(Debug, Clone)]
pub(super) enum RuntimeTimer {
    Ready,
    Start(String),
    /// The startup timeout of a run.
    StartTimedOut(String, u64),
    KillAll,
}

/// What a runtime believes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Idle(u64),
    Starting(u64),
    Running(u64),
    /// Its exit is still to be sent.
    Exiting(u64),
}

impl View {
    pub(super) fn running(self) -> Option<u64> {
        match self {
            View::Running(generation) => Some(generation),
            _ => None,
        }
    }

    pub(super) fn generation(self) -> u64 {
        match self {
            View::Idle(generation)
            | View::Starting(generation)
            | View::Running(generation)
            | View::Exiting(generation) => generation,
        }
    }
}

/// The process of the runtime.
#[derive(Debug)]
pub(super) struct FakeRuntime {
    pub(super) epoch: u32,
    pub(super) views: BTreeMap<String, View>,
    /// It neither reads nor answers any more.
    pub(super) unresponsive: bool,
    /// It retires, or is a new program that is not ready.
    pub(super) may_be_killed: bool,
    pub(super) never_ready: bool,
    taken_over: bool,
    stopping: bool,
    is_first: bool,
}

impl FakeRuntime {
    pub(super) fn new(epoch: u32, is_first: bool) -> FakeRuntime {
        FakeRuntime {
            epoch,
            views: BTreeMap::new(),
            unresponsive: false,
            may_be_killed: false,
            never_ready: false,
            taken_over: false,
            stopping: false,
            is_first,
        }
    }
}

fn is_module(name: &str) -> bool {
    !name.contains('#')
}

impl Sim {
    /// Sends a request of the runtime, some of them twice.
    pub(super) fn request(&mut self, request: Request) {
        let Some(runtime) = self.runtime.as_ref().filter(|one| !one.unresponsive) else {
            return;
        };
        let epoch = runtime.epoch;
        let once = matches!(request, Request::Spawn { .. } | Request::Exit { .. });
        let copies = 1 + u32::from(!once && self.rng.permille(50));
        for _ in 0..copies {
            let late = self.rng.permille(30);
            let delay = Duration::from_millis(if late { 900 } else { 2 });
            let arrival = self.now + self.rng.span(delay);
            let Some((_, to_holder, _)) = &mut self.channel else {
                return;
            };
            *to_holder = arrival.max(*to_holder);
            let at = *to_holder;
            self.at(at, Item::ToHolder(epoch, request.clone()));
        }
    }

    /// Something that the holder sent reaches the runtime.
    pub(super) fn deliver(&mut self, epoch: u32, delivery: Delivery) {
        let live = self.runtime.as_ref().filter(|one| one.epoch == epoch);
        if live.is_none_or(|one| one.unresponsive) {
            self.summary.dropped_messages += 1;
            return;
        }
        match delivery {
            Delivery::Takeover(infos) => self.take_over(infos),
            Delivery::Ping => self.request(Request::Pong),
            Delivery::StopRequested { time_left } => self.stop_all(time_left),
            // Some runtimes hang instead.
            Delivery::Refused => {
                let delay = self.rng.span(Duration::from_secs(20));
                self.after(delay, Item::RuntimeExits(epoch));
            }
            Delivery::UpgradeAnswered { accepted } => self.upgrade_answered(epoch, accepted),
            Delivery::Message(message) => self.on_message(*message),
        }
    }

    fn take_over(&mut self, infos: Vec<InstanceInfo>) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        runtime.taken_over = true;
        for info in infos {
            let view = match (info.pid, info.exit) {
                (Some(_), _) => View::Running(info.generation),
                (None, Some(_)) => View::Exiting(info.generation),
                (None, None) => View::Idle(info.generation),
            };
            runtime.views.insert(info.instance.to_string(), view);
        }
        let idle: Vec<String> = (0..self.options.modules)
            .map(|number| format!("m{number}"))
            .filter(|name| {
                let view = runtime.views.get(name);
                view.is_none_or(|view| matches!(view, View::Idle(_)))
            })
            .collect();
        let never_ready = runtime.never_ready;
        if runtime.is_first {
            self.request(Request::Configure);
        }
        let delay = self.rng.span(Duration::from_millis(500));
        if !never_ready {
            self.later(delay, RuntimeTimer::Ready);
        }
        for name in idle {
            let delay = self.rng.span(Duration::from_millis(200));
            self.later(delay, RuntimeTimer::Start(name));
        }
    }

    fn later(&mut self, delay: Duration, timer: RuntimeTimer) {
        if let Some(runtime) = &self.runtime {
            self.after(delay, Item::RuntimeTimer(runtime.epoch, timer));
        }
    }

    fn on_message(&mut self, message: HolderMessage) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        let HolderMessage::Process(event) = message else {
            return;
        };
        let (name, generation) = (event.instance.to_string(), event.generation);
        let view = runtime.views.get(&name).copied();
        match event.what {
            ProcessEventKind::Spawned { .. } if view == Some(View::Starting(generation)) => {
                let stopping = runtime.stopping;
                let view = View::Running(generation);
                runtime.views.insert(name.clone(), view);
                let record = format!("up=1 gen={generation}");
                self.request(Request::SaveRecord {
                    name: name.clone(),
                    record,
                });
                if stopping {
                    let within = Duration::from_secs(2);
                    self.request(Request::Stop {
                        name,
                        generation,
                        within,
                    });
                }
            }
            ProcessEventKind::SpawnFailed { .. } if view == Some(View::Starting(generation)) => {
                self.ended(name, generation);
            }
            ProcessEventKind::Exited(_)
                if view.is_some_and(|view| view.generation() == generation) =>
            {
                self.ended(name, generation);
            }
            _ => {}
        }
    }

    fn ended(&mut self, name: String, generation: u64) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        runtime.views.insert(name.clone(), View::Idle(generation));
        if runtime.stopping {
            return self.exit_if_stopped();
        }
        let delay = self.rng.span(Duration::from_secs(2));
        match is_module(&name) {
            true => self.later(delay, RuntimeTimer::Start(name)),
            false => self.request(Request::Forget { name }),
        }
    }

    pub(super) fn runtime_timer(&mut self, epoch: u32, timer: RuntimeTimer) {
        let live = self.runtime.as_ref().filter(|one| one.epoch == epoch);
        if live.is_none_or(|one| one.unresponsive) {
            return;
        }
        match timer {
            RuntimeTimer::Ready => self.request(Request::Ready),
            RuntimeTimer::Start(name) => self.start_instance(name, Duration::ZERO),
            RuntimeTimer::StartTimedOut(name, generation) => {
                let view = self.runtime.as_ref().and_then(|one| one.views.get(&name));
                if view == Some(&View::Starting(generation)) {
                    self.request(Request::Kill { name, generation });
                }
            }
            RuntimeTimer::KillAll => {
                for (name, generation) in self.busy_instances() {
                    self.request(Request::Kill { name, generation });
                }
            }
        }
    }

    /// Starts an instance that rests.
    pub(super) fn start_instance(&mut self, name: String, timeout: Duration) {
        let ready = |one: &&mut FakeRuntime| one.taken_over && !one.unresponsive && !one.stopping;
        let Some(runtime) = self.runtime.as_mut().filter(ready) else {
            return;
        };
        let view = runtime.views.entry(name.clone()).or_insert(View::Idle(0));
        let View::Idle(last) = *view else {
            return;
        };
        let generation = last + 1;
        *view = View::Starting(generation);
        let timer = RuntimeTimer::StartTimedOut(name.clone(), generation);
        self.later(STARTUP_TIMEOUT, timer);
        self.request(Request::Spawn {
            name,
            generation,
            timeout,
            hostile: false,
        });
    }

    /// Instances with a run, as this runtime believes.
    pub(super) fn busy_instances(&self) -> Vec<(String, u64)> {
        let views = self.runtime.iter().flat_map(|one| &one.views);
        views
            .filter(|(_, view)| matches!(view, View::Running(_) | View::Starting(_)))
            .map(|(name, view)| (name.clone(), view.generation()))
            .collect()
    }

    fn stop_all(&mut self, time_left: Option<Duration>) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        if std::mem::replace(&mut runtime.stopping, true) {
            return;
        }
        let timeout = time_left.unwrap_or(Duration::from_secs(15));
        if self.rng.permille(100) {
            return self.request(Request::Exit { code: 1 }); // it leaves the rest to the holder
        }
        self.request(Request::Stopping { timeout });
        let within = timeout / 2;
        for (name, generation) in self.busy_instances() {
            self.request(Request::Stop {
                name,
                generation,
                within,
            });
        }
        // Some leave the kill to the deadlines of the stops.
        if self.rng.permille(500) {
            self.later(within, RuntimeTimer::KillAll);
        }
        self.exit_if_stopped();
    }

    fn exit_if_stopped(&mut self) {
        let Some(runtime) = &self.runtime else {
            return;
        };
        let rests = |view: &View| matches!(view, View::Idle(_));
        if runtime.views.values().all(rests) {
            let epoch = runtime.epoch;
            self.request(Request::Exit { code: 0 });
            self.after(Duration::from_millis(20), Item::RuntimeExits(epoch));
        }
    }

    /// A message of the holder, on its way.
    pub(super) fn send(&mut self, delivery: Delivery) -> Checked {
        let late = self.rng.permille(30);
        let delay = Duration::from_millis(if late { 900 } else { 2 });
        let arrival = self.now + self.rng.span(delay);
        let Some((epoch, _, to_runtime)) = &mut self.channel else {
            return Ok(()); // closed a moment ago
        };
        *to_runtime = arrival.max(*to_runtime);
        let (epoch, at) = (*epoch, *to_runtime);
        self.at(at, Item::ToRuntime(epoch, delivery));
        Ok(())
    }

    pub(super) fn start_runtime(&mut self, new_program: bool) -> Checked {
        if self.has_bug(HolderBug::IgnoreStart) && self.last_epoch > 0 {
            return Ok(());
        }
        if self.last_epoch > 0 && self.rng.permille(50) {
            let text = "cannot start it".to_owned();
            self.supervisor.start_failed(self.now, text);
            return Ok(());
        }
        self.connect_runtime()?;
        if new_program {
            self.break_new_program();
        }
        self.supervisor.runtime_started(self.now);
        self.roster.runtime_connected(self.now);
        if self.has_bug(HolderBug::ConnectTwice) {
            self.roster.runtime_connected(self.now);
        }
        Ok(())
    }

    /// A runtime is there, on a new channel.
    pub(super) fn connect_runtime(&mut self) -> Checked {
        self.last_epoch += 1;
        self.summary.runtimes += 1;
        self.check.runtime_started(self.runtime.is_some())?;
        let is_first = !self.configured;
        self.runtime = Some(FakeRuntime::new(self.last_epoch, is_first));
        self.channel = Some((self.last_epoch, self.now, self.now));
        Ok(())
    }

    pub(super) fn kill_runtime(&mut self) -> Checked {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let may_be_killed = runtime.unresponsive || runtime.may_be_killed;
        if !may_be_killed && !self.check.is_refused() {
            return Err(HolderViolation::ResponsiveKilled);
        }
        let epoch = runtime.epoch;
        let spares = self.has_bug(HolderBug::SpareRetiring) && runtime.may_be_killed;
        if !spares && !self.has_bug(HolderBug::IgnoreUnresponsive) {
            let delay = self.rng.span(Duration::from_millis(20));
            self.after(delay, Item::RuntimeExits(epoch));
        }
        Ok(())
    }

    pub(super) fn close_channel(&mut self) {
        self.channel = None;
        self.check.channel_closed();
        if !self.has_bug(HolderBug::MissDisconnect) {
            self.roster.runtime_disconnected();
        }
    }

    /// The runtime exits, for whatever reason.
    pub(super) fn runtime_exits(&mut self, epoch: u32) {
        if self.runtime.as_ref().is_some_and(|one| one.epoch == epoch) {
            self.note(|| format!("runtime {epoch} exits"));
            self.runtime = None;
            let delay = self.rng.span(Duration::from_millis(5));
            self.after(delay, Item::RuntimeReaped(epoch));
        }
    }
}
