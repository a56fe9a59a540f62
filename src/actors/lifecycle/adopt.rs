//! What a new lifecycle starts from: records, runs that are out, and ends that were not judged.
//! Owns their order: all modules first, then the ends, then the system goes on.
//! Never decides what follows: policy does.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{AdoptedProcess, LifecycleEvent};
use mainstay_policy::run::{self, RunReport};
use mainstay_policy::states;

use super::LifecycleActorState;
use super::requests::OpenRequest;
use crate::actors::module_memory::ModuleMemory;
use crate::actors::{feature_files, record};

/// What is known of one module from before.
#[derive(Debug)]
pub(crate) struct AdoptedModule {
    /// Which one.
    pub(crate) module: ModuleId,
    /// What was recorded.
    pub(crate) record: Option<String>,
    /// Its process, if it lives.
    pub(crate) alive: Option<AdoptedProcess>,
    /// Which run ended while no runtime was connected, and how.
    pub(crate) ended: Option<(u64, run::Exit)>,
}

impl LifecycleActorState {
    /// Takes over every module, then judges the ends that no runtime saw.
    pub(super) fn adopt(&mut self, modules: Vec<AdoptedModule>) {
        let now = self.ctx.os.now();
        let mut ends = Vec::new();
        self.keep_former(&modules);
        for before in modules {
            let AdoptedModule {
                module,
                record,
                alive,
                ended,
            } = before;
            if let Some(text) = record.as_deref() {
                self.remember(module, &ModuleMemory::decode(text));
            }
            let record = record.as_deref().and_then(record::decode);
            if let Some(record) = &record {
                self.modules[module.index()].since.0 = record.state;
            }
            // Without a record there is nothing to go on from: it is as in a fresh plan.
            let mut record = record.unwrap_or_else(|| self.policy.record(module));
            // Of one that has ended the actor of the module reports the end.
            let is_over = ended.is_some_and(|(generation, _)| generation == record.generation);
            record.ending &= !is_over;
            self.policy.apply(
                now,
                LifecycleEvent::Adopted {
                    module,
                    record,
                    alive,
                },
            );
            let degraded = self.policy.view(module).degraded;
            feature_files::set_degraded(&self.ctx, module, degraded);
            self.adopt_removed(module);
            if let Some((generation, exit)) = ended {
                let what = match alive {
                    None => run::RunReportKind::Ended(run::RunEnd::Exited(exit)),
                    // It is cleaned up after: nothing starts against it meanwhile.
                    Some(run) if run.generation == generation => run::RunReportKind::Ending {
                        cause: states::Cause::Exit,
                    },
                    Some(_) => continue,
                };
                let report = RunReport { generation, what };
                ends.push(LifecycleEvent::Reported { module, report });
            }
        }
        // After all of them: stop propagation depends on the states of the others.
        for end in ends {
            self.policy.apply(now, end);
        }
        self.policy.apply(now, LifecycleEvent::Resume);
    }

    /// Takes over what a record says beside policy's part of it.
    fn remember(&mut self, module: ModuleId, memory: &ModuleMemory) {
        if let Some(since) = memory.since {
            self.modules[module.index()].since.1 = since;
        }
        self.ctx.recorder.restore_newest(module, memory.last_seq);
        self.modules[module.index()]
            .reason
            .clone_from(&memory.reason);
        self.modules[module.index()]
            .held_by
            .clone_from(&memory.held_by);
        let because = memory.started_because.as_deref();
        self.modules[module.index()].started_because = because.map(Arc::from);
        let Some(requester) = &memory.requester else {
            return;
        };
        self.requesters.insert(module, requester.clone());
        if let Some((seq, operation, generation)) = memory.request {
            let open = OpenRequest::adopted(seq, operation, requester.clone(), generation);
            self.requests.modules.insert(module, open);
        }
    }
}
