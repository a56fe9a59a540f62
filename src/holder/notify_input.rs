//! What modules report while they run: by sd_notify, received on a thread, and by readiness pipe.
//! Owns what of it is for the loop: another main process.
//! Never reads what a module sent before its sender was verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_process::ProcessEventKind;

use crate::engine::Engine;
use crate::instance::RunningProcess;
use crate::kernel::{self, Cgroup, ProcessHandle};
use crate::poll_key;
use crate::workers::membership::RunTree;
use crate::workers::notify_receiver::NotifyReceiver;
use crate::workers::reports::{NewMain, NotifyMessage};

/// How often a run is told that something it asked for is not done.
const REJECTIONS_MAX: u32 = 16;
/// Bytes that a readiness pipe may carry before its newline.
const READY_LINE_BYTES: usize = 4096;
/// How long what a run sent may hold up its end.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

impl Engine {
    /// The thread that receives, started with the first run that needs it.
    pub(crate) fn start_notify_receiver(&mut self) -> std::io::Result<()> {
        if let (None, Some(context)) = (&self.notify_receiver, &self.context) {
            let receiver = NotifyReceiver::start(&self.queue, context.notify_folder.clone())?;
            self.watch(&receiver, poll_key::NOTIFY)?;
            self.notify_receiver = Some(Arc::new(receiver));
            self.mirror_notify();
        }
        Ok(())
    }

    /// Begins to receive what a run sends.
    pub(crate) fn open_notify(&mut self, id: u32) {
        let instance = self.instances.get_mut(&id);
        let run = instance.and_then(|one| Some((one.run.as_mut()?, &one.group, one.tag)));
        if let (Some(receiver), Some((run, group, tag))) = (&self.notify_receiver, run) {
            run.notifies = true;
            let tree = RunTree {
                first: run.first,
                main: (run.pid, run.start_time),
                mark: run.mark.clone(),
                tag,
                cgroup: group.as_deref().map(Cgroup::view),
            };
            receiver.open(id, run.generation, tree);
        }
    }

    /// Has everything received that a run sent until now; false when it sends nothing.
    /// [`Engine::on_notify_drained`] follows. `pid`: the process whose end waits for it, or 0.
    pub(crate) fn drain_notify(&mut self, id: u32, pid: i32) -> bool {
        let run = self.instances.get(&id).and_then(|one| one.run.as_ref());
        let run = run.filter(|run| run.notifies);
        let Some((run, receiver)) = run.zip(self.notify_receiver.as_ref()) else {
            return false;
        };
        let generation = run.generation;
        let at = Instant::now() + DRAIN_TIMEOUT;
        self.drains.push_back((at, id, generation, pid));
        receiver.drain(id, generation, pid);
        true
    }

    /// Whether all is known that a run sent before this process of it ended: it may have named
    /// another main process. If not, it is requested.
    pub(crate) fn is_drained(&mut self, id: u32, pid: i32) -> bool {
        let instance = self.instances.get(&id);
        match instance
            .and_then(|one| one.run.as_ref())
            .map(|run| run.drained)
        {
            Some(Some((of, done))) if of == pid => return done,
            Some(_) => {}
            None => return true,
        }
        let requested = self.drain_notify(id, pid);
        if let Some(run) = self.running(id) {
            run.drained = Some((pid, !requested));
        }
        !requested
    }

    fn running(&mut self, id: u32) -> Option<&mut RunningProcess> {
        self.instances.get_mut(&id)?.run.as_deref_mut()
    }

