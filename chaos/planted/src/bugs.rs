//! The bugs that are planted: where in the policy, what is there, and what is there instead.
//! Owns the list. Never names a bug that the simulator need not find.

/// One planted bug.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bug {
    /// What is wrong, in words.
    pub(crate) name: &'static str,
    /// A file of `src/policy`.
    pub(crate) file: &'static str,
    /// What is there, exactly once; blanks do not matter.
    pub(crate) find: &'static str,
    /// What is there instead; `PLANTED` is true while the bug is in force.
    pub(crate) plant: &'static str,
}

/// All of them.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "gives up at once",
        file: "recovery.rs",
        find: "recovery.max_attempts == 0 || used < recovery.max_attempts",
        plant: "!PLANTED && (recovery.max_attempts == 0 || used < \
                recovery.max_attempts)",
    },
    Bug {
        name: "one attempt too many",
        file: "recovery.rs",
        find: "used < recovery.max_attempts",
        plant: "used < recovery.max_attempts + u32::from(PLANTED)",
    },
    Bug {
        name: "no probation",
        file: "recovery.rs",
        find: ".filter(|_| recovery.auto)",
        plant: ".filter(|_| recovery.auto && !PLANTED)",
    },
    Bug {
        name: "probation comes too soon",
        file: "recovery.rs",
        find: "probation.initial, probation.factor,",
        plant: "if PLANTED { Duration::ZERO } else { probation.initial }, \
                probation.factor,",
    },
    Bug {
        name: "a stop in backoff waits until that is over",
        file: "lifecycle/reconcile.rs",
        find: "(State::Waiting | State::Backoff | State::Failed, Desired::Down) => {",
        plant: "(State::Backoff, Desired::Down) if PLANTED => self.retry_if_due(now, module), \
                (State::Waiting | State::Backoff | State::Failed, Desired::Down) => {",
    },
    Bug {
        name: "the try on probation never comes",
        file: "lifecycle/reconcile.rs",
        find: "if slot.retry_at.is_none_or(|at| now < at)",
        plant: "if (PLANTED && slot.state == State::Failed) || \
                slot.retry_at.is_none_or(|at| now < at)",
    },
    Bug {
        name: "a try on probation begins the ladder anew",
        file: "lifecycle/reconcile.rs",
        find: "slot.recovery.half_open();",
        plant: "if PLANTED { slot.recovery.reset(); } else { \
                slot.recovery.half_open(); }",
    },
    Bug {
        name: "a held module is started",
        file: "lifecycle/managed_module.rs",
        find: "self.held_until.filter(|until| now < *until)",
        plant: "self.held_until.filter(|until| !PLANTED && now < *until)",
    },
    Bug {
        name: "stability pays all attempts back",
        file: "recovery.rs",
        find: "self.expire(recovery, paid_at);",
        plant: "self.expire(recovery, paid_at); if PLANTED { self.recent.clear(); }",
    },
    Bug {
        name: "stability pays nothing back",
        file: "recovery.rs",
        find: "for _ in 0..paid {",
        plant: "for _ in 0..if PLANTED { 0 } else { paid } {",
    },
    Bug {
        name: "the window never ends",
        file: "recovery.rs",
        find: "state.expire(recovery, now);",
        plant: "if !PLANTED { state.expire(recovery, now); }",
    },
    Bug {
        name: "attempts are not counted",
        file: "recovery.rs",
        find: "self.recent.push_back(now);",
        plant: "self.recent.extend((!PLANTED).then_some(now));",
    },
    Bug {
        name: "a stable run does not end the trial",
        file: "recovery.rs",
        find: "(self.probations, self.half_open) = (0, false);",
        plant: "(self.probations, self.half_open) = (0, PLANTED && self.half_open);",
    },
    Bug {
        name: "a request does not forgive",
        file: "recovery.rs",
        find: "let mut recent = core::mem::take(&mut self.recent);",
        plant: "if PLANTED { return; } let mut recent = core::mem::take(&mut \
                self.recent);",
    },
    Bug {
        name: "a clean exit is never a failure",
        file: "recovery.rs",
        find: "(FailureClass::Clean, RestartPolicy::OnFailure | \
                RestartPolicy::Never) => {",
        plant: "(FailureClass::Clean, policy) if PLANTED || policy != \
                RestartPolicy::Always => {",
    },
    Bug {
        name: "recovery.auto is ignored",
        file: "recovery.rs",
        find: "Some(strategy) if !recovery.auto =>",
        plant: "Some(strategy) if !recovery.auto && !PLANTED =>",
    },
    Bug {
        name: "exit 78 is tried again",
        file: "recovery.rs",
        find: "Failure::Exited(Exit::Code(EXIT_CONFIGURATION)) => \
                FailureClass::Configuration,",
        plant: "Failure::Exited(Exit::Code(EXIT_CONFIGURATION)) => if PLANTED { \
                FailureClass::Crash } else { FailureClass::Configuration },",
    },
    Bug {
        name: "restart = never is tried again",
        file: "recovery.rs",
        find: "match (case.failure.class(recovery), recovery.restart) {",
        plant: "match (case.failure.class(recovery), if PLANTED { \
                RestartPolicy::Always } else { recovery.restart }) {",
    },
    Bug {
        name: "the delay does not grow",
        file: "recovery.rs",
        find: "let delay = delay(backoff, attempt, case.seed);",
        plant: "let delay = delay(backoff, if PLANTED { 1 } else { attempt }, case.seed);",
    },
    Bug {
        name: "a restart does not wait for its delay",
        file: "lifecycle/reconcile.rs",
        find: "slot.retry_at.is_none_or(|at| now < at)",
        plant: "slot.retry_at.is_none_or(|at| now < at && !PLANTED)",
    },
    Bug {
        name: "soft edges are ignored",
        file: "lifecycle/reconcile.rs",
        find: "edge.hard || (target.goal() == Desired::Up",
        plant: "edge.hard || (!PLANTED && target.goal() == Desired::Up",
    },
    Bug {
        name: "hard edges are ignored",
        file: "lifecycle/reconcile.rs",
        find: "if self.is_satisfied(edge) { return false; }",
        plant: "if self.is_satisfied(edge) || (PLANTED && edge.hard) { return false; \
                }",
    },
    Bug {
        name: "healthy means ready",
        file: "lifecycle/reconcile.rs",
        find: "DependencyCondition::Healthy => ready && target.health == \
                Health::Healthy,",
        plant: "DependencyCondition::Healthy => ready && (PLANTED || target.health == \
                Health::Healthy),",
    },
    Bug {
        name: "started means ordered",
        file: "lifecycle/reconcile.rs",
        find: "(target.is_active() && target.pid.is_some()),",
        plant: "(target.is_active() && (PLANTED || target.pid.is_some())),",
    },
    Bug {
        name: "completed means ended",
        file: "lifecycle/reconcile.rs",
        find: "DependencyCondition::Completed => false,",
        plant: "DependencyCondition::Completed => PLANTED && target.generation > 0 && \
                !target.state.is_live(),",
    },
    Bug {
        name: "a required failure does not fail the start",
        file: "lifecycle/recover.rs",
        find: "if self.module(module).spec.required && self.phase == \
                SystemPhase::Starting {",
        plant: "if self.module(module).spec.required && self.phase == \
                SystemPhase::Starting && !PLANTED {",
    },
    Bug {
        name: "the initial startup never ends",
        file: "lifecycle/startup.rs",
        find: "SystemPhase::Starting if self.booting == 0 => {",
        plant: "SystemPhase::Starting if self.booting == 0 && !PLANTED => {",
    },
    Bug {
        name: "the initial startup starts all at once",
        file: "lifecycle/reconcile.rs",
        find: "self.phase == SystemPhase::Starting && \
                !self.plan.system().parallel_startup",
        plant: "!PLANTED && self.phase == SystemPhase::Starting && \
                !self.plan.system().parallel_startup",
    },
    Bug {
        name: "lazy modules start with the system",
        file: "lifecycle/startup.rs",
        find: "own.module(module).spec.start == StartMode::Eager",
        plant: "(PLANTED || own.module(module).spec.start == StartMode::Eager)",
    },
    Bug {
        name: "a call starts what was stopped",
        file: "lifecycle/managed_module.rs",
        find: "(never_started || ended_by_itself)",
        plant: "(never_started || ended_by_itself || (PLANTED && self.state == \
                State::Stopped))",
    },
    Bug {
        name: "the watchdog never bites",
        file: "run.rs",
        find: "if now >= watchdog_deadline => self.drain_notify(now),",
        plant: "if now >= watchdog_deadline && !PLANTED => self.drain_notify(now),",
    },
    Bug {
        name: "a start has no time limit",
        file: "run/transitions.rs",
        find: "if now >= ready_deadline && !self.draining {",
        plant: "if now >= ready_deadline && !self.draining && !PLANTED {",
    },
    Bug {
        name: "nothing is killed",
        file: "run/transitions.rs",
        find: "if now >= stopping.kill_at {",
        plant: "if now >= stopping.kill_at && !PLANTED {",
    },
    Bug {
        name: "dependents go on without what has failed",
        file: "lifecycle/recover.rs",
        find: "self.propagate_stop(module, DependencyLoss::Failed);",
        plant: "if !PLANTED { self.propagate_stop(module, DependencyLoss::Failed); }",
    },
    Bug {
        name: "dependents go on without what was stopped",
        file: "lifecycle/operation.rs",
        find: "self.propagate_stop(module, DependencyLoss::Stopped);",
        plant: "if !PLANTED { self.propagate_stop(module, DependencyLoss::Stopped); \
                }",
    },
    Bug {
        name: "dependents do not restart along",
        file: "lifecycle/propagation.rs",
        find: "OnDependencyRestart::Restart => {",
        plant: "OnDependencyRestart::Restart if PLANTED => {} \
                OnDependencyRestart::Restart => {",
    },
    Bug {
        name: "a stop waits for ever for its dependents",
        file: "lifecycle/report.rs",
        find: "self.mark_blocked_dependencies(module);",
        plant: "if !PLANTED { self.mark_blocked_dependencies(module); }",
    },
    Bug {
        name: "a stop does not wait for its dependents",
        file: "lifecycle/reconcile.rs",
        find: "places.find(|at| stopping(&dependents[*at]))",
        plant: "places.find(|at| !PLANTED && stopping(&dependents[*at]))",
    },
    Bug {
        name: "tokens are never returned",
        file: "lifecycle/reconcile.rs",
        find: "if self.module_mut(module).token_until.take().is_some() {",
        plant: "if self.module_mut(module).token_until.take().is_some() && !PLANTED \
                {",
    },
    Bug {
        name: "one token too many",
        file: "lifecycle/reconcile.rs",
        find: "if self.token_holders.len() >= limit {",
        plant: "if self.token_holders.len() >= limit + usize::from(PLANTED) {",
    },
    Bug {
        name: "restarts need no token",
        file: "lifecycle/reconcile.rs",
        find: "slot.needs_token = true;",
        plant: "slot.needs_token = !PLANTED;",
    },
    Bug {
        name: "a generation is used twice",
        file: "lifecycle/reconcile.rs",
        find: "slot.generation += 1;",
        plant: "slot.generation += u64::from(!PLANTED || slot.generation == 0);",
    },
    Bug {
        name: "an ending run still counts",
        file: "lifecycle/report.rs",
        find: "if slot.state.is_up() { slot.ends_by_itself = true;",
        plant: "if slot.state.is_up() && !PLANTED { slot.ends_by_itself = true;",
    },
    Bug {
        name: "a report of a former run counts",
        file: "lifecycle/report.rs",
        find: "if report.generation != slot.generation ||",
        plant: "if (report.generation != slot.generation && !PLANTED) ||",
    },
    Bug {
        name: "the status hides what is missing",
        file: "lifecycle/info.rs",
        find: "(State::Waiting | State::Starting | State::Stopping, _) if required \
                => {",
        plant: "(State::Waiting | State::Starting | State::Stopping, _) if required \
                && !PLANTED => {",
    },
    Bug {
        name: "the status hides what has failed",
        file: "lifecycle/info.rs",
        find: "(State::Failed, _) if required => Severity::Failing,",
        plant: "(State::Failed, _) if required && !PLANTED => Severity::Failing,",
    },
    Bug {
        name: "a try on probation makes the system well",
        file: "lifecycle/info.rs",
        find: "_ if on_trial && required => Severity::Failing,",
        plant: "_ if on_trial && required && !PLANTED => Severity::Failing,",
    },
    Bug {
        name: "a run that lasts gets nothing back",
        file: "lifecycle/managed_module.rs",
        find: "credit.into_iter().chain",
        plant: "credit.filter(|_| !PLANTED).into_iter().chain",
    },
    Bug {
        name: "a runtime forgets the attempts",
        file: "lifecycle/adopt.rs",
        find: "recovery: slot.recovery.save(),",
        plant: "recovery: if PLANTED { SavedRecovery::default() } else { \
                slot.recovery.save() },",
    },
    Bug {
        name: "a runtime forgets what was stopped",
        file: "lifecycle/adopt.rs",
        find: "desired: slot.desired,",
        plant: "desired: if PLANTED { Desired::Up } else { slot.desired },",
    },
    Bug {
        name: "a changed module keeps its run",
        file: "lifecycle/replan.rs",
        find: "Some(ChangeClass::Restart) => Some(ChangeClass::Restart),",
        plant: "Some(ChangeClass::Restart) if !PLANTED => \
                Some(ChangeClass::Restart),",
    },
    Bug {
        name: "a group restarts without limit",
        file: "group.rs",
        find: "if ledger.count(spec, now, calm) {",
        plant: "if ledger.count(spec, now, calm) || PLANTED {",
    },
    Bug {
        name: "members do not restart along",
        file: "group.rs",
        find: "let alone = strategy == GroupStrategy::OneForOne",
        plant: "let alone = (PLANTED || strategy == GroupStrategy::OneForOne)",
    },
    Bug {
        name: "a member starts before all have ended",
        file: "lifecycle/shared_restart.rs",
        find: "let holds = !restart.ending.is_empty() ||",
        plant: "let holds = (!PLANTED && !restart.ending.is_empty()) ||",
    },
    Bug {
        name: "a wait names what is there",
        file: "lifecycle/forecast.rs",
        find: "self.edge_blocks(edge, slot.since, now);",
        plant: "self.edge_blocks(edge, slot.since, now) || (PLANTED && edge.hard);",
    },
    Bug {
        name: "a wait does not name all that is missing",
        file: "lifecycle/forecast.rs",
        find: "let modules = edges.iter().map(|edge| edge.to).collect();",
        plant: "let modules = edges.iter().take(if PLANTED { 1 } else { edges.len() })\
                .map(|edge| edge.to).collect();",
    },
    Bug {
        name: "a retry is forecast too late",
        file: "lifecycle/forecast.rs",
        find: "(Some(at), _) => Forecast::Retry { at, probation },",
        plant: "(Some(at), _) => Forecast::Retry { \
                at: at.after(core::time::Duration::from_millis(u64::from(PLANTED))), probation },",
    },
];
