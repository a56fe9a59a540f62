//! `config.plan` and `config.apply`.
//! Owns what is shown of a plan, and the waiting for what becomes of one.
//! Never applies anything: the config actor does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::diff::Difference;
use mainstay_policy::lifecycle::{PreviewStep, ReplanError};
use mainstay_policy::states::{Desired, State};
use mainstay_protocol::config_plan::{
    ApplyResult, ConfigApplied, ConfigPlan as Plan, KeyChange, KeyClass, ModuleChange, PlanChange,
};
use mainstay_protocol::config_values::ConfigValue;
use mainstay_protocol::method::ChangeStep;
use mainstay_protocol::methods::{ConfigApply, ConfigPlan};
use mainstay_protocol::{ErrorCode, RequestError};
use tokio::sync::oneshot;

use super::change::await_reply;
use super::{Answer, Caller, MethodResult, config, internal};
use crate::actors::config::apply::refusal;
use crate::actors::config::candidate::Candidate;
use crate::actors::config::{ConfigMsg, ReloadOutcome, ReloadRefusal, ReloadReply, ReloadRequest};
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::{RuntimeContext, convert};
use crate::config::{ConfigSources, Configuration};

/// Time the actors have to apply a plan: the files are read and kept meanwhile.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

impl Answer for ConfigPlan {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let sources = ConfigSources {
            candidate: params.path.map(PathBuf::from),
            ..ctx.sources.clone()
        };
        let reader = Arc::clone(ctx);
        let number = ctx.plan().number() + 1;
        let read =
            tokio::task::spawn_blocking(move || Candidate::read(&reader, &sources, number, None));
        let candidate = read.await.map_err(internal)?;
        let invalid = |text| RequestError::new(ErrorCode::InvalidConfig, text);
        let candidate = candidate.map_err(invalid)?;
        Ok(MethodResult::Now(preview(ctx, &candidate).await?))
    }
}

/// What a candidate would change, with the steps.
///
/// # Errors
/// `busy` while it cannot be said.
pub(super) async fn preview(
    ctx: &RuntimeContext,
    candidate: &Candidate,
) -> Result<Plan, RequestError> {
    let (answer, preview) = oneshot::channel();
    ctx.actor_refs.lifecycle.cast(LifecycleMsg::PreviewPlan {
        plan: Arc::clone(&candidate.plan),
        changes: candidate.run_changes(),
        answer,
    });
    let steps = match await_reply(preview).await? {
        Ok(steps) => steps,
        // While everything is stopped nothing is taken along.
        Err(ReplanError::NotRunning) => Vec::new(),
        Err(error) => return Err(RequestError::new(ErrorCode::Busy, refusal(error))),
    };
    Ok(shown(ctx, candidate, &steps))
}

/// What is shown of a plan.
pub(super) fn shown(ctx: &RuntimeContext, candidate: &Candidate, steps: &[PreviewStep]) -> Plan {
    let (before, after) = (&*candidate.base.configuration, &*candidate.configuration);
    let keys = |keys: &[crate::config::KeyChange], names: Option<(&str, &str)>| {
        let change = keys.iter().map(|key| key_change(before, after, key, names));
        change.collect::<Vec<KeyChange>>()
    };
    let module = |(id, difference): &(ModuleId, Difference)| {
        let (change, class, because) = match difference {
            Difference::Added => (PlanChange::Added, None, None),
            Difference::Removed => (PlanChange::Removed, None, None),
            Difference::Changed(class) => {
                (PlanChange::Changed, Some(convert::key_class(*class)), None)
            }
            Difference::TakenAlong(by) => {
                let class = Some(KeyClass::Restart);
                (PlanChange::TakenAlong, class, Some(candidate.name(*by)))
            }
        };
        let (name, former) = (candidate.name(*id), candidate.renamed_from(*id));
        ModuleChange {
            keys: keys(
                candidate.keys_of(*id),
                former.map(|former| (&*name, former)),
            ),
            renamed_from: former.map(str::to_owned),
            module: name,
            change,
            class,
            because,
            stays_stopped: *difference != Difference::Added && was_stopped(ctx, *id),
        }
    };
    let system = keys(&candidate.keys.system, None);
    let modules: Vec<ModuleChange> = candidate.differences.iter().map(module).collect();
    Plan {
        plan: candidate.base.plan.number(),
        unchanged: system.is_empty() && modules.is_empty(),
        system,
        modules,
        steps: steps
            .iter()
            .map(|step| step_shown(candidate, *step))
            .collect(),
        waiting: after.waiting.iter().map(ToString::to_string).collect(),
    }
}

/// Whether a person stopped it.
fn was_stopped(ctx: &RuntimeContext, module: ModuleId) -> bool {
    if module.index() >= ctx.planned().slots() {
        return false; // of two earlier plans: this system never had it
    }
    let now = ctx.snapshots.module(module);
    let is_down = now.lifecycle.info.desired == Desired::Down;
    is_down && now.lifecycle.info.state != State::NotStarted
}

