//! The thread that receives sd_notify messages and the descriptors that come with them.
//! Owns the notify socket of each run until the end of that run is reported.
//! Never closes a descriptor of a sender; never passes on what a process outside the run sent.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, LoopWaker, PollEvents, Poller, ProcessHandle, SenderHandle};
use crate::threads::{lock, thread};
use crate::workers::foreign_fd::{Closer, ForeignFd};
use crate::workers::membership::{Membership, RunTree};
use crate::workers::notify::{
    NotifyDatagram, RECEIVE_BUFFER_BYTES, has_line, open_socket, receive, socket_path, value,
};
use crate::workers::notify_allowance::NotifyAllowance;
use crate::workers::reports::{NewMain, NotifyMessage};

/// Datagrams read from one socket before the others get their turn, and how long that may take.
const READ_BATCH: usize = 64;
const READ_TURN: Duration = Duration::from_millis(2);
/// Datagrams read before the end of a run is reported: the kernel queues some hundreds at most.
const DRAIN_MAX: usize = 1024;
const DRAIN_TURN: Duration = Duration::from_millis(50);
/// How long a run may keep its own messages waiting for processes in the moment of their exec.
const EXEC_WAIT_MAX: Duration = Duration::from_millis(100);
/// While a message waits for that.
const EXEC_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Processes that are read on behalf of one user in a second, beyond the senders themselves.
const LOOKUPS_PER_SECOND: usize = 400;
/// Users whose lookups are counted.
const USERS_MAX: usize = 256;
/// Descriptors of an instance, and of the strangers that send to its socket, that may wait to be
/// closed: with more, its socket takes none. Other runs do not notice.
const CLOSING_MAX: usize = 128;
const STRANGERS_CLOSING_MAX: usize = 256;
/// How often it is looked whether they were closed.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// The notify socket of a run, and by what its processes are known.
#[derive(Debug)]
pub(crate) struct NotifySource {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    pub(crate) name: mainstay_process::Instance,
    pub(crate) socket: ForeignFd,
    pub(crate) tree: RunTree,
    pub(crate) uid: u32,
    pub(crate) closer: Arc<Closer>,
}

#[derive(Debug)]
enum Command {
    Open(Box<NotifySource>),
    Drain(u32, u64, i32),
    Close(u32, u64),
    Restore,
}

#[derive(Debug)]
struct Shared {
    commands: Mutex<Vec<Command>>,
    waker: LoopWaker,
    queue: Arc<EngineQueue>,
    /// Where the sockets are.
    folder: PathBuf,
    quit: AtomicBool,
}

/// The engine's side of the thread.
#[derive(Debug)]
pub(crate) struct NotifyReceiver(Arc<Shared>);

impl NotifyReceiver {
    pub(crate) fn start(queue: Arc<EngineQueue>, folder: PathBuf) -> io::Result<NotifyReceiver> {
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            waker: LoopWaker::new()?,
            queue,
            folder,
            quit: AtomicBool::new(false),
        });
        let poller = Poller::new()?;
        poller.add(&shared.waker, WAKER)?;
        let receiver = Receiver {
            shared: Arc::clone(&shared),
            poller,
            sources: HashMap::new(),
            lookups: HashMap::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
        };
        thread("notify", move || receiver.run())?;
        Ok(NotifyReceiver(shared))
    }

    /// Begins to receive what a run sends.
    pub(crate) fn open(&self, source: NotifySource) {
        self.send(Command::Open(Box::new(source)));
    }

    /// Sends [`EngineEvent::NotifyDrained`] after the last message that was queued by now.
    pub(crate) fn drain(&self, id: u32, generation: u64, pid: i32) {
        self.send(Command::Drain(id, generation, pid));
    }

    /// Closes the socket of a run that has ended.
    pub(crate) fn close(&self, id: u32, generation: u64) {
        self.send(Command::Close(id, generation));
    }

    /// Opens sockets again whose files were removed with their directory.
    pub(crate) fn restore(&self) {
        self.send(Command::Restore);
    }

    fn send(&self, command: Command) {
        lock(&self.0.commands).push(command);
        self.0.waker.wake();
    }
}

impl Drop for NotifyReceiver {
    fn drop(&mut self) {
        self.0.quit.store(true, Ordering::Relaxed);
        self.0.waker.wake();
    }
}

/// The key of the waker among those of the instances.
const WAKER: u64 = u64::MAX;

