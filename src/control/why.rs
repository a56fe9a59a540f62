//! `why`, `why.not_started` and `what_if`.
//! Owns how the answers of policy, health, the run, the journal and the log become one.
//! Never blocks the runtime, and never guesses: what an actor does not answer in time is left out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Supposition;
use mainstay_policy::run::RunEnd;
use mainstay_protocol::enums::DesiredState;
use mainstay_protocol::method::{NotStartedResult, WhatIfAction, WhyEvidence, WhyNext, WhyResult};
use mainstay_protocol::methods::{WhatIf, Why, WhyNotStarted};
use mainstay_protocol::{ErrorCode, ModuleState, ModuleView, RequestError};
use tokio::sync::oneshot;

use super::change::await_reply;
use super::modules::find_module;
use super::{Answer, Caller, MethodResult, internal, view_builder};
use crate::actors::RuntimeContext;
use crate::actors::health::{HealthMsg, ProbeOutlook};
use crate::actors::lifecycle::{LifecycleMsg, LifecycleQuery, Outlook};
use crate::actors::module::{ModuleMsg, RunOutlook};
use crate::journal::{Story, Streak, story};
use crate::os::preflight;
use crate::os::tail::{self, LastWords};
use crate::os_text::duration_text;

/// Time that actors other than the lifecycle have to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

impl Answer for Why {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let module = find_module(ctx, &params.module)?;
        let (probes, probed) = oneshot::channel();
        let answer = probes;
        ctx.actor_refs
            .health
            .cast(HealthMsg::Explain { module, answer });
        let (run, ran) = oneshot::channel();
        ctx.actor_refs.module(module).cast(ModuleMsg::Explain(run));
        let (answer, outlook) = oneshot::channel();
        ctx.actor_refs
            .lifecycle
            .cast(LifecycleMsg::Query(LifecycleQuery::Explain(module, answer)));
        let outlook = await_reply(outlook).await?;
        let path = searched_path(ctx, module).filter(|_| params.full);
        let found = Found {
            view: view_builder::module(ctx, module),
            outlook,
            probes: in_time(probed).await.unwrap_or_default(),
            run: in_time(ran).await,
            story: read_story(ctx, params).await?,
            log: log_end(ctx, module).await,
            watch: view_builder::watch_of(ctx, module),
            path,
        };
        Ok(MethodResult::Now(found.result()))
    }
}

impl Answer for WhyNotStarted {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let (answer, groups) = oneshot::channel();
        ctx.actor_refs
            .lifecycle
            .cast(LifecycleMsg::Query(LifecycleQuery::NotStarted(answer)));
        let groups = await_reply(groups).await?;
        Ok(MethodResult::Now(NotStartedResult { groups }))
    }
}

impl Answer for WhatIf {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let module = find_module(ctx, &params.module)?;
        let supposition = match params.action {
            WhatIfAction::Stop => Supposition::Stop,
            WhatIfAction::Kill => Supposition::Kill,
            WhatIfAction::Fail => Supposition::Fail,
            WhatIfAction::Other(action) => {
                let text = format!(
                    "cannot suppose {}: stop, kill and fail are known",
                    action.as_str()
                );
                return Err(RequestError::new(ErrorCode::InvalidParams, text));
            }
        };
        let (answer, result) = oneshot::channel();
        ctx.actor_refs
            .lifecycle
            .cast(LifecycleMsg::Query(LifecycleQuery::WhatIf(
                module,
                supposition,
                answer,
            )));
        Ok(MethodResult::Now(await_reply(result).await?))
    }
}

async fn in_time<T>(
    reply: impl Future<Output = Result<T, oneshot::error::RecvError>>,
) -> Option<T> {
    tokio::time::timeout(ANSWER_TIMEOUT, reply).await.ok()?.ok()
}

async fn read_story(
    ctx: &Arc<RuntimeContext>,
    params: mainstay_protocol::method::WhyParams,
) -> Result<Story, RequestError> {
    let ctx = Arc::clone(ctx);
    let read = move || story(ctx.recorder.journal(), &params.module, params.full);
    tokio::task::spawn_blocking(read).await.map_err(internal)
}

/// Returns the end of its log, without empty lines; nothing if it cannot be read.
async fn log_end(ctx: &RuntimeContext, module: ModuleId) -> LastWords {
    let path = ctx.log_file(module);
    let read = tokio::task::spawn_blocking(move || tail::last_words(&path));
    read.await.unwrap_or_default()
}

/// The folders of PATH, if the program of the module was in none of them.
fn searched_path(ctx: &RuntimeContext, module: ModuleId) -> Option<Vec<String>> {
    let info = &ctx.snapshots.module(module).lifecycle.info;
    let launch = ctx.launch(module);
    let is_named = launch.argv.first()?.contains(std::path::is_separator);
    let is_lost = match info.last_ending {
        Some(RunEnd::NotStarted(failure)) => failure.is_missing_program(),
        _ => false,
    };
    let path = preflight::search_path(&launch.env, launch.clear_env);
    let folders = || std::env::split_paths(&path).map(|one| one.display().to_string());
    (is_lost && !is_named).then(|| folders().collect())
}

