//! Clients that follow a module's output, and the readiness check that searches it.
//! Owns the followers, and thereby whether the holder sends output at all (the tap).
//! Never waits for a follower: output that does not fit is counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_policy::ModuleId;
use mainstay_process::{Instance, StdStream};
use tokio::sync::mpsc;

use crate::os::Os;

/// Chunks by which a follower may lag.
const LAG_MAX: usize = 256;

/// A chunk of output.
#[derive(Debug)]
pub(crate) struct OutputChunk {
    /// What was written; whole lines where possible.
    pub(crate) text: String,
    /// Where it was written to.
    pub(crate) stream: StdStream,
    /// Bytes that were dropped before it.
    pub(crate) dropped_bytes: u64,
}

struct LogFollower {
    to: mpsc::Sender<OutputChunk>,
    dropped_bytes: u64,
}

#[derive(Default)]
struct Taps {
    followers: HashMap<ModuleId, Vec<LogFollower>>,
    /// Modules whose output is searched for their readiness.
    searched: HashSet<ModuleId>,
}

/// The followers of all modules.
#[derive(Default)]
pub(crate) struct LogFollowers {
    taps: Mutex<Taps>,
}

impl LogFollowers {
    /// Follows a module's output and opens the tap. Close the receiver and call
    /// [`LogFollowers::release_tap`] at the end.
    pub(crate) fn follow(
        &self,
        os: &dyn Os,
        instance: &Instance,
        module: ModuleId,
    ) -> mpsc::Receiver<OutputChunk> {
        let (to, chunks) = mpsc::channel(LAG_MAX);
        let follower = LogFollower {
            to,
            dropped_bytes: 0,
        };
        self.lock()
            .followers
            .entry(module)
            .or_default()
            .push(follower);
        os.tap(instance, true, false);
        chunks
    }

    /// Opens the tap for the readiness check; with `replay` also for what the run wrote before.
    pub(crate) fn tap_for_readiness(
        &self,
        os: &dyn Os,
        instance: &Instance,
        module: ModuleId,
        replay: bool,
    ) {
        self.lock().searched.insert(module);
        os.tap(instance, true, replay);
    }

    /// Ends the tap of the readiness check.
    pub(crate) fn untap_for_readiness(&self, os: &dyn Os, instance: &Instance, module: ModuleId) {
        self.lock().searched.remove(&module);
        self.release_tap(os, instance, module);
    }

    /// Closes the tap unless it is still used.
    pub(crate) fn release_tap(&self, os: &dyn Os, instance: &Instance, module: ModuleId) {
        if !self.is_tapped(module) {
            os.tap(instance, false, false);
        }
    }

    /// Whether the tap is used; forgets followers that closed their receiver.
    fn is_tapped(&self, module: ModuleId) -> bool {
        let mut taps = self.lock();
        let followers = taps.followers.get_mut(&module);
        let is_followed = followers.is_some_and(|followers| {
            followers.retain(|follower| !follower.to.is_closed());
            !followers.is_empty()
        });
        is_followed || taps.searched.contains(&module)
    }

    /// Sends a chunk of output to every follower.
    pub(crate) fn dispatch_output(
        &self,
        module: ModuleId,
        (text, stream): (&str, StdStream),
        dropped_bytes: u64,
    ) {
        let mut taps = self.lock();
        for follower in taps.followers.get_mut(&module).into_iter().flatten() {
            let dropped = follower.dropped_bytes + dropped_bytes;
            let chunk = OutputChunk {
                text: text.to_owned(),
                stream,
                dropped_bytes: dropped,
            };
            follower.dropped_bytes = match follower.to.try_send(chunk) {
                Ok(()) => 0,
                Err(_) => dropped + text.len() as u64,
            };
        }
    }

    /// Ignores poisoning: a thread that died inside a push or a lookup leaves the data whole.
    fn lock(&self) -> MutexGuard<'_, Taps> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_follower_learns_how_much_it_missed_and_a_closed_one_is_forgotten() {
        const MODULE: ModuleId = ModuleId(0);
        let followers = LogFollowers::default();
        let (to, mut chunks) = mpsc::channel(1);
        let follower = LogFollower {
            to,
            dropped_bytes: 0,
        };
        followers.lock().followers.insert(MODULE, vec![follower]);
        followers.dispatch_output(MODULE, ("first", StdStream::Both), 1);
        followers.dispatch_output(MODULE, ("second", StdStream::Both), 2);
        assert_eq!(chunks.try_recv().map(|chunk| chunk.dropped_bytes), Ok(1));
        followers.dispatch_output(MODULE, ("third", StdStream::Stderr), 3);
        let third = chunks.try_recv().expect("a chunk");
        assert_eq!((third.text.as_str(), third.dropped_bytes), ("third", 11));
        assert_eq!(third.stream, StdStream::Stderr);
        assert!(followers.is_tapped(MODULE));
        drop(chunks);
        assert!(!followers.is_tapped(MODULE));
    }
}
