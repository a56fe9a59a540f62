//! The simulated processes: they start, fail, hang, are probed and end as the fault file says.
//! Owns what really lives. Never decides what follows: it is reported as a machine would.

use std::time::Duration;

use mainstay_policy::health::{ProbeAction, ProbeTracker, combine};
use mainstay_policy::lifecycle::LifecycleEvent;
use mainstay_policy::run::{Exit, RunEvent};
use mainstay_policy::spec::{Kind, Readiness};
use mainstay_policy::{Health, ModuleId, MonoTime};
use mainstay_process::{ProbeRole, Signal};

use super::fault_file::{ModuleFaults, TimeRange};
use super::history::{BEGIN, History, SimEvent};
use crate::config::{ProbeKind, ProbeSpec};

/// A probe that is answered takes this long.
const ANSWER: Duration = Duration::from_millis(10);
/// From the kill to the exit.
const KILL_TAKES: Duration = Duration::from_millis(1);

/// A process.
pub(super) struct SimProcess {
    generation: u64,
    /// From when on it works.
    ready_from: MonoTime,
    pub(super) hangs: bool,
    ignores_stop: bool,
    probes: Vec<ProbeState>,
    /// What the lifecycle knows of it.
    reported: (Health, bool),
}

/// One probe of it.
struct ProbeState {
    tracker: ProbeTracker,
    /// Nothing could change its result: it is not probed for now.
    rests: bool,
}

impl SimProcess {
    /// Whether it works.
    pub(super) fn is_well(&self, now: MonoTime) -> bool {
        self.ready_from <= now && !self.hangs
    }
}

