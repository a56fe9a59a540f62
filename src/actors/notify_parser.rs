//! sd_notify messages: text to words.
//! Owns the parsing of one datagram. Never trusts it: unknown lines are skipped, numbers checked.
//!
//! Source: sd_notify(3), systemd v255.

use std::time::Duration;

/// One line of a notify message that mainstay uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotifyAssignment {
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
    /// `EXIT_STATUS=…`.
    ExitStatus(i32),
}

/// Longest status text that is kept, in characters.
const STATUS_CHARS_MAX: usize = 200;

/// The words of one message, in its order.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = NotifyAssignment> + '_ {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let micros = || value.parse().map(Duration::from_micros).ok();
        match (key, value) {
            ("READY", "1") => Some(NotifyAssignment::Ready),
            ("STATUS", text) => Some(NotifyAssignment::Status(one_line(text))),
            ("RELOADING", "1") => Some(NotifyAssignment::Reloading),
            ("STOPPING", "1") => Some(NotifyAssignment::Stopping),
            ("WATCHDOG", "1") => Some(NotifyAssignment::Watchdog),
            ("WATCHDOG", "trigger") => Some(NotifyAssignment::WatchdogTrigger),
            ("WATCHDOG_USEC", _) => micros().map(NotifyAssignment::WatchdogEvery),
            ("EXTEND_TIMEOUT_USEC", _) => micros().map(NotifyAssignment::ExtendTimeout),
            ("ERRNO", number) => number.parse().ok().map(NotifyAssignment::Errno),
            ("EXIT_STATUS", number) => number.parse().ok().map(NotifyAssignment::ExitStatus),
            _ => None,
        }
    })
}

/// What a run reported about itself, shown until it has ended.
#[derive(Debug, Default)]
pub(crate) struct ReportedStatus {
    status: Option<String>,
    reloading: bool,
    errno: Option<i32>,
    exit_status: Option<i32>,
}

impl ReportedStatus {
    /// `STATUS=…`; what is to be shown now.
    pub(crate) fn status(&mut self, text: String) -> String {
        self.status = Some(text);
        self.text()
    }

    /// `RELOADING=1`; what is to be shown now.
    pub(crate) fn reloading(&mut self) -> String {
        self.reloading = true;
        self.text()
    }

    /// `READY=1`; what is to be shown now, if that ends a reload.
    pub(crate) fn ready(&mut self) -> Option<String> {
        std::mem::take(&mut self.reloading).then(|| self.text())
    }

    pub(crate) fn errno(&mut self, errno: i32) {
        self.errno = Some(errno);
    }

    pub(crate) fn exit_status(&mut self, status: i32) {
        self.exit_status = Some(status);
    }

    fn text(&self) -> String {
        match (&self.status, self.reloading) {
            (Some(text), true) if !text.is_empty() => format!("reloading: {text}"),
            (_, true) => "reloading".to_owned(),
            (text, false) => text.clone().unwrap_or_default(),
        }
    }

    /// The reason for its end that it reported, to follow the text of that end.
    pub(crate) fn reason(&self) -> String {
        let errno = self.errno.map(|errno| {
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            format!("ERRNO={errno} ({text})")
        });
        let status = self
            .exit_status
            .map(|status| format!("EXIT_STATUS={status}"));
        let said: Vec<String> = errno.into_iter().chain(status).collect();
        match said.as_slice() {
            [] => String::new(),
            said => format!("; it said {}", said.join(", ")),
        }
    }
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
    fn a_reload_is_shown_and_over_with_ready() {
        let mut sayings = ReportedStatus::default();
        assert_eq!(sayings.ready(), None, "nothing was reloaded");
        assert_eq!(sayings.reloading(), "reloading");
        assert_eq!(sayings.ready().as_deref(), Some(""));
        assert_eq!(sayings.status("serving".to_owned()), "serving");
        assert_eq!(sayings.reloading(), "reloading: serving");
        assert_eq!(sayings.status("half".to_owned()), "reloading: half");
        assert_eq!(sayings.ready().as_deref(), Some("half"));
    }

    #[test]
    fn the_reason_it_gave_is_told_behind_its_end() {
        let mut sayings = ReportedStatus::default();
        assert_eq!(sayings.reason(), "");
        sayings.exit_status(4);
        assert_eq!(sayings.reason(), "; it said EXIT_STATUS=4");
        sayings.errno(2);
        let both = "; it said ERRNO=2 (No such file or directory), EXIT_STATUS=4";
        assert_eq!(sayings.reason(), both);
    }

    #[test]
    fn a_message_of_several_lines_is_read_in_order_and_nonsense_is_skipped() {
        let words: Vec<NotifyAssignment> = parse(
            "READY=1\nSTATUS=up \u{1b}[31m\nREADY=0\nnonsense\nWATCHDOG_USEC=x\nEXTEND_TIMEOUT_USEC=5000000",
        )
        .collect();
        assert_eq!(
            words,
            [
                NotifyAssignment::Ready,
                NotifyAssignment::Status("up  [31m".to_owned()),
                NotifyAssignment::ExtendTimeout(Duration::from_secs(5)),
            ]
        );
    }
}
