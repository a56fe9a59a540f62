//! The rows of `status`: trouble first, each module with its state and what is to be said of it.
//! Owns the columns, and what is left out on a narrow terminal.
//! Never cuts a reason: it goes on in the next line.

use std::borrow::Cow;
use std::time::Duration;

use mainstay_protocol::enums::{DesiredState, HealthStatus, ModuleState, Rung};
use mainstay_protocol::{ModuleView, Timestamp};

use super::status::{health_colour, state_colour};
use super::table::{columns, cut, wrap};
use super::terminal::{AnsiColour, Terminal};
use super::{dependency_tree, format, module_details};
use crate::os_text::millis_text;

/// Columns that the text has at least beside others.
const TEXT_MIN: usize = 20;
const GAP: usize = 2;
/// Indentation of a text that has a line of its own.
const INDENT: usize = 4;

/// One module.
struct StatusRow<'a> {
    name: Cow<'a, str>,
    state: Cow<'a, str>,
    colour: Option<AnsiColour>,
    text: Cow<'a, str>,
    /// Whether the text is a reason, which is never cut.
    reason: bool,
    /// Since when, processor and memory; none where the reason needs the room.
    numbers: Option<[String; 3]>,
}

/// The widths of the columns.
struct Widths {
    name: usize,
    state: usize,
    /// None: the text has lines of its own.
    text: Option<usize>,
    /// None: there is no room for them.
    numbers: Option<[usize; 3]>,
}

/// Appends a row for each module, trouble first.
pub(crate) fn render_by_rank(
    out: &mut String,
    mut modules: Vec<&ModuleView>,
    now: Timestamp,
    screen: Terminal,
) {
    modules.sort_by_key(|module| rank(module));
    render(out, &modules, now, screen);
}

/// Appends a row for each module.
pub(crate) fn render(out: &mut String, modules: &[&ModuleView], now: Timestamp, screen: Terminal) {
    let rows = modules.iter().map(|module| row(module, now));
    render_rows(out, &rows.collect::<Vec<_>>(), screen);
}

/// All starts after the first.
pub(crate) fn restarts(module: &ModuleView) -> u64 {
    module.restarts + module.requested_restarts
}

/// Appends a row for each module, with its restarts in place of what it uses.
pub(crate) fn render_restarts(
    out: &mut String,
    modules: &[&ModuleView],
    now: Timestamp,
    screen: Terminal,
) {
    let rows = modules.iter().map(|module| {
        let count = match restarts(module) {
            1 => "1 restart".to_owned(),
            many => format!("{many} restarts"),
        };
        StatusRow {
            numbers: Some([since(module.since, now), count, String::new()]),
            ..row(module, now)
        }
    });
    render_rows(out, &rows.collect::<Vec<_>>(), screen);
}

/// Appends a row for each module that no other one needs, and below each what it needs. What was
/// above already is named again, without its text.
pub(crate) fn render_tree(
    out: &mut String,
    modules: &[&ModuleView],
    now: Timestamp,
    screen: Terminal,
) {
    let rows = dependency_tree::rows(modules).into_iter().map(|place| {
        let row = row(place.module, now);
        let name = format!("{}{}", place.lines, row.name).into();
        match place.is_repeated {
            false => StatusRow { name, ..row },
            true => StatusRow {
                name,
                text: "see above".into(),
                reason: false,
                numbers: None,
                ..row
            },
        }
    });
    render_rows(out, &rows.collect::<Vec<_>>(), screen);
}

fn render_rows(out: &mut String, rows: &[StatusRow<'_>], screen: Terminal) {
    let widths = widths(rows, screen.width);
    for row in rows {
        row.render(out, &widths, screen);
    }
}

/// What needs a person comes first, what has ended last.
pub(crate) fn rank(module: &ModuleView) -> u8 {
    match module.state {
        ModuleState::Failed => 0,
        ModuleState::Backoff => 1,
        ModuleState::Stopped if module.required && !module.is_done() => 2,
        ModuleState::Running if is_troubled(module) => 2,
        ModuleState::Waiting | ModuleState::Starting | ModuleState::Stopping => 3,
        ModuleState::Running | ModuleState::Other(_) => 4,
        ModuleState::Stopped | ModuleState::NotStarted => 5,
    }
}

/// Whether it runs, but not as it should.
fn is_troubled(module: &ModuleView) -> bool {
    !module.degraded.is_empty()
        || matches!(
            module.health,
            HealthStatus::Degraded | HealthStatus::Unhealthy
        )
        || module.throttle.rung != Rung::None
        || module.suspended_by.is_some()
        || module.proposal.is_some()
}

fn is_calm(module: &ModuleView) -> bool {
    module.state == ModuleState::Running && !is_troubled(module)
}

/// What is to be said of a module: its own words while it simply runs, else why it does not.
pub(crate) fn text(module: &ModuleView, now: Timestamp) -> Cow<'_, str> {
    match (is_calm(module) && module.attempts == 0, &module.status_text) {
        (true, said) => said.as_deref().map_or("".into(), format::single_line),
        (false, _) => reason(module, now).into(),
    }
}

