//! The failures of a module since it was last requested, or since recovery was reset.
//! Owns the count, and the words about it. Never guesses: each failure is an event of the journal.

use mainstay_protocol::{Event, EventKind, StateCause};

use crate::os_text::millis_text;

/// Delays that are named.
const DELAYS_MAX: usize = 6;

/// Failures one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streak {
    /// How each run ended: text and length in milliseconds, oldest first.
    ends: Vec<(String, Option<u64>)>,
    /// From the first end to the last.
    span_ms: u64,
    /// The delays before the restarts, in milliseconds.
    delays: Vec<u64>,
    /// Attempts used and allowed.
    attempts: Option<(u64, u64)>,
    /// The window that they are counted in, in milliseconds.
    window_ms: Option<u64>,
}

impl Streak {
    /// Returns the streak that the newest of these events belong to; none without a failure.
    pub(super) fn of(recent: &[Event]) -> Option<Streak> {
        let number = |event: &Event, name: &str| event.payload.get(name)?.as_u64();
        let mut streak = Streak {
            ends: Vec::new(),
            span_ms: 0,
            delays: Vec::new(),
            attempts: None,
            window_ms: None,
        };
        let (mut first, mut last, mut begins) = (None, None, false);
        for event in recent.iter().rev() {
            match event.kind {
                EventKind::ModuleExited => {
                    let text = event.payload.get("text").and_then(|text| text.as_str());
                    let text = text.unwrap_or("exit unknown").to_owned();
                    streak.ends.push((text, number(event, "ran_ms")));
                    first = Some(event.at);
                    last = last.or(first);
                    if begins {
                        break;
                    }
                }
                EventKind::RecoveryStarted => {
                    streak.delays.extend(number(event, "delay_ms"));
                    let attempt = number(event, "attempt");
                    let most = number(event, "max_attempts");
                    streak.attempts = streak.attempts.or(attempt.zip(most));
                    streak.window_ms = streak.window_ms.or(number(event, "window_ms"));
                    begins = attempt.is_some_and(|attempt| attempt <= 1);
                }
                _ if is_requested(event) => break,
                _ => {}
            }
        }
        streak.ends.reverse();
        streak.delays.reverse();
        let (first, last) = first.zip(last)?;
        streak.span_ms = last.0.saturating_sub(first.0);
        (!streak.delays.is_empty()).then_some(streak)
    }

    /// Returns how often it failed and how, if more than once: `it failed 4 times in 20 s (always
    /// exit code 17, after about 3 s)`.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let (newest, _) = self.ends.last()?;
        if self.ends.len() < 2 {
            return None;
        }
        let always = match self.ends.iter().all(|(text, _)| text == newest) {
            true => format!("always {newest}"),
            false => format!("last {newest}"),
        };
        let lengths: Vec<u64> = self.ends.iter().filter_map(|(_, ran_ms)| *ran_ms).collect();
        let (least, most) = (lengths.iter().min()?, lengths.iter().max()?);
        let after = match most <= &(least * 2 + 200) {
            true => format!(
                ", after about {}",
                millis_text(lengths.iter().sum::<u64>() / lengths.len() as u64)
            ),
            false => format!(", after {} to {}", millis_text(*least), millis_text(*most)),
        };
        let (count, span) = (self.ends.len(), millis_text(self.span_ms));
        // Only so many events are read: earlier ends are known by their number alone.
        let attempts = self.attempts.map_or(0, |(used, _)| used);
        let ended = match attempts > count as u64 {
            true => format!("it ended {attempts} times, the last {count} in {span}"),
            false => format!("it ended {count} times in {span}"),
        };
        Some(format!("{ended} ({always}{after})"))
    }

    /// Returns what was tried: `restart after 200 ms, 400 ms (2 of 3 attempts within 5 min)`.
    #[must_use]
    pub fn tried(&self) -> String {
        let skipped = self.delays.len().saturating_sub(DELAYS_MAX);
        let delays = self
            .delays
            .iter()
            .skip(skipped)
            .map(|delay| millis_text(*delay));
        let delays = delays.collect::<Vec<_>>().join(", ");
        let earlier = match skipped {
            0 => String::new(),
            count => format!("{count} earlier ones and "),
        };
        let used = match self.attempts {
            None => String::new(),
            Some((1, 0)) => " (1 attempt, without limit)".to_owned(),
            Some((used, 0)) => format!(" ({used} attempts, without limit)"),
            Some((used, most)) => {
                let window = self.window_ms.map(millis_text);
                let window = window.map_or_else(String::new, |window| format!(" within {window}"));
                format!(" ({used} of {most} attempts{window})")
            }
        };
        format!("restart after {earlier}{delays}{used}")
    }
}

/// Whether the module was started on request, or for the first time.
fn is_requested(event: &Event) -> bool {
    let starts = event.payload.get("to").and_then(|to| to.as_str());
    event.kind == EventKind::ModuleStateChanged
        && matches!(starts, Some("waiting" | "starting"))
        && matches!(event.cause, Some(StateCause::Requested | StateCause::Boot))
}
