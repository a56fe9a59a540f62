//! The loop of the holder: one place where everything that happened is taken in.
//! Owns instances, connection and deadlines.
//! Never blocks on a disk, a module or the runtime.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mainstay_process::{Instance, ProcessEvent, ProcessEventKind};

use crate::channel::{Received, RuntimeChannel};
use crate::clock::{monotonic, nanos};
use crate::directories::SystemDirs;
use crate::engine_queue::EngineQueue;
use crate::freeze::FreezeLeases;
use crate::instance::{FormerMain, InstanceResources};
use crate::kernel::{CgroupRoot, PollEvents, Poller, find_cgroup_root};
use crate::machines::{Roster, RuntimeSupervisor, nanoseconds};
use crate::messages::{
    HolderMessage, HolderSetup, InstanceInfo, InstanceSockets, TakeoverState, VERSION,
};
use crate::poll_key;
use crate::random::Tags;
use crate::reexec::ReexecRequest;
use crate::runtime_process::RuntimeProcess;
use crate::spawn::spawn_job::SpawnContext;
use crate::spawn::spawner::Spawner;
use crate::succession::Succession;
use crate::workers::notify_receiver::NotifyReceiver;
use crate::workers::reports::SweptRun;
use crate::workers::service_manager::ServiceManager;
use crate::workers::setup::SetupResult;
use crate::workers::sweep::{ProcessTree, Sweeper};
use crate::workers::tree_look::TreeStops;

/// Choices of an embedding application, and of tests.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Walk process trees even where control groups could be used (`MAINSTAY_CGROUP=off`).
    pub no_groups: bool,
    /// Start processes by fork even where clone3 works.
    pub plain_fork: bool,
}

/// Everything the holder knows.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) poll: Poller,
    pub(crate) queue: Arc<EngineQueue>,
    pub(crate) options: EngineOptions,
    pub(crate) nofile: libc::rlimit,
    pub(crate) site: Option<CgroupRoot>,
    pub(crate) setup: Option<HolderSetup>,
    pub(crate) setup_in_flight: Option<Receiver<SetupResult>>,
    pub(crate) dirs: Option<SystemDirs>,
    pub(crate) context: Option<Arc<SpawnContext>>,
    pub(crate) spawner: Option<Spawner>,
    pub(crate) sweeper: Sweeper,
    /// When the sweep that is in flight is not waited for any longer, and what it is about.
    pub(crate) sweeping: Option<(Instant, Vec<SweptRun>)>,
    pub(crate) to_sweep: Vec<ProcessTree>,
    pub(crate) tree_stops: TreeStops,
    /// Main processes that a signal stopped a moment ago: when that is reported, and the signal.
    pub(crate) suspended: BTreeMap<i32, (Instant, i32)>,
    /// Embedded: when main processes are looked at for such a stop.
    pub(crate) suspension_look: Option<Instant>,
    /// A run has ended: what it left behind elsewhere is looked for.
    pub(crate) strays_due: bool,
    pub(crate) tags: Tags,
    /// Children that this process had before it was a holder.
    pub(crate) inherited_children: HashSet<(i32, u64)>,
    pub(crate) roster: Roster,
    pub(crate) instances: HashMap<u32, InstanceResources>,
    pub(crate) leases: FreezeLeases,
    /// Processes that were started and whose place as main process was taken by another.
    pub(crate) former_mains: HashMap<i32, FormerMain>,
    pub(crate) channel: RuntimeChannel,
    pub(crate) up_since: u64,
    pub(crate) supervisor: RuntimeSupervisor,
    /// None: embedded.
    pub(crate) runtime: Option<Box<RuntimeProcess>>,
    pub(crate) service_manager: Option<ServiceManager>,
    pub(crate) reap_again: bool,
    /// Someone unknown ended who may be a child whose spawn is about to be told.
    pub(crate) reap_retry: bool,
    pub(crate) notify_receiver: Option<Arc<NotifyReceiver>>,
    /// What is received before something else happens: until when, instance, generation, process.
    pub(crate) drains: VecDeque<(Instant, u32, u64, i32)>,
    /// The holder is to execute another program.
    pub(crate) reexec: Option<Box<ReexecRequest>>,
    pub(crate) succession: Succession,
}