/// What is known of a module.
struct Found {
    view: ModuleView,
    outlook: Outlook,
    probes: Vec<ProbeOutlook>,
    run: Option<RunOutlook>,
    story: Story,
    log: LastWords,
    /// That the plan it follows may be rolled back.
    watch: Option<String>,
    /// The folders in which its program was not found.
    path: Option<Vec<String>>,
}

impl Found {
    fn result(self) -> WhyResult {
        let streak = self.story.streak.as_ref().filter(|_| self.is_recovering());
        let ended = streak.and_then(Streak::summary);
        let ended = ended.map_or_else(String::new, |ended| format!("; {ended}"));
        let watch = self.watch.as_ref();
        let watch = watch.map_or_else(String::new, |watch| format!("; {watch}"));
        WhyResult {
            module: self.view.module.clone(),
            state: self.view.state,
            summary: format!("{}{ended}{watch}", self.outlook.summary),
            evidence: self.evidence(),
            tried: streak.map(Streak::tried),
            next: self.next(),
            commands: self.commands(),
            because: self.outlook.because,
            chain: self.story.chain,
            affects: self.outlook.affects,
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.view.state, ModuleState::Backoff | ModuleState::Failed)
    }

    /// Whether its failures still count: between two of them it runs, too.
    fn is_recovering(&self) -> bool {
        self.has_failed() || (self.view.attempts > 0 && self.view.desired == DesiredState::Up)
    }

    fn evidence(&self) -> Vec<WhyEvidence> {
        let evidence = |source: String, at, lines| WhyEvidence { source, at, lines };
        let mut all = Vec::new();
        // What an earlier run wrote says nothing of the end of this one.
        let is_of_last_run = self.log.run == 0 || self.log.run >= self.view.generation;
        if self.has_failed() && is_of_last_run && !self.log.lines.is_empty() {
            let exit = self.view.last_exit.as_ref().map(|exit| exit.at);
            let (at, lines) = (self.log.at.or(exit), self.log.lines.clone());
            all.push(evidence("its log ends with".to_owned(), at, lines));
        }
        if let Some(folders) = &self.path {
            let source = "its program was looked for in".to_owned();
            all.push(evidence(source, None, folders.clone()));
        }
        for probe in self.probes.iter().filter(|probe| !probe.found.is_empty()) {
            let source = format!("the probe {} found", probe.what);
            all.push(evidence(source, None, probe.found.clone()));
        }
        for probe in &self.probes {
            if let Some((interval, now)) = probe.stretched {
                let (interval, now) = (duration_text(interval), duration_text(now));
                let text =
                    format!("checked every {now}, not every {interval}: the machine is busy");
                all.push(evidence(
                    format!("the probe {} is", probe.what),
                    None,
                    vec![text],
                ));
            }
        }
        let not_ready = self.run.as_ref().and_then(|run| run.not_ready.clone());
        if let Some(found) = not_ready.filter(|_| self.view.state == ModuleState::Starting) {
            let source = "its readiness check found".to_owned();
            all.push(evidence(source, None, vec![found]));
        }
        if let Some(text) = &self.view.status_text {
            all.push(evidence("it reports".to_owned(), None, vec![text.clone()]));
        }
        if let Some(signal) = &self.view.suspended_by {
            let source = "another process stopped it by a signal".to_owned();
            all.push(evidence(source, None, vec![signal.clone()]));
        }
        if let Some((at, path)) = &self.story.forensics {
            let source = "before it was killed, its state was written to".to_owned();
            all.push(evidence(source, Some(*at), vec![path.clone()]));
        }
        all
    }

    fn next(&self) -> Option<WhyNext> {
        let probed = self.probes.iter().filter_map(|probe| {
            let (forecast, at) = (probe.forecast?, probe.restart_at?);
            let scheduled = match forecast.scheduled {
                0 => String::new(),
                1 => "one more failure, ".to_owned(),
                count => format!("{count} more failures, "),
            };
            let confirmations = match forecast.confirmations {
                0 => String::new(),
                1 => "one confirmation, ".to_owned(),
                2 => "two confirmations, ".to_owned(),
                count => format!("{count} confirmations, "),
            };
            let then = self
                .outlook
                .on_failure
                .as_deref()
                .unwrap_or("recovery decides");
            Some(WhyNext {
                text: format!(
                    "if {} goes on to fail: {scheduled}{confirmations}then {then}",
                    probe.what
                ),
                at: Some(at),
                estimated: true,
            })
        });
        let watchdog = self.run.as_ref().and_then(|run| run.watchdog_by);
        let watchdog = watchdog.map(|at| WhyNext {
            text: format!(
                "{} has failed unless it feeds its watchdog",
                self.view.module
            ),
            at: Some(at),
            estimated: false,
        });
        let next = self.outlook.next.clone();
        next.or(probed.min_by_key(|next| next.at)).or(watchdog)
    }

    fn commands(&self) -> Vec<String> {
        let mut commands = self.outlook.commands.clone();
        if let (Some(_), Some(pid)) = (&self.view.suspended_by, self.view.pid) {
            commands.push(format!("kill -CONT {pid}"));
        }
        commands
    }
}
