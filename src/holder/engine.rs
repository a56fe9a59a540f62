//! The loop of the holder: one place where everything that happened is taken in.
//! Owns instances, connection and deadlines.
//! Never blocks on a disk, a module or the runtime.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::codec::Decoder;
use crate::frame::{Outbox, recv_with_fds};
use crate::instance::{Former, Instance, Phase};
use crate::kernel::{Events, Poll, Site, find_site};
use crate::mail::Mail;
use crate::places::Places;
use crate::prepare::Inherited;
use crate::process::nanos;
use crate::spawner::{Ground, Spawner};
use crate::walk::{Sweeper, Target};
use crate::wire::{Ask, End, Known, Setup, Tell, VERSION, World};

/// Frames that may wait for a runtime that does not read; from half of it on only exits and
/// answers are added.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;
/// Longest stop before a setup said how long it may take.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A start that takes longer hangs, where nobody else says how long it may take.
pub(crate) const BIRTH_WITHIN: Duration = Duration::from_secs(10);

/// What an event of the loop is about; the number with it is an instance.
pub(crate) mod about {
    pub(crate) const WIRE: u64 = 1 << 56;
    pub(crate) const SIGNALS: u64 = 2 << 56;
    pub(crate) const MAIL: u64 = 3 << 56;
    pub(crate) const NOTIFY: u64 = 4 << 56;
    pub(crate) const READY: u64 = 5 << 56;
    pub(crate) const PROCESS: u64 = 6 << 56;
    pub(crate) const FORMER: u64 = 7 << 56;
    /// With the key of a stored descriptor between this and the instance.
    pub(crate) const STORED: u64 = 8 << 56;
    /// With the place of the socket between this and the instance.
    pub(crate) const KNOCK: u64 = 9 << 56;
    pub(crate) const KIND: u64 = 0xff << 56;
}

/// The connection to a runtime.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: OwnedFd,
    decoder: Decoder,
    fds: VecDeque<OwnedFd>,
    pub(crate) outbox: Outbox,
    waits_to_write: bool,
    /// `World` was sent: from here on everything is told.
    pub(crate) told_world: bool,
    pub(crate) heard_at: Instant,
    /// It was asked then whether it lives, and said nothing since.
    asked_at: Option<Instant>,
}

/// Choices of an embedding application, and of tests.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Walk process trees even where control groups could be used (`MAINSTAY_CGROUP=off`).
    pub no_groups: bool,
    /// Start processes by fork even where clone3 works.
    pub plain_fork: bool,
}

/// Everything the holder knows.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) poll: Poll,
    pub(crate) mail: Arc<Mail>,
    pub(crate) inherited: Arc<Inherited>,
    pub(crate) options: Options,
    pub(crate) nofile: libc::rlimit,
    pub(crate) site: Option<Site>,
    pub(crate) setup: Option<Setup>,
    pub(crate) places: Option<Places>,
    pub(crate) ground: Option<Arc<Ground>>,
    pub(crate) spawner: Option<Spawner>,
    pub(crate) sweeper: Sweeper,
    pub(crate) sweeping: bool,
    pub(crate) to_sweep: Vec<Target>,
    pub(crate) names: HashMap<Arc<str>, u32>,
    pub(crate) instances: HashMap<u32, Instance>,
    pub(crate) by_pid: HashMap<i32, u32>,
    /// Processes that were started and whose place as main process was taken by another.
    pub(crate) former: HashMap<i32, Former>,
    pub(crate) last_id: u32,
    pub(crate) in_flight: usize,
    /// When runs overstay: deadline, instance, generation.
    pub(crate) alarms: BTreeSet<(Instant, u32, u64)>,
    pub(crate) wire: Option<Wire>,
    pub(crate) stop_by: Option<Instant>,
    pub(crate) up_since: u64,
    pub(crate) alone: Option<Box<Alone>>,
    pub(crate) reap_again: bool,
    /// Someone unknown ended who may be a child whose spawn is about to be told.
    pub(crate) reap_later: bool,
    /// Whose messages were held back.
    pub(crate) unsaid: BTreeSet<u32>,
    pub(crate) end: Option<u8>,
}