/// `names`: the name of the module whose key it is, and the one that it has in `before`.
fn key_change(
    before: &Configuration,
    after: &Configuration,
    key: &crate::config::KeyChange,
    names: Option<(&str, &str)>,
) -> KeyChange {
    let value = |configuration: &Configuration, path: &str| -> Option<ConfigValue> {
        let mut value = configuration.values(path).ok()?.into_iter().next()?;
        config::hide(&mut value);
        Some(value)
    };
    let former = names.and_then(|(name, former)| {
        let rest = key.path.strip_prefix(&format!("module.{name}."))?;
        Some(format!("module.{former}.{rest}"))
    });
    let before = value(before, former.as_ref().unwrap_or(&key.path));
    let after = value(after, &key.path);
    let hidden = [&before, &after].into_iter().flatten().any(|it| it.hidden);
    let origin = after.as_ref().map(|value| value.origin.clone());
    let shown = |value: Option<ConfigValue>| value.map(|it| it.value).unwrap_or_default();
    KeyChange {
        path: key.path.clone(),
        class: convert::key_class(key.class),
        before: shown(before),
        after: shown(after),
        hidden,
        origin: origin.unwrap_or_default(),
    }
}

fn step_shown(candidate: &Candidate, step: PreviewStep) -> ChangeStep {
    let because = candidate.name(step.because);
    let own = candidate
        .differences
        .iter()
        .find(|(id, _)| *id == step.module);
    let reason = match own {
        Some((_, Difference::Added)) => "it is new".to_owned(),
        Some((_, Difference::Removed)) => "it is removed".to_owned(),
        Some((_, Difference::Changed(_))) if step.because == step.module => {
            "its definition changes".to_owned()
        }
        _ if step.because == step.module => "a change reaches it".to_owned(),
        _ => format!("because of {because}"),
    };
    ChangeStep {
        module: candidate.name(step.module),
        action: convert::change_action(step.action),
        reason,
    }
}

impl Answer for ConfigApply {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let request = ReloadRequest {
            expected_plan: params.expected_plan,
            ..ReloadRequest::by(&caller.label)
        };
        apply(ctx, request, params.wait).await
    }
}

/// Sends a request to the config actor and waits for what comes of it.
pub(super) async fn apply(
    ctx: &Arc<RuntimeContext>,
    mut request: ReloadRequest,
    wait: bool,
) -> Result<MethodResult<ConfigApplied>, RequestError> {
    let (reply, replied) = oneshot::channel();
    let (outcome, becomes) = oneshot::channel();
    (request.reply, request.outcome) = (Some(reply), Some(outcome));
    ctx.actor_refs.config.cast(ConfigMsg::Reload(request));
    let replied = match tokio::time::timeout(APPLY_TIMEOUT, replied).await {
        Ok(Ok(replied)) => replied.map_err(refused)?,
        Ok(Err(_)) => {
            let text = "cannot say whether the configuration was applied: a part of mainstay is \
                        being restarted; check the status and try again";
            return Err(RequestError::new(ErrorCode::Busy, text));
        }
        Err(_) => {
            let text = "cannot apply the configuration in time; check the status and try again";
            return Err(RequestError::new(ErrorCode::Timeout, text));
        }
    };
    let period = || ctx.configuration().system.reload_watch.as_millis();
    let (plan, result, watch) = match replied {
        ReloadReply::Unchanged(plan) => (plan, ApplyResult::Unchanged, 0),
        ReloadReply::Applied(plan) => (plan, ApplyResult::Applied, period()),
        ReloadReply::Committing(plan) => (plan, ApplyResult::Applied, 0),
    };
    let mut applied = ConfigApplied {
        plan,
        result,
        text: None,
        watch_ms: (result == ApplyResult::Applied).then(|| u64::try_from(watch).unwrap_or(0)),
    };
    if !wait || result == ApplyResult::Unchanged {
        return Ok(MethodResult::Now(applied));
    }
    let ctx = Arc::clone(ctx);
    Ok(MethodResult::Later(Box::pin(async move {
        // Without an answer the actor is new: the plan is watched again, and its end is an event.
        if let Ok(outcome) = becomes.await {
            (applied.result, applied.text) = match outcome {
                ReloadOutcome::Committed => (ApplyResult::Committed, None),
                ReloadOutcome::RolledBack(text) => (ApplyResult::RolledBack, Some(text)),
                ReloadOutcome::Superseded => (ApplyResult::Superseded, None),
            };
        }
        applied.plan = ctx.plan().number().max(applied.plan);
        Ok(applied)
    })))
}

fn refused(refusal: ReloadRefusal) -> RequestError {
    match refusal {
        ReloadRefusal::Invalid(text) => RequestError::new(ErrorCode::InvalidConfig, text),
        ReloadRefusal::Refused(text) => RequestError::new(ErrorCode::Busy, text),
        ReloadRefusal::OtherPlan(plan) => other_plan(plan),
    }
}

/// Another plan is in force than the request expects.
pub(super) fn other_plan(plan: u64) -> RequestError {
    let text = format!(
        "cannot apply the configuration: plan {plan} is in force, not the one that the request \
         expects; look at it with `mainstay plan` and try again"
    );
    RequestError::new(ErrorCode::Busy, text)
}
