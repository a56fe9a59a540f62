//! The hand-over: the holder at rest, its threads held, its state written down, the exec.
//! Owns the order of these steps.
//! Never changes anything before the exec that goes on after a failed one.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::channel::ChannelState;
use super::groups::GroupTreeState;
use super::instances::{FormerMainState, InstanceState};
use super::kept_fds::KeptFds;
use super::output::OutputState;
use super::request::{CLOSING, Obstacle, Phase, ReexecRequest};
use super::state::{HolderState, WayBack};
use super::system::{DirsState, RuntimeState};
use super::{check, execute};
use crate::engine::Engine;
use crate::engine_queue::EngineEvent;
use crate::messages::HolderMessage;
use crate::spawn::spawn_job::SpawnContext;
use crate::workers::claimed_dirs::ClaimedDirs;
use crate::workers::foreign_fd::is_closing;

/// How long modules that write may wait for the disk of their logs.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(50);

impl Engine {
    /// The runtime wants the program executed whose descriptor came with the request.
    pub(crate) fn reexec_requested(&mut self, number: u64) {
        let program = self.channel.take_fds(1).pop();
        match program {
            Some(_) if self.runtime.is_none() => {
                self.answer(number, "the holder is a part of an application");
            }
            Some(_) if self.reexec.is_some() => {
                self.answer(
                    number,
                    "another request to execute a program is not answered yet",
                );
            }
            Some(program) => {
                self.reexec = Some(Box::new(ReexecRequest::new(number, program)));
            }
            None => self.answer(number, "no program came with the request"),
        }
    }

    fn answer(&mut self, number: u64, problem: &str) {
        let problem = Some(format!("cannot execute another holder: {problem}"));
        self.send(&HolderMessage::Reexecuted { number, problem });
    }

    /// Whether the program can go on from the state of this holder.
    pub(crate) fn on_reexec_checked(&mut self, problem: Option<String>) {
        match (problem, &mut self.reexec) {
            (None, Some(request)) => request.checked(),
            (Some(problem), Some(request)) => {
                let number = request.number;
                self.reexec = None;
                self.answer(number, &format!("the program is refused: {problem}"));
            }
            (_, None) => {}
        }
    }

    /// Takes the next step of a request. The last one does not return.
    pub(crate) fn reexec_if_due(&mut self) {
        let began = Instant::now();
        let is_due = |one: &mut Box<ReexecRequest>| one.next_look().is_some_and(|at| at <= began);
        let Some(mut request) = self.reexec.take_if(is_due) else {
            return;
        };
        match self.advance(&request).err() {
            None => {
                request.phase = Phase::Checking;
                self.reexec = Some(request);
            }
            Some(Obstacle::Busy(_)) if Instant::now() < request.until => {
                let now = Instant::now();
                request.looked(now, now - began);
                self.reexec = Some(request);
            }
            Some(Obstacle::Busy(why)) => {
                self.answer(
                    request.number,
                    &format!("it is not at rest: {why}; try it again"),
                );
            }
            Some(Obstacle::Problem(problem)) => self.answer(request.number, &problem),
        }
        self.handle_queue(); // what woke the loop for it was taken in with the descriptors
    }

    /// Starts the check of the program, or executes it. On an error everything is as it was.
    fn advance(&mut self, request: &ReexecRequest) -> Result<(), Obstacle> {
        self.check_rest()?;
        let (Some(context), Some(dirs)) = (self.context.clone(), &self.dirs) else {
            return Err(Obstacle::busy("it is not set up"));
        };
        let keeper = dirs.keeper.clone();
        let receiver = self.notify_receiver.clone();
        let notify = receiver.map(|one| one.pause()).transpose()?;
        let dirs = keeper.pause(SETTLE_TIMEOUT);
        let dirs = dirs.ok_or(Obstacle::busy("files of the system are written"))?;
        let Some(claimed) = &*dirs else {
            return Err(Obstacle::busy("it ends"));
        };
        let mut kept = KeptFds::default();
        let (notify, _held) = notify.map(|one| one.into_state(&mut kept)).unzip();
        let streams = context.logs.pause();
        let logs = context.logs.shelf.settle(SETTLE_TIMEOUT)?;
        self.take_in_last_events()?;
        let output = OutputState::of(&streams, &logs, &mut kept)?;
        let program = execute::own_program()?;
        let back = WayBack::new(request.number, kept.keep(&program));
        let mut state = self.state(back, (&context, claimed), output, &mut kept)?;
        state.notify = notify;
        state.kept = kept;
        let text = serde_json::to_vec(&state).map_err(std::io::Error::from)?;
        if request.phase == Phase::New {
            check::start(request.program.try_clone()?, &text, &self.queue)?;
            return Ok(());
        }
        state.kept.pass_on(true)?;
        let problem = execute::execute(request.program.as_raw_fd(), &text);
        state.kept.pass_on(false)?;
        Err(problem.into())
    }

