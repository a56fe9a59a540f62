//! How far the initial startup is, in one line, while `up` runs in the foreground of a terminal.
//! Owns the newest state of each module that it was told of.
//! Never asks the runtime: the announcements are all that it knows.

use std::collections::BTreeMap;

use mainstay_protocol::ModuleState;

use super::format;
use crate::config::EVENT_BUS;
use crate::runtime::ConsoleMessage;

/// The modules of an initial startup.
#[derive(Default)]
pub(super) struct StartProgress {
    modules: BTreeMap<String, (ModuleState, String)>,
}

impl StartProgress {
    /// Whether a module was announced.
    pub(super) fn has_begun(&self) -> bool {
        !self.modules.is_empty()
    }

    /// Returns how far the start is after an announcement: `3/7 ready, waiting for storage: tcp
    /// 127.0.0.1:9000`; None when all have started, or the system stops.
    pub(super) fn text_after(&mut self, what: ConsoleMessage<'_>) -> Option<String> {
        if let ConsoleMessage::StateChanged {
            module,
            state,
            text,
            awaits,
        } = what
            && module != EVENT_BUS
        {
            if state == ModuleState::Stopping {
                self.modules.clear();
                return None;
            }
            let detail = awaits.unwrap_or(text).to_owned();
            self.modules.insert(module.to_owned(), (state, detail));
        }
        let is_pending =
            |state: ModuleState| matches!(state, ModuleState::Starting | ModuleState::Backoff);
        let has = |is: &dyn Fn(ModuleState) -> bool| {
            self.modules
                .values()
                .filter(|(state, _)| is(*state))
                .count()
        };
        let pending = has(&is_pending);
        let waiting = has(&|state| state == ModuleState::Waiting);
        if pending + waiting == 0 {
            return None;
        }
        let ready = has(&|state| matches!(state, ModuleState::Running | ModuleState::Stopped));
        let mut line = format!("{ready}/{} ready", self.modules.len());
        let mut pending_modules = self
            .modules
            .iter()
            .filter(|(_, (state, _))| is_pending(*state));
        if let Some((name, (_, detail))) = pending_modules.next() {
            line.push_str(&format!(", waiting for {}", format::single_line(name)));
            if !detail.is_empty() {
                line.push_str(&format!(": {}", format::single_line(detail)));
            }
            if pending > 1 {
                line.push_str(&format!(" and {} more", pending - 1));
            }
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_names_what_it_waits_for_until_all_have_started() {
        let mut start = StartProgress::default();
        let mut tell = |module, state, text, awaits| {
            start.text_after(ConsoleMessage::StateChanged {
                module,
                state,
                text,
                awaits,
            })
        };
        tell(EVENT_BUS, ModuleState::Running, "", None);
        tell("api", ModuleState::Waiting, "for db to be ready", None);
        tell("migrate", ModuleState::Stopped, "done", None);
        let text = tell("db", ModuleState::Starting, "", Some("tcp 127.0.0.1:9000"));
        let expected = "1/3 ready, waiting for db: tcp 127.0.0.1:9000";
        assert_eq!(text.as_deref(), Some(expected));
        let text = tell(
            "db",
            ModuleState::Backoff,
            "exit code 1; next start in 2 s",
            None,
        );
        let expected = "1/3 ready, waiting for db: exit code 1; next start in 2 s";
        assert_eq!(text.as_deref(), Some(expected));
        tell("db", ModuleState::Running, "", None);
        assert_eq!(tell("api", ModuleState::Running, "", None), None);
    }
}
