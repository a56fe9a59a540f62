//! What a module tells a new lifecycle, and what it forgets when it left the plan.
//! Owns the order of the reports. Never changes a run.

use mainstay_policy::run::{RunMachine, RunReport, RunReportKind};

use super::ModuleActorState;

impl ModuleActorState {
    /// What a new lifecycle has to hear; what it knows already changes nothing there.
    pub(super) fn resync(&self) {
        let generation = self.module.generation();
        let started = self.module.pid().map(|pid| RunReportKind::Started { pid });
        let ready = self.module.is_ready().then_some(RunReportKind::Ready);
        let ending = self.module.ending_cause();
        let ending = ending.map(|cause| RunReportKind::Ending { cause });
        let ended = self.ended.filter(|_| self.module.is_idle());
        let reports = [started, ready, ending].into_iter().flatten();
        let reports = reports.map(|what| RunReport { generation, what });
        for report in reports.chain(ended) {
            self.send_report(report);
        }
    }

    /// The module was removed from the plan: the holder starts its generations again.
    pub(super) fn forget(&mut self) {
        (self.module, self.ended, self.published_exit) = (RunMachine::new(), None, 0);
        (self.forensics, self.reloading) = (super::Forensics::default(), None);
    }
}
