//! `status`: a line about the system and a table of its modules, or the details of one module.
//! Owns the columns.
//! Never asks more than two questions on one connection.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use mainstay_protocol::enums::{CliExitCode, HealthStatus, ModuleState, Rung, SystemStatus};
use mainstay_protocol::{ModuleView, SystemView, Timestamp};

use super::args::{GlobalArgs, StatusArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::table::{Cell, TextTable};
use super::terminal::{self, AnsiColour, Terminal};
use super::{format, module_details};

/// Keys that are listed at most.
const KEYS_SHOWN: usize = 5;

pub(crate) fn run(args: &StatusArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut client = SystemLocator::find(global)?.connect()?;
    let screen = Terminal::of_stdout();
    if let Some(name) = &args.module {
        let module = client.module(name)?;
        if args.json {
            terminal::print_json(&module)?;
        } else {
            terminal::print(&module_details::render(&module, terminal::now(), screen))?;
        }
    } else if args.json && args.all {
        terminal::print_json(&client.modules()?)?;
    } else if args.json {
        terminal::print_json(&client.status()?)?;
    } else {
        let system = client.status()?;
        let modules = client.modules()?;
        terminal::print(&render(&system, &modules, terminal::now(), screen))?;
    }
    Ok(CliExitCode::Ok)
}

fn render(system: &SystemView, modules: &[ModuleView], now: Timestamp, screen: Terminal) -> String {
    let mut out = String::new();
    header(&mut out, system, screen);
    if !modules.is_empty() {
        out.push('\n');
        table(&mut out, modules, now, screen);
    }
    let problem = system
        .config_problem
        .iter()
        .map(|problem| ("configuration", problem));
    let issues = system.issues.iter().map(|issue| ("issue", issue));
    let at_runtime = runtime_values(system);
    let at_runtime = at_runtime.iter().map(|text| ("configuration", text));
    for (n, (what, text)) in problem.chain(at_runtime).chain(issues).enumerate() {
        if n == 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{what}: {}", format::single_line(text));
    }
    out
}

/// What no file has: a reader of the files would not know it.
fn runtime_values(system: &SystemView) -> Option<String> {
    let keys = &system.runtime_values;
    let shown: Vec<&str> = keys.iter().take(KEYS_SHOWN).map(String::as_str).collect();
    let more = match keys.len().saturating_sub(KEYS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!keys.is_empty()).then(|| {
        format!(
            "set by `config set` and in no file: {}{more}; `config set --persist` writes it there, \
             `config unset` drops it",
            shown.join(", ")
        )
    })
}

fn header(out: &mut String, system: &SystemView, screen: Terminal) {
    let colour = match system.status {
        SystemStatus::Healthy => Some(AnsiColour::Green),
        SystemStatus::Starting | SystemStatus::Degraded => Some(AnsiColour::Yellow),
        SystemStatus::Critical => Some(AnsiColour::Red),
        SystemStatus::Stopping => Some(AnsiColour::Grey),
        SystemStatus::Other(_) => None,
    };
    let _ = write!(out, "{} is ", format::single_line(&system.name));
    screen.paint(out, colour, system.status.as_str());
    if let Some(reason) = &system.reason {
        let _ = write!(out, " ({})", format::single_line(reason));
    }
    let up = format::compact_duration(Duration::from_millis(system.uptime_ms));
    let counts = &system.modules;
    let _ = writeln!(
        out,
        ", up {up}, {} of {} running",
        counts.running, counts.total
    );
}

const TITLES: [&str; 9] = [
    "MODULE",
    "STATE",
    "HEALTH",
    "PID",
    "RESTARTS",
    "SINCE",
    "CPU",
    "MEM",
    "STATUS/NEXT",
];
const RIGHT: [bool; 9] = [false, false, false, true, true, true, true, true, false];

fn table(out: &mut String, modules: &[ModuleView], now: Timestamp, screen: Terminal) {
    let mut table = TextTable::new(modules.len() + 1, RIGHT);
    table.head(TITLES);
    for module in modules {
        table.row(row(module, now));
    }
    table.render(out, 0, screen);
}

fn row(module: &ModuleView, now: Timestamp) -> [Cell<'_>; 9] {
    let plain = |text: Option<String>| (text.map_or(Cow::Borrowed("-"), Cow::Owned), None);
    let health = match module.health {
        HealthStatus::Unknown => ("-".into(), None),
        health => (health.as_str().into(), health_colour(health)),
    };
    [
        (format::single_line(&module.module), None),
        (module.state.as_str().into(), state_colour(module.state)),
        health,
        plain(module.pid.map(|pid| pid.to_string())),
        plain(Some(module.restarts.to_string())),
        plain(Some(format::since(module.since, now))),
        plain(module.usage.map(|usage| format::percent(usage.cpu_percent))),
        plain(module.usage.map(|usage| format::bytes(usage.memory_bytes))),
        (remark(module, now), None),
    ]
}

pub(crate) fn state_colour(state: ModuleState) -> Option<AnsiColour> {
    match state {
        ModuleState::Running => Some(AnsiColour::Green),
        ModuleState::Waiting | ModuleState::Starting | ModuleState::Backoff => {
            Some(AnsiColour::Yellow)
        }
        ModuleState::Failed => Some(AnsiColour::Red),
        ModuleState::NotStarted | ModuleState::Stopping | ModuleState::Stopped => {
            Some(AnsiColour::Grey)
        }
        ModuleState::Other(_) => None,
    }
}

pub(crate) fn health_colour(health: HealthStatus) -> Option<AnsiColour> {
    match health {
        HealthStatus::Unknown | HealthStatus::Other(_) => None,
        HealthStatus::Healthy => Some(AnsiColour::Green),
        HealthStatus::Degraded => Some(AnsiColour::Yellow),
        HealthStatus::Unhealthy => Some(AnsiColour::Red),
    }
}

/// What is next for the module, what it says, what is not as usual.
fn remark(module: &ModuleView, now: Timestamp) -> Cow<'_, str> {
    let plain = module.degraded.is_empty()
        && module.throttle.rung == Rung::None
        && module.suspended_by.is_none();
    if module.state == ModuleState::Running && plain {
        return module
            .status_text
            .as_deref()
            .map_or(Cow::Borrowed(""), format::single_line);
    }
    let mut parts = Vec::new();
    parts.extend(module_details::suspended_text(module));
    // What is wanted waits or starts from the beginning.
    if module.state == ModuleState::NotStarted {
        parts.push("starts when needed".to_owned());
    }
    if let Some(at) = module.next_attempt_at {
        parts.push(format!("next try {}", format::until(at, now)));
    }
    parts.extend(module_details::waits_for(module).map(|waits| format!("waits for {waits}")));
    parts.extend(module_details::failure_text(module));
    if let Some(strategy) = &module.proposal {
        parts.push(format!(
            "proposed: {strategy}, `mainstay recover` accepts it"
        ));
    }
    if !module.degraded.is_empty() {
        parts.push(format!("without {}", format::list(&module.degraded)));
    }
    if module.throttle.rung != Rung::None {
        parts.push(format!("throttled: {}", module.throttle.rung));
    }
    if let Some(text) = &module.status_text {
        parts.push(format::single_line(text).into_owned());
    }
    parts.join("; ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::{example, golden};

    const NOW: Timestamp = Timestamp(1_795_000_060_123);

    fn system() -> SystemView {
        serde_json::from_value(golden("system.status")["reply"]["result"].clone()).expect("a view")
    }

    #[test]
    fn a_sick_system_is_described_with_what_happens_next() {
        let sick = example();
        let mut well = example();
        well.module = "event-bus".to_owned();
        (well.state, well.health) = (ModuleState::Running, HealthStatus::Unknown);
        (well.status_text, well.usage) = (Some("two\nlines".to_owned()), None);
        (well.degraded, well.next_attempt_at, well.restarts) = (Vec::new(), None, 0);
        let mut waits = well.clone();
        waits.module = "ui".to_owned();
        (waits.state, waits.pid, waits.status_text) = (ModuleState::Waiting, None, None);
        waits.waits_for = None;
        waits.waiting_on = vec!["storage".to_owned(), "event-bus".to_owned()];
        let mut lazy = waits.clone();
        lazy.module = "export".to_owned();
        (lazy.state, lazy.waiting_on) = (ModuleState::NotStarted, Vec::new());
        let text = render(
            &system(),
            &[well, sick, waits, lazy],
            NOW,
            Terminal::default(),
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_healthy_system_without_modules_is_one_line() {
        let mut system = system();
        system.status = SystemStatus::Healthy;
        system.modules = mainstay_protocol::view::ModuleCounts::default();
        (system.reason, system.config_problem, system.issues) = (None, None, Vec::new());
        system.runtime_values = Vec::new();
        let text = render(&system, &[], NOW, Terminal::default());
        assert_eq!(text, "skelly-jelly is healthy, up 2h 1m, 0 of 0 running\n");
    }

    #[test]
    fn a_terminal_gets_colours_and_no_line_wider_than_it_is() {
        let screen = Terminal {
            width: Some(40),
            colour: true,
        };
        let text = render(&system(), &[example()], NOW, screen);
        assert!(text.contains("\x1b[33mbackoff\x1b[0m"), "{text}");
        let narrow = render(
            &system(),
            &[example()],
            NOW,
            Terminal {
                width: Some(40),
                colour: false,
            },
        );
        let table: Vec<&str> = narrow.lines().skip(2).take(2).collect();
        assert!(
            table.iter().all(|line| line.chars().count() <= 40),
            "{narrow}"
        );
    }
}
