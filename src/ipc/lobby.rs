//! Where those wait who connected and have not said a valid hello: strangers.
//! Owns the seats of one socket, the places of its strangers, and how many were refused.
//! Never lets a stranger take a member's seat, nor fill the journal.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_protocol::{EventKind, Refusal, RefusalCode};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::allowance::Allowance;
use super::bus::lock;
use crate::actors::House;
use crate::actors::chronicle::Entry;

/// Strangers that may wait at once.
const WAITING_MAX: usize = 256;
/// Refused hellos that are told one by one; after that one comes back each [`TOLD_EVERY`].
const TOLD_AT_ONCE: u32 = 16;
/// How often the others are told, as a number.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The lobby of one socket.
pub(crate) struct Lobby {
    seats: Arc<Semaphore>,
    seats_max: usize,
    waiting: Mutex<Waiting>,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    /// Oldest first.
    strangers: VecDeque<Stranger>,
}

struct Stranger {
    number: u64,
    user: Option<u32>,
    /// Dropped when the place is needed for another.
    _may_stay: oneshot::Sender<()>,
}

struct Refused {
    allowance: Allowance,
    untold: u64,
}

impl Lobby {
    /// An empty one, before so many seats.
    pub(crate) fn new(seats: usize) -> Arc<Lobby> {
        Arc::new(Lobby {
            seats: Arc::new(Semaphore::new(seats)),
            seats_max: seats,
            waiting: Mutex::default(),
            refused: Mutex::new(Refused {
                allowance: Allowance::new(TOLD_AT_ONCE, 1.0 / TOLD_EVERY.as_secs_f64()),
                untold: 0,
            }),
        })
    }

    /// A place for one more. When all are taken, whoever waits longest of the user who has most
    /// of them is let go: a user who fills the lobby is in the way of nobody else.
    pub(crate) fn enter(self: &Arc<Self>, user: Option<u32>) -> Place {
        let (stays, needed) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.strangers.len() >= WAITING_MAX {
            let crowd = waiting.crowd();
            let oldest = waiting.strangers.iter().position(|it| it.user == crowd);
            oldest.and_then(|at| waiting.strangers.remove(at));
        }
        waiting.last += 1;
        let number = waiting.last;
        waiting.strangers.push_back(Stranger {
            number,
            user,
            _may_stay: stays,
        });
        Place {
            lobby: Arc::clone(self),
            number,
            needed,
        }
    }

    /// A seat for who is not a stranger any more.
    pub(super) fn seat(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.seats).try_acquire_owned().map_err(|_| {
            let max = self.seats_max;
            let text = format!("cannot serve more than {max} connections at once; close some");
            Refusal::new(RefusalCode::TooManyConnections, text)
        })
    }

    /// Notes that a stranger was refused: in the journal, or in a number that gets there within a
    /// minute when there are many.
    pub(crate) fn refused(self: &Arc<Self>, house: &Arc<House>) {
        let mut refused = lock(&self.refused);
        if refused.allowance.take(house.os.now()) {
            return tell(house, 1);
        }
        refused.untold += 1;
        if refused.untold > 1 {
            return; // the first of them waits to be told, with all that come meanwhile
        }
        let (lobby, house) = (Arc::downgrade(self), Arc::downgrade(house));
        tokio::spawn(async move {
            tokio::time::sleep(TOLD_EVERY).await;
            if let (Some(lobby), Some(house)) = (lobby.upgrade(), house.upgrade()) {
                tell(&house, std::mem::take(&mut lock(&lobby.refused).untold));
            }
        });
    }
}

impl Waiting {
    /// The user with most places.
    fn crowd(&self) -> Option<u32> {
        let mut places = HashMap::new();
        for stranger in &self.strangers {
            *places.entry(stranger.user).or_insert(0_usize) += 1;
        }
        let most = places.into_iter().max_by_key(|(_, count)| *count);
        most.and_then(|(user, _)| user)
    }
}

fn tell(house: &House, count: u64) {
    let mut payload = json!({ "code": RefusalCode::NotPermitted, "method": "hello" });
    if count > 1 {
        payload["count"] = json!(count);
    }
    let entry = Entry::of(EventKind::ClientRefused).payload(payload);
    house.chronicle.tell(entry);
}

/// A stranger's place; free again when it is dropped.
pub(crate) struct Place {
    pub(super) lobby: Arc<Lobby>,
    number: u64,
    needed: oneshot::Receiver<()>,
}

impl Place {
    /// Ends when the place is needed for another.
    pub(super) async fn needed(&mut self) -> Refusal {
        let _always_dropped = (&mut self.needed).await;
        let text = "cannot let you wait longer: too many connections have not said hello";
        Refusal::new(RefusalCode::TooManyConnections, text)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let strangers = &mut lock(&self.lobby.waiting).strangers;
        // In the order of their numbers: they are given under the lock.
        if let Ok(at) = strangers.binary_search_by_key(&self.number, |it| it.number) {
            strangers.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_to_go(place: &mut Place) -> bool {
        place.needed.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_user_who_fills_the_lobby_is_in_the_way_of_nobody_else() {
        let lobby = Lobby::new(1);
        let mut other = lobby.enter(Some(2));
        let mut crowd: Vec<Place> = (0..WAITING_MAX * 2).map(|_| lobby.enter(Some(1))).collect();
        let mut unknown = lobby.enter(None);
        assert!(!has_to_go(&mut other) && !has_to_go(&mut unknown));
        let gone: Vec<bool> = crowd.iter_mut().map(has_to_go).collect();
        let left = gone.iter().position(|gone| !gone).expect("the newest stay");
        assert_eq!(crowd.len() - left, WAITING_MAX - 2);
        assert!(gone[left..].iter().all(|gone| !gone), "the oldest go first");
        drop(crowd);
        assert_eq!(lock(&lobby.waiting).strangers.len(), 2);
        drop((other, unknown));
        assert!(lock(&lobby.waiting).strangers.is_empty());
    }

    #[test]
    fn seats_are_for_members_and_come_back() {
        let lobby = Lobby::new(1);
        let seat = lobby.seat().expect("a seat");
        let code = lobby.seat().expect_err("taken").data.code;
        assert_eq!(code, RefusalCode::TooManyConnections);
        drop(seat);
        assert!(lobby.seat().is_ok());
    }
}
