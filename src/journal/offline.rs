//! The journal of a system that is not running, read from its file.
//! Owns the path of the file; each read opens a connection of its own.
//! Never writes or creates a journal, and never predicts: nothing runs that would act.

use std::path::{Path, PathBuf};

use mainstay_protocol::method::{EventsParams, WhyEvidence, WhyResult};
use mainstay_protocol::{Event, ModuleState};

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
    /// no event.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn why(&self, module: &str, full: bool) -> Result<Option<WhyResult>, ReadError> {
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
        let state = replay(&recent)
            .remove(module)
            .map_or(ModuleState::NotStarted, |module| module.state);
        let ended = story.streak.as_ref().and_then(Streak::summary);
        let ended = ended.map_or_else(String::new, |ended| format!("; {ended}"));
        let bundle = story.forensics.map(|(at, path)| WhyEvidence {
            source: "before it was killed, its state was written to".to_owned(),
            at: Some(at),
            lines: vec![path],
        });
        Ok(Some(WhyResult {
            module: module.to_owned(),
            state,
            summary: format!("{module} was {state}{ended}"),
            because: Vec::new(),
            evidence: bundle.into_iter().collect(),
            tried: story.streak.map(|streak| streak.tried()),
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