impl Engine {
    pub(crate) fn new(options: Options, nofile: libc::rlimit) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let mail = Arc::new(Mail::new()?);
        poll.add(mail.fd(), about::MAIL)?;
        let site = if options.no_groups { None } else { find_site() };
        Ok(Engine {
            poll,
            sweeper: Sweeper::new(Arc::clone(&mail)),
            mail,
            inherited: Arc::new(Inherited::capture()),
            options,
            nofile,
            site,
            setup: None,
            places: None,
            ground: None,
            spawner: None,
            sweeping: false,
            to_sweep: Vec::new(),
            names: HashMap::new(),
            instances: HashMap::new(),
            by_pid: HashMap::new(),
            former: HashMap::new(),
            last_id: 0,
            in_flight: 0,
            alarms: BTreeSet::new(),
            wire: None,
            stop_by: None,
            up_since: nanos(libc::CLOCK_MONOTONIC),
            alone: None,
            reap_again: false,
            reap_later: false,
            unsaid: BTreeSet::new(),
            end: None,
        })
    }

    pub(crate) fn watch(&self, fd: &impl AsFd, about: u64) -> io::Result<()> {
        self.poll.add(fd, about)
    }

    pub(crate) fn connect(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.watch(&socket, about::WIRE)?;
        self.wire = Some(Wire {
            socket,
            decoder: Decoder::default(),
            fds: VecDeque::new(),
            outbox: Outbox::default(),
            waits_to_write: false,
            told_world: false,
            heard_at: Instant::now(),
            asked_at: None,
        });
        Ok(())
    }

    /// Runs until the end; the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut events = Events::<256>::new();
        loop {
            self.settle();
            if let Some(code) = self.end {
                return self.leave(code);
            }
            let timeout = self.timeout();
            self.poll.wait(&mut events, timeout);
            for (what, only_room) in events.iter() {
                self.take_in(what, only_room);
            }
            if std::mem::take(&mut self.reap_again) {
                self.reap();
            }
            self.on_time(Instant::now());
        }
    }

    fn take_in(&mut self, what: u64, only_room: bool) {
        let id = (what & !about::KIND) as u32;
        match what & about::KIND {
            // Hang-ups and errors are found by reading too.
            about::WIRE if !only_room => self.read_wire(),
            about::WIRE => {}
            about::SIGNALS => self.read_signals(),
            about::MAIL => self.read_mail(),
            about::NOTIFY => {
                self.read_notify(id);
            }
            about::READY => self.read_ready(id),
            about::PROCESS => self.reap_one(id),
            about::FORMER => self.reap_former(),
            about::STORED => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    let key = (what & !about::KIND) >> 32;
                    instance.store.hung_up(&self.poll, key);
                }
            }
            about::KNOCK => self.knocked(id, ((what & !about::KIND) >> 32) as usize),
            _ => {}
        }
    }

    /// What follows from what was taken in.
    fn settle(&mut self) {
        if !self.sweeping && !self.to_sweep.is_empty() {
            self.sweeping = true;
            self.sweeper.sweep(std::mem::take(&mut self.to_sweep));
        }
        let new = self.wire.as_ref().is_some_and(|wire| !wire.told_world);
        if new && self.in_flight == 0 {
            self.tell_world();
        }
        self.flush();
        if !self.unsaid.is_empty() && !self.is_behind() {
            self.tell_unsaid();
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        let Some(wire) = &mut self.wire else {
            return;
        };
        let behind = match wire.outbox.flush(&wire.socket) {
            Ok(done) => !done,
            Err(_) => false, // its end is read from the same socket
        };
        if behind != wire.waits_to_write {
            wire.waits_to_write = behind;
            self.poll.watch_room(&wire.socket, about::WIRE, behind); // in there since `connect`
        }
    }

    fn read_wire(&mut self) {
        for _ in 0..16 {
            if !self.read_wire_once() {
                return;
            }
        }
    }

    /// False when there is nothing more to read now.
    pub(crate) fn read_wire_once(&mut self) -> bool {
        let Some(wire) = &mut self.wire else {
            return false;
        };
        match recv_with_fds(&wire.socket, &mut wire.decoder, &mut wire.fds) {
            Ok(1..) => {}
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => return false,
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => return true,
            Ok(_) | Err(_) => {
                self.lose_wire();
                return false;
            }
        }
        (wire.heard_at, wire.asked_at) = (Instant::now(), None);
        wire.fds.clear(); // no ask carries descriptors
        loop {
            match self.wire.as_mut().map(|wire| wire.decoder.next::<Ask>()) {
                Some(Ok(Some(ask))) => self.ask(ask),
                Some(Ok(None)) | None => return true,
                Some(Err(_)) => {
                    self.lose_wire();
                    return false;
                }
            }
        }
    }

    /// The runtime is gone, or speaks nonsense: an embedding application took us down with it.
    pub(crate) fn lose_wire(&mut self) {
        let Some(wire) = self.wire.take() else {
            return;
        };
        self.poll.delete(&wire.socket);
        match &mut self.alone {
            Some(alone) => alone.lost_wire(Instant::now()),
            None => self.end = self.end.or(Some(0)),
        }
    }

    /// Tells the runtime, if one listens; what must not be lost is in the instances.
    pub(crate) fn tell(&mut self, tell: &Tell) {
        self.tell_with(tell, Vec::new());
    }

    pub(crate) fn tell_with(&mut self, tell: &Tell, fds: Vec<OwnedFd>) {
        let Some(wire) = self.wire.as_mut().filter(|wire| wire.told_world) else {
            return;
        };
        let waiting = wire.outbox.waiting_bytes();
        if waiting > OUTBOX_BYTES || wire.outbox.push(tell, fds).is_err() {
            self.lose_wire();
        }
    }

    /// The runtime does not keep up: what can wait or be summed up is held back.
    pub(crate) fn is_behind(&self) -> bool {
        let waiting = self
            .wire
            .as_ref()
            .map_or(0, |wire| wire.outbox.waiting_bytes());
        waiting > OUTBOX_BYTES / 2
    }

    /// What was held back while the runtime did not keep up.
    fn tell_unsaid(&mut self) {
        for id in std::mem::take(&mut self.unsaid) {
            let notify = self.instances.get(&id).and_then(said);
            if let Some(notify) = notify {
                self.tell(&notify);
            }
        }
    }

    fn tell_world(&mut self) {
        let alone = self.alone.as_deref();
        let mut known: Vec<Known> = Vec::new();
        for instance in self.instances.values().filter(|one| !one.forgotten) {
            let run = instance.run();
            known.push(Known {
                instance: instance.name.to_string(),
                generation: instance.generation,
                pid: run.map(|run| run.pid.unsigned_abs()),
                start_time: run.map_or(0, |run| run.start_time),
                record: instance.record.clone(),
                end: instance.ended().map(End::from),
            });
        }
        let listeners = self.places.as_ref().map(Places::listeners).transpose();
        let listeners = listeners.ok().flatten().unwrap_or_default();
        let world = Tell::World(World {
            version: VERSION,
            setup: self.setup.clone(),
            holder_pid: std::process::id(),
            restarts: alone.map_or(0, |alone| alone.restarts),
            away_ms: alone.map_or(0, Alone::away_ms),
            ended: alone.and_then(|alone| alone.ended.clone()),
            up_since: self.up_since,
            instances: known,
            fds: listeners.len() as u32,
            tree: self.tree().to_owned(),
            stopping: self.stop_by.is_some(),
        });
        if let Some(wire) = &mut self.wire {
            wire.told_world = true;
        }
        self.tell_with(&world, listeners);
        self.tell_meanwhile();
    }

    /// How every run that is over ended, and what the living ones said: a runtime may have been
    /// lost with that news.
    fn tell_meanwhile(&mut self) {
        let mut news = Vec::new();
        for instance in self.instances.values().filter(|one| !one.forgotten) {
            news.extend(said(instance));
            news.extend(last_words(instance));
            news.extend(instance.last_exit.clone().map(Tell::Exited));
        }
        for tell in news {
            self.tell(&tell);
        }
        if let Some(by) = self.stop_by {
            // The runtime before had begun to stop everything.
            let (signal, left_ms) = (libc::SIGTERM, Some(ms_until(by)));
            self.tell(&Tell::StopAsked { signal, left_ms });
        }
    }

    /// An ordered stop began: it ends within this, one way or the other.
    pub(crate) fn stopping(&mut self, within: Duration) {
        let by = Instant::now() + within;
        let before = self.stop_by;
        self.stop_by = Some(before.map_or(by, |before| before.min(by)));
        if before.is_none() {
            self.show("stopping");
        }
    }

    /// How trees are killed here.
    pub(crate) fn tree(&self) -> &'static str {
        let groups = match &self.ground {
            Some(ground) => ground.groups.is_some(),
            None => self.site.is_some(),
        };
        if groups { "cgroup2" } else { "walk" }
    }

    pub(crate) fn stop_within(&self) -> Duration {
        let told = self
            .setup
            .as_ref()
            .map(|setup| Duration::from_millis(setup.stop_within_ms));
        told.unwrap_or(STOP_WITHIN)
    }

    fn timeout(&self) -> Option<Duration> {
        if self.reap_again {
            return Some(Duration::ZERO);
        }
        let alarm = self.alarms.first().map(|(at, ..)| *at);
        let silence = self.silence_ends();
        let alone = self.alone.as_ref().and_then(|alone| alone.deadline());
        let ends = [alarm, silence, self.stop_by, alone, self.world_by()];
        let next = ends.into_iter().flatten().min()?;
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Some(wait.min(Duration::from_hours(1)))
    }

    /// A new runtime is told the world when no start is in flight; from here on it is told anyway.
    fn world_by(&self) -> Option<Instant> {
        let new = |wire: &&Wire| !wire.told_world && self.in_flight > 0;
        let wire = self.wire.as_ref().filter(new)?;
        Some(wire.heard_at + BIRTH_WITHIN) // it says nothing before it was told
    }

    /// What hangs on its way to its program is ended, and so is what waits behind it.
    fn end_births(&mut self) {
        let born = |one: &Instance| matches!(one.phase, Phase::Starting(_));
        let those = self.instances.iter().filter(|(_, one)| born(one));
        let those: Vec<u32> = those.map(|(id, _)| *id).collect();
        for id in those {
            self.kill_tree(id);
        }
    }

    /// When a silent runtime is asked whether it lives; once it was, when it counts as deaf.
    fn silence_ends(&self) -> Option<Instant> {
        self.alone.as_ref()?;
        let after = self
            .setup
            .as_ref()
            .map(|setup| setup.deaf_after_ms)
            .filter(|ms| *ms > 0)?;
        let wire = self.wire.as_ref().filter(|wire| wire.told_world)?;
        let quarter = Duration::from_millis(after) / 4;
        // From the question on, whenever that was: the holder itself may have been stopped.
        let asked = wire.asked_at.map(|at| at + quarter);
        Some(asked.unwrap_or(wire.heard_at + 3 * quarter))
    }

    fn on_time(&mut self, now: Instant) {
        while let Some((at, id, generation)) = self.alarms.first().copied() {
            if at > now {
                break;
            }
            self.alarms.pop_first();
            self.overdue(id, generation);
        }
        if self.world_by().is_some_and(|at| at <= now) {
            self.end_births();
            self.tell_world();
        }
        if self.silence_ends().is_some_and(|at| at <= now) {
            match &mut self.wire {
                Some(wire) if wire.asked_at.is_none() => {
                    wire.asked_at = Some(now);
                    self.tell(&Tell::Beat);
                }
                _ => self.kill_deaf_runtime(),
            }
        }
        if self.stop_by.is_some_and(|at| at <= now) {
            self.end = self.end.or(Some(1));
        }
        self.alone_on_time(now);
    }

    fn overdue(&mut self, id: u32, generation: u64) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if instance.generation != generation {
            return;
        }
        match &mut instance.phase {
            Phase::Starting(wishes) => wishes.overdue = true,
            Phase::Running(run) => run.overdue = true,
            Phase::Idle | Phase::Ending(_) => return,
        }
        self.kill_tree(id);
    }
}

fn ms_until(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// The lasting part of what a living run said.
fn said(instance: &Instance) -> Option<Tell> {
    let (run, text) = instance.run().zip(instance.said.text())?;
    Some(Tell::Notify {
        instance: instance.name.to_string(),
        generation: instance.generation,
        pid: run.pid.unsigned_abs(),
        text,
    })
}

/// What a run that is over gave as the reason for its end, to be told before that.
fn last_words(instance: &Instance) -> Option<Tell> {
    let exited = instance.last_exit.as_ref()?;
    Some(Tell::Notify {
        instance: exited.instance.clone(),
        generation: exited.generation,
        pid: exited.pid,
        text: crate::notify::last_words(&instance.said.text()?)?,
    })
}
