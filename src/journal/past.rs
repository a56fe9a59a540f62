//! The journal of a mainstay that is not running: the file alone, never written.
//! Owns nothing but the file's name; each read has a connection of its own.
//! Never creates a journal, and never says what comes next: nobody is there to do it.

use std::path::{Path, PathBuf};

use mainstay_protocol::method::{EventsParams, Why};
use mainstay_protocol::{Event, State};

use super::reader::{self, Filter, Order, ReadError};
use super::replay::replay;
use super::{DATABASE, why};

/// The journal in a state directory, as its last writer left it.
#[derive(Debug, Clone)]
pub struct Past {
    database: PathBuf,
}

impl Past {
    /// The journal in `state_dir`; nothing when there is none.
    #[must_use]
    pub fn of(state_dir: &Path) -> Option<Past> {
        let database = state_dir.join(DATABASE);
        database.is_file().then_some(Past { database })
    }

    /// The newest events that `params` asks for, oldest first, as `Journal::read` answers.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, params: &EventsParams) -> Result<Vec<Event>, ReadError> {
        let limit = params.limit.unwrap_or(reader::LIMIT).min(reader::MOST);
        let after = params.since.unwrap_or(0);
        self.query(&Filter::from(params), (after, u64::MAX), limit)
    }

    /// What led to where `module` was last seen; nothing when the journal does not know it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn why(&self, module: &str) -> Result<Option<Why>, ReadError> {
        let recent = self.read(&EventsParams {
            module: Some(module.to_owned()),
            limit: Some(why::RECENT),
            ..EventsParams::default()
        })?;
        if recent.is_empty() {
            return Ok(None);
        }
        let find = |seq: u64| {
            let one = self.query(&Filter::default(), (seq.checked_sub(1)?, seq), 1);
            one.ok()?.pop()
        };
        Ok(Some(Why {
            module: module.to_owned(),
            state: replay(&recent)
                .remove(module)
                .map_or(State::NotStarted, |module| module.state),
            chain: why::chain(&recent, find),
            next: None,
        }))
    }

    fn query(
        &self,
        filter: &Filter,
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
