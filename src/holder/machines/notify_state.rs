//! What a run reported by sd_notify and stays true: for a runtime that was down or lost it.
//! Owns one line for each of seven keys, each value bounded.
//! Never keeps a line that is an event rather than a state.

use serde::{Deserialize, Serialize};

const STICKY_KEYS: [&str; 7] = [
    "READY",
    "RELOADING",
    "STOPPING",
    "STATUS",
    "ERRNO",
    "EXIT_STATUS",
    "WATCHDOG_USEC",
];
/// Bytes of a value that are kept.
const VALUE_BYTES_MAX: usize = 1024;

/// The merged state of one run.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyState(Vec<(String, String)>);

impl NotifyState {
    /// Merges the sticky lines of a message; the newest line of a key replaces the older one.
    pub fn merge(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            if !STICKY_KEYS.contains(&key) {
                continue;
            }
            let replaced = |old: &str| match key {
                "READY" => old == "READY" || old == "RELOADING",
                _ => old == key,
            };
            self.0.retain(|(old, _)| !replaced(old));
            let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
            self.0.push((key.to_owned(), value.to_owned()));
        }
    }

    /// The state as one message; none if it is empty.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.lines_of(|_| true)
    }

    /// The part that is still of use after the exit of the run: what it was doing, and why it
    /// exited.
    #[must_use]
    pub fn exit_text(&self) -> Option<String> {
        self.lines_of(|key| matches!(key, "STATUS" | "ERRNO" | "EXIT_STATUS"))
    }

    fn lines_of(&self, wants: impl Fn(&str) -> bool) -> Option<String> {
        let lines = self.0.iter().filter(|(key, _)| wants(key));
        let lines: Vec<_> = lines.map(|(key, value)| format!("{key}={value}")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_of_a_key_wins_and_events_are_not_kept() {
        let mut state = NotifyState::default();
        state.merge("STATUS=one\nWATCHDOG=1\nRELOADING=1");
        state.merge("READY=1\nSTATUS=two\nFDSTORE=1");
        assert_eq!(state.text().as_deref(), Some("READY=1\nSTATUS=two"));
        state.merge("RELOADING=1");
        let text = "READY=1\nSTATUS=two\nRELOADING=1";
        assert_eq!(state.text().as_deref(), Some(text));
        assert_eq!(state.exit_text().as_deref(), Some("STATUS=two"));
    }

    #[test]
    fn the_state_is_bounded() {
        let mut state = NotifyState::default();
        state.merge("READY=1");
        for number in 0..1000 {
            state.merge(&format!("X_{number}={}", "y".repeat(100)));
        }
        assert_eq!(state.text().as_deref(), Some("READY=1"));
        // A long value does not remove the other keys.
        state.merge(&format!("STATUS={}", "ü".repeat(10_000)));
        let status = "ü".repeat(VALUE_BYTES_MAX / 2);
        assert_eq!(state.text(), Some(format!("READY=1\nSTATUS={status}")));
    }
}
