//! The thread that receives sd_notify messages and the descriptors that come with them.
//! Owns the notify sockets and all that modules and strangers sent, in a table of its own.
//! Never closes a descriptor of a sender; never passes on what a process outside the run sent.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mainstay_process::Instance;

use crate::engine_queue::{EngineEvent, QueueState};
use crate::fds::receive_message;
use crate::frame::send_fds;
use crate::kernel::{self, PollEvents, Poller, ProcessHandle, SenderHandle};
use crate::threads::lock;
use crate::workers::fd_store::STORED;
use crate::workers::membership::{Membership, RunTree};
use crate::workers::notify::{
    NotifyDatagram, RECEIVE_BUFFER_BYTES, draw_path, has_line, open_socket, receive, value,
};
#[cfg(target_os = "linux")]
use crate::workers::notify_command::MIRROR;
use crate::workers::notify_command::{Command, Shared};
#[cfg(target_os = "linux")]
use crate::workers::notify_mirror::NotifyMirror;
use crate::workers::notify_source::{EXEC_POLL_INTERVAL, InstanceFds, Source};
use crate::workers::reports::{NewMain, NotifyMessage};

/// Datagrams read from one socket before the others get their turn, and how long that may take.
const READ_BATCH: usize = 64;
const READ_TURN: Duration = Duration::from_millis(2);
/// Datagrams read before the end of a run is reported: the kernel queues some hundreds at most.
const DRAIN_MAX: usize = 1024;
const DRAIN_TURN: Duration = Duration::from_millis(50);
/// Processes that are read on behalf of one user in a second, beyond the senders themselves.
const LOOKUPS_PER_SECOND: usize = 400;
/// How long a user has no lookups after one that did not return in time.
const HIDDEN_PAUSE: Duration = Duration::from_secs(1);
/// Users whose lookups are counted.
const USERS_MAX: usize = 256;
/// The key of the control socket among those of the instances.
const CONTROL: u64 = u64::MAX;

/// What to do with a datagram.
enum Verdict {
    Accept,
    Drop,
    Defer,
}

/// The state of the thread; all its descriptors are of the table of the thread.
#[derive(Debug)]
pub(crate) struct NotifyThread {
    shared: Arc<Shared>,
    queue: Arc<QueueState>,
    /// Wakes the thread, and the loop; passes on the sockets to which a store is sent.
    pub(crate) control: OwnedFd,
    pub(crate) poller: Poller,
    pub(crate) sources: HashMap<u32, Source>,
    pub(crate) instances: HashMap<u32, InstanceFds>,
    /// What is left of the lookups of each user, and since when.
    lookups: HashMap<u32, (usize, Instant)>,
    buffer: Vec<u8>,
    #[cfg(target_os = "linux")]
    pub(crate) mirror: NotifyMirror,
}