impl History<'_> {
    fn faults(&self, module: ModuleId) -> ModuleFaults {
        let model = self.model.module(module);
        model.map(|model| model.faults.clone()).unwrap_or_default()
    }

    fn probes(&self, module: ModuleId) -> &[ProbeSpec] {
        let model = self.model.module(module);
        model.map_or(&[], |model| &model.probes)
    }

    pub(super) fn schedule_outages(&mut self) {
        for module in self.model.ids() {
            for TimeRange(from, _) in self.faults(module).down {
                self.at(BEGIN.after(from), SimEvent::Outage(module));
            }
        }
    }

    fn is_down(&self, faults: &ModuleFaults) -> bool {
        let since_begin = self.now.since(BEGIN);
        let mut down = faults.down.iter();
        down.any(|TimeRange(from, to)| *from <= since_begin && since_begin < *to)
    }

    /// A process begins, and with it what it will do.
    pub(super) fn spawn(&mut self, module: ModuleId, generation: u64) {
        let (now, faults) = (self.now, self.faults(module));
        let spec = self.model.spec(module);
        let takes = self
            .chance
            .between((faults.start_takes.0, faults.start_takes.1));
        let fails = self.chance.happens(faults.start_fails) || self.is_down(&faults);
        let hangs = self.chance.happens(faults.start_hangs) && !fails;
        let ends = now.after(takes);
        let is_task = spec.kind == Kind::Task;
        let ready_from = match fails || hangs {
            true => MonoTime::NEVER,
            false if is_task => now,
            false => ends,
        };
        self.processes[module.index()] = Some(SimProcess {
            generation,
            ready_from,
            hangs,
            ignores_stop: self.chance.happens(faults.stop_hangs),
            probes: Vec::new(),
            reported: (Health::Unknown, true),
        });
        self.tell_run(module, RunEvent::Spawned { generation, pid: 1 });
        if fails || (is_task && !hangs) {
            let code = if fails { faults.exit_code } else { 0 };
            self.at(ends, SimEvent::Exit(module, generation, Exit::Code(code)));
        }
        if fails || hangs {
            return;
        }
        use Readiness::{Fd, Log, Notify};
        if matches!(spec.readiness, Notify | Log(_) | Fd(_)) {
            self.at(ready_from, SimEvent::Ready(module, generation));
        }
        if let Some(every) = spec.watchdog {
            self.at(now.after(every / 2), SimEvent::Feed(module, generation));
        }
        if is_task {
            return;
        }
        if let Some(mean) = faults.crashes_every {
            let at = ends.after(self.chance.until_next(mean.0));
            let exit = Exit::Code(faults.exit_code);
            self.at(at, SimEvent::Exit(module, generation, exit));
        }
        if let Some(mean) = faults.hangs_every {
            let at = ends.after(self.chance.until_next(mean.0));
            self.at(at, SimEvent::Hang(module, generation));
        }
    }

    fn process(&mut self, module: ModuleId, generation: u64) -> Option<&mut SimProcess> {
        let process = self.processes[module.index()].as_mut();
        process.filter(|process| process.generation == generation)
    }

    pub(super) fn terminate(&mut self, module: ModuleId, generation: u64) {
        let takes = self.faults(module).stop_takes;
        let takes = self.chance.between((takes.0, takes.1));
        let at = self.now.after(takes);
        let process = self.process(module, generation);
        if process.is_some_and(|process| !process.ignores_stop && !process.hangs) {
            self.at(
                at,
                SimEvent::Exit(module, generation, by(Signal::TERMINATE)),
            );
        }
    }

    pub(super) fn kill(&mut self, module: ModuleId, generation: u64) {
        let at = self.now.after(KILL_TAKES);
        self.at(at, SimEvent::Exit(module, generation, by(Signal::KILL)));
    }

    /// Something happens to a process; to one that has ended nothing does.
    pub(super) fn happen_to_process(&mut self, event: SimEvent) {
        match event {
            SimEvent::Exit(module, generation, exit) => {
                if self.process(module, generation).is_some() {
                    self.processes[module.index()] = None;
                    self.is_changed = true;
                    self.tell_run(module, RunEvent::Exited { generation, exit });
                }
            }
            SimEvent::Ready(module, generation) => {
                if self.process(module, generation).is_some_and(|it| !it.hangs) {
                    self.tell_run(module, RunEvent::ReadyReported { generation });
                }
            }
            SimEvent::Feed(module, generation) => {
                let every = self.model.spec(module).watchdog;
                let lives = self.process(module, generation).is_some_and(|it| !it.hangs);
                if let Some(every) = every.filter(|_| lives) {
                    self.tell_run(module, RunEvent::WatchdogFed { generation });
                    let at = self.now.after(every / 2);
                    self.at(at, SimEvent::Feed(module, generation));
                }
            }
            SimEvent::Hang(module, generation) => self.hang(module, generation),
            SimEvent::Probe(module, generation, nth) => self.probed(module, generation, nth),
            SimEvent::Outage(module) => {
                let code = self.faults(module).exit_code;
                if let Some(generation) = self.processes[module.index()]
                    .as_ref()
                    .map(|process| process.generation)
                {
                    let exit = Exit::Code(code);
                    self.at(self.now, SimEvent::Exit(module, generation, exit));
                }
            }
            SimEvent::RunTimer(_) | SimEvent::LifecycleTimer => {}
        }
    }

    fn hang(&mut self, module: ModuleId, generation: u64) {
        let intervals: Vec<Duration> = self.probes(module).iter().map(|it| it.interval).collect();
        let Some(process) = self.process(module, generation) else {
            return;
        };
        process.hangs = true;
        let resting = process.probes.iter_mut().enumerate();
        let resting =
            resting.filter_map(|(nth, probe)| std::mem::take(&mut probe.rests).then_some(nth));
        let resting: Vec<usize> = resting.collect();
        self.is_changed = true;
        // At some time within its interval each of them would have looked.
        for nth in resting {
            let after = self.chance.between((Duration::ZERO, intervals[nth]));
            self.at(
                self.now.after(after),
                SimEvent::Probe(module, generation, nth),
            );
        }
    }

    /// A run is ready: from here on it is probed.
    pub(super) fn begin_probes(&mut self, module: ModuleId, generation: u64) {
        let probes = self.probes(module).to_vec();
        let Some(process) = self.process(module, generation) else {
            return;
        };
        process.probes.clear();
        for spec in &probes {
            let tracker = ProbeTracker::new(spec.unhealthy_threshold, spec.healthy_threshold);
            process.probes.push(ProbeState {
                tracker: tracker.with_role(spec.role),
                rests: false,
            });
        }
        for (nth, spec) in probes.iter().enumerate() {
            let at = self.now.after(spec.initial_delay).after(ANSWER);
            self.at(at, SimEvent::Probe(module, generation, nth));
        }
    }

    fn probed(&mut self, module: ModuleId, generation: u64, nth: usize) {
        let Some(spec) = self.probes(module).get(nth).cloned() else {
            return;
        };
        let loss = self.faults(module).probe_fails;
        // The watchdog judges by itself, and startup probes belong to the start.
        let is_passive =
            matches!(spec.check, ProbeKind::Watchdog(_)) || spec.role == ProbeRole::Startup;
        let (now, is_lost) = (self.now, !is_passive && self.chance.happens(loss));
        let Some(process) = self.process(module, generation) else {
            return;
        };
        let answers = is_passive || process.is_well(now);
        let Some(state) = process.probes.get_mut(nth) else {
            return;
        };
        let seen = match answers && !is_lost {
            true => Health::Healthy,
            false => Health::Unhealthy,
        };
        let action = state.tracker.record(seen);
        let is_settled = state.tracker.health() == Health::Healthy;
        state.rests = answers && is_settled && (is_passive || loss == 0.0);
        let (rests, takes) = (state.rests, if answers { ANSWER } else { spec.timeout });
        let health = combine(process.probes.iter().map(|probe| probe.tracker.health()));
        let passes = process.probes.iter().all(|it| it.tracker.has_passed());
        let restart = action == ProbeAction::Restart;
        if restart || (health, passes) != process.reported {
            process.reported = (health, passes);
            self.tell_lifecycle(LifecycleEvent::Health {
                module,
                generation,
                health,
                passes,
                restart,
            });
        }
        if !rests {
            let pause = match action {
                ProbeAction::Recheck => takes,
                ProbeAction::Continue | ProbeAction::Restart => spec.interval + takes,
            };
            self.at(now.after(pause), SimEvent::Probe(module, generation, nth));
        }
    }
}

fn by(signal: Signal) -> Exit {
    Exit::Signal {
        signal,
        core: false,
    }
}
