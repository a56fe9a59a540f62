//! Looks at processes by threads that may be lost: while an exec of a process waits for a file
//! system, nobody is shown its numbers or its memory.
//! Owns the threads that look, and which of them have not returned.
//! Never runs a look on the thread that wants it.

use std::cell::OnceCell;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use nix::unistd::{gettid, getuid};

use super::own_table::leave_shared_table;
use super::procfs;
use crate::threads::{lock, thread};

/// How long a look may take before its thread is left alone.
const LOOK_TIMEOUT: Duration = Duration::from_millis(100);
/// The same in a list of all processes, from which none may be missing by chance.
const LIST_TIMEOUT: Duration = Duration::from_millis(300);
/// As often as this a look may take that time while its thread only waits for a processor.
const STARVED_MAX: u32 = 10;
/// Looks at processes of one user that have not returned: with as many, no other process of theirs
/// is looked at.
const USER_LOST_MAX: usize = 8;
/// The same of all users together, but for root and this user: who has many users, as those of a
/// namespace are, hides nothing of theirs.
const LOST_MAX: usize = 256;
/// Threads that wait for the next look.
const IDLE_MAX: usize = 2;

/// A thread that looks.
#[derive(Debug)]
struct Looker {
    looks: SyncSender<Box<dyn FnOnce() + Send>>,
    /// Gone with the thread.
    thread: Weak<LookThread>,
}

/// What a thread that looks says of itself.
#[derive(Debug, Default)]
struct LookThread {
    /// Its number; 0: it has not begun.
    number: AtomicI32,
    /// The process that it looks at.
    at: AtomicI32,
}

impl LookThread {
    /// Whether it would go on if a processor were free: it waits for nothing that a process does.
    fn is_runnable(&self) -> bool {
        let number = self.number.load(Ordering::Relaxed);
        let stat = || procfs::read_text(&format!("self/task/{number}/stat"));
        number == 0
            || stat().is_some_and(|stat| {
                let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
                state.is_some_and(|state| state.starts_with('R'))
            })
    }
}

/// A look that has not returned in time.
#[derive(Debug)]
struct Lost {
    pid: i32,
    user: Option<u32>,
    thread: Weak<LookThread>,
}

/// What a thread has seen of a list so far.
#[derive(Debug)]
struct Seen<T> {
    results: Vec<T>,
    /// The thread is through, or nobody waits for it any more.
    is_over: bool,
}

/// The results of one list. Who waits is woken once, at the end of the list.
#[derive(Debug)]
struct Results<T> {
    seen: Mutex<Seen<T>>,
    over: Condvar,
}

thread_local! {
    /// On a thread that looks: itself.
    static LOOKS: OnceCell<Arc<LookThread>> = const { OnceCell::new() };
}

static IDLE: Mutex<Vec<Looker>> = Mutex::new(Vec::new());
static LOST: Mutex<Vec<Lost>> = Mutex::new(Vec::new());
/// Of a thread that starts them.
static STARTER: OnceLock<SyncSender<SyncSender<io::Result<Looker>>>> = OnceLock::new();

/// Looks at a process; None if that does not return in time (100 ms; 1 s without a processor).
pub fn look_at<T: Send + 'static>(pid: i32, look: fn(i32) -> T) -> Option<T> {
    look_at_each(vec![pid], LOOK_TIMEOUT, look).pop()
}

/// Looks at processes, one after the other; one of which that does not return in time (300 ms) is
/// missing, now and until the look has returned.
pub fn look_at_all<T: Send + 'static>(pids: Vec<i32>, look: fn(i32) -> T) -> Vec<T> {
    look_at_each(pids, LIST_TIMEOUT, look)
}

