//! sd_notify messages: text to words.
//! Owns the parsing of one datagram. Never trusts it: unknown lines are skipped, numbers checked.
//!
//! Source: sd_notify(3), systemd v255.

use std::time::Duration;

/// One line that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// `READY=1`.
    Ready,
    /// `STATUS=…`.
    Status(String),
    /// `RELOADING=1`.
    Reloading,
    /// `STOPPING=1`.
    Stopping,
    /// `WATCHDOG=1`.
    Watchdog,
    /// `WATCHDOG=trigger`.
    WatchdogTrigger,
    /// `WATCHDOG_USEC=…`; zero switches it off.
    WatchdogEvery(Duration),
    /// `EXTEND_TIMEOUT_USEC=…`.
    ExtendTimeout(Duration),
    /// `ERRNO=…`.
    Errno(i32),
}

/// Longest status text that is kept, in characters.
const STATUS_CHARS_MAX: usize = 200;

/// The words of one message, in its order.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = Word> + '_ {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let micros = || value.parse().map(Duration::from_micros).ok();
        match (key, value) {
            ("READY", "1") => Some(Word::Ready),
            ("STATUS", text) => Some(Word::Status(one_line(text))),
            ("RELOADING", "1") => Some(Word::Reloading),
            ("STOPPING", "1") => Some(Word::Stopping),
            ("WATCHDOG", "1") => Some(Word::Watchdog),
            ("WATCHDOG", "trigger") => Some(Word::WatchdogTrigger),
            ("WATCHDOG_USEC", _) => micros().map(Word::WatchdogEvery),
            ("EXTEND_TIMEOUT_USEC", _) => micros().map(Word::ExtendTimeout),
            ("ERRNO", number) => number.parse().ok().map(Word::Errno),
            _ => None,
        }
    })
}

/// What a module says ends up on a terminal: control characters stay out of it.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(STATUS_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_read_in_order_and_nonsense_is_skipped() {
        let words: Vec<Word> = parse(
            "READY=1\nSTATUS=up \u{1b}[31m\nREADY=0\nnonsense\nWATCHDOG_USEC=x\nEXTEND_TIMEOUT_USEC=5000000",
        )
        .collect();
        assert_eq!(
            words,
            [
                Word::Ready,
                Word::Status("up  [31m".to_owned()),
                Word::ExtendTimeout(Duration::from_secs(5)),
            ]
        );
    }
}