impl Engine {
    pub(crate) fn new(
        supervisor: RuntimeSupervisor,
        options: EngineOptions,
        nofile: libc::rlimit,
    ) -> io::Result<Engine> {
        let poll = Poller::new()?;
        let queue = Arc::new(EngineQueue::new()?);
        poll.add(queue.fd(), poll_key::QUEUE)?;
        let site = if options.no_groups {
            None
        } else {
            find_cgroup_root()
        };
        Ok(Engine {
            poll,
            sweeper: Sweeper::new(Arc::clone(&queue)),
            queue,
            options,
            nofile,
            site,
            setup: None,
            setup_in_flight: None,
            dirs: None,
            context: None,
            spawner: None,
            sweeping: None,
            to_sweep: Vec::new(),
            tree_stops: TreeStops::default(),
            suspended: BTreeMap::new(),
            suspension_look: None,
            strays_due: false,
            tags: Tags::new()?,
            inherited_children: HashSet::new(),
            roster: Roster::default(),
            instances: HashMap::new(),
            leases: FreezeLeases::default(),
            former_mains: HashMap::new(),
            channel: RuntimeChannel::default(),
            up_since: nanos(libc::CLOCK_MONOTONIC),
            supervisor,
            runtime: None,
            service_manager: None,
            reap_again: false,
            reap_retry: false,
            notify_receiver: None,
            drains: VecDeque::new(),
            reexec: None,
            succession: Succession::default(),
        })
    }

    pub(crate) fn watch(&self, fd: &impl AsFd, about: u64) -> io::Result<()> {
        self.poll.add(fd, about)
    }

    pub(crate) fn connect(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.channel.open(&self.poll, socket)?;
        self.roster.runtime_connected(monotonic());
        Ok(())
    }

