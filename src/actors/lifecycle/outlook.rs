//! What follows for a module and why it is where it is, in words, for `why`.
//! Owns the sentences about forecasts and about chains of modules that wait for each other.
//! Never decides and never guesses: policy forecasts, the notes of the lifecycle say what failed.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_policy::lifecycle::{Forecast, ModuleInfo, Supposition};
use mainstay_policy::recovery::{EXIT_CONFIGURATION, Verdict};
use mainstay_policy::run::RunEnd;
use mainstay_policy::spec::{Kind, StartMode, Strategy};
use mainstay_policy::states::{self, Desired, State};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::Exit;
use mainstay_protocol::method::{NotStartedGroup, NotStartedModule, WhatIfResult, WhyNext};
use tokio::sync::oneshot;

use super::super::convert;
use super::LifecycleActorState;
use crate::os_text::duration_text;

/// What is known of one module beyond its snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Outlook {
    /// What it does and why, in one sentence.
    pub(crate) summary: String,
    /// From what it waits for to the root cause, one sentence a module.
    pub(crate) because: Vec<String>,
    /// What would follow if its run failed now; none while it is well.
    pub(crate) on_failure: Option<String>,
    /// What follows, if that is more than that its run goes on.
    pub(crate) next: Option<WhyNext>,
    /// The modules that stop or go on to wait without it.
    pub(crate) affects: Vec<String>,
    /// Commands that change it.
    pub(crate) commands: Vec<String>,
}

/// A question that changes nothing.
#[derive(Debug)]
pub(crate) enum LifecycleQuery {
    /// What follows for a module, and why is it where it is?
    Explain(ModuleId, oneshot::Sender<Outlook>),
    /// Which modules are not up, and why?
    NotStarted(oneshot::Sender<Vec<NotStartedGroup>>),
    /// What would follow if this happened to a module?
    WhatIf(ModuleId, Supposition, oneshot::Sender<WhatIfResult>),
}

/// One module on the way to a root cause.
struct Link {
    module: ModuleId,
    text: String,
    next: Option<ModuleId>,
}

/// What modules that are not up have in common.
#[derive(PartialEq)]
enum Root {
    Module(ModuleId),
    StoppedOnRequest,
    Lazy,
    Unused,
    Ended,
}

impl LifecycleActorState {
    pub(super) fn answer(&self, query: LifecycleQuery) {
        match query {
            LifecycleQuery::Explain(module, answer) => {
                let _asker_left = answer.send(self.outlook(module));
            }
            LifecycleQuery::NotStarted(answer) => {
                let _asker_left = answer.send(self.not_started());
            }
            LifecycleQuery::WhatIf(module, supposition, answer) => {
                let _asker_left = answer.send(self.what_if(module, supposition));
            }
        }
    }

    pub(super) fn outlook(&self, module: ModuleId) -> Outlook {
        let mut chain = self.chain(module).into_iter();
        let own = chain.next().map_or_else(String::new, |link| link.text);
        Outlook {
            summary: own,
            because: chain.map(|link| link.text).collect(),
            on_failure: self.on_failure(module),
            next: self.next_step_of(module),
            affects: self.names_of(&self.policy.affected_by(module)),
            commands: self.commands_for(module),
        }
    }

    /// From `module` to what it waits for, and so on to the root cause.
    fn chain(&self, module: ModuleId) -> Vec<Link> {
        let (mut links, mut seen) = (Vec::new(), BTreeSet::new());
        let mut at = Some(module);
        while let Some(module) = at.filter(|module| seen.insert(*module)) {
            let link = self.link(module);
            at = link.next;
            links.push(link);
        }
        links
    }