#[derive(Debug)]
struct Source {
    source: NotifySource,
    /// Waits for a process in the moment of its exec.
    deferred: Option<NotifyDatagram>,
    exec_wait_left: Duration,
    /// The processes whose ends wait until the socket is drained.
    draining: Vec<i32>,
    /// Closes what others than the run send to its socket.
    strangers: Arc<Closer>,
    /// No descriptors are taken.
    refusing: bool,
    /// It is not read: the kernel cannot refuse descriptors.
    paused: bool,
    allowance: NotifyAllowance,
    /// It is not read until its allowance is there again.
    throttled: bool,
    watched: bool,
}

/// What to do with a datagram.
enum Verdict {
    Accept,
    Drop,
    Defer,
}

#[derive(Debug)]
struct Receiver {
    shared: Arc<Shared>,
    poller: Poller,
    sources: HashMap<u32, Source>,
    /// What is left of the lookups of each user, and since when.
    lookups: HashMap<u32, (usize, Instant)>,
    buffer: Vec<u8>,
}

impl Receiver {
    fn run(mut self) {
        let mut events = PollEvents::<64>::new();
        while !self.shared.quit.load(Ordering::Relaxed) {
            self.poller.wait(&mut events, self.timeout());
            let ids: Vec<u64> = events.iter().map(|(key, _)| key).collect();
            self.shared.waker.clear();
            let commands = std::mem::take(&mut *lock(&self.shared.commands));
            for command in commands {
                self.obey(command);
            }
            for id in ids {
                if let Ok(id) = u32::try_from(id) {
                    self.read(id);
                }
            }
            self.retry();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let waits = self.sources.values().filter_map(|one| {
            let deferred = one.deferred.as_ref().map(|_| EXEC_POLL_INTERVAL);
            let throttled = one
                .throttled
                .then(|| one.allowance.pause(now).unwrap_or_default());
            let refusing = one.refusing.then_some(REFUSAL_INTERVAL);
            [deferred, throttled, refusing].into_iter().flatten().min()
        });
        waits.min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open(source) => {
                let id = source.id;
                let opened = Source {
                    source: *source,
                    deferred: None,
                    exec_wait_left: EXEC_WAIT_MAX,
                    draining: Vec::new(),
                    strangers: Arc::default(),
                    refusing: false,
                    paused: false,
                    allowance: NotifyAllowance::new(Instant::now()),
                    throttled: false,
                    watched: false,
                };
                if let Some(before) = self.sources.insert(id, opened) {
                    self.discard(before);
                }
                self.watch(id);
            }
            Command::Drain(id, generation, pid) => {
                let Some(source) = self.current(id, generation) else {
                    return self.drained(id, generation, pid);
                };
                source.draining.push(pid);
                self.read(id);
            }
            Command::Close(id, generation) => {
                if self.current(id, generation).is_some()
                    && let Some(source) = self.sources.remove(&id)
                {
                    self.discard(source);
                }
            }
            Command::Restore => {
                let ids: Vec<u32> = self.sources.keys().copied().collect();
                ids.into_iter().for_each(|id| self.restore(id));
            }
        }
    }

    fn restore(&mut self, id: u32) {
        let folder = &self.shared.folder;
        let path = |one: &Source| socket_path(folder, &one.source.name);
        let missing = |one: &&Source| path(one).symlink_metadata().is_err();
        let Some(one) = self.sources.get(&id).filter(missing) else {
            return;
        };
        let Ok(socket) = open_socket(folder, &one.source.name, one.source.uid) else {
            return; // the next run opens it
        };
        self.read(id); // what was sent before
        if let Some(one) = self.sources.get_mut(&id) {
            let old = std::mem::replace(&mut one.source.socket, socket);
            if std::mem::take(&mut one.watched) {
                self.poller.delete(&old);
            }
        }
        self.watch(id);
    }

    fn current(&mut self, id: u32, generation: u64) -> Option<&mut Source> {
        let source = self.sources.get_mut(&id);
        source.filter(|one| one.source.generation == generation)
    }

    fn discard(&self, source: Source) {
        if source.watched {
            self.poller.delete(&source.source.socket);
        }
    }

    fn drained(&self, id: u32, generation: u64, pid: i32) {
        self.shared.queue.send(EngineEvent::NotifyDrained {
            id,
            generation,
            pid,
        });
    }

    /// Has the socket watched, or not, as its state wants it.
    fn watch(&mut self, id: u32) {
        let Some(one) = self.sources.get_mut(&id) else {
            return;
        };
        let wanted = one.deferred.is_none() && !one.paused && !one.throttled;
        if wanted && !one.watched {
            // Unheard, the run fails at its own deadline.
            one.watched = self.poller.add(&one.source.socket, u64::from(id)).is_ok();
        } else if !wanted && one.watched {
            self.poller.delete(&one.source.socket);
            one.watched = false;
        }
    }