    /// Whether nothing is in flight that only this program could finish.
    fn check_rest(&self) -> Result<(), Obstacle> {
        let is_spawning = self.roster.spawns_in_flight() > 0
            || self.spawner.as_ref().is_some_and(|one| !one.is_idle());
        let is_reaping = self.reap_again || self.reap_retry || !self.drains.is_empty();
        let is_sweeping = self.sweeping.is_some() || !self.to_sweep.is_empty();
        let is_stopping = !self.tree_stops.ids.is_empty() || self.tree_stops.in_flight.is_some();
        let is_suspended = !self.suspended.is_empty() || self.leases.next_deadline().is_some();
        let obstacles = [
            (self.setup_in_flight.is_some(), "it is not set up"),
            (!self.roster.is_taken_over(), "no runtime is connected"),
            (self.supervisor.is_stopping(), "it is stopping"),
            (
                self.supervisor.is_upgrading(),
                "the runtime is being upgraded",
            ),
            (is_spawning, "a process is being started"),
            (
                self.roster.has_pending_exit(),
                "the exit of a process is not reported yet",
            ),
            (is_reaping, "a process has ended"),
            (is_sweeping, "what a process left behind is being killed"),
            (is_stopping, "a process tree is being stopped"),
            (is_suspended, "a process is suspended"),
            (is_closing(), CLOSING),
            (
                self.roster.has_deferred_notify(),
                "the runtime does not read",
            ),
            (
                crate::kernel::has_lost_looks(),
                "a look at a process does not return",
            ),
        ];
        let found = obstacles.into_iter().find(|(is_there, _)| *is_there);
        found.map_or(Ok(()), |(_, why)| Err(Obstacle::busy(why)))
    }

    /// What the threads reported before they were held. They hold locks: of those events that need
    /// them none is taken in.
    fn take_in_last_events(&mut self) -> Result<(), Obstacle> {
        let is_plain = |event: &EngineEvent| {
            matches!(
                event,
                EngineEvent::Output(_)
                    | EngineEvent::OutputFlushed { .. }
                    | EngineEvent::OutputDropped { .. }
                    | EngineEvent::NotifyRejected { .. }
            )
        };
        let (plain, others): (Vec<_>, Vec<_>) = self.queue.take().into_iter().partition(is_plain);
        plain.into_iter().for_each(|event| self.handle_event(event));
        if !others.is_empty() {
            others.into_iter().for_each(|event| self.queue.send(event));
            return Err(Obstacle::busy("events are waiting"));
        }
        self.channel.flush(&self.poll);
        Ok(())
    }

    fn state(
        &self,
        back: WayBack,
        (context, dirs): (&SpawnContext, &ClaimedDirs),
        output: OutputState,
        kept: &mut KeptFds,
    ) -> Result<HolderState, Obstacle> {
        let gone = || Obstacle::busy("no runtime is connected");
        let runtime = self
            .runtime
            .as_ref()
            .and_then(|one| RuntimeState::of(one, kept));
        let instances = self.instances.iter();
        let instances = instances.map(|(id, one)| InstanceState::of(*id, one, kept));
        let instances = instances.collect();
        let former_mains = self.former_mains.iter();
        let former_mains = former_mains.map(|(pid, one)| FormerMainState::of(*pid, one, kept));
        let former_mains = former_mains.collect();
        let groups = context.groups.as_ref();
        let groups = groups.map(|one| GroupTreeState::of(one, kept));
        Ok(HolderState {
            back,
            nofile: (self.nofile.rlim_cur, self.nofile.rlim_max),
            setup: self.setup.clone().ok_or_else(gone)?,
            dirs: DirsState::of(dirs, kept),
            groups,
            mark: context.marks.0.clone(),
            output,
            notify: None,
            instances,
            former_mains,
            roster: serde_json::to_value(&self.roster).map_err(std::io::Error::from)?,
            supervisor: serde_json::to_value(&self.supervisor).map_err(std::io::Error::from)?,
            runtime: runtime.ok_or_else(gone)?,
            channel: ChannelState::of(&self.channel, kept)?,
            tags: (self.tags.given().start, self.tags.given().end),
            inherited_children: self.inherited_children.iter().copied().collect(),
            up_since: self.up_since,
            strays_due: self.strays_due,
            barrier: context.barrier.as_ref().map(|one| kept.keep(&one.read)),
            kept: KeptFds::default(),
        })
    }
}
