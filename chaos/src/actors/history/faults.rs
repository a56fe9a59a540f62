//! What happens to a system in a history of the actors, drawn or replayed.
//! Owns how often. Never happens any more once it is quiet.

use std::time::Duration;

use mainstay::simulation::SimulatedRuntime;
use mainstay_policy::lifecycle::Operation;
use mainstay_policy::{ModuleId, MonoTime};

use super::{ANSWER_TIME, Checked, End, History, MS, Pending, Phase, RELOAD_TIME};
use crate::actors::fault::ActorFault;
use crate::actors::machine::Item;
use crate::actors::trace::Line;
use crate::actors::violation::ActorViolation;

impl History {
    /// When the first fault is due after a start from nothing.
    pub(super) fn first_fault_at(&self, now: MonoTime) -> MonoTime {
        let Some(faults) = &self.replayed else {
            return now;
        };
        let next = faults.front().map_or(self.replay_end, |(at, _)| *at);
        next.max(now)
    }

    pub(super) fn fault(
        &mut self,
        runtime: &SimulatedRuntime,
    ) -> Result<Option<End>, ActorViolation> {
        if self.phase != Phase::Faults {
            return Ok(None);
        }
        let fault = match self.replayed.is_some() {
            true => self.next_replayed(),
            false => self.draw_fault(runtime),
        };
        let now = self.machine.world().now();
        self.look_at_answers(now)?;
        self.summary.faults += 1;
        let Some(fault) = fault else {
            return Ok(None);
        };
        {
            let mut world = self.machine.world();
            world.choices.record_fault(now, fault.clone());
        }
        self.happens(runtime, fault)
    }

    /// The next fault of a record; without one the faults are over.
    fn next_replayed(&mut self) -> Option<ActorFault> {
        let now = self.machine.world().now();
        let due = |(at, _): &mut (MonoTime, ActorFault)| *at <= now;
        let faults = self.replayed.as_mut()?;
        let fault = faults.pop_front_if(due).map(|(_, fault)| fault);
        if fault.is_none() && faults.is_empty() && now >= self.replay_end {
            self.faults_left = 0;
            return None;
        }
        let next = self.first_fault_at(now);
        self.machine.world().push(next, Item::Fault);
        fault
    }

    fn draw_fault(&mut self, runtime: &SimulatedRuntime) -> Option<ActorFault> {
        let gap = match self.options.is_wild && self.rng.permille(300) {
            true => MS(10),
            false => MS(self.options.gap_ms * 2),
        };
        let span = self.rng.span(gap);
        {
            let mut world = self.machine.world();
            let next = world.now().after(span);
            world.push(next, Item::Fault);
        }
        self.faults_left = self.faults_left.saturating_sub(1);
        let names: Vec<String> = runtime.plan().modules().map(|it| it.name.clone()).collect();
        let nth = usize::try_from(self.rng.below(names.len() as u64)).unwrap_or(0);
        let name = names.get(nth)?.clone();
        Some(match self.rng.below(100) {
            0..=34 => ActorFault::Request(name, self.draw_operation()),
            35..=59 => match self.rng.permille(200) {
                true => ActorFault::Hang(name),
                false => ActorFault::Crash(name),
            },
            60..=69 => {
                let nth = self.rng.below(1 << 20);
                ActorFault::ActorDies(usize::try_from(nth).unwrap_or(0))
            }
            70..=75 => ActorFault::RuntimeDies,
            76..=83 if self.options.reloads => {
                let is_broken = self.rng.permille(150);
                let what = self.config.edit(&mut self.rng, self.options.is_wild);
                let text = self.config.render();
                ActorFault::Reload {
                    what,
                    text,
                    is_broken,
                }
            }
            84..=86 => ActorFault::Sleep(self.rng.span(Duration::from_secs(60))),
            87..=89 => {
                let ms = i64::try_from(self.rng.below(7_200_000)).unwrap_or(0);
                ActorFault::ClockJumps(ms - 3_600_000)
            }
            90..=91 => ActorFault::DrainLost,
            92 => ActorFault::HolderDies,
            93 if self.options.is_wild => ActorFault::StopAll,
            _ => ActorFault::Nothing,
        })
    }