impl NotifyThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: Arc<QueueState>,
        control: OwnedFd,
    ) -> io::Result<NotifyThread> {
        let poller = Poller::new()?;
        poller.add(&control, CONTROL)?;
        Ok(NotifyThread {
            shared,
            queue,
            control,
            poller,
            sources: HashMap::new(),
            instances: HashMap::new(),
            lookups: HashMap::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
            #[cfg(target_os = "linux")]
            mirror: NotifyMirror::default(),
        })
    }

    pub(super) fn run(mut self) {
        let mut events = PollEvents::<64>::new();
        while !self.shared.quit.load(Ordering::Relaxed) {
            self.poller.wait(&mut events, self.timeout());
            let keys: Vec<u64> = events.iter().map(|(key, _)| key).collect();
            self.read_control();
            let commands = std::mem::take(&mut *lock(&self.shared.commands));
            for command in commands {
                #[cfg(target_os = "linux")]
                self.mirror.changed(command.instance());
                self.obey(command);
            }
            for key in keys.into_iter().filter(|key| *key != CONTROL) {
                let id = key as u32;
                if key & STORED == 0 {
                    self.read(id);
                } else if let Some(fds) = self.instances.get_mut(&id) {
                    fds.store.hung_up(&self.poller, key);
                    self.publish_store(id);
                }
            }
            self.retry();
            #[cfg(target_os = "linux")]
            self.update_mirror();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        self.sources
            .values()
            .filter_map(|one| one.timeout(now))
            .chain(self.mirror_timeout())
            .min()
    }

    #[cfg(not(target_os = "linux"))]
    fn mirror_timeout(&self) -> Option<Duration> {
        None
    }

    /// A message that brings a socket names the instance whose store is to be sent there.
    fn read_control(&mut self) {
        let (mut id, mut control) = ([0; 4], kernel::control_space());
        while let Ok(received) = receive_message(&self.control, &mut id, &mut control) {
            let id = u32::from_ne_bytes(id);
            let fds = self.instances.get(&id);
            #[cfg(target_os = "linux")]
            if id == MIRROR {
                self.mirror_all(received.fds.into_iter().next());
                continue;
            }
            for socket in received.fds {
                let stored = fds.iter().flat_map(|fds| fds.store.fds());
                let (keys, raw): (Vec<_>, Vec<_>) = stored
                    .map(|(key, fd)| (key.to_ne_bytes(), fd.as_raw_fd()))
                    .unzip();
                // One byte is no key; the one who waits for it may have given up.
                let keys = if keys.is_empty() {
                    vec![0]
                } else {
                    keys.concat()
                };
                let _ = send_fds(&socket, &keys, &raw);
            }
        }
    }

    /// Sends an event to the loop.
    fn report(&self, event: EngineEvent) {
        let wakes = self.queue.push(event);
        self.wake_loop(wakes);
    }

    fn wake_loop(&self, wakes: bool) {
        if wakes {
            let _ = send_fds(&self.control, &[0], &[]); // full means that it is awake
        }
    }

    pub(crate) fn publish_store(&self, id: u32) {
        #[cfg(target_os = "linux")]
        self.mirror.stored(id);
        let names = self.instances.get(&id).map(|fds| fds.store.names());
        let mut stored = lock(&self.shared.stored);
        match names.filter(|names| !names.is_empty()) {
            Some(names) => stored.insert(id, names),
            None => stored.remove(&id),
        };
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Bind { id, run, reply } => {
                let _ = reply.send(self.bind(id, run)); // it may have given up
            }
            Command::Open {
                id,
                generation,
                tree,
            } => {
                if let Some(source) = self.current(id, generation) {
                    source.tree = Some(tree);
                    self.watch_closing(id);
                    self.watch(id);
                }
            }
            Command::Drain(id, generation, pid) => {
                let source = self.current(id, generation);
                let Some(source) = source.filter(|one| one.tree.is_some()) else {
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
            Command::Forget(id) => {
                if let Some(mut fds) = self.instances.remove(&id) {
                    fds.store.clear(&self.poller);
                }
                self.publish_store(id);
            }
            #[cfg(target_os = "linux")]
            Command::HandOver(reply, goes_on) => self.hand_over(&reply, &goes_on),
            #[cfg(target_os = "linux")]
            Command::Resume(state, count, ready, done) => {
                let _ = done.send(self.resume(state, count, &ready)); // it may have given up
            }
            Command::Restore => {
                let ids: Vec<u32> = self.sources.keys().copied().collect();
                ids.into_iter().for_each(|id| self.restore(id));
            }
        }
    }

    fn bind(&mut self, id: u32, run: (u64, Instance, u32)) -> io::Result<PathBuf> {
        let path = draw_path(&self.shared.folder)?;
        let socket = open_socket(&path, run.2)?;
        self.instances.entry(id).or_default();
        let source = Source::new(run, socket, path.clone());
        if let Some(before) = self.sources.insert(id, source) {
            self.discard(before);
        }
        Ok(path)
    }

    fn restore(&mut self, id: u32) {
        let missing = |one: &&Source| one.path.symlink_metadata().is_err();
        let Some(one) = self.sources.get(&id).filter(missing) else {
            return;
        };
        let Ok(socket) = open_socket(&one.path, one.uid) else {
            return; // the next run opens another
        };
        self.read(id); // what was sent before
        if let Some(one) = self.sources.get_mut(&id) {
            let old = std::mem::replace(&mut one.socket, socket);
            if std::mem::take(&mut one.watched) {
                self.poller.delete(&old);
            }
            if one.refusing {
                kernel::accept_descriptors(&one.socket, false);
            }
        }
        self.watch(id);
    }

    fn current(&mut self, id: u32, generation: u64) -> Option<&mut Source> {
        let source = self.sources.get_mut(&id);
        source.filter(|one| one.generation == generation)
    }

    fn discard(&self, source: Source) {
        if source.watched {
            self.poller.delete(&source.socket);
        }
        let _ = std::fs::remove_file(&source.path); // it may have been removed with its directory
    }

    fn drained(&self, id: u32, generation: u64, pid: i32) {
        self.report(EngineEvent::NotifyDrained {
            id,
            generation,
            pid,
        });
    }

    /// Has the socket watched, or not, as its state wants it.
    pub(crate) fn watch(&mut self, id: u32) {
        let Some(one) = self.sources.get_mut(&id) else {
            return;
        };
        let wanted = one.is_read();
        if wanted && !one.watched {
            // Unheard, the run fails at its own deadline.
            one.watched = self.poller.add(&one.socket, u64::from(id)).is_ok();
        } else if !wanted && one.watched {
            self.poller.delete(&one.socket);
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
            let generation = one.generation;
            for pid in std::mem::take(&mut one.draining) {
                self.drained(id, generation, pid);
            }
        }
        self.watch_closing(id);
        self.watch(id);
    }

    /// False when nothing is left to read now.
    fn read_one(&mut self, id: u32, drains: bool) -> bool {
        while self.queue.is_full_of_notify() {
            std::thread::sleep(Duration::from_millis(1));
            if !drains || self.shared.quit.load(Ordering::Relaxed) {
                return false; // another socket may have to be drained
            }
        }
        let instance = self.instances.get(&id);
        let Some((one, fds)) = self.sources.get_mut(&id).zip(instance) else {
            return false;
        };
        let datagram = match one.deferred.take() {
            Some(datagram) => datagram,
            None => match receive(&one.socket, &mut self.buffer, &fds.strangers) {
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
        let tree = self.sources.get(&id).and_then(|one| one.tree.as_ref());
        let Some(tree) = tree else {
            return Verdict::Drop;
        };
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
        let after = match found {
            Membership::Hidden => HIDDEN_PAUSE, // it took long
            _ => Duration::ZERO,
        };
        if found != Membership::Member {
            let earns_from = Instant::now() + after;
            self.lookups.insert(datagram.uid, (left, earns_from));
        }
        let Some(one) = self.sources.get(&id) else {
            return Verdict::Drop;
        };
        match found {
            Membership::Member => Verdict::Accept,
            Membership::Gone if datagram.uid == one.uid => Verdict::Accept,
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
        let Some((one, instance)) = self.sources.get_mut(&id).zip(self.instances.get_mut(&id))
        else {
            return false;
        };
        let Some(tree) = &mut one.tree else {
            return false;
        };
        let mut rejected = Vec::new();
        let mut new_main = None;
        if let Some(text) = value(&datagram.text, "MAINPID") {
            match named_main(tree, text) {
                Ok(None) => {}
                Ok(Some(main)) => new_main = Some(main),
                Err(None) if !one.exec_wait_left.is_zero() => return self.defer(id, datagram),
                Err(why) => {
                    let (name, old) = (&one.name, tree.main.0);
                    let why = why.unwrap_or(NOT_A_MEMBER);
                    rejected.push(format!(
                        "cannot make MAINPID={text} the main process of {name}: {why}; it stays \
                         {old}"
                    ));
                }
            }
        }
        one.allowance
            .spend(datagram.text.len(), datagram.fds.len(), Instant::now());
        if let Some(main) = &new_main {
            tree.main = (main.pid, main.start_time);
        }
        for fd in &mut datagram.fds {
            fd.move_to(&instance.closer);
        }
        let watch = (&self.poller, id);
        let problem = instance.store.apply(watch, &datagram.text, datagram.fds);
        rejected.extend(problem);
        let message = NotifyMessage {
            id,
            generation: one.generation,
            pid: datagram.pid,
            text: datagram.text,
            new_main,
            rejected,
        };
        if message.text.contains("FDSTORE") {
            self.publish_store(id);
        }
        let wakes = self.queue.push_notify(Box::new(message));
        self.wake_loop(wakes);
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
        let excess = self.instances.get(&id).and_then(InstanceFds::excess);
        let Some(one) = self.sources.get_mut(&id) else {
            return;
        };
        if excess.is_some() == one.refusing {
            return;
        }
        one.refusing = excess.is_some();
        // Where the kernel cannot refuse them, nothing is read until they are closed.
        one.paused = !kernel::accept_descriptors(&one.socket, !one.refusing) && one.refusing;
        if let Some(waiting) = excess {
            let (generation, name) = (one.generation, &one.name);
            let message = format!(
                "cannot take more descriptors from {name}: {waiting} that were sent to it do not \
                 close yet"
            );
            self.report(EngineEvent::NotifyRejected {
                id,
                generation,
                message,
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
        Membership::Stranger | Membership::Unknown | Membership::Hidden => {
            return Err(Some(NOT_A_MEMBER));
        }
    }
    // Still the one that the handle names: what was read of that number was read of it.
    if !handle.signal(0) {
        return Err(GONE);
    }
    let start_time = seen.start_time;
    Ok(Some(NewMain { pid, start_time }))
}
