//! What is passed on of an instance, and of all else: the parts of the state of `reexec`.
//! Owns their form. Fields are only added, with a default.
//! Never interprets them.

use std::collections::BTreeMap;

use mainstay_process::Instance;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machines::{Roster, RuntimeSupervisor};
use crate::messages::HolderSetup;
use crate::reexec::channel::ChannelState;
use crate::reexec::groups::GroupTreeState;
use crate::reexec::instances::InstanceState;
use crate::reexec::kept_fds::{KeptFd, KeptFds};
use crate::reexec::notify_state::NotifyThreadState;
use crate::reexec::output::{LogState, OutputState, StreamState};
use crate::reexec::state::{HolderState, WayBack};
use crate::reexec::system::{DirsState, RuntimeState};
use crate::workers::mark::MarkSecret;
use crate::workers::sweep::KnownRuns;

/// Tags that a holder may have given and not passed on.
const TAGS_SKIPPED: u64 = 1 << 20;

/// What belongs to no instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BaseRecord {
    pub(super) nofile: (u64, u64),
    pub(super) setup: HolderSetup,
    pub(super) dirs: DirsState,
    pub(super) groups: Option<GroupTreeState>,
    pub(super) mark: String,
    pub(super) log_limits: (u64, u32),
    pub(super) runtime: RuntimeState,
    /// The first that was given, and the next.
    pub(super) tags: (u64, u64),
    pub(super) up_since: u64,
    #[serde(default)]
    pub(super) barrier: Option<KeptFd>,
}

/// An instance.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InstanceRecord {
    pub(super) instance: InstanceState,
    pub(super) roster: Value,
    pub(super) streams: Vec<StreamState>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) base: BaseRecord,
    pub(super) supervision: Value,
    pub(super) instances: BTreeMap<u32, InstanceRecord>,
    pub(super) notify: NotifyThreadState<KeptFd>,
}

/// A state, and both machines.
pub(super) type WholeState = (HolderState, Roster, RuntimeSupervisor);

impl Records {
    /// The state from which a holder goes on, at this end of a channel. `runtime`: its process.
    pub(super) fn into_state(
        self,
        channel: ChannelState,
        runtime: KeptFd,
    ) -> Result<WholeState, String> {
        let say = |problem: serde_json::Error| problem.to_string();
        let base = self.base;
        let mut output = OutputState {
            streams: Vec::new(),
            last_key: 0,
            logs: Vec::new(),
            max_bytes: base.log_limits.0,
            keep: base.log_limits.1,
        };
        let (mut instances, mut entries) = (Vec::new(), BTreeMap::new());
        let mut tags = base.tags;
        for (id, record) in self.instances {
            for stream in record.streams {
                output.last_key = output.last_key.max(stream.key);
                output.logs.push(LogState::of_running(&stream));
                output.streams.push(stream);
            }
            tags.1 = tags.1.max(record.instance.tag + 1);
            let entry = serde_json::from_value(record.roster).map_err(say)?;
            entries.insert(id, entry);
            instances.push(record.instance);
        }
        tags.1 += TAGS_SKIPPED;
        let roster = Roster::from_entries(entries);
        let supervisor = serde_json::from_value(self.supervision).map_err(say)?;
        let state = HolderState {
            back: WayBack::new(0, channel.socket),
            kept: KeptFds::default(),
            nofile: base.nofile,
            setup: base.setup,
            dirs: base.dirs,
            groups: base.groups,
            mark: base.mark,
            output,
            notify: (!self.notify.sources.is_empty() || !self.notify.stored.is_empty())
                .then_some(self.notify),
            instances,
            former_mains: Vec::new(),
            roster: Value::Null,
            supervisor: Value::Null,
            runtime: base.runtime.with_handle(Some(runtime)),
            channel,
            tags,
            inherited_children: Vec::new(),
            up_since: base.up_since,
            strays_due: false,
            barrier: base.barrier,
        };
        Ok((state, roster, supervisor))
    }

    /// The runs that go on.
    pub(super) fn known_runs(&self) -> KnownRuns {
        let instances = self.instances.values().map(|one| &one.instance);
        let runs = instances.filter_map(|one| Some((one.tag, one.run.as_ref()?.mark.clone())));
        let (tags, marks) = runs.unzip();
        KnownRuns {
            prefix: MarkSecret(self.base.mark.clone()).prefix(),
            marks,
            first_tag: self.base.tags.0,
            tags,
        }
    }
}

/// The name of the instance that a request is about is what is passed on again after it.
pub(super) fn instance_of(request: &crate::messages::HolderRequest) -> Option<&Instance> {
    use crate::messages::HolderRequest as R;
    match request {
        R::Spawn(spawn) => Some(&spawn.instance),
        R::Freeze(freeze) => Some(&freeze.instance),
        R::Limit(limit) => Some(&limit.instance),
        R::Signal { instance, .. }
        | R::Kill { instance, .. }
        | R::SaveRecord { instance, .. }
        | R::Forget { instance }
        | R::Listen { instance, .. }
        | R::Tap { instance, .. } => Some(instance),
        _ => None,
    }
}