    fn link(&self, module: ModuleId) -> Link {
        let view = self.policy.view(module);
        let name = self.ctx.name(module);
        let mut next = None;
        let text = match (view.state, view.desired) {
            (State::Waiting, _) => {
                next = view.held_by_failed.or(view.waiting_on.first().copied());
                if let (Some(failed), Some(direct)) = (next, view.waiting_on.first())
                    && !view.waiting_on.contains(&failed)
                {
                    next = Some(*direct);
                }
                match self.waiting_text(module, &view) {
                    Some(text) => format!("{name} waits for {text}"),
                    None => format!("{name} waits for its turn to start"),
                }
            }
            (State::Backoff, _) => format!("{name} failed: {}", self.reason(module, view.state)),
            (State::Failed, _) => format!("{name} has failed: {}", self.reason(module, view.state)),
            (State::Starting, _) => self.started_text(module, "is starting and not ready yet"),
            (State::Stopping, _) if view.ends_by_itself => {
                format!("{name} is ending: {}", self.cause_text(module, &view))
            }
            (State::Stopping, Desired::Up) if view.cause == states::Cause::Idle => {
                format!("{name} is being stopped: {}", self.unused_text(module))
            }
            (State::Stopping, Desired::Up) => {
                next = view.by;
                let cause = self.cause_text(module, &view);
                format!("{name} is being stopped and starts again: {cause}")
            }
            (State::Stopping, Desired::Down) => {
                format!(
                    "{name} is being stopped: {}",
                    self.cause_text(module, &view)
                )
            }
            (State::Running, _) => self.running_text(module, &view),
            (State::Stopped, Desired::Up) => {
                let end = self.run_end_text(module);
                match self.ctx.spec(module).kind {
                    Kind::Task => format!("{name} is done: {end}"),
                    _ if !view.completed => format!("{name} is stopped until its next use: {end}"),
                    _ => format!("{name} ended with a clean exit code: {end}"),
                }
            }
            (State::Stopped, Desired::Down) => {
                format!("{name} is stopped: {}", self.cause_text(module, &view))
            }
            (State::NotStarted, _) => match self.ctx.spec(module).start {
                StartMode::Lazy => format!("{name} was not needed yet: its start is \"lazy\""),
                StartMode::Eager => format!("{name} is not started"),
            },
        };
        Link { module, text, next }
    }

    fn running_text(&self, module: ModuleId, view: &ModuleInfo) -> String {
        let health = match view.health {
            states::Health::Degraded => " and degraded",
            states::Health::Unhealthy => " and unhealthy",
            states::Health::Unknown | states::Health::Healthy => "",
        };
        self.started_text(module, &format!("is running{health}"))
    }

    fn started_text(&self, module: ModuleId, what: &str) -> String {
        let name = self.ctx.name(module);
        match &self.modules[module.index()].started_because {
            Some(because) => format!("{name} {what}; {because}"),
            None => format!("{name} {what}"),
        }
    }

    /// Why a module is being stopped or is stopped.
    fn cause_text(&self, module: ModuleId, view: &ModuleInfo) -> String {
        let by = view.by.map(|by| self.ctx.name(by));
        match (view.cause, by) {
            (states::Cause::Requested | states::Cause::Adopted, _) => {
                match self.requesters.get(&module) {
                    Some(requester) => format!("requested by {requester}"),
                    None => "on request".to_owned(),
                }
            }
            (states::Cause::Dependency, Some(by)) => format!("its dependency {by} changed"),
            (states::Cause::Group, Some(by)) => format!("along with {by}, which failed"),
            (states::Cause::Probe, _) => self.probe_failed(module),
            (states::Cause::Limit, _) => self.limit_exceeded(module),
            (states::Cause::Reload, _) => "the configuration changed".to_owned(),
            (states::Cause::Shutdown, _) => "the system is stopping".to_owned(),
            (states::Cause::Exit, _) => "its process exited".to_owned(),
            (states::Cause::Timeout, _) => "its timeout expired".to_owned(),
            (states::Cause::Watchdog, _) => "its watchdog expired".to_owned(),
            (cause, _) => convert::cause(cause).to_string(),
        }
    }

    /// Why the run that begins now begins.
    pub(super) fn start_cause(&self, module: ModuleId) -> String {
        let view = self.policy.view(module);
        let by = view.by.map(|by| (by, self.ctx.name(by)));
        let reason = self.modules[module.index()].reason.as_deref();
        match (view.cause, by) {
            (states::Cause::Boot, _) => "started by the initial startup".to_owned(),
            (states::Cause::Requested, _) => match self.requesters.get(&module) {
                Some(requester) => format!("started by {requester}"),
                None => "started on request".to_owned(),
            },
            (states::Cause::Dependency, Some((by, name))) if self.needs(by, module) => {
                format!("started because {name} needs it")
            }
            (states::Cause::Dependency, Some((_, name))) => format!("restarted with {name}"),
            (states::Cause::Group, Some((_, name))) => {
                format!("restarted along with {name}, which failed")
            }
            (states::Cause::Reload, _) => "restarted: the configuration changed".to_owned(),
            (cause, _) => match reason {
                Some(reason) => format!("restarted: {reason}"),
                None => format!("restarted: {}", convert::cause(cause)),
            },
        }
    }

