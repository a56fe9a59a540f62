//! What the thread of sd_notify has, in the state.
//! Owns its form.
//! Never says in which table a descriptor is: that changes on the way.

use std::path::PathBuf;

use mainstay_process::Instance;
use serde::{Deserialize, Serialize};

use super::request::Obstacle;
use crate::workers::membership::RunTree;

/// What the thread answers: its state, and how many descriptors follow.
pub(crate) type HandedOver = Result<(NotifyThreadState<usize>, usize), Obstacle>;

/// What the thread has. `F`: a place in the list of its descriptors, or a number of the next
/// program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NotifyThreadState<F> {
    pub(crate) sources: Vec<SourceState<F>>,
    pub(crate) stored: Vec<StoredState<F>>,
}

/// The notify socket of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SourceState<F> {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    pub(crate) name: Instance,
    pub(crate) uid: u32,
    pub(crate) socket: F,
    pub(crate) path: PathBuf,
    pub(crate) tree: Option<RunTree>,
}

/// What a module has stored for its next run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredState<F> {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) watched: bool,
    pub(crate) fd: F,
}

impl<F> NotifyThreadState<F> {
    pub(crate) fn map<G>(self, mut to: impl FnMut(F) -> G) -> NotifyThreadState<G> {
        let sources = self.sources.into_iter().map(|one| SourceState {
            id: one.id,
            generation: one.generation,
            name: one.name,
            uid: one.uid,
            socket: to(one.socket),
            path: one.path,
            tree: one.tree,
        });
        let sources = sources.collect();
        let stored = self.stored.into_iter().map(|one| StoredState {
            id: one.id,
            name: one.name,
            watched: one.watched,
            fd: to(one.fd),
        });
        let stored = stored.collect();
        NotifyThreadState { sources, stored }
    }
}
