//! The checkers: what must hold after every step, whatever happens.
//! Owns a second, simpler picture of the system, built only from what was said and done.
//! Never asks the policy why; only the last check, of a quiet system, looks at its views.

use std::collections::VecDeque;
use std::time::Duration;

use crate::violation::Violation;
use mainstay_policy::lifecycle::{Effect, Wish};
use mainstay_policy::module::{Ending, Exit, Report, Reported};
use mainstay_policy::recovery::Verdict;
use mainstay_policy::spec::{Edge, Kind, Start, Until};
use mainstay_policy::{Health, ModuleId, Plan, Time};

mod rest;
mod returns;

pub use returns::RunSeen;

/// The result of a check.
pub type Checked = Result<(), Violation>;

/// How late things may be because news and orders take time.
const SLACK: Duration = Duration::from_secs(3);
/// What the death of one process adds to a stop of everything.
const SLACK_A_MODULE: Duration = Duration::from_millis(100);

/// How far wishes reach a module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    /// Wished up by name, or by the first start.
    wished: bool,
    /// That, or needed by one that is.
    allowed: bool,
    /// Stopped by name, and reached by no wish since.
    put_down: bool,
}

#[derive(Debug, Clone, Default)]
struct Shadow {
    /// Ordered to run, and not known as ended.
    out: bool,
    halted: bool,
    generation: u64,
    started: bool,
    ready: Option<Time>,
    /// Since when the run earns stability; unlike `ready` it outlives the runtime.
    stable_from: Option<Time>,
    healthy: bool,
    completed: bool,
    reach: Reach,
    /// The place of its last run among all runs, and of the last that was a restart for others: a
    /// start after an end as it may be is none.
    run: u64,
    restart: u64,
    rests: bool,
    stop_by: Option<Time>,
    attempts: VecDeque<Time>,
    coming_back: bool,
    uses_token: bool,
}

/// The second picture.
#[derive(Debug)]
pub struct Checker {
    shadows: Vec<Shadow>,
    restarting: u32,
    runs: u64,
    /// The stop of everything is on its way, until then.
    stop_by: Option<Time>,
    stopped: bool,
    /// The plan forbids parallel starts, and the first one is not over.
    serial: bool,
}

impl Checker {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Checker {
        Checker {
            shadows: vec![Shadow::default(); plan.len()],
            restarting: 0,
            runs: 0,
            stop_by: None,
            stopped: false,
            serial: !plan.system().parallel_startup,
        }
    }