    /// What follows for a module; None: its run goes on, or it rests.
    fn next_step_of(&self, module: ModuleId) -> Option<WhyNext> {
        let forecast = self.policy.forecast(self.ctx.os.now(), module);
        let at = match &forecast {
            Forecast::FailedNeed { retry_at: at, .. } | Forecast::Stops { kill_at: at, .. } => *at,
            Forecast::Ready { by } => Some(*by),
            forecast => forecast.at(),
        };
        let at = at.filter(|at| *at != MonoTime::NEVER);
        Some(WhyNext {
            text: self.forecast_text(module, forecast)?,
            at: at.map(|at| self.ctx.to_wall_clock(at)),
            estimated: false,
        })
    }

    /// A forecast as text; its time stands apart.
    fn forecast_text(&self, module: ModuleId, forecast: Forecast) -> Option<String> {
        let name = self.ctx.name(module);
        let text = match forecast {
            Forecast::Nothing => return self.rest_text(module),
            Forecast::Runs { .. } => return None,
            Forecast::Proposal { strategy } => {
                let strategy = convert::strategy(strategy);
                format!("{name} waits until its recovery is accepted; proposed: {strategy}")
            }
            Forecast::Retry {
                probation: true, ..
            } => format!("{name} is tried once more (probation)"),
            Forecast::Retry { .. } => format!("{name} is restarted{}", self.attempt_text(module)),
            Forecast::Procedure { .. } => {
                format!("{name} is started after its reset, which fails if it takes longer")
            }
            Forecast::Held { .. } => {
                format!("{name} is started when it is released, and then at the latest")
            }
            Forecast::Needs { modules, at } => {
                let what = self.waiting_text(module, &self.policy.view(module));
                let what = what.unwrap_or_else(|| self.ctx.names(&modules));
                let most = at.map_or("", |_| "; it waits no longer than until then");
                format!("{name} starts when it has what it waits for: {what}{most}")
            }
            Forecast::FailedNeed {
                module: need,
                retry_at,
            } => {
                let need = self.ctx.name(need);
                match retry_at {
                    Some(_) => format!("{name} starts if {need} succeeds when it is tried again"),
                    None => format!("{name} will not start by itself: {need} is not tried again"),
                }
            }
            Forecast::Members => {
                format!("{name} restarts together with its group, when all of it has stopped")
            }
            Forecast::Token { holders, .. } => {
                let holders = self.ctx.names(&holders);
                format!("{name} starts at the latest when the restart of {holders} is over")
            }
            Forecast::Turn { after, .. } => match after {
                Some(after) => format!("{name} is started after {}", self.ctx.name(after)),
                None => format!("{name} is started in its turn"),
            },
            Forecast::Ready { .. } => {
                format!("{name} runs once it is ready; its start fails if it is not ready by then")
            }
            Forecast::Ends => {
                format!("recovery decides what follows when the run of {name} has ended")
            }
            Forecast::StopsAfter { modules } => match &modules[..] {
                [] => format!("{name} is stopped now"),
                _ => format!("{name} is stopped after {}", self.ctx.names(&modules)),
            },
            Forecast::Stops {
                kill_at,
                then_starts,
            } => {
                let what = match kill_at {
                    Some(_) => format!("{name} stops, or what is left of it is killed"),
                    None => format!("{name} stops when its process has exited"),
                };
                what + if then_starts {
                    "; then it is started again"
                } else {
                    ""
                }
            }
        };
        Some(text)
    }

    /// Which attempt is under way: ` (attempt 2 of 3 within 5 min)`.
    fn attempt_text(&self, module: ModuleId) -> String {
        let attempt = self.policy.view(module).attempts;
        let spec = self.ctx.spec(module);
        match (attempt, spec.recovery.max_attempts) {
            (0, _) => String::new(),
            (_, 0) => format!(" (attempt {attempt}, without limit)"),
            (_, most) => {
                let window = duration_text(spec.recovery.window);
                format!(" (attempt {attempt} of {most} within {window})")
            }
        }
    }

    /// What a person has to do about a module that rests, if there is more to it than a start.
    fn rest_text(&self, module: ModuleId) -> Option<String> {
        let view = self.policy.view(module);
        let exit = RunEnd::Exited(Exit::Code(EXIT_CONFIGURATION));
        let is_wrong = view.state == State::Failed && view.last_ending == Some(exit);
        is_wrong.then(|| {
            let name = self.ctx.name(module);
            format!("no action is scheduled; correct the configuration of {name} and start it")
        })
    }

