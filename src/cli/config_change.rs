//! `config set`, `unset`, `rollback`, `history` and `diff`.
//! Owns their output.
//! Never changes a file or a plan itself: the runtime does.

use std::borrow::Cow;
use std::io::Read;

use mainstay_protocol::Timestamp;
use mainstay_protocol::config_change::{
    ConfigChangeOptions, ConfigChanged, ConfigDiffParams, ConfigHistory, ConfigRollbackParams,
    ConfigSetParams, ConfigUnsetParams, PlanOutcome, PlanRecord,
};
use mainstay_protocol::config_plan::ConfigPlan;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{Empty, name};
use serde::Serialize;

use super::args::{ConfigChangeArgs, GlobalArgs};
use super::error::CliError;
use super::format;
use super::plan::{self, PlanTitle};
use super::progress::Progress;
use super::system_locator::SystemLocator;
use super::table::TextTable;
use super::terminal::{self, AnsiColour, Terminal};

/// The longest value that is read from the standard input.
const VALUE_BYTES: u64 = 64 * 1024;

pub(super) fn set(
    path: &str,
    value: &str,
    persist: bool,
    args: &ConfigChangeArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let params = ConfigSetParams {
        path: path.to_owned(),
        value: value_of(value)?,
        persist,
        options: options(args),
    };
    change(name::CONFIG_SET, params, args, global)
}

pub(super) fn unset(
    path: &str,
    persist: bool,
    args: &ConfigChangeArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let params = ConfigUnsetParams {
        path: path.to_owned(),
        persist,
        options: options(args),
    };
    change(name::CONFIG_UNSET, params, args, global)
}

pub(super) fn rollback(
    plan: Option<u64>,
    args: &ConfigChangeArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let mut params = ConfigRollbackParams {
        plan,
        options: options(args),
    };
    if !args.json {
        // What it goes back to is said before anything changes, and is what it then goes back to.
        let mut client = SystemLocator::find(global)?.connect_to_change()?;
        let mut asked = params.clone();
        asked.options.dry_run = true;
        let timeout = plan::timeout(false);
        let found: ConfigChanged = client.call_within(name::CONFIG_ROLLBACK, asked, timeout)?;
        params.plan = found.again.as_ref().map(|again| again.plan).or(params.plan);
        let screen = Terminal::of_stdout();
        if let Some(again) = &found.again {
            terminal::print_text(&going_back(again, terminal::now()))?;
        }
        let preview = found.preview.unwrap_or_default();
        if args.dry_run || !preview.unchanged {
            terminal::print_text(&plan::render(&preview, PlanTitle::DryRun, screen))?;
        }
        if args.dry_run {
            return Ok(CliExitCode::Ok);
        }
    }
    change(name::CONFIG_ROLLBACK, params, args, global)
}

/// Which plan that is, and from when.
fn going_back(again: &PlanRecord, now: Timestamp) -> String {
    let (at, ago) = (format::local_time(again.at), format::since(again.at, now));
    let by = format::single_line(&again.requester);
    format!("back to plan {} of {at}, {ago} ago, by {by}\n", again.plan)
}

/// `-` is what the standard input has: arguments are visible to every user.
fn value_of(text: &str) -> Result<String, CliError> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut value = String::new();
    let read = std::io::stdin()
        .take(VALUE_BYTES + 1)
        .read_to_string(&mut value);
    read.map_err(|error| {
        let text = format!("cannot read the value from the standard input: {error}");
        CliError::new(CliExitCode::Usage, text)
    })?;
    if value.len() as u64 > VALUE_BYTES {
        let text = format!(
            "cannot read the value from the standard input: it has more than {VALUE_BYTES} bytes"
        );
        return Err(CliError::new(CliExitCode::Usage, text));
    }
    Ok(value.strip_suffix('\n').unwrap_or(&value).to_owned())
}

fn options(args: &ConfigChangeArgs) -> ConfigChangeOptions {
    ConfigChangeOptions {
        dry_run: args.dry_run,
        expected_plan: args.if_plan,
        wait: args.wait,
    }
}