    /// Whether the stop of everything was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn of(&mut self, module: ModuleId) -> &mut Shadow {
        &mut self.shadows[module.index()]
    }

    /// Everything eager is wished up.
    pub fn booted(&mut self, plan: &Plan) {
        for module in plan.ids() {
            if plan.module(module).start == Start::Eager {
                self.allow(plan, module);
            }
        }
    }

    fn allow(&mut self, plan: &Plan, module: ModuleId) {
        let mut more = vec![module];
        self.of(module).reach.wished = true;
        while let Some(module) = more.pop() {
            let reach = &mut self.of(module).reach;
            (reach.allowed, reach.put_down) = (true, false);
            more.extend(
                plan.dependencies(module)
                    .iter()
                    .filter(|e| e.hard)
                    .map(|e| e.to),
            );
        }
    }

    /// Somebody wished.
    pub fn wished(&mut self, plan: &Plan, module: ModuleId, wish: Wish) {
        if self.is_stopping() {
            return;
        }
        match wish {
            Wish::Stop => {
                self.of(module).reach = Reach {
                    put_down: true,
                    ..Reach::default()
                };
            }
            Wish::Start | Wish::Restart => self.allow(plan, module),
            Wish::Wake => {
                let shadow = self.of(module);
                let lazy = plan.module(module).start == Start::Lazy;
                if !lazy || shadow.reach.put_down || shadow.out || shadow.coming_back {
                    return;
                }
                let before = shadow.reach;
                self.allow(plan, module);
                // One that others may have brought up, or not: it need not be asleep.
                self.of(module).reach.wished = before.wished || !before.allowed;
            }
        }
        // A wish forgives: it may reach further than its module, and all that it reaches may
        // start anew.
        for module in plan.ids() {
            if wish != Wish::Stop || !self.shadows[module.index()].reach.allowed {
                let shadow = self.of(module);
                shadow.attempts.clear();
                shadow.coming_back = false;
            }
        }
    }

    /// The stop of everything was asked for.
    pub fn stop_asked(&mut self, plan: &Plan, now: Time, budget: Duration) {
        let modules = u32::try_from(plan.len()).unwrap_or(u32::MAX);
        let by = now.after(budget + SLACK_A_MODULE * modules);
        self.stop_by = Some(self.stop_by.map_or(by, |before| before.min(by)));
    }

    /// A process is about to be made.
    ///
    /// # Errors
    /// One lives already.
    pub fn spawning(&self, module: ModuleId, one_lives: bool) -> Checked {
        ensure(!one_lives, || Violation::TwoProcesses(module))
    }

    /// A report reaches the lifecycle.
    ///
    /// # Errors
    /// It cannot be: said twice, or too late.
    pub fn reported(
        &mut self,
        plan: &Plan,
        now: Time,
        module: ModuleId,
        report: Report,
    ) -> Checked {
        let spec = plan.module(module);
        let shadow = self.of(module);
        if shadow.generation != report.generation || !shadow.out {
            return Ok(());
        }
        match report.what {
            Reported::Started { .. } => shadow.started = true,
            Reported::Extended { .. } => {}
            Reported::Ready => {
                if !shadow.halted {
                    shadow.ready.get_or_insert(now);
                    shadow.stable_from.get_or_insert(now);
                    self.give_token_back(module);
                }
            }
            Reported::Ended(ending) => {
                let late = shadow.stop_by.is_some_and(|by| now > by);
                let lasted = shadow
                    .stable_from
                    .map_or(Duration::ZERO, |since| now.since(since));
                let paid = lasted.as_nanos() / spec.recovery.stable_after.as_nanos().max(1);
                for _ in 0..paid.min(shadow.attempts.len() as u128) {
                    shadow.attempts.pop_front();
                }
                let clean = matches!(ending, Ending::Exited(Exit::Code(code))
                    if spec.recovery.clean_exit_codes.contains(&code));
                shadow.completed = clean && !shadow.halted;
                (shadow.out, shadow.halted, shadow.stop_by) = (false, false, None);
                (shadow.started, shadow.ready, shadow.healthy) = (false, None, false);
                shadow.stable_from = None;
                self.give_token_back(module);
                return ensure(!late, || Violation::StopHangs(module));
            }
        }
        Ok(())
    }

    fn give_token_back(&mut self, module: ModuleId) {
        if std::mem::take(&mut self.of(module).uses_token) {
            self.restarting -= 1;
        }
    }

    /// How a run feels reaches the lifecycle.
    pub fn felt(&mut self, module: ModuleId, generation: u64, health: Health) {
        let shadow = self.of(module);
        if shadow.out && !shadow.halted && shadow.generation == generation {
            shadow.healthy = health == Health::Healthy;
        }
    }

    /// The lifecycle decided.
    ///
    /// # Errors
    /// It should not have.
    pub fn decided(&mut self, plan: &Plan, now: Time, effect: &Effect) -> Checked {
        match effect {
            Effect::Run { module, generation } => self.runs(plan, *module, *generation),
            Effect::Halt {
                module,
                grace,
                limit,
                ..
            } => self.halts(plan, now, *module, *grace + *limit),
            Effect::Judged {
                module, verdict, ..
            } => self.judged(plan, now, *module, *verdict),
            Effect::StartupFailed { .. } => {
                self.stop_asked(plan, now, plan.system().shutdown_timeout);
                Ok(())
            }
            Effect::StartupCompleted => {
                self.serial = false;
                Ok(())
            }
            Effect::AllStopped { .. } => {
                let out = self.shadows.iter().any(|shadow| shadow.out);
                let twice = std::mem::replace(&mut self.stopped, true);
                ensure(!out && !twice, || Violation::NotStopped)?;
                let late = self.stop_by.is_none_or(|by| now > by);
                ensure(!late, || Violation::StopTooLong)
            }
            Effect::Tell { .. } | Effect::Moved { .. } => Ok(()),
        }
    }

    fn runs(&mut self, plan: &Plan, module: ModuleId, generation: u64) -> Checked {
        let shadow = &self.shadows[module.index()];
        ensure(!shadow.out && generation > shadow.generation, || {
            Violation::RunTwice(module)
        })?;
        ensure(shadow.reach.allowed && !self.is_stopping(), || {
            Violation::StartedThoughDown(module)
        })?;
        for edge in plan.dependencies(module).iter().filter(|edge| edge.hard) {
            ensure(self.is_met(plan, edge), || {
                Violation::StartedTooEarly(module, edge.to)
            })?;
        }
        let tokens = plan.system().concurrent_restarts;
        let (serial, run) = (self.serial, self.runs + 1);
        let shadow = self.of(module);
        let attempts = std::mem::take(&mut shadow.attempts);
        let uses_token = shadow.coming_back && tokens > 0 && !serial;
        *shadow = Shadow {
            out: true,
            generation,
            reach: shadow.reach,
            run,
            restart: if shadow.rests { shadow.restart } else { run },
            attempts,
            uses_token,
            ..Shadow::default()
        };
        self.runs = run;
        self.restarting += u32::from(uses_token);
        ensure(!uses_token || self.restarting <= tokens, || {
            Violation::TooManyRestarts(module)
        })
    }

    fn is_met(&self, plan: &Plan, edge: &Edge) -> bool {
        let (target, kind) = (&self.shadows[edge.to.index()], plan.module(edge.to).kind);
        let up = target.out && !target.halted;
        match (kind, edge.until) {
            (Kind::Builtin, _) => true,
            (Kind::Task, _) | (_, Until::Completed) if target.completed => true,
            (_, Until::Started) => up && target.started,
            (_, Until::Ready) => up && target.ready.is_some(),
            (_, Until::Healthy) => up && target.ready.is_some() && target.healthy,
            (_, Until::Completed) => false,
        }
    }

    fn halts(&mut self, plan: &Plan, now: Time, module: ModuleId, most: Duration) -> Checked {
        let stopping = self.is_stopping();
        let shadow = self.of(module);
        let again = std::mem::replace(&mut shadow.halted, true);
        let by = now.after(most).after(SLACK);
        shadow.stop_by = Some(shadow.stop_by.map_or(by, |before| before.min(by)));
        if again {
            return Ok(());
        }
        let wished_down = !shadow.reach.allowed;
        for dependent in plan.dependents(module) {
            let needs = dependent.hard && dependent.until != Until::Completed;
            if stopping || (wished_down && needs) {
                let out = self.shadows[dependent.from.index()].out;
                ensure(!out, || Violation::StopOrder(module, dependent.from))?;
            }
        }
        Ok(())
    }

    fn judged(&mut self, plan: &Plan, now: Time, module: ModuleId, verdict: Verdict) -> Checked {
        let recovery = &plan.module(module).recovery;
        let shadow = self.of(module);
        shadow.rests = verdict == Verdict::Done;
        if let Verdict::Retry { after } = verdict {
            shadow.coming_back = true;
            shadow.attempts.retain(|at| at.after(recovery.window) > now);
            shadow.attempts.push_back(now);
            let count = shadow.attempts.len();
            let within = recovery.max_attempts == 0 || count <= recovery.max_attempts as usize;
            let spaced = count < 2 || after >= recovery.backoff.floor;
            return ensure(within && spaced, || Violation::BudgetExceeded(module));
        }
        Ok(())
    }

    /// After `AllStopped` everything begins anew; the system knows the `newest` generations.
    pub fn rebooted(&mut self, plan: &Plan, newest: impl Fn(ModuleId) -> u64) {
        *self = Checker::new(plan);
        for module in plan.ids() {
            self.of(module).generation = newest(module);
        }
        self.booted(plan);
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> Violation) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}