fn row(module: &ModuleView, now: Timestamp) -> StatusRow<'_> {
    let calm = is_calm(module);
    let text = text(module, now);
    let failed = matches!(module.state, ModuleState::Failed | ModuleState::Backoff);
    let state = state_word(module);
    let colour = match module.health {
        health @ (HealthStatus::Degraded | HealthStatus::Unhealthy)
            if module.state == ModuleState::Running =>
        {
            health_colour(health)
        }
        _ => state_colour(module.state),
    };
    let usage = module.usage.filter(|_| module.pid.is_some());
    StatusRow {
        name: format::single_line(&module.module),
        state,
        colour,
        text,
        reason: !calm,
        numbers: (!failed).then(|| {
            [
                since(module.since, now),
                usage.map_or_else(String::new, |usage| format::percent(usage.cpu_percent)),
                usage.map_or_else(String::new, |usage| format::short_bytes(usage.memory_bytes)),
            ]
        }),
    }
}

/// The state as one word; what needs somebody in capitals.
pub(crate) fn state_word(module: &ModuleView) -> Cow<'static, str> {
    match module.state {
        ModuleState::Failed => "FAILED".into(),
        ModuleState::NotStarted => "not started".into(),
        _ if module.is_done() => "done".into(),
        state => state.as_str().into(),
    }
}

/// The time since a state began, by its largest unit.
pub(crate) fn since(at: Timestamp, now: Timestamp) -> String {
    let since = Duration::from_millis(now.0.saturating_sub(at.0));
    let mut text = format::compact_duration(since);
    text.truncate(text.find(' ').unwrap_or(text.len()));
    text
}

/// What is to be said of a module that does not simply run: why first, then what follows.
fn reason(module: &ModuleView, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if module.is_done() || module.state == ModuleState::Stopped {
        parts.push(end(module));
    }
    parts.extend(failure(module));
    parts.extend(restart(module));
    if module.state == ModuleState::Running && is_troubled(module) {
        let health = Some(module.health).filter(|health| *health != HealthStatus::Unknown);
        let issues = format::list(&module.issues);
        parts.extend(health.map(|health| match issues.is_empty() {
            true => health.as_str().to_owned(),
            false => format!("{health}: {issues}"),
        }));
    }
    parts.extend(module_details::suspended_text(module));
    // What is wanted waits or starts from the beginning.
    if module.state == ModuleState::NotStarted {
        parts.push("starts when needed".to_owned());
    }
    parts.extend(module_details::waits_for(module).map(|waits| format!("waits for {waits}")));
    parts.extend(next(module, now));
    if !module.degraded.is_empty() {
        parts.push(format!("without {}", format::list(&module.degraded)));
    }
    if module.throttle.rung != Rung::None {
        parts.push(format!("throttled: {}", module.throttle.rung));
    }
    if let Some(text) = &module.status_text {
        parts.push(format::single_line(text).into_owned());
    }
    let mut text = parts.join("; ");
    if matches!(module.state, ModuleState::Failed | ModuleState::Backoff) {
        text += &format!(" → why {}", format::single_line(&module.module));
    }
    text
}

/// How the last run of a module ended that is over.
fn end(module: &ModuleView) -> String {
    if module.desired == DesiredState::Down {
        return "stopped on request".to_owned();
    }
    let Some(exit) = &module.last_exit else {
        return "completed".to_owned();
    };
    let how = match (module.is_done(), exit.code) {
        (true, Some(code)) => format!("exit {code}"),
        _ => module_details::exit_text(exit),
    };
    match exit.ran_ms {
        Some(ran) => format!("{how} after {}", millis_text(ran)),
        None => how,
    }
}

/// Why it was restarted, until it has run for long enough.
fn restart(module: &ModuleView) -> Option<String> {
    // How a run ended that was killed for a probe says nothing of that.
    let after = module_details::reason_text(module)?;
    match module.attempts {
        _ if module.state != ModuleState::Running => None,
        0 => None,
        1 => Some(format!("restarted: {after}")),
        many => Some(format!("restarted {many} times: {after}")),
    }
}

/// Why it failed, and how often.
fn failure(module: &ModuleView) -> Option<String> {
    let failure = module_details::failure_text(module)?;
    // One that has failed was not restarted after its last failure.
    let is_last = module.state == ModuleState::Failed && module.attempts > 0;
    Some(match module.attempts + u32::from(is_last) {
        0 | 1 => failure,
        many => format!("{failure} ({many} failures)"),
    })
}

