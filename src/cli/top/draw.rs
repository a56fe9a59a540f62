//! The lines of `top`: header, rows, pane, and what keys do.
//! Owns which columns there are at which width.
//! Never draws wider or higher than the screen.

use mainstay_protocol::{ModuleView, SystemStatus};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::model::{Mode, Model, Pane};
use crate::cli::status::{health_colour, state_colour};
use crate::cli::table::{columns, cut};
use crate::cli::terminal::AnsiColour;
use crate::cli::{format, status_rows};

/// Columns of the text, at least, before a column beside it is left out.
const TEXT_MIN: usize = 18;
const NAME_MAX: usize = 28;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const KEYS: &str = "l logs  w why  r restart  s stop  g graph  / filter  : command  ? help  q quit";
const HELP: &[&str] = &[
    "up, down, j, k     select a module; page up, page down, home, end",
    "Enter              its details:           mainstay status NAME",
    "l                  its output:            mainstay logs -f NAME",
    "w                  why it is so:          mainstay why NAME",
    "e                  its events:            mainstay events --module NAME",
    "r                  restart it:            mainstay restart NAME",
    "s                  stop or start it:      mainstay stop NAME, mainstay start NAME",
    "g                  the dependencies:      mainstay graph",
    ":                  any command, such as   :signal web HUP",
    "/                  filter by name or state; Escape shows all again",
    "o                  order by trouble, processor, memory or name",
    "q, Ctrl-C          end; modules go on running",
    "",
    "In a pane: up, down and page up scroll, End jumps to now, q closes it.",
    "FAIL/H counts failures in the last hour. CPU is in percent of one core.",
];

/// Returns the lines of a screen.
pub(super) fn screen(model: &Model, width: u16, height: u16) -> Vec<Line<'static>> {
    let (width, height) = (usize::from(width), usize::from(height));
    let mut lines = header(model, width);
    let body = height.saturating_sub(lines.len() + 1);
    match (&model.mode, &model.pane) {
        (Mode::Help, _) => {
            let help = HELP.iter().take(body);
            lines.extend(help.map(|line| Line::raw(cut(line, width).into_owned())));
        }
        (_, Some(pane)) => lines.extend(pane_lines(pane, width, body)),
        (_, None) => lines.extend(table(model, width, body)),
    }
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(footer(model, width));
    lines.truncate(height);
    lines
}

/// Returns a whole picture as text, every row of it.
pub(super) fn as_text(model: &Model, width: u16) -> String {
    let width = usize::from(width);
    let mut lines = header(model, width);
    lines.extend(table(model, width, usize::MAX));
    let text = |line: &Line<'_>| {
        let text: String = line.spans.iter().map(|span| &*span.content).collect();
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(text).collect()
}

fn style(model: &Model, colour: Option<AnsiColour>) -> Style {
    match colour.filter(|_| model.colour) {
        Some(AnsiColour::Red) => Style::new().fg(Color::Red),
        Some(AnsiColour::Green) => Style::new().fg(Color::Green),
        Some(AnsiColour::Yellow) => Style::new().fg(Color::Yellow),
        Some(AnsiColour::Grey) => Style::new().fg(Color::DarkGray),
        _ => Style::new(),
    }
}