fn change(
    method: &str,
    params: impl Serialize,
    args: &ConfigChangeArgs,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect_to_change()?;
    let progress = Progress::start("changing the configuration");
    let timeout = plan::timeout(args.wait);
    let changed: ConfigChanged = client.call_within(method, params, timeout)?;
    drop(progress);
    match (changed.applied, changed.preview) {
        (Some(applied), _) => {
            let again = changed.again.map(|again| again.plan);
            plan::show_applied(&applied, again, args.json)
        }
        (None, preview) => {
            let preview = preview.unwrap_or_default();
            show_plan(&preview, PlanTitle::DryRun, args.json)
        }
    }
}

fn show_plan(plan: &ConfigPlan, title: PlanTitle, json: bool) -> Result<CliExitCode, CliError> {
    if json {
        terminal::print_json(plan)?;
    } else {
        terminal::print_text(&plan::render(plan, title, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

pub(super) fn diff(
    from: Option<u64>,
    to: Option<u64>,
    json: bool,
    global: &GlobalArgs,
) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect()?;
    let params = ConfigDiffParams { from, to };
    let plan: ConfigPlan = client.call(name::CONFIG_DIFF, params)?;
    let title = match (from, to) {
        (None, _) => PlanTitle::Files,
        (Some(from), to) => PlanTitle::Between(from, to),
    };
    show_plan(&plan, title, json)
}

pub(super) fn history(json: bool, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect()?;
    let history: ConfigHistory = client.call(name::CONFIG_HISTORY, Empty {})?;
    if json {
        terminal::print_json(&history)?;
    } else {
        terminal::print_text(&render(&history, Terminal::of_stdout()))?;
    }
    Ok(CliExitCode::Ok)
}

fn render(history: &ConfigHistory, screen: Terminal) -> String {
    let mut out = String::new();
    let mut table = TextTable::new(history.plans.len() + 1, [true, false, false, false, false]);
    table.head(["PLAN", "WHEN", "OUTCOME", "BY", "CHANGES"]);
    for plan in &history.plans {
        let (outcome, colour) = outcome(plan);
        let mut changes = plan.changes.join("; ");
        if let Some(text) = &plan.text {
            let dot = if changes.is_empty() { "" } else { " – " };
            changes = format!("{changes}{dot}{text}");
        }
        let text = |text: &str| (Cow::Owned(format::single_line(text).into_owned()), None);
        table.row([
            text(&plan.plan.to_string()),
            text(&format::local_time(plan.at)),
            (Cow::Borrowed(outcome), colour),
            text(&plan.requester),
            text(&changes),
        ]);
    }
    table.render(&mut out, 0, screen);
    out
}

fn outcome(plan: &PlanRecord) -> (&str, Option<AnsiColour>) {
    match plan.outcome {
        PlanOutcome::Committed if plan.in_force => ("in force", Some(AnsiColour::Green)),
        PlanOutcome::Committed => ("committed", None),
        PlanOutcome::Watched => ("watched", Some(AnsiColour::Yellow)),
        PlanOutcome::Dropped => ("dropped", Some(AnsiColour::Red)),
        PlanOutcome::Other(other) => (other.as_str(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_says_who_what_and_what_became_of_it() {
        let plan = |plan, outcome, text: Option<&str>, in_force| PlanRecord {
            plan,
            at: Timestamp(0),
            requester: "ann".to_owned(),
            changes: vec!["web changed (command)".to_owned()],
            outcome,
            text: text.map(str::to_owned),
            in_force,
        };
        let history = ConfigHistory {
            plans: vec![
                plan(1, PlanOutcome::Committed, None, true),
                plan(
                    2,
                    PlanOutcome::Dropped,
                    Some("rolled back: web failed"),
                    false,
                ),
            ],
        };
        let text = render(&history, Terminal::default());
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[1].contains("in force") && rows[1].contains("ann"),
            "{text}"
        );
        let end = "web changed (command) – rolled back: web failed";
        assert!(rows[2].ends_with(end), "{text}");
    }
}
