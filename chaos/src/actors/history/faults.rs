//! What happens to a system in a history of the actors.
//! Owns how often. Never happens any more once it is quiet.

use std::time::Duration;

use mainstay::simulation::SimulatedRuntime;
use mainstay_policy::lifecycle::Operation;

use super::{ANSWER_TIME, Checked, End, History, MS, Pending, Phase, RELOAD_TIME};
use crate::actors::machine::Item;
use crate::actors::trace::Line;
use crate::actors::violation::ActorViolation;

impl History {
    pub(super) fn fault(
        &mut self,
        runtime: &SimulatedRuntime,
    ) -> Result<Option<End>, ActorViolation> {
        if self.phase != Phase::Faults {
            return Ok(None);
        }
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
        let now = self.machine.world().now();
        self.look_at_answers(now)?;
        self.faults_left = self.faults_left.saturating_sub(1);
        self.summary.faults += 1;
        let names: Vec<String> = runtime.plan().modules().map(|it| it.name.clone()).collect();
        let nth = usize::try_from(self.rng.below(names.len() as u64)).unwrap_or(0);
        let Some(name) = names.get(nth) else {
            return Ok(None);
        };
        match self.rng.below(100) {
            0..=34 => self.request(runtime, name),
            35..=59 => {
                let hang = self.rng.permille(200);
                self.say(format!("{name} {}", if hang { "hangs" } else { "crashes" }));
                self.machine.world().break_process(name, hang);
            }
            60..=69 => self.kill_actor(runtime),
            70..=75 => {
                self.say("the runtime dies".to_owned());
                return Ok(Some(End::Died));
            }
            76..=83 if self.options.reloads => self.reload(runtime)?,
            84..=86 => {
                let span = self.rng.span(Duration::from_secs(60));
                self.say(format!("the machine sleeps for {span:.1?}"));
                self.summary.sleeps += 1;
                self.machine.world().sleep(span);
                for (_, by) in &mut self.reloads {
                    *by = by.after(span);
                }
                for pending in &mut self.pending {
                    pending.by = pending.by.after(span);
                }
            }
            87..=89 => {
                let ms = i64::try_from(self.rng.below(7_200_000)).unwrap_or(0) - 3_600_000;
                self.say(format!("the wall clock jumps by {ms} ms"));
                self.summary.jumps += 1;
                self.machine.world().jump_wall_clock(ms);
            }
            90..=92 => {
                self.say("the next drain is lost".to_owned());
                self.summary.lost_drains += 1;
                self.machine.world().lose_drains += 1;
            }
            93 if self.options.is_wild => {
                self.say("everything is stopped".to_owned());
                if !runtime.stop() {
                    return Err(ActorViolation::Overflow);
                }
                // What is requested from here on is refused.
                self.wishes.clear();
            }
            _ => {}
        }
        Ok(None)
    }

    pub(super) fn say(&self, text: String) {
        let mut world = self.machine.world();
        let now = world.now();
        world.trace.push(now, Line::Fault(text));
    }

    fn kill_actor(&mut self, runtime: &SimulatedRuntime) {
        let now = self.machine.world().now();
        while self
            .deaths
            .front()
            .is_some_and(|at| now.since(*at) > Duration::from_secs(61))
        {
            self.deaths.pop_front();
        }
        let nth = usize::try_from(self.rng.below(1 << 20)).unwrap_or(0);
        if let Some(actor) = runtime.kill_actor(nth) {
            self.deaths.push_back(now);
            self.summary.actor_deaths += 1;
            self.say(format!("the actor {actor} dies"));
            // A message that it had not handled is lost with it.
            self.wishes.clear();
        }
    }

    fn request(&mut self, runtime: &SimulatedRuntime, name: &str) {
        let operation = match self.rng.below(10) {
            0..=3 => Operation::Start,
            4..=5 => Operation::Stop,
            6..=7 => Operation::Restart,
            8 => Operation::Recover,
            _ => Operation::Wake,
        };
        self.say(format!(
            "request: {} {name}",
            format!("{operation:?}").to_lowercase()
        ));
        self.summary.requests += 1;
        if operation != Operation::Stop {
            self.wishes.clear();
        }
        let by = self.machine.world().now().after(ANSWER_TIME);
        if let Some(answer) = runtime.request(name, operation) {
            self.pending.push(Pending {
                module: name.to_owned(),
                operation,
                answer,
                by,
            });
        }
    }

    fn reload(&mut self, runtime: &SimulatedRuntime) -> Checked {
        let broken = self.rng.permille(150);
        let what = self.config.edit(&mut self.rng, self.options.is_wild);
        self.write_config()?;
        if broken {
            let path = self.folder.join("mainstay.toml");
            let text = format!("{}\n[module.x]\nnonsense = 1\n", self.config.render());
            let written = std::fs::write(path, text);
            written.map_err(|error| ActorViolation::NoStart(error.to_string()))?;
        }
        let broken = if broken { ", and a mistake" } else { "" };
        self.say(format!("reload: {what}{broken}"));
        self.wishes.clear();
        let by = self.machine.world().now().after(RELOAD_TIME);
        self.reloads.push((runtime.reload(), by));
        Ok(())
    }
}
