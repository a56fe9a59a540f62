//! `status`: a line about the system and one for each of its modules, or the details of one module.
//! Owns what a person should know, and the wide table; the first line is in `headline`.
//! Never asks more than two questions on one connection.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;
use std::time::Duration;

use mainstay_client::blocking::Client;
use mainstay_protocol::enums::{CliExitCode, HealthStatus, ModuleKind, ModuleState, SystemStatus};
use mainstay_protocol::method::name;
use mainstay_protocol::{ModuleView, SystemView, Timestamp};

use super::args::{GlobalArgs, SortKey, StatusArgs};
use super::error::CliError;
use super::system_locator::SystemLocator;
use super::table::{Cell, TextTable};
use super::terminal::{self, AnsiColour, Terminal};
use super::wrapping::{HANG, wrap_line};
use super::{format, headline, module_details, repeat, status_rows};

/// Keys that are listed at most.
const KEYS_SHOWN: usize = 5;

pub(crate) fn run(args: &StatusArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    match args.watch {
        Some(interval) => repeat::run(&instance, interval, |client| text(client, args)),
        None => {
            let mut client = instance.connect_to_show(calls(args))?;
            terminal::print(&text(&mut client, args)?)?;
            Ok(CliExitCode::Ok)
        }
    }
}

/// The calls of `text`, in its order.
fn calls(args: &StatusArgs) -> &'static [&'static str] {
    match (&args.module, args.json, args.all) {
        (Some(_), ..) => &[],
        (None, true, true) => &[name::MODULE_LIST],
        (None, true, false) => &[name::SYSTEM_STATUS],
        (None, false, _) => &[name::SYSTEM_STATUS, name::MODULE_LIST],
    }
}

/// What is printed, once.
fn text(client: &mut Client, args: &StatusArgs) -> Result<String, CliError> {
    let line = args.watch.is_some();
    let (now, screen) = (terminal::now(), Terminal::of_stdout());
    if let Some(name) = &args.module {
        let module = client.module(name)?;
        return match args.json {
            true => terminal::json_text(&module, line),
            false => Ok(screen.fit(module_details::render(&module, now, screen))),
        };
    }
    if args.json {
        return match args.all {
            true => terminal::json_text(&sorted(client.modules()?, args.sort), line),
            false => terminal::json_text(&client.status()?, line),
        };
    }
    let system = client.status()?;
    let modules = sorted(client.modules()?, args.sort);
    let (all, form) = (args.all, Form::of(args));
    Ok(render(&system, &modules, Shown { all, form }, now, screen))
}

/// The modules in the order that was asked for; what is the same stays as it was, by name.
fn sorted(mut modules: Vec<ModuleView>, key: Option<SortKey>) -> Vec<ModuleView> {
    let cpu = |module: &ModuleView| module.usage.map_or(-1.0, |usage| usage.cpu_percent);
    let memory = |module: &ModuleView| module.usage.map_or(0, |usage| usage.memory_bytes);
    let restarts = status_rows::restarts;
    modules.sort_by(|a, b| match key {
        Some(SortKey::Cpu) => cpu(b).total_cmp(&cpu(a)),
        Some(SortKey::Memory) => memory(b).cmp(&memory(a)),
        Some(SortKey::Restarts) => restarts(b).cmp(&restarts(a)),
        Some(SortKey::Name) => a.module.cmp(&b.module),
        None => Ordering::Equal,
    });
    modules
}

/// What is shown of the modules.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    all: bool,
    form: Form,
}

/// How the modules are arranged.
#[derive(Debug, Clone, Copy, Default)]
enum Form {
    /// Trouble first.
    #[default]
    Rows,
    /// As they are sorted.
    Sorted(SortKey),
    /// Below each module what it needs.
    Tree,
    Wide,
}

impl Form {
    fn of(args: &StatusArgs) -> Form {
        match (args.wide, args.tree, args.sort) {
            (true, ..) => Form::Wide,
            (_, true, _) => Form::Tree,
            (.., Some(key)) => Form::Sorted(key),
            _ => Form::Rows,
        }
    }
}

