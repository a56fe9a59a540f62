//! What modules say while they run: by notify socket and by readiness pipe.
//! Owns what of it is for the holder: another main process, descriptors to keep.
//! Never believes a word that comes from outside the run's own tree.

use std::time::Instant;

use crate::engine::{Engine, poll_key};
use crate::fd_store::close_in_background;
use crate::instance::InstancePhase;
use crate::kernel::{self, ProcessHandle};
use crate::messages::HolderMessage;
use crate::notify::{NotifyDatagram, has_line, in_tree, is_trusted_sender, receive, value};

/// Datagrams taken from one socket at once.
const AT_ONCE: usize = 64;
/// Rounds of that at the end of a process: the kernel queues some hundreds at most.
const LAST_ROUNDS: usize = 16;
/// How often a run is told that something it asked for is not done.
const REJECTIONS_MAX: u32 = 16;

impl Engine {
    /// False when there is nothing more to read now.
    pub(crate) fn read_notify(&mut self, id: u32) -> bool {
        // A quick run speaks before the news of its birth is read: its word waits for that.
        if self.is_spawning(id) {
            self.handle_queue();
            if self.is_spawning(id) {
                return false;
            }
        }
        for _ in 0..AT_ONCE {
            let notify = self.instances.get(&id).and_then(|one| one.notify.as_ref());
            match notify.and_then(receive) {
                Some(datagram) => self.on_datagram(id, datagram),
                None => return false,
            }
        }
        true
    }

    fn is_spawning(&self, id: u32) -> bool {
        let instance = self.instances.get(&id);
        instance.is_some_and(|one| matches!(one.phase, InstancePhase::Starting(_)))
    }

    /// All that was said before the end of a process; others of its tree may go on for ever.
    pub(crate) fn read_last_notify(&mut self, id: u32) {
        for _ in 0..LAST_ROUNDS {
            if !self.read_notify(id) {
                return;
            }
        }
    }

    fn on_datagram(&mut self, id: u32, datagram: NotifyDatagram) {
        let Some(instance) = self.instances.get(&id) else {
            return;
        };
        let Some(run) = instance.run() else {
            return close_in_background(datagram.fds); // nobody it could come from is left
        };
        if !is_trusted_sender(instance, run, &datagram) || has_line(&datagram.text, "BARRIER=1") {
            return close_in_background(datagram.fds); // which is the answer to a barrier
        }
        let NotifyDatagram { text, fds, pid, .. } = datagram;
        if let Some(pid) = value(&text, "MAINPID") {
            let changed = self.change_main_pid(id, pid);
            self.report_rejected(id, changed.err());
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let name = value(&text, "FDNAME");
        let problem = if has_line(&text, "FDSTOREREMOVE=1") {
            let removed = name.map_or(0, |name| instance.store.remove(&self.poll, name));
            close_in_background(fds);
            let which = name.unwrap_or("a descriptor without FDNAME");
            (removed == 0).then(|| format!("cannot remove {which}: nothing of that name is stored"))
        } else if has_line(&text, "FDSTORE=1") {
            let poll = !has_line(&text, "FDPOLL=0");
            instance.store.put((&self.poll, id), name, fds, poll)
        } else {
            close_in_background(fds);
            None
        };
        self.forward(id, pid, text);
        self.report_rejected(id, problem);
    }

    fn forward(&mut self, id: u32, pid: i32, text: String) {
        let behind = self.is_backpressured();
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.notify_state.merge(&text);
        if behind {
            self.deferred_notify.insert(id); // what lasts of it is told when the runtime reads again
            return;
        }
        let tell = HolderMessage::Notify {
            instance: instance.name.to_string(),
            generation: instance.generation,
            pid: pid.unsigned_abs(),
            text,
        };
        self.send(&tell);
    }

    /// MAINPID: the run is about that process from here on.
    fn change_main_pid(&mut self, id: u32, text: &str) -> Result<(), String> {
        let Some(instance) = self.instances.get(&id) else {
            return Ok(());
        };
        let Some(run) = instance.run() else {
            return Ok(());
        };
        let (name, old) = (&instance.name, run.pid);
        let cannot = |why: &str| {
            format!("cannot make MAINPID={text} the main process of {name}: {why}; it stays {old}")
        };
        let pid = text.parse().ok().filter(|pid| *pid > 0);
        let pid: i32 = pid.ok_or_else(|| cannot("it is no number of a process"))?;
        if pid == old {
            return Ok(());
        }
        let gone = || cannot("there is no such process");
        let pinned = ProcessHandle::new(pid).ok_or_else(gone)?;
        // One that ended after it was named is still the one whose end counts.
        let seen = kernel::process(pid).ok_or_else(gone)?;
        // The exit of the process before may be the next news: this cannot be put off.
        let (begun, patience) = (Instant::now(), run.exec_wait_left.get());
        let is_ours = in_tree(instance, run, pid, begun + patience);
        run.exec_wait_left
            .set(patience.saturating_sub(begun.elapsed()));
        if !is_ours || self.by_pid.contains_key(&pid) {
            return Err(cannot("it does not belong to the module"));
        }
        // Still the one that was pinned first: what was read of that number was read of it.
        if !pinned.signal(0) {
            return Err(gone());
        }
        let watched = self.poll.add(&pinned, poll_key::PROCESS | u64::from(id));
        watched.map_err(|problem| cannot(&format!("it cannot be watched ({problem})")))?;
        let Some(instance) = self.instances.get_mut(&id) else {
            return Ok(());
        };
        let InstancePhase::Running(run) = &mut instance.phase else {
            return Ok(());
        };
        self.by_pid.remove(&old);
        self.by_pid.insert(pid, id);
        let returning = self.former_mains.remove(&pid); // watched as the main process again
        let before = run.pinned.replace(pinned);
        (run.pid, run.start_time) = (pid, seen.start_time);
        let tell = HolderMessage::MainChanged {
            instance: instance.name.to_string(),
            generation: instance.generation,
            pid: pid.unsigned_abs(),
            start_time: seen.start_time,
        };
        let is_child = old == run.first.0;
        let returning = returning.and_then(|former| former.pinned);
        for unwatched in [&before, &returning].into_iter().flatten() {
            self.poll.delete(unwatched); // it was added when it got that place
        }
        if is_child {
            self.watch_former(old, id, before);
        }
        self.send(&tell);
        Ok(())
    }

    fn report_rejected(&mut self, id: u32, problem: Option<String>) {
        let Some((message, instance)) = problem.zip(self.instances.get_mut(&id)) else {
            return;
        };
        let InstancePhase::Running(run) = &mut instance.phase else {
            return;
        };
        run.ignored += 1;
        if run.ignored <= REJECTIONS_MAX {
            let instance = instance.name.to_string();
            self.send(&HolderMessage::NotifyRejected { instance, message });
        }
    }

    pub(crate) fn read_ready(&mut self, id: u32) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let InstancePhase::Running(run) = &mut instance.phase else {
            return;
        };
        let Some(ready) = &run.ready else {
            return;
        };
        let mut bytes = [0u8; 256];
        let is_ready = match nix::unistd::read(ready, &mut bytes) {
            Ok(0) => false,
            Ok(length) if bytes[..length].contains(&b'\n') => true,
            Ok(_) | Err(_) => return,
        };
        self.poll.delete(ready); // it was added when the run began
        run.ready = None;
        if is_ready {
            let pid = run.pid;
            self.forward(id, pid, "READY=1".to_owned());
        }
    }
}