    /// Reads what is queued: a turn of it, or all that was queued when its end was requested.
    fn read(&mut self, id: u32) {
        let drains = self
            .sources
            .get(&id)
            .is_some_and(|one| !one.draining.is_empty());
        let (most, turn) = match drains {
            true => (DRAIN_MAX, DRAIN_TURN),
            false => (READ_BATCH, READ_TURN),
        };
        let begun = Instant::now();
        for _ in 0..most {
            let now = Instant::now();
            let spent = |one: &Source| one.allowance.pause(now).is_some();
            let throttled = !drains && self.sources.get(&id).is_some_and(spent);
            if let Some(one) = self.sources.get_mut(&id) {
                one.throttled = throttled;
            }
            if throttled || now > begun + turn || !self.read_one(id, drains) {
                break;
            }
            // After each: one turn may bring thousands of descriptors.
            self.watch_closing(id);
            if !drains && self.sources.get(&id).is_some_and(|one| one.refusing) {
                break;
            }
        }
        if let Some(one) = self
            .sources
            .get_mut(&id)
            .filter(|one| one.deferred.is_none())
        {
            let generation = one.source.generation;
            for pid in std::mem::take(&mut one.draining) {
                self.drained(id, generation, pid);
            }
        }
        self.watch_closing(id);
        self.watch(id);
    }

    /// False when nothing is left to read now.
    fn read_one(&mut self, id: u32, drains: bool) -> bool {
        while self.shared.queue.is_full_of_notify() {
            std::thread::sleep(Duration::from_millis(1));
            if !drains || self.shared.quit.load(Ordering::Relaxed) {
                return false; // another socket may have to be drained
            }
        }
        let Some(one) = self.sources.get_mut(&id) else {
            return false;
        };
        let datagram = match one.deferred.take() {
            Some(datagram) => datagram,
            None => match receive(&one.source.socket, &mut self.buffer, &one.strangers) {
                Some(datagram) => datagram,
                None => return false,
            },
        };
        let verdict = self.judge(id, &datagram);
        match verdict {
            Verdict::Accept => self.accept(id, datagram),
            Verdict::Drop => true,
            Verdict::Defer => self.defer(id, datagram),
        }
    }

    /// Whether a datagram comes from the run. Where the kernel names no sender, the socket is
    /// for the run's user alone. A sender that has ended is judged by its user.
    fn judge(&mut self, id: u32, datagram: &NotifyDatagram) -> Verdict {
        if has_line(&datagram.text, "BARRIER=1") {
            return Verdict::Drop; // closing its descriptor is the answer
        }
        let allowed = self.lookups_left(datagram.uid);
        let Some(one) = self.sources.get(&id) else {
            return Verdict::Drop;
        };
        let tree = &one.source.tree;
        let mut left = allowed;
        let is_main = datagram.pid == tree.main.0 && tree.main == tree.first;
        if !kernel::HAS_SENDER_CREDENTIALS || is_main {
            return Verdict::Accept; // it is not reaped yet, so the number is its own
        }
        let mut found = tree.membership(datagram.pid, &mut left);
        // What was read of its number was read of another process, if it has ended meanwhile.
        if datagram
            .sender
            .as_ref()
            .is_some_and(SenderHandle::has_ended)
        {
            found = Membership::Gone;
        }
        if found != Membership::Member {
            self.lookups.insert(datagram.uid, (left, Instant::now()));
        }
        let Some(one) = self.sources.get(&id) else {
            return Verdict::Drop;
        };
        match found {
            Membership::Member => Verdict::Accept,
            Membership::Gone if datagram.uid == one.source.uid => Verdict::Accept,
            Membership::Unclear if !one.exec_wait_left.is_zero() => Verdict::Defer,
            _ => Verdict::Drop,
        }
    }

    fn lookups_left(&mut self, uid: u32) -> usize {
        if self.lookups.len() >= USERS_MAX {
            let recent = |since: &Instant| since.elapsed() < Duration::from_secs(1);
            self.lookups.retain(|_, (_, since)| recent(since));
        }
        let Some((left, since)) = self.lookups.get(&uid) else {
            return LOOKUPS_PER_SECOND;
        };
        let earned = since.elapsed().as_millis() * LOOKUPS_PER_SECOND as u128 / 1000;
        let earned = usize::try_from(earned).unwrap_or(usize::MAX);
        left.saturating_add(earned).min(LOOKUPS_PER_SECOND)
    }

    /// Puts a datagram aside until its sender, or the process that it names, can be told.
    fn defer(&mut self, id: u32, datagram: NotifyDatagram) -> bool {
        if let Some(one) = self.sources.get_mut(&id) {
            one.deferred = Some(datagram); // what is queued after it waits too
        }
        false
    }