/// What mainstay does next, or what the user has to do.
fn next(module: &ModuleView, now: Timestamp) -> Option<String> {
    if let Some(strategy) = &module.proposal {
        let name = format::single_line(&module.module);
        return Some(format!(
            "proposed: {strategy}, `mainstay recover {name}` accepts it"
        ));
    }
    match module.next_attempt_at {
        Some(at) if module.state == ModuleState::Failed => {
            Some(format!("one more try {}", format::until(at, now)))
        }
        Some(at) => Some(format!("next try {}", format::until(at, now))),
        // The reason may say so already.
        None if module.state == ModuleState::Failed => {
            let reason = module_details::reason_text(module).unwrap_or_default();
            (!reason.contains("not tried again")).then(|| "no further try".to_owned())
        }
        None => None,
    }
}

fn widths(rows: &[StatusRow<'_>], width: Option<usize>) -> Widths {
    let widest = |of: &dyn Fn(&StatusRow<'_>) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let name = widest(&|row| columns(&row.name));
    let state = widest(&|row| columns(&row.state));
    let numbers = [0, 1, 2].map(|n| {
        widest(&|row| {
            let numbers = row.numbers.as_ref();
            numbers.map_or(0, |numbers| columns(&numbers[n]))
        })
    });
    let beside = numbers.iter().map(|width| width + GAP).sum::<usize>();
    let Some(width) = width else {
        // As wide as the widest text that has numbers beside it.
        let text = widest(&|row| row.numbers.as_ref().map_or(0, |_| columns(&row.text)));
        let (text, numbers) = (Some(text), Some(numbers));
        return Widths {
            name,
            state,
            text,
            numbers,
        };
    };
    let rest = width.saturating_sub(name_and_state(name, state));
    let (text, numbers) = match rest.checked_sub(beside) {
        Some(text) if text >= TEXT_MIN => (Some(text), Some(numbers)),
        _ => (Some(rest).filter(|rest| *rest >= TEXT_MIN), None),
    };
    Widths {
        name,
        state,
        text,
        numbers,
    }
}

impl StatusRow<'_> {
    fn render(&self, out: &mut String, widths: &Widths, screen: Terminal) {
        let pad = |out: &mut String, width: usize, text: &str| {
            out.extend(std::iter::repeat_n(' ', width - columns(text).min(width)));
        };
        out.push_str(&self.name);
        pad(out, widths.name + GAP, &self.name);
        screen.paint(out, self.colour, &self.state);
        let numbers = self.numbers.as_ref().zip(widths.numbers);
        let Some(width) = widths.text else {
            out.push('\n');
            let room = screen.width.unwrap_or(usize::MAX).saturating_sub(INDENT);
            for line in self.lines(room) {
                out.extend([&" ".repeat(INDENT), &*line, "\n"]);
            }
            return;
        };
        let beside = name_and_state(widths.name, widths.state);
        // A reason may use the room of numbers that are not there.
        let room = match (&numbers, screen.width) {
            (Some(_), Some(_)) => width,
            (None, Some(screen)) => screen.saturating_sub(beside),
            (_, None) => usize::MAX,
        };
        let lines = self.lines(room);
        let first = lines.first().map_or("", |line| line);
        if numbers.is_some() || !first.is_empty() {
            pad(out, widths.state + GAP, &self.state);
            out.push_str(first);
        }
        if let Some((numbers, of)) = numbers {
            pad(out, width, first);
            let mut owed = 0;
            for (text, width) in numbers.iter().zip(of) {
                owed += GAP + width - columns(text).min(width);
                if !text.is_empty() {
                    out.extend(std::iter::repeat_n(' ', owed));
                    out.push_str(text);
                    owed = 0;
                }
            }
        }
        out.push('\n');
        for line in lines.iter().skip(1) {
            out.extend([&" ".repeat(beside), &**line, "\n"]);
        }
    }

    /// The text in lines of `room` columns: all of a reason, the beginning of anything else.
    fn lines(&self, room: usize) -> Vec<Cow<'_, str>> {
        match self.reason {
            true => wrap(&self.text, room),
            false if self.text.is_empty() => Vec::new(),
            false => vec![cut(&self.text, room)],
        }
    }
}

/// The columns before the text.
fn name_and_state(name: usize, state: usize) -> usize {
    name + GAP + state + GAP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    #[test]
    fn what_was_restarted_says_why_and_not_only_how_it_ended() {
        let view = golden("module.get")["reply"]["result"].clone();
        let mut view: ModuleView = serde_json::from_value(view).expect("a view");
        (view.state, view.attempts) = (ModuleState::Running, 2);
        view.reason = Some("its liveness probe failed".to_owned());
        let text = restart(&view);
        let expected = "restarted 2 times: its liveness probe failed";
        assert_eq!(text.as_deref(), Some(expected));
        view.reason = None;
        let exit = view.last_exit.as_ref().map(module_details::exit_text);
        let exit = exit.expect("the example has one");
        assert_eq!(restart(&view), Some(format!("restarted 2 times: {exit}")));
    }
}