fn header(model: &Model, width: usize) -> Vec<Line<'static>> {
    let (Some(system), Some((name, word, counts))) = (&model.system, model.title()) else {
        return Vec::new();
    };
    let colour = match system.status {
        SystemStatus::Healthy => Some(AnsiColour::Green),
        SystemStatus::Critical => Some(AnsiColour::Red),
        _ => Some(AnsiColour::Yellow),
    };
    let up = format::compact_duration(std::time::Duration::from_millis(system.uptime_ms));
    let rest = format!("  up {up}   {counts}");
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let first = vec![
        Span::styled(name, bold),
        Span::raw("  "),
        Span::styled(word, style(model, colour)),
        Span::raw(rest),
    ];
    let first = Line::from(fitting(first, width));
    let (machine, own) = (&system.usage, &system.self_usage);
    let memory = match machine.memory_total_bytes {
        0 => format::short_bytes(machine.memory_bytes),
        total => format!(
            "{} of {}",
            format::short_bytes(machine.memory_bytes),
            format::short_bytes(total)
        ),
    };
    let measured = format!(
        "machine {} of {} cores, memory {memory}   mainstay {}, {}",
        format::percent(machine.cpu_percent),
        machine.cores,
        format::percent(own.cpu_percent),
        format::short_bytes(own.memory_bytes)
    );
    let second = match machine.cores {
        0 => "the machine is not measured yet".to_owned(),
        _ => measured,
    };
    let second = Line::styled(
        cut(&second, width).into_owned(),
        style(model, Some(AnsiColour::Grey)),
    );
    let lost = model.lost.as_ref().map(|why| {
        let text = format!("! {}", format::single_line(why));
        Line::styled(
            cut(&text, width).into_owned(),
            style(model, Some(AnsiColour::Red)),
        )
    });
    [first, second]
        .into_iter()
        .chain(lost)
        .chain([Line::default()])
        .collect()
}

/// The columns at a width; those that are not there have none.
struct Widths {
    name: usize,
    state: usize,
    bars: usize,
    failures: usize,
    since: usize,
    text: usize,
}

const STATE: usize = 11;
const CPU: usize = 6;
const MEMORY: usize = 5;
const GAP: usize = 2;

fn widths(rows: &[&ModuleView], width: usize) -> Widths {
    let names = rows.iter().map(|row| columns(&row.module)).max();
    let name = names.unwrap_or(0).clamp(6, NAME_MAX);
    let mut left = width.saturating_sub(name + STATE + CPU + MEMORY + 4 * GAP);
    let mut take = |wanted: usize| {
        let fits = left >= TEXT_MIN + wanted + GAP;
        left -= if fits { wanted + GAP } else { 0 };
        if fits { wanted } else { 0 }
    };
    let since = take(5);
    let failures = take(6);
    let bars = take(8);
    let more_bars = if bars > 0 { take(18) } else { 0 };
    Widths {
        name,
        state: STATE,
        bars: match more_bars {
            0 => bars,
            more => bars + more + GAP,
        },
        failures,
        since,
        text: left,
    }
}

fn table(model: &Model, width: usize, height: usize) -> Vec<Line<'static>> {
    let rows = model.rows();
    let of = widths(&rows, width);
    let title = |text: &str, width: usize, right: bool| match (width, right) {
        (0, _) => String::new(),
        (width, true) => format!("{text:>width$}  "),
        (width, false) => format!("{text:<width$}  "),
    };
    let titles = [
        title("MODULE", of.name, false),
        title("STATE", of.state, false),
        title("CPU", CPU, true),
        title("", of.bars, false),
        title("MEM", MEMORY, true),
        title("FAIL/H", of.failures, true),
        title("SINCE", of.since, true),
        "WHY".to_owned(),
    ];
    let titles = cut(&titles.concat(), width).into_owned();
    let mut lines = vec![Line::styled(titles, style(model, Some(AnsiColour::Grey)))];
    let selected = model.selected_row(&rows);
    let room = height.saturating_sub(1).max(1);
    // The selected row stays in the middle, where there are rows on both sides.
    let first = selected.saturating_sub(room / 2);
    let first = first.min(rows.len().saturating_sub(room));
    for (n, module) in rows.iter().enumerate().skip(first).take(room) {
        let line = row(model, module, &of, width);
        lines.push(
            match n == selected && model.mode != Mode::Help && height != usize::MAX {
                true => line.style(Style::new().add_modifier(Modifier::REVERSED)),
                false => line,
            },
        );
    }
    if rows.is_empty() {
        lines.push(Line::raw("no module matches the filter"));
    }
    lines
}