fn render(
    system: &SystemView,
    modules: &[ModuleView],
    shown: Shown,
    now: Timestamp,
    screen: Terminal,
) -> String {
    let mut out = String::new();
    header(&mut out, system, modules, screen);
    let problem = system.config_problem.iter().map(String::as_str);
    let at_runtime = runtime_values(system);
    let issues = system.issues.iter().map(String::as_str);
    for text in problem.chain(at_runtime.as_deref()).chain(issues) {
        let text = format!("! {}\n", format::one_line(text));
        wrap_line(&mut out, &text, screen.width.unwrap_or(usize::MAX), HANG);
    }
    if !modules.is_empty() {
        out.push('\n');
    }
    let is_shown = |module: &&ModuleView| {
        shown.all || module.kind != ModuleKind::Builtin || module.state != ModuleState::Running
    };
    let listed: Vec<&ModuleView> = modules.iter().filter(is_shown).collect();
    match shown.form {
        Form::Wide => wide_table(&mut out, modules, now, screen),
        Form::Tree => status_rows::render_tree(&mut out, &listed, now, screen),
        Form::Rows => status_rows::render_by_rank(&mut out, listed, now, screen),
        Form::Sorted(SortKey::Restarts) => {
            status_rows::render_restarts(&mut out, &listed, now, screen);
        }
        Form::Sorted(_) => status_rows::render(&mut out, &listed, now, screen),
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

fn header(out: &mut String, system: &SystemView, modules: &[ModuleView], screen: Terminal) {
    let colour = match system.status {
        SystemStatus::Healthy => Some(AnsiColour::Green),
        SystemStatus::Starting | SystemStatus::Degraded => Some(AnsiColour::Yellow),
        SystemStatus::Critical => Some(AnsiColour::Red),
        SystemStatus::Stopping => Some(AnsiColour::Grey),
        SystemStatus::Other(_) => None,
    };
    let mut line = format!("{}  ", format::single_line(&system.name));
    let (word, counts) = headline::answer(system, modules);
    screen.paint(&mut line, colour, &word);
    let up = format::compact_duration(Duration::from_millis(system.uptime_ms));
    let _ = writeln!(line, "  up {up}   {}", headline::counts_text(&counts));
    wrap_line(out, &line, screen.width.unwrap_or(usize::MAX), HANG);
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

fn wide_table(out: &mut String, modules: &[ModuleView], now: Timestamp, screen: Terminal) {
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
        (wide_text(module, now), None),
    ]
}

/// What is said of a module, and that its probes check less often than configured.
fn wide_text(module: &ModuleView, now: Timestamp) -> Cow<'_, str> {
    let text = status_rows::text(module, now);
    let Some(every) = module.probes_stretched_ms else {
        return text;
    };
    let every = format::compact_duration(Duration::from_millis(every));
    let probes = format!("probes each {every}: the machine is busy");
    match text.is_empty() {
        true => probes.into(),
        false => format!("{text}; {probes}").into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::{example, golden};
    use mainstay_protocol::enums::DesiredState;
    use mainstay_protocol::view::ModuleCounts;

    const NOW: Timestamp = Timestamp(1_795_000_060_123);

    fn system() -> SystemView {
        serde_json::from_value(golden("system.status")["reply"]["result"].clone()).expect("a view")
    }

    fn plain(width: Option<usize>) -> Terminal {
        let colour = false;
        Terminal { width, colour }
    }

    /// One module in each situation that has words of its own.
    fn modules() -> Vec<ModuleView> {
        let sick = example();
        let mut well = sick.clone();
        well.module = "web".to_owned();
        (well.state, well.health) = (ModuleState::Running, HealthStatus::Healthy);
        (well.degraded, well.next_attempt_at, well.restarts) = (Vec::new(), None, 0);
        (well.waits_for, well.waiting_on, well.attempts) = (None, Vec::new(), 0);
        (well.suspended_by, well.proposal) = (None, None);
        well.status_text = Some("serving on 8931\nand on more than fits beside it".to_owned());
        let mut bus = well.clone();
        bus.module = "event-bus".to_owned();
        (bus.kind, bus.status_text) = (ModuleKind::Builtin, None);
        let mut failed = well.clone();
        failed.module = "flaky".to_owned();
        (failed.state, failed.attempts, failed.pid) = (ModuleState::Failed, 4, None);
        let reason = "exit code 17: ConnectionResetError: [Errno 104] upstream, \
            https://example.org/a/path/that/has/no/space/and/is/longer/than/a/line/can/be";
        failed.reason = Some(reason.to_owned());
        (failed.next_attempt_at, failed.status_text) = (Some(Timestamp(NOW.0 + 17_000)), None);
        let mut done = well.clone();
        done.module = "migrate".to_owned();
        (done.kind, done.state) = (ModuleKind::Task, ModuleState::Stopped);
        (done.pid, done.status_text) = (None, None);
        let exit = done.last_exit.as_mut().expect("an exit");
        (exit.code, exit.ran_ms) = (Some(0), Some(320));
        let mut stopped = done.clone();
        stopped.module = "ui".to_owned();
        (stopped.kind, stopped.desired) = (ModuleKind::Service, DesiredState::Down);
        let mut waits = stopped.clone();
        waits.module = "worker".to_owned();
        (waits.state, waits.desired) = (ModuleState::Waiting, DesiredState::Up);
        waits.waiting_on = vec!["storage".to_owned(), "web".to_owned()];
        let mut lazy = stopped.clone();
        lazy.module = "export".to_owned();
        (lazy.state, lazy.desired) = (ModuleState::NotStarted, DesiredState::Up);
        vec![bus, lazy, failed, done, sick, stopped, waits, well]
    }

    fn shown(shown: Shown, screen: Terminal) -> String {
        render(&system(), &modules(), shown, NOW, screen)
    }

    #[test]
    fn a_sick_system_is_described_with_what_happens_next() {
        insta::assert_snapshot!(shown(Shown::default(), plain(Some(80))));
    }

    #[test]
    fn a_pipe_gets_one_line_for_each_module() {
        insta::assert_snapshot!(shown(Shown::default(), plain(None)));
    }

    #[test]
    fn the_wide_table_has_processes_and_restarts() {
        let wide = Shown {
            form: Form::Wide,
            all: true,
        };
        insta::assert_snapshot!(shown(wide, plain(Some(80))));
    }

    #[test]
    fn what_is_sorted_by_restarts_shows_how_many_there_were() {
        let mut all = modules();
        for (n, module) in all.iter_mut().enumerate() {
            (module.restarts, module.requested_restarts) = (n as u64 % 3, 0);
        }
        let sorted = sorted(all, Some(SortKey::Restarts));
        let form = Form::Sorted(SortKey::Restarts);
        let shown = Shown { all: false, form };
        insta::assert_snapshot!(render(&system(), &sorted, shown, NOW, plain(Some(80))));
    }

    #[test]
    fn the_tree_has_below_each_module_what_it_needs() {
        let tree = Shown {
            form: Form::Tree,
            all: false,
        };
        insta::assert_snapshot!(shown(tree, plain(Some(80))));
    }

    #[test]
    fn a_healthy_system_says_what_was_stopped_on_request() {
        let mut system = system();
        system.status = SystemStatus::Healthy;
        (system.config_problem, system.issues) = (None, Vec::new());
        system.runtime_values = Vec::new();
        system.modules = ModuleCounts {
            total: 3,
            running: 2,
            stopped: 1,
            stopped_on_request: 1,
            ..ModuleCounts::default()
        };
        let line =
            |system: &SystemView| render(system, &[], Shown::default(), NOW, Terminal::default());
        let expected = "skelly-jelly  HEALTHY, 1 stopped on request  up 2h 1m   2 running\n";
        assert_eq!(line(&system), expected);
        system.status = SystemStatus::Degraded;
        let expected = "skelly-jelly  DEGRADED: not well: ui  up 2h 1m   2 running, \
                        1 stopped on request\n";
        system.reason = Some("not well: ui".to_owned());
        assert_eq!(line(&system), expected);
    }

    #[test]
    fn modules_are_sorted_by_what_was_asked_for() {
        let names = |key| -> Vec<String> {
            let mut all = modules();
            for (n, module) in all.iter_mut().enumerate() {
                (module.restarts, module.requested_restarts) = (n as u64 % 3, 0);
                if let Some(usage) = &mut module.usage {
                    usage.memory_bytes = 100 * (n as u64 % 4);
                    usage.cpu_percent = 8.0 - n as f64;
                }
            }
            let sorted = sorted(all, key).into_iter();
            sorted.map(|module| module.module).take(3).collect()
        };
        assert_eq!(names(Some(SortKey::Cpu)), ["event-bus", "export", "flaky"]);
        assert_eq!(names(Some(SortKey::Memory)), ["migrate", "web", "flaky"]);
        assert_eq!(names(Some(SortKey::Restarts)), ["flaky", "ui", "export"]);
        assert_eq!(names(Some(SortKey::Name)), ["event-bus", "export", "flaky"]);
        assert_eq!(names(None)[0], "event-bus");
    }

    #[test]
    fn a_healthy_system_without_modules_is_one_line() {
        let mut system = system();
        system.status = SystemStatus::Healthy;
        system.modules = ModuleCounts::default();
        (system.reason, system.config_problem, system.issues) = (None, None, Vec::new());
        system.runtime_values = Vec::new();
        let text = render(&system, &[], Shown::default(), NOW, Terminal::default());
        assert_eq!(text, "skelly-jelly  HEALTHY  up 2h 1m   no modules\n");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_reason_is_cut() {
        let whole = |text: &str| text.replace([' ', '\n'], "");
        for width in 20..140 {
            let text = shown(Shown::default(), plain(Some(width)));
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{width}: {text}");
            let reason = "ConnectionResetError:[Errno104]upstream,https://example.org/a/path/\
                that/has/no/space/and/is/longer/than/a/line/can/be(5failures);\
                onemoretryin17s→whyflaky";
            assert!(whole(&text).contains(reason), "{width}: {text}");
        }
    }

    #[test]
    fn a_terminal_gets_colours() {
        let screen = Terminal {
            width: Some(80),
            colour: true,
        };
        let text = shown(Shown::default(), screen);
        assert!(text.contains("\x1b[31mFAILED\x1b[0m"), "{text}");
        assert!(
            text.contains("\x1b[33mDEGRADED: flaky failed, 3 more\x1b[0m"),
            "{text}"
        );
    }

    #[test]
    fn modules_of_mainstay_itself_are_shown_on_request_or_in_trouble() {
        let all = Shown {
            all: true,
            form: Form::Rows,
        };
        assert!(shown(all, plain(None)).contains("event-bus"));
        let calm = shown(Shown::default(), plain(None));
        assert!(!calm.lines().any(|line| line.starts_with("event-bus")));
        let mut bus = modules().remove(0);
        bus.state = ModuleState::Failed;
        let text = render(&system(), &[bus], Shown::default(), NOW, plain(None));
        assert!(text.contains("event-bus"), "{text}");
    }
}