    fn accept(&mut self, id: u32, mut datagram: NotifyDatagram) -> bool {
        let Some(one) = self.sources.get_mut(&id) else {
            return false;
        };
        let source = &mut one.source;
        let mut rejected = None;
        let mut new_main = None;
        if let Some(text) = value(&datagram.text, "MAINPID") {
            match named_main(&source.tree, text) {
                Ok(None) => {}
                Ok(Some(main)) => new_main = Some(main),
                Err(None) if !one.exec_wait_left.is_zero() => return self.defer(id, datagram),
                Err(why) => {
                    let (name, old) = (&source.name, source.tree.main.0);
                    let why = why.unwrap_or(NOT_A_MEMBER);
                    rejected = Some(format!(
                        "cannot make MAINPID={text} the main process of {name}: {why}; it stays \
                         {old}"
                    ));
                }
            }
        }
        one.allowance
            .spend(datagram.text.len(), datagram.fds.len(), Instant::now());
        if let Some(main) = &new_main {
            source.tree.main = (main.pid, main.start_time);
        }
        for fd in &mut datagram.fds {
            fd.move_to(&source.closer);
        }
        let message = NotifyMessage {
            id,
            generation: source.generation,
            pid: datagram.pid,
            text: datagram.text,
            fds: datagram.fds,
            new_main,
            rejected,
        };
        self.shared.queue.send_notify(Box::new(message));
        true
    }

    /// Tries again what was put aside, and takes descriptors again from those that were refused.
    fn retry(&mut self) {
        let waiting = self
            .sources
            .iter()
            .filter(|(_, one)| one.deferred.is_some());
        let waiting: Vec<u32> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            if let Some(one) = self.sources.get_mut(&id) {
                one.exec_wait_left = one.exec_wait_left.saturating_sub(EXEC_POLL_INTERVAL);
            }
            self.read(id);
        }
        let now = Instant::now();
        let earned = self
            .sources
            .iter()
            .filter(|(_, one)| one.throttled && one.allowance.pause(now).is_none());
        let earned: Vec<u32> = earned.map(|(id, _)| *id).collect();
        for id in earned {
            self.read(id);
        }
        let refusing = self.sources.iter().filter(|(_, one)| one.refusing);
        let refusing: Vec<u32> = refusing.map(|(id, _)| *id).collect();
        for id in refusing {
            self.watch_closing(id);
            self.watch(id);
        }
    }

    /// Refuses descriptors while too many of them do not close.
    fn watch_closing(&mut self, id: u32) {
        let Some(one) = self.sources.get_mut(&id) else {
            return;
        };
        let strangers = one.strangers.count();
        let own = one.source.closer.count();
        let refuse = own > CLOSING_MAX || strangers > STRANGERS_CLOSING_MAX;
        if refuse == one.refusing {
            return;
        }
        one.refusing = refuse;
        // Where the kernel cannot refuse them, nothing is read until they are closed.
        one.paused = !kernel::accept_descriptors(&one.source.socket, !refuse) && refuse;
        if refuse {
            let waiting = if own > CLOSING_MAX { own } else { strangers };
            self.shared.queue.send(EngineEvent::NotifyRejected {
                id,
                generation: one.source.generation,
                message: format!(
                    "cannot take more descriptors from {}: {waiting} that were sent to it do not \
                     close yet",
                    one.source.name
                ),
            });
        }
    }
}

const NOT_A_MEMBER: &str = "it does not belong to the module";

/// The process that MAINPID names, none if it is the main process already; an error without a
/// reason: that cannot be told in the moment of an exec.
fn named_main(tree: &RunTree, text: &str) -> Result<Option<NewMain>, Option<&'static str>> {
    const GONE: Option<&str> = Some("there is no such process");
    let pid = text.parse().ok().filter(|pid| *pid > 0);
    let pid: i32 = pid.ok_or(Some("it is no number of a process"))?;
    if pid == tree.main.0 {
        return Ok(None);
    }
    let handle = ProcessHandle::new(pid).ok_or(GONE)?;
    // One that ended after it was named is still the one whose end counts.
    let seen = kernel::process(pid).ok_or(GONE)?;
    match tree.membership(pid, &mut LOOKUPS_PER_SECOND.clone()) {
        Membership::Member => {}
        Membership::Unclear => return Err(None),
        Membership::Gone => return Err(GONE),
        Membership::Stranger | Membership::Unknown => return Err(Some(NOT_A_MEMBER)),
    }
    // Still the one that the handle names: what was read of that number was read of it.
    if !handle.signal(0) {
        return Err(GONE);
    }
    let start_time = seen.start_time;
    Ok(Some(NewMain {
        pid,
        start_time,
        handle,
    }))
}