fn row(model: &Model, module: &ModuleView, of: &Widths, width: usize) -> Line<'static> {
    let left = |text: &str, width: usize| match width {
        0 => String::new(),
        _ => {
            let shown = cut(text, width);
            format!("{shown}{}", " ".repeat(width + GAP - columns(&shown)))
        }
    };
    let right = |text: &str, width: usize| match width {
        0 => String::new(),
        _ => format!("{:>width$}  ", cut(text, width)),
    };
    let usage = module.usage.filter(|_| module.pid.is_some());
    let failures = model.failures.get(&module.module).copied().unwrap_or(0);
    let failures_text = if failures == 0 {
        String::new()
    } else {
        failures.to_string()
    };
    let health = health_colour(module.health).filter(|_| module.pid.is_some());
    let state = match health {
        Some(AnsiColour::Green) | None => state_colour(module.state),
        trouble => trouble,
    };
    let cpu = usage.map_or_else(String::new, |usage| format::percent(usage.cpu_percent));
    let memory = usage.map_or_else(String::new, |usage| format::short_bytes(usage.memory_bytes));
    let text = status_rows::text(module, model.now);
    let spans = vec![
        Span::raw(left(&format::single_line(&module.module), of.name)),
        Span::styled(
            left(&status_rows::state_word(module), of.state),
            style(model, state),
        ),
        Span::raw(right(&cpu, CPU)),
        Span::styled(
            left(&bars(model, module, of.bars), of.bars),
            style(model, Some(AnsiColour::Grey)),
        ),
        Span::raw(right(&memory, MEMORY)),
        Span::styled(
            right(&failures_text, of.failures),
            style(model, Some(AnsiColour::Red)),
        ),
        Span::raw(right(
            &status_rows::since(module.since, model.now),
            of.since,
        )),
        Span::raw(cut(&text, of.text).into_owned()),
    ];
    let mut spans = fitting(spans, width);
    let used: usize = spans.iter().map(|span| columns(&span.content)).sum();
    // A selected row is marked to the edge.
    spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
    Line::from(spans)
}

/// The beginning of a row that is wider than the screen.
fn fitting(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    let mut room = width;
    let fits = spans.into_iter().map(|span| {
        let text = cut(&span.content, room).into_owned();
        room -= columns(&text);
        Span::styled(text, span.style)
    });
    fits.collect()
}

/// The history of processor use, the newest at the right; a full bar is a core, or the most there
/// was of more.
fn bars(model: &Model, module: &ModuleView, width: usize) -> String {
    let Some(history) = model.cpu.get(&module.module).filter(|_| width > 0) else {
        return String::new();
    };
    let most = history.iter().copied().fold(100.0, f64::max);
    let shown = history.iter().skip(history.len().saturating_sub(width));
    let bar = |cpu: &f64| {
        let eighths = (cpu / most * 8.0).ceil().clamp(0.0, 8.0) as usize;
        eighths.checked_sub(1).map_or(' ', |index| BARS[index])
    };
    let bars: String = shown.map(bar).collect();
    format!("{bars:>width$}")
}

fn pane_lines(pane: &Pane, width: usize, height: usize) -> Vec<Line<'static>> {
    let state = match pane.ended {
        None => String::new(),
        Some(0) => "  (ended)".to_owned(),
        Some(code) => format!("  (ended with exit code {code})"),
    };
    let title = format!("$ {}{state}", format::single_line(&pane.title));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled(cut(&title, width).into_owned(), bold)];
    let below = pane.below(height.saturating_sub(1));
    let room = height.saturating_sub(if below > 0 { 2 } else { 1 });
    let end = pane.lines.len() - below.min(pane.lines.len());
    let shown = pane.lines.range(end.saturating_sub(room)..end);
    lines.extend(shown.map(|line| Line::raw(cut(line, width).into_owned())));
    if below > 0 {
        lines.resize(height.saturating_sub(1), Line::default());
        let newer = match pane.newer {
            0 => String::new(),
            count => format!(", {count} of them new"),
        };
        let text = format!("▼ {below} lines below{newer}: End jumps to now");
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        lines.push(Line::styled(cut(&text, width).into_owned(), reversed));
    }
    lines
}