    pub(crate) fn on_notify_drained(&mut self, id: u32, generation: u64, pid: i32) {
        let what = (id, generation, pid);
        let place = self
            .drains
            .iter()
            .position(|(_, a, b, c)| (*a, *b, *c) == what);
        if place.and_then(|place| self.drains.remove(place)).is_none() {
            return; // it came too late
        }
        let Some(instance) = self.instances.get(&id) else {
            return;
        };
        if pid == 0 {
            let instance = instance.name.clone();
            return self.report(instance, generation, ProcessEventKind::NotifyDrained);
        }
        match self.running(id).filter(|run| run.generation == generation) {
            Some(run) => run.drained = Some((pid, true)),
            None => return,
        }
        self.reap_again = self.runtime.is_some();
        self.reap_one(id);
        self.reap_former();
    }

    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        self.drains.front().map(|(at, ..)| *at)
    }

    /// What was not received in time does not hold up an end any longer.
    pub(crate) fn expire_drains(&mut self, now: Instant) {
        while let Some((at, id, generation, pid)) = self.drains.front().copied() {
            if at > now {
                return;
            }
            self.on_notify_drained(id, generation, pid);
        }
    }

    pub(crate) fn on_notify(&mut self, message: NotifyMessage) {
        let (id, generation) = (message.id, message.generation);
        let run = self.running(id);
        if run.is_none_or(|run| run.generation != generation) {
            return; // nothing it could come from is left
        }
        if let Some(main) = message.new_main {
            let changed = self.change_main_pid(id, &main);
            self.report_rejected(id, generation, changed.err());
        }
        for rejected in message.rejected {
            self.report_rejected(id, generation, Some(rejected));
        }
        self.forward(id, message.pid, message.text);
    }

    fn forward(&mut self, id: u32, pid: i32, text: String) {
        let lags = self.channel.is_backpressured();
        self.roster
            .notify_received(id, pid.unsigned_abs(), text, lags);
    }

    /// MAINPID: the run is about that process from here on.
    fn change_main_pid(&mut self, id: u32, main: &NewMain) -> Result<(), String> {
        let NewMain { pid, start_time } = *main;
        let cannot = |why: &str| format!("cannot make MAINPID={pid} the main process: {why}");
        if self.owner(pid).is_some() {
            return Err(cannot("it is one already"));
        }
        let run = self.instances.get(&id).and_then(|one| one.run.as_ref());
        if run.is_some_and(|run| run.main_exit.is_some()) {
            return Err(cannot("the run is being stopped"));
        }
        // Behind the handle: what is seen then is what the handle names.
        let handle = ProcessHandle::new(pid);
        let is_same = kernel::process(pid).is_some_and(|seen| seen.start_time == start_time);
        let handle = handle.filter(|_| is_same);
        let handle = handle.ok_or_else(|| cannot("there is no such process"))?;
        let watched = self.poll.add(&handle, poll_key::PROCESS | u64::from(id));
        watched.map_err(|problem| cannot(&format!("it cannot be watched ({problem})")))?;
        let Some(instance) = self.instances.get_mut(&id) else {
            return Ok(());
        };
        let Some(run) = &mut instance.run else {
            return Ok(());
        };
        let old = run.pid;
        self.roster.main_changed(id, pid.unsigned_abs(), start_time);
        let returning = self.former_mains.remove(&pid); // watched as the main process again
        let before = run.pinned.replace(handle);
        (run.pid, run.start_time) = (pid, start_time);
        let is_child = old == run.first.0;
        let returning = returning.and_then(|former| former.pinned);
        for unwatched in [&before, &returning].into_iter().flatten() {
            self.poll.delete(unwatched); // it was added when it got that place
        }
        if is_child {
            self.watch_former(old, id, before);
        }
        Ok(())
    }

    pub(crate) fn report_rejected(&mut self, id: u32, generation: u64, problem: Option<String>) {
        let Some((message, instance)) = problem.zip(self.instances.get_mut(&id)) else {
            return;
        };
        let Some(run) = &mut instance.run else {
            return;
        };
        run.ignored += 1;
        if run.generation == generation && run.ignored <= REJECTIONS_MAX {
            let name = instance.name.clone();
            self.report(
                name,
                generation,
                ProcessEventKind::NotifyRejected { message },
            );
        }
    }

    pub(crate) fn read_ready(&mut self, id: u32) {
        let run = self.instances.get_mut(&id).and_then(|one| one.run.as_mut());
        let Some(run) = run else {
            return;
        };
        let Some(ready) = &run.ready else {
            return;
        };
        let mut bytes = [0u8; READY_LINE_BYTES];
        let Ok(length) = nix::unistd::read(ready, &mut bytes) else {
            return;
        };
        let is_ready = bytes[..length].contains(&b'\n');
        run.ready_bytes += length;
        let is_too_long = run.ready_bytes >= READY_LINE_BYTES;
        if !is_ready && !is_too_long && length > 0 {
            return;
        }
        self.poll.delete(ready); // it was added when the run began
        run.ready = None;
        let (pid, generation) = (run.pid, run.generation);
        if is_ready {
            self.forward(id, pid, "READY=1".to_owned());
        } else if is_too_long {
            let message = format!(
                "cannot read its readiness: it wrote {READY_LINE_BYTES} bytes without a newline"
            );
            self.report_rejected(id, generation, Some(message));
        }
    }
}