    /// What recovery would decide if the run of a module that is not well failed now.
    fn on_failure(&self, module: ModuleId) -> Option<String> {
        let view = self.policy.view(module);
        if view.state != State::Running || view.health == states::Health::Healthy {
            return None;
        }
        let now = self.ctx.os.now();
        let found = self.policy.what_if(now, module, Supposition::Kill);
        let text = match found.decision?.verdict {
            Verdict::Retry {
                strategy: Strategy::Restart,
                ..
            } => "a restart".to_owned(),
            Verdict::Retry { strategy, .. } => {
                format!("a restart ({})", convert::strategy(strategy))
            }
            Verdict::Propose { .. } => "it fails, and its recovery waits for a person".to_owned(),
            Verdict::Done => "it stays stopped".to_owned(),
            Verdict::GiveUp { probation: None } => "it fails and is not tried again".to_owned(),
            Verdict::GiveUp { .. } => "it fails, and is tried once more later".to_owned(),
        };
        Some(text)
    }

    fn names_of(&self, modules: &[ModuleId]) -> Vec<String> {
        let names = modules.iter().map(|id| self.ctx.name(*id).to_string());
        names.collect()
    }

    /// What a person may type.
    fn commands_for(&self, module: ModuleId) -> Vec<String> {
        let view = self.policy.view(module);
        let name = self.ctx.name(module);
        let start = format!("mainstay start {name}");
        match (view.state, view.held_by_failed) {
            (State::Failed, _) if view.proposal.is_some() => {
                vec![format!("mainstay recover {name}"), start]
            }
            (State::Failed | State::Backoff, _) => vec![start, format!("mainstay logs {name}")],
            // The newest run has only begun: the one that failed is the one before.
            (State::Starting | State::Running, _) if view.attempts > 0 => {
                vec![format!("mainstay logs {name} --run previous")]
            }
            (State::Waiting, Some(failed)) => {
                vec![format!("mainstay why {}", self.ctx.name(failed)), start]
            }
            (State::Waiting, None) if self.waits_for_stopped(module) => vec![start],
            (State::Stopped | State::NotStarted, _) => vec![start],
            _ => Vec::new(),
        }
    }

    /// Whether nothing but a request starts what a module waits for.
    fn waits_for_stopped(&self, module: ModuleId) -> bool {
        let root = self.chain(module).pop();
        root.is_some_and(|link| self.policy.view(link.module).desired == Desired::Down)
    }

    /// Every module that is not up, by root cause.
    pub(super) fn not_started(&self) -> Vec<NotStartedGroup> {
        let mut groups: Vec<(Root, NotStartedGroup)> = Vec::new();
        for module in self.ctx.plan().order().iter().copied() {
            let view = self.policy.view(module);
            let is_done = view.state == State::Stopped && view.desired == Desired::Up;
            let is_task = self.ctx.spec(module).kind == Kind::Task;
            if view.state == State::Running || (is_done && is_task) {
                continue;
            }
            let row = NotStartedModule {
                module: self.ctx.name(module).to_string(),
                state: convert::state(view.state),
                waits_for: self.waiting_text(module, &view),
            };
            let (root, text) = self.root_of(module, &view);
            match groups.iter_mut().find(|(other, _)| *other == root) {
                Some((_, group)) => group.modules.push(row),
                None => {
                    let by = match root {
                        Root::Module(by) => by,
                        _ => module,
                    };
                    let name = matches!(root, Root::Module(_)).then(|| self.ctx.name(by));
                    let group = NotStartedGroup {
                        root: name.map(|name| name.to_string()),
                        text,
                        commands: self.commands_for(by),
                        modules: vec![row],
                    };
                    groups.push((root, group));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn root_of(&self, module: ModuleId, view: &ModuleInfo) -> (Root, String) {
        let text = |text: &str| text.to_owned();
        match (view.state, view.desired) {
            (State::NotStarted, Desired::Down) => (
                Root::Lazy,
                text("nothing has needed them yet: their start is \"lazy\""),
            ),
            (State::Stopped, Desired::Down) => (Root::StoppedOnRequest, text("stopped on request")),
            (State::Stopped, Desired::Up) if !view.completed => (
                Root::Unused,
                text("not used for long and stopped until their next use"),
            ),
            (State::Stopped, Desired::Up) => {
                (Root::Ended, text("ended with a clean exit code and rest"))
            }
            _ => {
                let last = self.chain(module).pop();
                last.map_or((Root::Module(module), String::new()), |link| {
                    (Root::Module(link.module), link.text)
                })
            }
        }
    }

    pub(super) fn remember_start(&mut self, module: ModuleId) {
        let because = Arc::from(self.start_cause(module));
        self.modules[module.index()].started_because = Some(because);
    }
}