fn footer(model: &Model, width: usize) -> Line<'static> {
    let text = match (&model.mode, &model.pane) {
        (Mode::Filter, _) => format!("/{}▏ Enter keeps it, Escape shows all", model.filter),
        (Mode::Command(text), _) => format!(":mainstay {text}▏"),
        (Mode::Confirm(words), _) => format!("run `mainstay {}`? y/n", words.join(" ")),
        (Mode::Help, _) => "any key goes back".to_owned(),
        (Mode::Table, Some(_)) => "q back  up/down scroll  End now".to_owned(),
        (Mode::Table, None) => {
            let mut text = String::new();
            if !model.filter.is_empty() {
                text = format!("filter: {}  ", model.filter);
            }
            let order = model.order.as_str();
            format!("{text}{KEYS}  o order: {order}")
        }
    };
    let shown = cut(&format::single_line(&text), width).into_owned();
    let important = matches!(
        model.mode,
        Mode::Confirm(_) | Mode::Command(_) | Mode::Filter
    );
    match important {
        true => Line::styled(shown, Style::new().add_modifier(Modifier::BOLD)),
        false => Line::styled(shown, style(model, Some(AnsiColour::Grey))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::module_details::tests::{example, golden};
    use crate::cli::top::sampler::Sample;
    use mainstay_protocol::{HealthStatus, ModuleState, Timestamp};
    use std::collections::HashMap;

    pub(in crate::cli::top) fn model() -> Model {
        let system = golden("system.status")["reply"]["result"].clone();
        let mut modules = vec![example(), example(), example()];
        for (module, name) in modules.iter_mut().zip(["storage", "web", "worker"]) {
            module.module = name.to_owned();
        }
        (modules[1].state, modules[1].health) = (ModuleState::Running, HealthStatus::Healthy);
        (modules[1].degraded, modules[1].proposal) = (Vec::new(), None);
        modules[1].suspended_by = None;
        modules[2].state = ModuleState::Failed;
        let mut model = Model::new(false);
        for _ in 0..3 {
            model.apply(Sample {
                system: serde_json::from_value(system.clone()).expect("a view"),
                modules: modules.clone(),
                failures: HashMap::from([("worker".to_owned(), 12)]),
                at: Timestamp(1_795_000_060_123),
            });
        }
        model
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_it_is_filled() {
        let mut model = model();
        for pane in [false, true] {
            if pane {
                let mut pane = Pane::new("mainstay logs -f web".to_owned());
                (0..100).for_each(|n| pane.push(&format!("{n} {}", "x".repeat(300))));
                pane.scroll(3);
                model.pane = Some(pane);
            }
            for (width, height) in [(1, 1), (20, 5), (80, 24), (120, 40), (200, 50)] {
                let lines = screen(&model, width, height);
                assert_eq!(lines.len(), usize::from(height), "{width}x{height}");
                let widest = lines.iter().map(Line::width).max().unwrap_or(0);
                assert!(widest <= usize::from(width), "{widest} of {width}");
            }
        }
    }

    #[test]
    fn one_picture_has_every_module_the_troubled_ones_first() {
        insta::assert_snapshot!(as_text(&model(), 80));
    }

    #[test]
    fn a_scrolled_pane_says_how_many_lines_are_below() {
        let mut model = model();
        let mut pane = Pane::new("mainstay logs -f web".to_owned());
        (0..50).for_each(|n| pane.push(&n.to_string()));
        pane.scroll(10);
        pane.push("newest");
        model.pane = Some(pane);
        let lines = screen(&model, 80, 24);
        let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert!(text.contains(&"▼ 11 lines below, 1 of them new: End jumps to now".to_owned()));
        assert!(text.contains(&"39".to_owned()) && !text.contains(&"40".to_owned()));
    }
}
