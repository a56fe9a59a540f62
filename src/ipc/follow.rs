//! Who follows a module's output.
//! Owns the followers and how many want the tap open.
//! Never waits for one: what does not fit is counted.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use mainstay_policy::ModuleId;
use tokio::sync::mpsc;

use super::bus::lock;

/// Pieces of output a follower may be behind.
const BEHIND_MAX: usize = 256;

/// A piece of output.
#[derive(Debug)]
pub(crate) struct Piece {
    /// What was written; whole lines where possible.
    pub(crate) text: String,
    /// Bytes lost before it.
    pub(crate) dropped_bytes: u64,
}

struct Follower {
    to: mpsc::Sender<Piece>,
    dropped_bytes: u64,
}

/// Followers by module.
#[derive(Default)]
pub(crate) struct Followers {
    by_module: Mutex<HashMap<ModuleId, Vec<Follower>>>,
    /// Modules whose output is searched for their readiness.
    searched: Mutex<HashSet<ModuleId>>,
}

impl Followers {
    /// Adds one; the caller opens the tap.
    pub(crate) fn add(&self, module: ModuleId) -> mpsc::Receiver<Piece> {
        let (to, from) = mpsc::channel(BEHIND_MAX);
        let follower = Follower {
            to,
            dropped_bytes: 0,
        };
        lock(&self.by_module)
            .entry(module)
            .or_default()
            .push(follower);
        from
    }

    /// Notes that a module's output is searched for its readiness, or not any more.
    pub(crate) fn search(&self, module: ModuleId, on: bool) {
        let mut searched = lock(&self.searched);
        if on {
            searched.insert(module);
        } else {
            searched.remove(&module);
        }
    }

    /// Whether anyone follows; those who left are forgotten.
    pub(crate) fn any(&self, module: ModuleId) -> bool {
        if lock(&self.searched).contains(&module) {
            return true;
        }
        let mut by_module = lock(&self.by_module);
        let Some(followers) = by_module.get_mut(&module) else {
            return false;
        };
        followers.retain(|follower| !follower.to.is_closed());
        !followers.is_empty()
    }

    /// Hands a piece to everyone.
    pub(crate) fn hand_out(&self, module: ModuleId, text: &str, dropped_bytes: u64) {
        let mut by_module = lock(&self.by_module);
        let Some(followers) = by_module.get_mut(&module) else {
            return;
        };
        for follower in followers {
            let dropped = follower.dropped_bytes + dropped_bytes;
            let piece = Piece {
                text: text.to_owned(),
                dropped_bytes: dropped,
            };
            follower.dropped_bytes = match follower.to.try_send(piece) {
                Ok(()) => 0,
                Err(_) => dropped + text.len() as u64,
            };
        }
    }
}