fn look_at_each<T: Send + 'static>(
    mut pids: Vec<i32>,
    timeout: Duration,
    look: fn(i32) -> T,
) -> Vec<T> {
    leave_out_lost(&mut pids);
    let mut found = Vec::with_capacity(pids.len());
    while !pids.is_empty() {
        let idle = lock(&IDLE).pop();
        let Some(looker) = idle.or_else(|| start().ok()) else {
            break;
        };
        let results = Arc::new(Results::new(pids.len()));
        let (list, sees) = (pids.clone(), Arc::clone(&results));
        let looks = Box::new(move || sees.fill(list, look));
        let mut done = 0;
        if looker.looks.send(looks).is_ok() {
            let thread = &looker.thread;
            let seen = results.wait(timeout, || {
                thread.upgrade().is_some_and(|it| it.is_runnable())
            });
            done = seen.len();
            found.extend(seen);
        }
        let Some(pid) = pids.get(done).copied() else {
            give_back(looker);
            break;
        };
        let thread = looker.thread;
        let at = thread.upgrade();
        let pid = at.map_or(pid, |it| it.at.load(Ordering::Relaxed));
        let user = user(pid);
        lock(&LOST).push(Lost { pid, user, thread });
        pids.drain(..=done);
        leave_out_lost(&mut pids);
    }
    found
}

impl<T> Results<T> {
    fn new(count: usize) -> Results<T> {
        let results = Vec::with_capacity(count);
        Results {
            seen: Mutex::new(Seen {
                results,
                is_over: false,
            }),
            over: Condvar::new(),
        }
    }

    /// Looks at each process, until a look took so long that nobody waits any more.
    fn fill(&self, pids: Vec<i32>, look: fn(i32) -> T) {
        for pid in pids {
            looks_at(pid);
            let result = look(pid);
            let mut seen = lock(&self.seen);
            if seen.is_over {
                return;
            }
            seen.results.push(result);
        }
        lock(&self.seen).is_over = true;
        self.over.notify_one();
    }

