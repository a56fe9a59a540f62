//! `plan`: what the configuration files would change. `reload`: applies them.
//! Owns the output.
//! Never applies anything itself: the runtime does, and rolls back by itself.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use mainstay_protocol::config_plan::{
    ApplyResult, ConfigApplied, ConfigApplyParams, ConfigPlan, ConfigPlanParams, KeyChange,
    KeyClass, ModuleChange, PlanChange,
};
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::name;
use serde_json::Value;

use super::args::{self, GlobalArgs};
use super::error::CliError;
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};
use super::{config, format};

/// Time a reload may be watched, and the modules it touches may take to be ready.
const WATCH_TIMEOUT: Duration = Duration::from_secs(3600);

/// Time the runtime may take to read the files and to keep the plan.
const APPLY_TIMEOUT: Duration = Duration::from_secs(40);

/// Longest shown value.
const VALUE_CHARS: usize = 60;

pub(crate) fn run(args: &args::PlanArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let path = args.path.as_deref().map(absolute).transpose()?;
    let mut client = SystemLocator::find(global)?.connect()?;
    let progress = Progress::start("comparing the files with the plan in force");
    let plan: ConfigPlan = client.call(name::CONFIG_PLAN, ConfigPlanParams { path })?;
    drop(progress);
    if args.json {
        terminal::print_json(&plan)?;
    } else {
        let title = match args.path {
            Some(_) => PlanTitle::DryRun,
            None => PlanTitle::Files,
        };
        terminal::print_text(&render(&plan, title, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

pub(crate) fn reload(
    args: &args::ReloadArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let params = ConfigApplyParams {
        expected_plan: args.expect_plan,
        wait: args.wait,
    };
    let progress = Progress::start("applying the configuration");
    let timeout = timeout(args.wait);
    let applied: ConfigApplied = client.call_within(name::CONFIG_APPLY, params, timeout)?;
    drop(progress);
    show_applied(&applied, None, args.json)
}

/// How long the result of a change may take.
pub(super) fn timeout(wait: bool) -> Duration {
    if wait { WATCH_TIMEOUT } else { APPLY_TIMEOUT }
}

/// What a plan is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlanTitle {
    /// The files as they are.
    Files,
    /// Something that is not in force and stays so.
    DryRun,
    /// Two plans; None: the one in force.
    Between(u64, Option<u64>),
}

/// Prints what came of a request to change the plan; `again`: the plan whose content that is.
pub(super) fn show_applied(
    applied: &ConfigApplied,
    again: Option<u64>,
    json: bool,
) -> Result<CliExitCode, CliError> {
    if json {
        terminal::print_json(applied)?;
    } else {
        let mut text = result(applied, again);
        if again.is_some() && applied.result != ApplyResult::RolledBack {
            text += "the files are as they were: `mainstay plan` shows what they would change, \
                     the next start applies it\n";
        }
        terminal::print_text(&text)?;
    }
    Ok(match applied.result {
        ApplyResult::RolledBack => CliExitCode::Failed,
        _ => CliExitCode::Ok,
    })
}

fn result(applied: &ConfigApplied, again: Option<u64>) -> String {
    let plan = match (applied.result, again) {
        (ApplyResult::Applied | ApplyResult::Committed, Some(again)) => {
            format!("{} (plan {again} again)", applied.plan)
        }
        _ => applied.plan.to_string(),
    };
    match applied.result {
        ApplyResult::Unchanged => format!("nothing changed: plan {plan} is in force\n"),
        ApplyResult::Applied => match applied.watch_ms {
            Some(watch) if watch > 0 => {
                let watch = format::compact_duration(Duration::from_millis(watch));
                format!(
                    "plan {plan} is applied; it is watched for {watch}, then committed, or rolled \
                     back when a module that it touched fails\n"
                )
            }
            _ => format!("plan {plan} is applied; no module is watched for it\n"),
        },
        ApplyResult::Committed => format!("plan {plan} is committed\n"),
        ApplyResult::RolledBack => {
            let why = applied.text.as_deref().unwrap_or("a module failed");
            let why = format::single_line(why);
            format!("rolled back: {why}; what ran before is in force again as plan {plan}\n")
        }
        ApplyResult::Superseded => format!("a newer plan followed: plan {plan} is in force\n"),
        ApplyResult::Other(other) => format!("plan {plan}: {}\n", other.as_str()),
    }
}

/// The runtime reads it: its working directory is another one.
fn absolute(path: &Path) -> Result<String, CliError> {
    let path = std::path::absolute(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        CliError::new(CliExitCode::Usage, message)
    })?;
    Ok(path.to_string_lossy().into_owned())
}

pub(super) fn render(plan: &ConfigPlan, title: PlanTitle, screen: Terminal) -> String {
    let mut out = String::new();
    let number = plan.plan;
    let head = match (title, plan.unchanged) {
        (PlanTitle::Between(from, Some(to)), true) => format!("plans {from} and {to} are the same"),
        (PlanTitle::Between(from, None), true) => format!("plan {from} is as the plan in force"),
        (PlanTitle::Between(from, Some(to)), _) => format!("from plan {from} to plan {to}:\n"),
        (PlanTitle::Between(from, None), _) => {
            format!("from plan {from} to the plan in force:\n")
        }
        (_, true) => format!("nothing would change: plan {number} is in force"),
        (_, false) => format!("plan {number} is in force; this would change:\n"),
    };
    let _ = writeln!(out, "{head}");
    if !plan.unchanged {
        changes(plan).render(&mut out, 2, screen);
    }
    if !plan.steps.is_empty() {
        out.push_str("\nin this order:\n");
        for step in &plan.steps {
            let module = format::single_line(&step.module);
            let reason = format::single_line(&step.reason);
            let _ = writeln!(out, "  {} {module}: {reason}", step.action.as_str());
        }
    }
    let stopped = plan.modules.iter().filter(|change| change.stays_stopped);
    for change in stopped {
        let module = format::single_line(&change.module);
        let _ = writeln!(out, "\n{module} stays stopped: a person stopped it");
    }
    for key in &plan.waiting {
        let key = format::single_line(key);
        let _ = writeln!(out, "\n{key} waits for the next `mainstay up`");
    }
    if !plan.unchanged && title == PlanTitle::Files {
        out.push_str("\n`mainstay reload` applies it\n");
    }
    out
}

fn changes(plan: &ConfigPlan) -> TextTable<'_, 3> {
    let mut table = TextTable::new(plan.modules.len(), [false; 3]);
    for key in &plan.system {
        table.row([
            (Cow::Borrowed("system"), None),
            class(key.class),
            (key_text(key, "").into(), None),
        ]);
    }
    for module in &plan.modules {
        let name = format::single_line(&module.module);
        let prefix = format!("module.{}.", module.module);
        let head = (Cow::Owned(name.into_owned()), None);
        match module.change {
            PlanChange::Added => table.row([head, (Cow::Borrowed("added"), green()), plain("")]),
            PlanChange::Removed => {
                table.row([head, (Cow::Borrowed("removed"), red()), plain("")]);
            }
            // The keys say the rest; a name alone changes nothing for the process.
            PlanChange::Changed if module.renamed_from.is_some() && is_name_only(module) => {
                table.row([
                    head,
                    (Cow::Borrowed("renamed"), None),
                    plain(renamed(module)),
                ]);
            }
            PlanChange::TakenAlong => table.row([head, restart(), plain(taken_along(module))]),
            _ if module.keys.is_empty() => {
                table.row([
                    head,
                    class(module.class.unwrap_or(KeyClass::Live)),
                    plain(""),
                ]);
            }
            _ => {
                for (n, key) in module.keys.iter().enumerate() {
                    let head = if n == 0 { head.clone() } else { plain("") };
                    table.row([head, class(key.class), plain(key_text(key, &prefix))]);
                }
            }
        }
    }
    table
}

fn plain(text: impl Into<String>) -> (Cow<'static, str>, Option<AnsiColour>) {
    (Cow::Owned(text.into()), None)
}

fn green() -> Option<AnsiColour> {
    Some(AnsiColour::Green)
}

fn red() -> Option<AnsiColour> {
    Some(AnsiColour::Red)
}

fn restart() -> (Cow<'static, str>, Option<AnsiColour>) {
    (Cow::Borrowed("restart"), Some(AnsiColour::Yellow))
}

fn class(class: KeyClass) -> (Cow<'static, str>, Option<AnsiColour>) {
    let colour = match class {
        KeyClass::Restart | KeyClass::RestartDependents => Some(AnsiColour::Yellow),
        _ => None,
    };
    (Cow::Borrowed(class.as_str()), colour)
}

/// Whether a module gets another name and nothing else differs.
fn is_name_only(module: &ModuleChange) -> bool {
    module
        .keys
        .iter()
        .all(|key| key.path.ends_with(".renamed_from"))
}

fn renamed(module: &ModuleChange) -> String {
    let former = module.renamed_from.as_deref().unwrap_or("another name");
    format!(
        "was {}; its process keeps running",
        format::single_line(former)
    )
}

fn taken_along(module: &ModuleChange) -> String {
    let because = module.because.as_deref().unwrap_or("another module");
    format!("requires {}", format::single_line(because))
}

/// `key: before → after  (file:line)`.
fn key_text(key: &KeyChange, prefix: &str) -> String {
    let name = key.path.strip_prefix(prefix).unwrap_or(&key.path);
    let origin = format::single_line(&key.origin.to_string()).into_owned();
    let name = format::single_line(name);
    if key.hidden {
        return format!("{name} changed, values not shown  ({origin})");
    }
    let (before, after) = (value_text(&key.before), value_text(&key.after));
    if before == after {
        return format!("{name} changed  ({origin})");
    }
    format!("{name}: {before} → {after}  ({origin})")
}

fn value_text(value: &Value) -> String {
    let text = match value {
        Value::Null => "not set".to_owned(),
        other => config::toml(other),
    };
    let text = format::single_line(&text);
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(VALUE_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