    fn draw_operation(&mut self) -> Operation {
        match self.rng.below(10) {
            0..=3 => Operation::Start,
            4..=5 => Operation::Stop,
            6..=7 => Operation::Restart,
            8 => Operation::Recover,
            _ => Operation::Wake,
        }
    }

    fn happens(
        &mut self,
        runtime: &SimulatedRuntime,
        fault: ActorFault,
    ) -> Result<Option<End>, ActorViolation> {
        if !matches!(fault, ActorFault::ActorDies(_) | ActorFault::Nothing) {
            self.say(fault.to_string());
        }
        match fault {
            ActorFault::Nothing => {}
            ActorFault::Request(name, operation) => self.request(runtime, name, operation),
            ActorFault::Crash(name) => self.machine.world().break_process(&name, false),
            ActorFault::Hang(name) => self.machine.world().break_process(&name, true),
            ActorFault::ActorDies(nth) => self.kill_actor(runtime, nth),
            ActorFault::RuntimeDies => return Ok(Some(End::Died)),
            ActorFault::HolderDies => self.machine.world().holder_dies(),
            ActorFault::Reload {
                text, is_broken, ..
            } => self.reload(runtime, text, is_broken)?,
            ActorFault::Sleep(span) => {
                self.summary.sleeps += 1;
                self.machine.world().sleep(span);
                for (_, by) in &mut self.reloads {
                    *by = by.after(span);
                }
                for pending in &mut self.pending {
                    pending.by = pending.by.after(span);
                }
            }
            ActorFault::ClockJumps(ms) => {
                self.summary.jumps += 1;
                self.machine.world().jump_wall_clock(ms);
            }
            ActorFault::DrainLost => {
                self.summary.lost_drains += 1;
                self.machine.world().lose_drains += 1;
            }
            ActorFault::StopAll => {
                if !runtime.stop() {
                    return Err(ActorViolation::Overflow);
                }
                // What is requested from here on is refused.
                self.wishes.clear();
            }
        }
        Ok(None)
    }

    pub(super) fn say(&self, text: String) {
        let mut world = self.machine.world();
        let now = world.now();
        world.trace.push(now, Line::Fault(text));
    }

    fn kill_actor(&mut self, runtime: &SimulatedRuntime, nth: usize) {
        let now = self.machine.world().now();
        while self
            .deaths
            .front()
            .is_some_and(|at| now.since(*at) > Duration::from_secs(61))
        {
            self.deaths.pop_front();
        }
        if let Some(actor) = runtime.kill_actor(nth) {
            self.deaths.push_back(now);
            self.summary.actor_deaths += 1;
            self.say(format!("the actor {actor} dies"));
            let slot = actor.strip_prefix("module ").and_then(|id| id.parse().ok());
            let plan = runtime.plan();
            if let Some(module) = slot.and_then(|id| plan.get(ModuleId(id))) {
                self.machine.world().module_actor_died(&module.name);
            }
            // A message that it had not handled is lost with it.
            self.wishes.clear();
        }
    }

    fn request(&mut self, runtime: &SimulatedRuntime, module: String, operation: Operation) {
        self.summary.requests += 1;
        match operation {
            Operation::Stop => _ = self.stopped.insert(module.clone()),
            _ => {
                self.wishes.clear();
                self.stopped.remove(&module);
            }
        }
        let by = self.machine.world().now().after(ANSWER_TIME);
        if let Some(answer) = runtime.request(&module, operation) {
            self.pending.push(Pending {
                module,
                operation,
                answer,
                by,
            });
        }
    }

    fn reload(&mut self, runtime: &SimulatedRuntime, text: String, is_broken: bool) -> Checked {
        let mistake = if is_broken {
            "\n[module.x]\nnonsense = 1\n"
        } else {
            ""
        };
        self.write_config(&format!("{text}{mistake}"))?;
        self.text = text;
        self.wishes.clear();
        let by = self.machine.world().now().after(RELOAD_TIME);
        self.reloads.push((runtime.reload(), by));
        Ok(())
    }
}
