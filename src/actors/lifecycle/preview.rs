//! What a request or a failure would lead to, in words.
//! Owns the messages. Never decides and never changes anything: policy plays it on a copy.

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{Operation, PreviewStep, Supposition};
use mainstay_policy::recovery::{Decision, Verdict};
use mainstay_protocol::method::{ChangeStep, WhatIfResult};

use super::super::convert;
use super::LifecycleActorState;
use crate::os_text::duration_text;

impl LifecycleActorState {
    pub(super) fn preview(&self, module: ModuleId, operation: Operation) -> Vec<ChangeStep> {
        let steps = self.policy.preview(module, operation);
        steps
            .iter()
            .map(|step| self.step(step, "requested"))
            .collect()
    }

    pub(super) fn what_if(&self, module: ModuleId, supposition: Supposition) -> WhatIfResult {
        let found = self.policy.what_if(self.ctx.os.now(), module, supposition);
        let recovery = found
            .decision
            .as_ref()
            .map(|it| decision_text(it, found.is_endless));
        WhatIfResult {
            steps: found
                .steps
                .iter()
                .map(|step| self.step(step, "supposed"))
                .collect(),
            recovery,
            worst: convert::status(found.worst),
            status: convert::status(found.after.status),
            reason: self.ctx.reason(&found.after),
        }
    }

    fn step(&self, step: &PreviewStep, own: &str) -> ChangeStep {
        ChangeStep {
            module: self.ctx.name(step.module).to_string(),
            action: convert::change_action(step.action),
            reason: if step.because == step.module {
                own.to_owned()
            } else {
                format!("because of {}", &self.ctx.name(step.because))
            },
        }
    }
}

fn decision_text(decision: &Decision, is_endless: bool) -> String {
    let text = match decision.verdict {
        Verdict::Retry { after, strategy } => {
            format!(
                "{} after {}",
                convert::strategy(strategy),
                duration_text(after)
            )
        }
        Verdict::Propose { strategy } => {
            format!(
                "failed until a person accepts {}",
                convert::strategy(strategy)
            )
        }
        Verdict::Done => "none: it ended with a clean exit code".to_owned(),
        Verdict::GiveUp { probation: None } => "failed, not tried again".to_owned(),
        Verdict::GiveUp {
            probation: Some(after),
        } => format!("failed, tried once more after {}", duration_text(after)),
    };
    match is_endless {
        true => format!("{text}; it is never given up (recovery.max_attempts = 0)"),
        false => text,
    }
}
