//! `status`: a line about the system and a table of its modules, or the details of one module.
//! Owns the columns.
//! Never asks more than two questions on one connection.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use mainstay_protocol::words::{ExitCode, Health, Rung, State, SystemStatus};
use mainstay_protocol::{ModuleView, SystemView, Timestamp};

use super::args::{Global, Status};
use super::failure::Failure;
use super::instance::Instance;
use super::screen::{self, Colour, Screen};
use super::table::{Cell, Table};
use super::{block, human};

pub(crate) fn run(args: &Status, global: &Global) -> Result<ExitCode, Failure> {
    let mut client = Instance::find(global)?.connect()?;
    let screen = Screen::of_stdout();
    if let Some(name) = &args.module {
        let module = client.module(name)?;
        if args.json {
            screen::print_json(&module)?;
        } else {
            screen::print(&block::render(&module, screen::now(), screen))?;
        }
    } else if args.json && args.all {
        screen::print_json(&client.modules()?)?;
    } else if args.json {
        screen::print_json(&client.status()?)?;
    } else {
        let system = client.status()?;
        let modules = client.modules()?;
        screen::print(&render(&system, &modules, screen::now(), screen))?;
    }
    Ok(ExitCode::Ok)
}

fn render(system: &SystemView, modules: &[ModuleView], now: Timestamp, screen: Screen) -> String {
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
    for (n, (what, text)) in problem.chain(issues).enumerate() {
        if n == 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{what}: {}", human::clean(text));
    }
    out
}

fn header(out: &mut String, system: &SystemView, screen: Screen) {
    let colour = match system.status {
        SystemStatus::Healthy => Some(Colour::Green),
        SystemStatus::Starting | SystemStatus::Degraded => Some(Colour::Yellow),
        SystemStatus::Critical => Some(Colour::Red),
        SystemStatus::Stopping => Some(Colour::Grey),
        SystemStatus::Other(_) => None,
    };
    let _ = write!(out, "{} is ", human::clean(&system.name));
    screen.paint(out, colour, system.status.as_str());
    if let Some(reason) = &system.reason {
        let _ = write!(out, " ({})", human::clean(reason));
    }
    let up = human::span(Duration::from_millis(system.uptime_ms));
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

fn table(out: &mut String, modules: &[ModuleView], now: Timestamp, screen: Screen) {
    let mut table = Table::new(modules.len() + 1, RIGHT);
    table.head(TITLES);
    for module in modules {
        table.row(row(module, now));
    }
    table.render(out, 0, screen);
}

fn row(module: &ModuleView, now: Timestamp) -> [Cell<'_>; 9] {
    let plain = |text: Option<String>| (text.map_or(Cow::Borrowed("-"), Cow::Owned), None);
    let health = match module.health {
        Health::Unknown => ("-".into(), None),
        health => (health.as_str().into(), health_colour(health)),
    };
    [
        (human::clean(&module.module), None),
        (module.state.as_str().into(), state_colour(module.state)),
        health,
        plain(module.pid.map(|pid| pid.to_string())),
        plain(Some(module.restarts.to_string())),
        plain(Some(human::since(module.since, now))),
        plain(module.usage.map(|usage| human::percent(usage.cpu_percent))),
        plain(module.usage.map(|usage| human::bytes(usage.memory_bytes))),
        (remark(module, now), None),
    ]
}

pub(crate) fn state_colour(state: State) -> Option<Colour> {
    match state {
        State::Running => Some(Colour::Green),
        State::Waiting | State::Starting | State::Backoff => Some(Colour::Yellow),
        State::Failed => Some(Colour::Red),
        State::NotStarted | State::Stopping | State::Stopped => Some(Colour::Grey),
        State::Other(_) => None,
    }
}

pub(crate) fn health_colour(health: Health) -> Option<Colour> {
    match health {
        Health::Unknown | Health::Other(_) => None,
        Health::Healthy => Some(Colour::Green),
        Health::Degraded => Some(Colour::Yellow),
        Health::Unhealthy => Some(Colour::Red),
    }
}

/// What is next for the module, what it says, what is not as usual.
fn remark(module: &ModuleView, now: Timestamp) -> Cow<'_, str> {
    let plain = module.degraded.is_empty() && module.throttle.rung == Rung::None;
    if module.state == State::Running && plain {
        return module
            .status_text
            .as_deref()
            .map_or(Cow::Borrowed(""), human::clean);
    }
    let mut parts = Vec::new();
    // What is wanted waits or starts from the beginning.
    if module.state == State::NotStarted {
        parts.push("starts when needed".to_owned());
    }
    if let Some(at) = module.next_attempt_at {
        parts.push(format!("next try {}", human::until(at, now)));
    }
    if !module.waiting_on.is_empty() {
        parts.push(format!("waits for {}", human::list(&module.waiting_on)));
    }
    parts.extend(block::failure_text(module));
    if !module.degraded.is_empty() {
        parts.push(format!("without {}", human::list(&module.degraded)));
    }
    if module.throttle.rung != Rung::None {
        parts.push(format!("throttled: {}", module.throttle.rung));
    }
    if let Some(text) = &module.status_text {
        parts.push(human::clean(text).into_owned());
    }
    parts.join("; ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::block::tests::{example, golden};

    const NOW: Timestamp = Timestamp(1_795_000_060_123);

    fn system() -> SystemView {
        serde_json::from_value(golden("system.status")["reply"]["result"].clone()).expect("a view")
    }

    #[test]
    fn a_sick_system_is_described_with_what_happens_next() {
        let sick = example();
        let mut well = example();
        well.module = "event-bus".to_owned();
        (well.state, well.health) = (State::Running, Health::Unknown);
        (well.status_text, well.usage) = (Some("two\nlines".to_owned()), None);
        (well.degraded, well.next_attempt_at, well.restarts) = (Vec::new(), None, 0);
        let mut waits = well.clone();
        waits.module = "ui".to_owned();
        (waits.state, waits.pid, waits.status_text) = (State::Waiting, None, None);
        waits.waiting_on = vec!["storage".to_owned(), "event-bus".to_owned()];
        let mut lazy = waits.clone();
        lazy.module = "export".to_owned();
        (lazy.state, lazy.waiting_on) = (State::NotStarted, Vec::new());
        let text = render(
            &system(),
            &[well, sick, waits, lazy],
            NOW,
            Screen::default(),
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_healthy_system_without_modules_is_one_line() {
        let mut system = system();
        system.status = SystemStatus::Healthy;
        system.modules = mainstay_protocol::view::ModuleCounts::default();
        (system.reason, system.config_problem, system.issues) = (None, None, Vec::new());
        let text = render(&system, &[], NOW, Screen::default());
        assert_eq!(text, "skelly-jelly is healthy, up 2h 1m, 0 of 0 running\n");
    }

    #[test]
    fn a_terminal_gets_colours_and_no_line_wider_than_it_is() {
        let screen = Screen {
            width: Some(40),
            colour: true,
        };
        let text = render(&system(), &[example()], NOW, screen);
        assert!(text.contains("\x1b[33mbackoff\x1b[0m"), "{text}");
        let narrow = render(
            &system(),
            &[example()],
            NOW,
            Screen {
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
