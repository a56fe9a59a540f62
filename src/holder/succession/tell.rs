//! What the runtime is sent for a successor: after each turn of the loop, what has changed in it.
//! Owns the order: what an event tells is passed on before the event.
//! Never lets the loop wait: what cannot be had now is sent with a later turn.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mainstay_process::ProcessEventKind;
use serde::Serialize;

use super::mirror::{BASE, Mirror, SUPERVISION};
use super::record::{BaseRecord, InstanceRecord, instance_of};
use crate::engine::Engine;
use crate::fds::MAX_FDS;
use crate::kernel::ProcessHandle;
use crate::messages::{HolderMessage, HolderRequest, MirrorRecord};
use crate::reexec::groups::GroupTreeState;
use crate::reexec::instances::InstanceState;
use crate::reexec::kept_fds::KeptFds;
use crate::reexec::output::StreamState;
use crate::reexec::system::{DirsState, RuntimeState};
use crate::threads::lock;
use crate::workers::claimed_dirs::ClaimedDirs;
use crate::workers::output::Streams;

/// A record, what of its descriptors stays open, and those that were made for it.
struct Draft {
    text: String,
    kept: KeptFds,
    made: Vec<ProcessHandle>,
}

impl Engine {
    /// Performs a request, and remembers what it may have changed.
    pub(crate) fn perform_request(&mut self, request: HolderRequest) {
        let is_first = matches!(request, HolderRequest::Mirror { .. });
        if is_first || self.succession.mirror.is_none() {
            return self.handle_request(request);
        }
        let about = instance_of(&request).cloned();
        let supervision = matches!(
            request,
            HolderRequest::Ready
                | HolderRequest::Stopping { .. }
                | HolderRequest::Reconfigure(_)
                | HolderRequest::Upgrade { .. }
        );
        self.handle_request(request);
        let id = about.and_then(|name| self.roster.id_of(&name));
        if let Some(mirror) = &mut self.succession.mirror {
            mirror.performed += 1;
            mirror.changed.extend(id);
            mirror.changed.extend(supervision.then_some(SUPERVISION));
        }
    }

    /// The runtime wants duplicates of everything from here on.
    pub(crate) fn mirror_requested(&mut self, number: u64) {
        let notify = self.channel.take_fds(1).pop();
        if self.runtime.is_none() {
            return; // in an application it ends with the holder
        }
        let mut mirror = Mirror::new(number, self.nofile.rlim_max);
        mirror.notify = notify;
        mirror.changed.extend(self.instances.keys().copied());
        mirror.changed.extend([BASE, SUPERVISION]);
        self.succession.mirror = Some(mirror);
        self.mirror_notify();
    }

    /// What comes from strangers goes from its own thread to the runtime.
    pub(crate) fn mirror_notify(&self) {
        let mirror = self.succession.mirror.as_ref();
        let socket = mirror.and_then(|mirror| mirror.notify.as_ref());
        if let Some((socket, receiver)) = socket.zip(self.notify_receiver.as_ref()) {
            receiver.mirror_to(socket);
        }
    }

    /// Something has changed that is passed on again with the next turn.
    pub(crate) fn changed(&mut self, id: u32) {
        if let Some(mirror) = &mut self.succession.mirror {
            mirror.changed.insert(id);
        }
    }

    /// What a message is about is passed on before it: a runtime that knows of an exit starts the
    /// next run, and a successor must not take the last one for alive.
    pub(crate) fn mirror_before(&mut self, message: &HolderMessage) {
        let (HolderMessage::Process(event), true) = (message, self.succession.mirror.is_some())
        else {
            return;
        };
        let Some(id) = self.roster.id_of(&event.instance) else {
            return;
        };
        match event.what {
            ProcessEventKind::Output { .. } => {}
            ProcessEventKind::Spawned { .. }
            | ProcessEventKind::SpawnFailed { .. }
            | ProcessEventKind::MainChanged { .. }
            | ProcessEventKind::Exited(_) => self.mirror_instance(id),
            _ => self.changed(id),
        }
    }

    /// A start is passed on before it is made: one that is not recorded would be requested again,
    /// under the same generation.
    pub(crate) fn mirror_before_start(&mut self, id: u32) {
        if self.succession.mirror.is_some() {
            self.mirror_instance(id);
            self.channel.flush(&self.poll);
        }
    }

    /// Sends what has changed, and how many requests are performed.
    pub(crate) fn update_mirror(&mut self) {
        let Some(mirror) = &mut self.succession.mirror else {
            return;
        };
        for id in std::mem::take(&mut mirror.changed) {
            match id {
                BASE => self.mirror_base(),
                SUPERVISION => self.mirror_supervision(),
                _ => self.mirror_instance(id),
            }
        }
        let Some(mirror) = &mut self.succession.mirror else {
            return;
        };
        if mirror.told != mirror.performed {
            mirror.told = mirror.performed;
            let requests = mirror.performed;
            self.send(&HolderMessage::Performed { requests });
        }
    }

    /// This holder exits on purpose: nobody is to go on in its place.
    pub(crate) fn end_mirror(&mut self) {
        if self.succession.mirror.take().is_some() {
            self.send(&HolderMessage::Mirrored(MirrorRecord {
                id: BASE,
                text: None,
                fds: 0,
                notify: false,
            }));
        }
    }