    /// Returns all results, or those before a look that took longer than the timeout, not counting
    /// a time at whose end it is starved.
    fn wait(&self, timeout: Duration, is_starved: impl Fn() -> bool) -> Vec<T> {
        let (mut seen, mut starved) = (lock(&self.seen), 0);
        while !seen.is_over {
            let before = seen.results.len();
            let waited = self.over.wait_timeout(seen, timeout);
            let (now, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            seen = now;
            if timed_out.timed_out() && seen.results.len() == before {
                starved += 1;
                seen.is_over |= starved >= STARVED_MAX || !is_starved();
            }
        }
        std::mem::take(&mut seen.results)
    }
}

fn looks_at(pid: i32) {
    LOOKS.with(|it| {
        if let Some(it) = it.get() {
            it.at.store(pid, Ordering::Relaxed);
        }
    });
}

/// For a look that leads from one process to others: whether it may go on to this one, which is
/// the one that does not return if the look ends there.
pub(super) fn may_go_on_to(pid: i32) -> bool {
    looks_at(pid);
    !is_hidden(pid)
}

/// Whether nothing is known of a process because looks at it do not return in time.
pub(crate) fn is_hidden(pid: i32) -> bool {
    let mut pids = vec![pid];
    leave_out_lost(&mut pids);
    pids.is_empty()
}

/// Whether a look at a process has not returned.
pub(crate) fn has_lost_looks() -> bool {
    let mut lost = lock(&LOST);
    lost.retain(|one| one.thread.strong_count() > 0);
    !lost.is_empty()
}

/// Leaves out processes at which a look has not returned, and those of users with too many.
fn leave_out_lost(pids: &mut Vec<i32>) {
    let mut lost = lock(&LOST);
    lost.retain(|one| one.thread.strong_count() > 0);
    if lost.is_empty() {
        return;
    }
    let own = Some(getuid().as_raw());
    pids.retain(|pid| {
        let user = user(*pid);
        let of_user = lost.iter().filter(|one| one.user == user).count();
        let is_lost = lost.iter().any(|one| one.pid == *pid);
        let may_look = lost.len() < LOST_MAX || user == own || user == Some(0);
        !is_lost && of_user < USER_LOST_MAX && may_look
    });
}

/// The real user of a process, which is always shown.
pub(crate) fn user(pid: i32) -> Option<u32> {
    let text = procfs::read_text(&format!("{pid}/status"))?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}

/// Has the threads that look started by one of the table of this thread from now on. A thread
/// begins with the table of the one that starts it, and leaves it by closing copies of its first
/// descriptors: of what modules sent, that may take for ever.
pub(crate) fn prepare_looks() -> io::Result<()> {
    if STARTER.get().is_none() {
        let (starter, wanted) = sync_channel::<SyncSender<io::Result<Looker>>>(0);
        thread("look-start", move || {
            wanted
                .into_iter()
                .for_each(|reply| _ = reply.send(start_here()));
        })?;
        let _ = STARTER.set(starter); // another one may be quicker
    }
    Ok(())
}

fn start() -> io::Result<Looker> {
    let Some(starter) = STARTER.get() else {
        return start_here();
    };
    let (reply, started) = sync_channel(1);
    let gone = io::Error::other("the thread that starts looks has ended");
    match starter.send(reply).map(|()| started.recv()) {
        Ok(Ok(started)) => started,
        Ok(Err(_)) | Err(_) => Err(gone),
    }
}

fn start_here() -> io::Result<Looker> {
    let (looks, todo) = sync_channel::<Box<dyn FnOnce() + Send>>(1);
    let it = Arc::<LookThread>::default();
    let life = Arc::downgrade(&it);
    thread("look", move || {
        it.number.store(gettid().as_raw(), Ordering::Relaxed);
        LOOKS.with(|own| _ = own.set(it));
        leave_shared_table();
        todo.into_iter().for_each(|look| look());
    })?;
    Ok(Looker {
        looks,
        thread: life,
    })
}

fn give_back(looker: Looker) {
    let mut idle = lock(&IDLE);
    if idle.len() < IDLE_MAX {
        idle.push(looker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn nobody_waits_for_what_was_seen_before() {
        let (results, began) = (Results::new(2), Instant::now());
        results.fill(vec![1, 2], |pid| pid);
        assert_eq!(results.wait(LONG, || true), [1, 2]);
        assert!(began.elapsed() < LONG / 2);
    }

    #[test]
    fn a_look_that_does_not_return_ends_the_list() {
        let results = Results::new(2);
        lock(&results.seen).results.push(1);
        assert_eq!(results.wait(Duration::from_millis(1), || false), [1]);
        results.fill(vec![2], |pid| pid); // comes too late
        assert_eq!(results.wait(LONG, || true), [0; 0]);
    }

    #[test]
    fn a_look_that_waits_for_a_processor_is_waited_for_but_not_for_ever() {
        let results = Results::<i32>::new(1);
        let asked = std::cell::Cell::new(0);
        let is_starved = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        assert_eq!(results.wait(Duration::from_millis(1), is_starved), [0; 0]);
        assert_eq!(asked.get(), 3);
        let results = Results::<i32>::new(1);
        assert_eq!(results.wait(Duration::from_millis(1), || true), [0; 0]);
    }

    #[test]
    fn a_thread_that_waits_is_not_runnable_and_one_that_works_is() {
        let of = |number: i32| LookThread {
            number: number.into(),
            at: 0.into(),
        };
        let (tell, told) = sync_channel(0);
        let (end, ended) = sync_channel::<()>(1);
        let waits = std::thread::spawn(move || {
            tell.send(gettid().as_raw()).expect("it is heard");
            ended.recv().expect_err("nothing is sent");
        });
        let it = of(told.recv().expect("a number"));
        while it.is_runnable() {
            std::thread::yield_now();
        }
        drop(end);
        waits.join().expect("it ends");
        assert!(of(gettid().as_raw()).is_runnable() && of(0).is_runnable());
        assert!(!it.is_runnable(), "it is gone");
    }
}
