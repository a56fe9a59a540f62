//! `config.set`, `config.unset`, `config.rollback`, `config.history` and `config.diff`.
//! Owns what is shown of a change before it is made, and of the plans that are kept.
//! Never applies anything: the config actor does.

use std::sync::Arc;

use mainstay_policy::plan::Plan;
use mainstay_protocol::config_change::{
    ConfigChangeOptions, ConfigChanged, ConfigHistory as History, PlanOutcome, PlanRecord,
};
use mainstay_protocol::config_plan::ConfigPlanParams;
use mainstay_protocol::methods::{
    ConfigDiff, ConfigHistory, ConfigPlan, ConfigRollback, ConfigSet, ConfigUnset,
};
use mainstay_protocol::{ErrorCode, RequestError};

use super::reload::{apply, preview, shown};
use super::{Answer, Caller, MethodResult, internal};
use crate::actors::config::ReloadRequest;
use crate::actors::config::candidate::Candidate;
use crate::actors::config::edit::{ConfigEdit, rollback_target};
use crate::actors::{Planned, RuntimeContext};
use crate::config::Configuration;
use crate::plan_store::{COMMITTED, PlanStore, StoredPlan};

impl Answer for ConfigSet {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let edit = ConfigEdit::Set {
            path: params.path,
            value: params.value,
            persist: params.persist,
        };
        change(ctx, caller, edit, params.options).await
    }
}

impl Answer for ConfigUnset {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let edit = ConfigEdit::Unset {
            path: params.path,
            persist: params.persist,
        };
        change(ctx, caller, edit, params.options).await
    }
}

impl Answer for ConfigRollback {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let again = target(ctx, params.plan).await?;
        let edit = ConfigEdit::RollBack {
            plan: Some(again.plan),
        };
        let changed = change(ctx, caller, edit, params.options).await?;
        let name = move |changed| ConfigChanged {
            again: Some(again),
            ..changed
        };
        Ok(match changed {
            MethodResult::Later(later) => {
                MethodResult::Later(Box::pin(async move { later.await.map(name) }))
            }
            MethodResult::Now(changed) | MethodResult::Stream(changed, _) => {
                MethodResult::Now(name(changed))
            }
        })
    }
}

/// The plan that a rollback goes back to.
async fn target(ctx: &Arc<RuntimeContext>, plan: Option<u64>) -> Result<PlanRecord, RequestError> {
    let (store, planned) = (store(ctx), ctx.planned());
    let read = move || {
        let stored = rollback_target(&store, &planned.configuration, plan)?;
        Ok(record(stored, planned.plan.number()))
    };
    let found = tokio::task::spawn_blocking(read).await.map_err(internal)?;
    found.map_err(|text: String| RequestError::new(ErrorCode::InvalidConfig, text))
}

async fn change(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    edit: ConfigEdit,
    options: ConfigChangeOptions,
) -> Result<MethodResult<ConfigChanged>, RequestError> {
    if options.dry_run {
        return Ok(MethodResult::Now(
            dry_run(ctx, caller, edit, options).await?,
        ));
    }
    let request = ReloadRequest {
        expected_plan: options.expected_plan,
        edit: Some(edit),
        ..ReloadRequest::by(&caller.label)
    };
    let changed = |applied| ConfigChanged {
        applied: Some(applied),
        again: None,
        preview: None,
    };
    Ok(match apply(ctx, request, options.wait).await? {
        MethodResult::Later(later) => {
            MethodResult::Later(Box::pin(async move { later.await.map(changed) }))
        }
        MethodResult::Now(applied) | MethodResult::Stream(applied, _) => {
            MethodResult::Now(changed(applied))
        }
    })
}

async fn dry_run(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    edit: ConfigEdit,
    options: ConfigChangeOptions,
) -> Result<ConfigChanged, RequestError> {
    let plan = ctx.plan().number();
    if options
        .expected_plan
        .is_some_and(|expected| expected != plan)
    {
        return Err(super::reload::other_plan(plan));
    }
    let (reader, requester) = (Arc::clone(ctx), caller.label.clone());
    let read = move || Candidate::of_edit(&reader, plan + 1, &edit, &requester, false);
    let candidate = tokio::task::spawn_blocking(read).await.map_err(internal)?;
    let invalid = |text| RequestError::new(ErrorCode::InvalidConfig, text);
    let preview = preview(ctx, &candidate.map_err(invalid)?).await?;
    Ok(ConfigChanged {
        applied: None,
        again: None,
        preview: Some(preview),
    })
}

impl Answer for ConfigHistory {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let (store, in_force) = (store(ctx), ctx.plan().number());
        let read = move || {
            let numbers = store.numbers().into_iter();
            let plans = numbers.filter_map(|number| store.plan(number).ok());
            let plans: Vec<PlanRecord> = plans.map(|plan| record(plan, in_force)).collect();
            History { plans }
        };
        let history = tokio::task::spawn_blocking(read).await.map_err(internal)?;
        Ok(MethodResult::Now(history))
    }
}

fn record(plan: StoredPlan, in_force: u64) -> PlanRecord {
    let (outcome, text) = match plan.outcome.as_str() {
        COMMITTED => (PlanOutcome::Committed, None),
        "" if plan.number == in_force => (PlanOutcome::Watched, None),
        "" => (PlanOutcome::Dropped, None),
        text => (PlanOutcome::Dropped, Some(text.to_owned())),
    };
    PlanRecord {
        plan: plan.number,
        at: plan.at,
        requester: plan.requester,
        changes: plan.changes,
        outcome,
        text,
        in_force: plan.number == in_force,
    }
}

fn store(ctx: &RuntimeContext) -> PlanStore {
    PlanStore::new(&ctx.configuration().system.state_dir)
}

impl Answer for ConfigDiff {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let Some(from) = params.from else {
            return ConfigPlan::answer(ctx, caller, ConfigPlanParams::default()).await;
        };
        let reader = Arc::clone(ctx);
        let read = move || between(&reader, from, params.to);
        let candidate = tokio::task::spawn_blocking(read).await.map_err(internal)?;
        let candidate =
            candidate.map_err(|text| RequestError::new(ErrorCode::InvalidParams, text))?;
        Ok(MethodResult::Now(shown(ctx, &candidate, &[])))
    }
}

/// Compares a kept plan with another one, or with the one in force; blocks.
fn between(ctx: &RuntimeContext, from: u64, to: Option<u64>) -> Result<Candidate, String> {
    let planned = ctx.planned();
    let running = &planned.configuration;
    let store = store(ctx);
    let kept = |number: u64| -> Result<Arc<Configuration>, String> {
        if number == planned.plan.number() {
            return Ok(Arc::clone(running));
        }
        let plan = store
            .plan(number)
            .map_err(|error| format!("cannot compare plan {number}: {}", store.not_kept(&error)))?;
        let restored = plan.config.restore_for(running);
        restored
            .map(Arc::new)
            .map_err(|problems| problems.to_string())
    };
    let before = kept(from)?;
    let (number, after) = match to {
        Some(to) => (to, kept(to)?),
        None => (planned.plan.number(), Arc::clone(running)),
    };
    let specs = before.modules.iter().map(|(spec, _)| spec).cloned();
    let plan = Plan::new(from, before.system_spec.clone(), specs);
    let plan = plan.map_err(|error| error.to_string())?;
    let base = Planned::new(before, Arc::new(plan));
    Candidate::of(Arc::new(base), after, number, |_, _| true)
}