    fn mirror_instance(&mut self, id: u32) {
        // While the thread that reads pipes closes none: another file would get the number.
        let context = self.context.clone();
        let streams = context.as_ref().map(|one| lock(&one.logs.streams));
        let draft = self.instance_draft(id, streams.as_deref());
        self.send_draft(id, draft);
    }

    fn instance_draft(&self, id: u32, all: Option<&Streams>) -> Option<Draft> {
        let roster = serde_json::to_value(self.roster.entry(id)?).ok()?;
        let one = self.instances.get(&id)?;
        let mut kept = KeptFds::by_place();
        let mut instance = InstanceState::of(id, one, &mut kept);
        let streams = one.run.as_ref().and_then(|run| run.stream);
        let streams = all.map(|all| {
            let of_run = streams.map(|key| (key, all.by_key.get(&key)));
            let of_run = of_run.and_then(|(key, one)| StreamState::of(key, one?, &mut kept));
            match streams {
                Some(_) => of_run.into_iter().collect(),
                None => all
                    .by_key
                    .iter()
                    .filter(|(_, one)| one.id == id)
                    .filter_map(|(key, one)| StreamState::of(*key, one, &mut kept))
                    .collect(),
            }
        });
        // Last, for its number is not what tells a change.
        let made = one.run.as_ref().filter(|run| run.pinned.is_none());
        let made = made.and_then(|run| ProcessHandle::new(run.pid));
        if let Some(run) = &mut instance.run {
            run.inherited = true;
            if let Some(made) = &made {
                run.pinned = Some(kept.keep(&made.0));
            }
        }
        let streams = streams.unwrap_or_default();
        let record = InstanceRecord {
            instance,
            roster,
            streams,
        };
        let made = made.into_iter().collect();
        draft(&record, kept, made)
    }

    fn mirror_base(&mut self) {
        // While the thread that keeps the directories changes none.
        let dirs = self.dirs.as_ref().map(|one| one.keeper.clone());
        let claimed = dirs.as_ref().and_then(|one| one.0.dirs.try_lock().ok());
        let claimed = claimed.as_ref().and_then(|one| one.as_ref());
        match claimed.and_then(|claimed| self.base_draft(claimed)) {
            Some(draft) => self.send_draft(BASE, Some(draft)),
            None => self.changed(BASE), // it is written just now, or is not set up
        }
    }

    fn base_draft(&self, claimed: &ClaimedDirs) -> Option<Draft> {
        let (context, setup) = (self.context.as_ref()?, self.setup.clone()?);
        let mut kept = KeptFds::by_place();
        let record = BaseRecord {
            nofile: (self.nofile.rlim_cur, self.nofile.rlim_max),
            setup,
            dirs: DirsState::of(claimed, &mut kept),
            groups: context
                .groups
                .as_ref()
                .map(|one| GroupTreeState::of(one, &mut kept)),
            mark: context.marks.0.clone(),
            log_limits: context.logs.shelf.limits(),
            runtime: RuntimeState::of(self.runtime.as_ref()?, &mut kept)?.with_handle(None),
            tags: (self.tags.given().start, self.tags.given().end),
            up_since: self.up_since,
            barrier: context.barrier.as_ref().map(|one| kept.keep(&one.read)),
        };
        draft(&record, kept, Vec::new())
    }

    fn mirror_supervision(&mut self) {
        let draft = draft(&self.supervisor, KeptFds::by_place(), Vec::new());
        self.send_draft(SUPERVISION, draft);
    }

    fn send_draft(&mut self, id: u32, draft: Option<Draft>) {
        let Some(mirror) = &mut self.succession.mirror else {
            return;
        };
        let Some(Draft { text, kept, made }) = draft else {
            if mirror.forget(id) {
                let text = None;
                self.send(&HolderMessage::Mirrored(MirrorRecord {
                    id,
                    text,
                    fds: 0,
                    notify: false,
                }));
            }
            return;
        };
        let raw = kept.raw();
        let mut sum = DefaultHasher::new();
        (&text, &raw[..raw.len() - made.len()]).hash(&mut sum);
        let to_send = match raw.len() {
            0..=MAX_FDS => mirror.note(id, sum.finish(), raw.len()),
            _ => None,
        };
        let duplicates: std::io::Result<Vec<OwnedFd>> = match to_send {
            Some(true) => raw.iter().map(|raw| duplicate(*raw)).collect(),
            Some(false) => return,
            None => Err(std::io::ErrorKind::QuotaExceeded.into()),
        };
        match duplicates {
            Ok(fds) => {
                let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
                let record = MirrorRecord {
                    id,
                    text: Some(text),
                    fds: count,
                    notify: false,
                };
                self.send_message_with(&HolderMessage::Mirrored(record), fds);
            }
            Err(_) => self.end_mirror(), // better none than one that misses something
        }
    }
}

fn draft(record: &impl Serialize, kept: KeptFds, made: Vec<ProcessHandle>) -> Option<Draft> {
    let text = serde_json::to_string(record).ok()?;
    Some(Draft { text, kept, made })
}

#[expect(
    unsafe_code,
    reason = "numbers of descriptors that the engine has open"
)]
fn duplicate(raw: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: the engine, or the draft, has it open while this is called.
    let fd = unsafe { BorrowedFd::borrow_raw(raw.as_raw_fd()) };
    fd.try_clone_to_owned()
}
