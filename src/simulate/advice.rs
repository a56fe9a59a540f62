//! What a person can do about the figures: sentences that name the key to change.
//! Owns when which of them is said. Never says what the figures do not show.

use mainstay_policy::ModuleId;
use mainstay_policy::spec::{OnDependencyRestart, Readiness, RestartPolicy};

use super::{Figures, Model, ModuleFaults, ModuleFigures};

/// A start that fails in fewer histories than one in so many is rare enough.
const RARE: f64 = 0.001;
/// More attempts than this are no advice.
const ATTEMPTS_MAX: u32 = 50;

/// All that can be said.
pub(super) fn of(model: &Model, figures: &Figures) -> Vec<String> {
    let mut advice = Vec::new();
    let starts = figures.failed_starts.iter();
    advice.extend(starts.map(|(id, times)| given_up_at_start(model, *id, *times)));
    if figures.late_starts > 0 {
        let limit = model.plan.system().startup_timeout;
        advice.push(format!(
            "the first start took longer than [mainstay] startup_timeout = \"{}\" in {} histories: \
             raise it, or make what fails start sooner",
            humantime::format_duration(limit),
            figures.late_starts
        ));
    }
    for (id, module) in model.ids().zip(&figures.modules) {
        advice.extend(slow_start(model, id, &module.faults));
        advice.extend(unnoticed_hang(model, id, module));
        advice.extend(false_alarms(module));
        advice.extend(never_again(model, id, module, figures));
        advice.extend(ready_too_early(model, id, &module.faults));
    }
    if let Some(weakest) = &figures.weakest
        && let Some(id) = model.plan.find(&weakest.module)
    {
        advice.extend(taken_along(model, id));
    }
    advice
}

fn given_up_at_start(model: &Model, id: ModuleId, histories: u32) -> String {
    let name = model.name(id);
    let recovery = &model.spec(id).recovery;
    let share = model.module(id).map_or(0.0, |of| of.faults.start_fails);
    let begin = format!("{name} was given up during the first start in {histories} histories: ");
    let now = recovery.max_attempts;
    if recovery.restart == RestartPolicy::Never {
        return begin + &format!("[module.{name}.recovery] restart = \"never\" allows no attempt");
    }
    // So many restarts, and the first start, fail one after the other.
    let enough = (0..ATTEMPTS_MAX).find(|more| share.powi(1 + more.cast_signed()) < RARE);
    match enough.filter(|enough| share < 1.0 && *enough > now && now > 0) {
        Some(enough) => {
            begin
                + &format!(
                    "with {} of its starts failing, [module.{name}.recovery] max_attempts = \
                     {enough} makes that rarer than one in 1000 (it is {now})",
                    percent(share)
                )
        }
        None => {
            begin
                + &format!(
                    "raise [module.{name}.recovery] max_attempts or backoff, or let the system \
                     start without it: [module.{name}] required = false"
                )
        }
    }
}

fn slow_start(model: &Model, id: ModuleId, faults: &ModuleFaults) -> Option<String> {
    let limit = model.spec(id).startup_timeout;
    let is_waited_for = !matches!(model.spec(id).readiness, Readiness::Started);
    (is_waited_for && faults.start_takes.1 > limit).then(|| {
        format!(
            "a start of {0} may take {1}, and [module.{0}] startup_timeout is {2}",
            model.name(id),
            humantime::format_duration(faults.start_takes.1),
            humantime::format_duration(limit)
        )
    })
}

fn unnoticed_hang(model: &Model, id: ModuleId, module: &ModuleFigures) -> Option<String> {
    let notices = model
        .module(id)
        .is_some_and(super::ModuleModel::notices_hangs);
    (module.unnoticed_ms > 0 && !notices).then(|| {
        format!(
            "nothing notices that {0} hangs: give it a probe or a watchdog in \
             [module.{0}.health] probes",
            module.module
        )
    })
}

fn false_alarms(module: &ModuleFigures) -> Option<String> {
    (module.false_alarms > 0).then(|| {
        format!(
            "probes that failed by chance ended {} runs of {1} that were well: raise \
             unhealthy_threshold in [module.{1}.health]",
            module.false_alarms, module.module
        )
    })
}

/// It was given up after the first start: when it is tried again, if at all.
fn never_again(
    model: &Model,
    id: ModuleId,
    module: &ModuleFigures,
    figures: &Figures,
) -> Option<String> {
    let at_start = figures.failed_starts.get(&id).copied().unwrap_or(0);
    let later = module.given_up.saturating_sub(at_start);
    let recovery = &model.spec(id).recovery;
    if later == 0 {
        return None;
    }
    let name = &module.module;
    Some(match recovery.probation.filter(|_| recovery.auto) {
        Some(probation) => format!(
            "{name} was given up in {later} histories after it had been up, and its next try came \
             after [module.{name}.recovery] probation = \"{}\" or more: a larger max_attempts or \
             window, or a smaller probation, brings it back sooner",
            humantime::format_duration(probation.initial)
        ),
        None => format!(
            "{name} was given up in {later} histories and stays failed until a person starts it: \
             set [module.{name}.recovery] probation"
        ),
    })
}

/// Its dependents start before its start can have failed.
fn ready_too_early(model: &Model, id: ModuleId, faults: &ModuleFaults) -> Option<String> {
    let early = matches!(model.spec(id).readiness, Readiness::Started);
    let fails = faults.start_fails > 0.0 || faults.start_hangs > 0.0;
    let dependents = model.plan.dependents(id).iter();
    let needed = dependents.filter(|it| it.hard && it.until != Completed);
    let names: Vec<&str> = needed.map(|it| model.name(it.from)).collect();
    (early && fails && !names.is_empty()).then(|| {
        format!(
            "{0} counts as ready as soon as its process exists, so {1} start before its start can \
             have failed: say in [module.{0}] ready when it is",
            model.name(id),
            names.join(", ")
        )
    })
}

use mainstay_policy::spec::DependencyCondition::Completed;

fn taken_along(model: &Model, id: ModuleId) -> Option<String> {
    let dependents = model.plan.dependents(id).iter().filter(|it| it.hard);
    let along = dependents
        .filter(|it| model.spec(it.from).on_dependency_restart == OnDependencyRestart::Restart);
    let names: Vec<&str> = along.map(|it| model.name(it.from)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} restart with {}: if they can reconnect, recovery.on_dependency_restart = \
             \"notify\" keeps them up",
            names.join(", "),
            model.name(id)
        )
    })
}

/// `30 %`, `0.5 %`.
fn percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    format!("{percent} %")
}
