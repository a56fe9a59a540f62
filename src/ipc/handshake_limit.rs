//! Peers that connected and have not sent a valid hello.
//! Owns their number on one socket.
//! Never lets one user's peers keep out those of another.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_protocol::{ErrorCode, RequestError};
use tokio::sync::oneshot;

/// Peers that may be waiting at a time.
const PENDING_MAX: usize = 256;

/// Limits the peers of one socket that have not sent a hello.
#[derive(Default)]
pub(crate) struct HandshakeLimiter {
    pending: Mutex<PendingPeers>,
}

#[derive(Default)]
struct PendingPeers {
    last: u64,
    /// Oldest first.
    peers: VecDeque<PendingPeer>,
}

struct PendingPeer {
    number: u64,
    user: Option<u32>,
    /// Dropped when the peer has to go.
    _stay: oneshot::Sender<()>,
}

impl HandshakeLimiter {
    /// Admits a peer. When there are too many, the longest waiting peer of the user with the most
    /// of them is evicted.
    pub(crate) fn admit(self: &Arc<Self>, user: Option<u32>) -> HandshakePermit {
        let (stay, evicted) = oneshot::channel();
        let mut pending = self.lock();
        if pending.peers.len() >= PENDING_MAX {
            let busiest = pending.busiest_user();
            let oldest = pending.peers.iter().position(|peer| peer.user == busiest);
            oldest.and_then(|at| pending.peers.remove(at));
        }
        pending.last += 1;
        let number = pending.last;
        pending.peers.push_back(PendingPeer {
            number,
            user,
            _stay: stay,
        });
        drop(pending);
        HandshakePermit {
            limiter: Arc::clone(self),
            number,
            evicted,
        }
    }

    /// Ignores poisoning: a thread that died here leaves a list of numbers.
    fn lock(&self) -> MutexGuard<'_, PendingPeers> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingPeers {
    fn busiest_user(&self) -> Option<u32> {
        let mut counts = HashMap::new();
        for peer in &self.peers {
            *counts.entry(peer.user).or_insert(0_usize) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.and_then(|(user, _)| user)
    }
}

/// Counts a peer until it is dropped.
pub(crate) struct HandshakePermit {
    limiter: Arc<HandshakeLimiter>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl HandshakePermit {
    /// Waits until the peer is evicted.
    pub(crate) async fn evicted(&mut self) -> RequestError {
        let _always_dropped = (&mut self.evicted).await;
        let text = "cannot wait longer for hello: too many connections have not sent it";
        RequestError::new(ErrorCode::TooManyConnections, text)
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let peers = &mut self.limiter.lock().peers;
        // Sorted by number: numbers are assigned under the lock.
        if let Ok(at) = peers.binary_search_by_key(&self.number, |peer| peer.number) {
            peers.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(permit: &mut HandshakePermit) -> bool {
        permit.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_user_with_many_pending_peers_keeps_out_nobody_else() {
        let limiter = Arc::new(HandshakeLimiter::default());
        let mut other = limiter.admit(Some(2));
        let mut many: Vec<_> = (0..PENDING_MAX * 2)
            .map(|_| limiter.admit(Some(1)))
            .collect();
        let mut unknown = limiter.admit(None);
        assert!(!is_evicted(&mut other) && !is_evicted(&mut unknown));
        let evicted: Vec<bool> = many.iter_mut().map(is_evicted).collect();
        let left = evicted.iter().position(|it| !it).expect("the newest stay");
        assert_eq!(many.len() - left, PENDING_MAX - 2);
        assert!(evicted[left..].iter().all(|it| !it), "the oldest go first");
        drop(many);
        assert_eq!(limiter.lock().peers.len(), 2);
        drop((other, unknown));
        assert!(limiter.lock().peers.is_empty());
    }
}
