//! The journal of a system that is not running, read from its file.
//! Owns the path of the file; each read opens a connection of its own.
//! Never writes or creates a journal, and never predicts: nothing runs that would act.

use std::path::{Path, PathBuf};

use mainstay_protocol::method::{EventsParams, WhyEvidence, WhyResult};
use mainstay_protocol::{Event, EventKind, ModuleState, StateCause, Timestamp};

use super::reader::{self, EventFilter, Order, ReadError};
use super::replay::replay;
use super::streak::Streak;
use super::{DATABASE, why};

/// The journal in a state directory, as the last runtime left it.
#[derive(Debug, Clone)]
pub struct OfflineJournal {
    database: PathBuf,
}

impl OfflineJournal {
    /// Returns the journal in `state_dir`; none if there is no such file.
    #[must_use]
    pub fn of(state_dir: &Path) -> Option<OfflineJournal> {
        let database = state_dir.join(DATABASE);
        database.is_file().then_some(OfflineJournal { database })
    }

    /// Returns the newest events that match `params`, oldest first, as `Journal::read` does.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, params: &EventsParams) -> Result<Vec<Event>, ReadError> {
        let limit = params
            .limit
            .unwrap_or(reader::LIMIT)
            .min(reader::EVENTS_MAX);
        let after = params.since.unwrap_or(0);
        self.query(&EventFilter::from(params), (after, u64::MAX), limit)
    }

    /// Returns what led to the last known state of `module`, or its whole history; none if it has
    /// no event. `log_end` reads its last lines and the time of the newest, if it did not run well
    /// until the system stopped.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn why(
        &self,
        module: &str,
        full: bool,
        log_end: impl FnOnce() -> (Option<Timestamp>, Vec<String>),
    ) -> Result<Option<WhyResult>, ReadError> {
        let recent = self.read(&EventsParams {
            module: Some(module.to_owned()),
            limit: Some(if full {
                why::HISTORY_MAX
            } else {
                why::EVENTS_SCANNED
            }),
            ..EventsParams::default()
        })?;
        if recent.is_empty() {
            return Ok(None);
        }
        let find = |seq: u64| {
            let one = self.query(&EventFilter::default(), (seq.checked_sub(1)?, seq), 1);
            one.ok()?.pop()
        };
        let story = why::story_of(&recent, full, find);
        let replayed = replay(&recent).remove(module).unwrap_or_default();
        let last = LastState::of(&recent, replayed.state);
        let streak = story.streak.filter(|_| last.has_failed());
        let ended = streak.as_ref().and_then(Streak::summary);
        let ended = ended.map_or_else(String::new, |ended| format!("; {ended}"));
        let log = match last.has_failed() || last.state == ModuleState::Starting {
            true => log_end(),
            false => Default::default(),
        };
        let (wrote_at, lines) = log;
        let log = (!lines.is_empty()).then(|| WhyEvidence {
            source: "its log ends with".to_owned(),
            at: wrote_at.or_else(|| replayed.last_exit.map(|exit| exit.at)),
            lines,
        });
        let bundle = story.forensics.map(|(at, path)| WhyEvidence {
            source: "before it was killed, its state was written to".to_owned(),
            at: Some(at),
            lines: vec![path],
        });
        Ok(Some(WhyResult {
            module: module.to_owned(),
            state: replayed.state,
            summary: format!("{module} {}{ended}", last.description()),
            because: Vec::new(),
            evidence: log.into_iter().chain(bundle).collect(),
            tried: streak.map(|streak| streak.tried()),
            chain: story.chain,
            next: None,
            affects: Vec::new(),
            commands: vec!["mainstay up".to_owned()],
        }))
    }

    fn query(
        &self,
        filter: &EventFilter,
        (after, upto): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Event>, ReadError> {
        let found = reader::query(
            &self.database,
            filter,
            (after, upto),
            limit,
            Order::NewestFirst,
        );
        let (mut events, ..) = found.map_err(|source| ReadError {
            journal: self.database.clone(),
            source,
        })?;
        events.reverse();
        Ok(events)
    }
}

/// The state of a module when the system began to stop, or ended without stopping.
struct LastState {
    state: ModuleState,
    /// What the journal says about it.
    text: String,
}

impl LastState {
    /// From the newest events of a module, and the state that they lead to.
    fn of(recent: &[Event], replayed: ModuleState) -> LastState {
        let text = |event: &Event, name: &str| {
            let text = event.payload.get(name).and_then(|text| text.as_str());
            text.unwrap_or_default().to_owned()
        };
        let is_change = |event: &&Event| event.kind == EventKind::ModuleStateChanged;
        let mut changes = recent.iter().rev().filter(is_change).peekable();
        let newest = changes.peek().map(|event| text(event, "text"));
        let by_the_stop = |event: &&Event| event.cause == Some(StateCause::Shutdown);
        let before = changes.take_while(by_the_stop).last().and_then(|first| {
            let state = text(first, "from").parse().ok()?;
            let text = text(first, "text");
            Some(LastState { state, text })
        });
        let ran = |last: &LastState| last.state == ModuleState::Running;
        before.filter(|last| !ran(last)).unwrap_or(LastState {
            state: replayed,
            text: newest.unwrap_or_default(),
        })
    }

    fn has_failed(&self) -> bool {
        matches!(self.state, ModuleState::Failed | ModuleState::Backoff)
    }

    /// Returns it in words, after the name of the module.
    fn description(&self) -> String {
        let because = match self.text.as_str() {
            "" => String::new(),
            text => format!(": {text}"),
        };
        match self.state {
            ModuleState::Failed => format!("had failed{because}"),
            ModuleState::Backoff => format!("was waiting for its next start{because}"),
            state => format!("was {state}"),
        }
    }
}