    /// Runs until the end; the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut events = PollEvents::<256>::new();
        loop {
            self.after_events();
            if let Some(code) = self.supervisor.exit_code() {
                return self.shut_down(code);
            }
            let timeout = self.timeout();
            self.poll.wait(&mut events, timeout);
            for (what, only_room) in events.iter() {
                self.dispatch(what, only_room);
            }
            if std::mem::take(&mut self.reap_again) {
                self.reap();
                self.take_in_suspensions();
            }
            self.on_deadline();
        }
    }

    fn dispatch(&mut self, what: u64, only_room: bool) {
        let id = (what & !poll_key::KIND) as u32;
        match what & poll_key::KIND {
            // Hang-ups and errors are found by reading too.
            poll_key::CHANNEL if !only_room => self.read_wire(),
            poll_key::CHANNEL => {}
            poll_key::SIGNALS => self.read_signals(),
            poll_key::QUEUE => self.handle_queue(),
            poll_key::READY => self.read_ready(id),
            poll_key::PROCESS => self.reap_one(id),
            poll_key::FORMER => self.reap_former(),
            poll_key::RUNTIME => self.inherited_runtime_ended(),
            poll_key::NOTIFY => {
                if let Some(receiver) = &self.notify_receiver {
                    receiver.clear();
                }
                self.handle_queue();
            }
            poll_key::ACTIVATION => {
                self.on_activation(id, ((what & !poll_key::KIND) >> 32) as usize)
            }
            _ => {}
        }
        self.perform_effects();
    }

    /// What follows from what was taken in.
    fn after_events(&mut self) {
        self.start_sweep();
        self.look_at_trees(Instant::now());
        self.supervise();
        self.reexec_if_due();
        self.update_mirror();
        self.channel.flush(&self.poll);
        self.remove_idle_groups();
        if self.roster.has_deferred_notify() && !self.channel.is_backpressured() {
            self.roster.send_deferred_notify();
            self.perform_effects();
            self.channel.flush(&self.poll);
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
        let mut received = self.channel.receive();
        if received == Received::Bytes {
            self.supervisor.request_received(monotonic());
        }
        while received == Received::Bytes {
            match self.channel.next_request() {
                Ok(Some(request)) => self.perform_request(request),
                Ok(None) => return true,
                Err(end) => received = end,
            }
        }
        if received == Received::End {
            self.drop_channel();
        }
        false
    }

    /// The runtime has closed its end, does not read, or sends what is no request.
    pub(crate) fn drop_channel(&mut self) {
        if self.close_channel() {
            self.supervisor.channel_closed(monotonic());
        }
    }

    pub(crate) fn close_channel(&mut self) -> bool {
        let closed = self.channel.close(&self.poll);
        if closed {
            self.leases.thaw_all();
            self.succession.mirror = None;
            self.roster.runtime_disconnected();
        }
        closed
    }

    /// Tells the runtime, if one listens; what must not be lost is in the instances.
    pub(crate) fn send(&mut self, tell: &HolderMessage) {
        self.send_message_with(tell, Vec::new());
    }

    /// Reports what happened to an instance.
    pub(crate) fn report(&mut self, instance: Instance, generation: u64, what: ProcessEventKind) {
        self.send(&HolderMessage::Process(ProcessEvent {
            instance,
            generation,
            what,
        }));
    }

    /// Reports what happened to the newest run of an instance.
    pub(crate) fn report_current(&mut self, id: u32, what: ProcessEventKind) {
        if let Some((instance, generation)) = self.roster.name_and_generation(id) {
            self.report(instance, generation, what);
        }
    }

    pub(crate) fn send_message_with(&mut self, tell: &HolderMessage, fds: Vec<OwnedFd>) {
        if !self.channel.send(tell, fds) {
            self.drop_channel();
        }
    }

    pub(crate) fn send_takeover(&mut self, instances: Vec<InstanceInfo>) {
        let listeners = self.dirs.as_ref().map(SystemDirs::listeners).transpose();
        let listeners = listeners.ok().flatten().unwrap_or_default();
        let world = HolderMessage::Takeover(Box::new(TakeoverState {
            version: VERSION,
            setup: self.setup.clone(),
            holder_pid: std::process::id(),
            restarts: self.supervisor.restarts(),
            runtime_down_since: nanoseconds(self.supervisor.down_since()),
            ended: self.supervisor.last_exit_text().map(str::to_owned),
            up_since: self.up_since,
            instances,
            fds: listeners.len() as u32,
            sockets: self.kept_sockets(),
            tree: self.tree().to_owned(),
            stopping: self.supervisor.is_stopping(),
            upgrade: self.supervisor.last_upgrade(),
            can_reexec: cfg!(target_os = "linux") && self.runtime.is_some(),
            drops_commands: true,
        }));
        self.channel.start_takeover();
        self.send_message_with(&world, listeners);
        self.supervisor.takeover_sent(monotonic());
    }

    fn kept_sockets(&self) -> Vec<InstanceSockets> {
        let instances = self.instances.values();
        let kept = instances.map(|one| InstanceSockets {
            instance: one.name.clone(),
            sockets: one.sockets.bound(),
        });
        kept.filter(|one| !one.sockets.is_empty()).collect()
    }

    /// How trees are killed here.
    pub(crate) fn tree(&self) -> &'static str {
        let groups = match &self.context {
            Some(context) => context.groups.is_some(),
            None => self.site.is_some(),
        };
        if groups { "cgroup2" } else { "walk" }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.reap_again {
            return Some(Duration::ZERO);
        }
        let machines = [
            self.roster.next_deadline(),
            self.supervisor.next_deadline(),
            self.leases.next_deadline(),
            self.service_manager
                .as_ref()
                .and_then(ServiceManager::next_deadline),
        ];
        let now = monotonic();
        let machines = machines
            .into_iter()
            .flatten()
            .map(|at| at.saturating_sub(now));
        let swept = self.sweeping.as_ref().map(|(at, _)| *at);
        let spawner = self.spawner.as_ref();
        let hang = spawner.and_then(Spawner::hang_deadline);
        let trees = self.tree_stops.deadline();
        let stops = self.suspended.values().map(|(at, _)| *at).min();
        let look = self.suspension_look;
        let reexec = self.reexec.as_ref().and_then(|one| one.next_look());
        let drained = self.drain_deadline();
        let lost = self.next_look_at_lost_children();
        let mine = [hang, swept, trees, stops, look, drained, reexec, lost];
        let mine = mine.into_iter().flatten();
        let mine = mine.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = machines.chain(mine).min()? + Duration::from_millis(1);
        Some(wait.min(Duration::from_hours(1)))
    }

    fn on_deadline(&mut self) {
        self.roster.deadline_passed(monotonic());
        self.leases.expire(monotonic());
        self.expire_drains(Instant::now());
        self.expire_sweep(Instant::now());
        self.expire_suspensions(Instant::now());
        self.look_at_lost_children();
        if let Some(manager) = &mut self.service_manager {
            manager.feed_watchdog(monotonic());
        }
        if let Some(spawner) = &self.spawner {
            spawner.add_thread(Instant::now());
        }
        self.perform_effects();
    }

    /// The instance whose main process this is.
    pub(crate) fn owner(&self, pid: i32) -> Option<u32> {
        self.roster.by_pid(pid.unsigned_abs())
    }
}
