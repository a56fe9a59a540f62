//! Forensics of a run: when it is captured, and when that is written down.
//! Owns the stop signal that waits for a capture, and the capture that waits for a kill.
//! Never delays a kill: the signal waits for `CAPTURE_TIMEOUT` at most, inside of the stop's time.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::MonoTime;
use mainstay_protocol::EventKind;
use serde_json::json;

use super::super::event_recorder::EventBuilder;
use super::{ModuleActorState, ModuleMsg};
use crate::os::LiveProcess;
use crate::os::forensics::{self, Bundle, CaptureRequest, Retention};

/// A run that is being stopped is captured this long before it is killed, or for a quarter of the
/// time that it has if that is shorter.
const LEAD_MAX: Duration = Duration::from_secs(1);
/// A stop that has less time is not captured.
const LEAD_MIN: Duration = Duration::from_millis(20);
/// Why a stop by force is captured.
const BY_FORCE: &str = "a stop by force";

/// What is known of the capture of the current run.
#[derive(Debug, Default)]
pub(super) struct Forensics {
    /// A run that hangs or is over a limit, and why it is stopped.
    hangs: Option<(u64, &'static str)>,
    /// The stop signal that waits for the capture: of which run, within which time, since when.
    held: Option<(u64, Duration, MonoTime)>,
    /// What was captured of a run that may yet stop by itself.
    captured: Option<(u64, Bundle)>,
    /// The run is captured, or was.
    of: u64,
    /// The run was killed: what is captured is written down.
    killed: u64,
}

impl ModuleActorState {
    /// Why a run is stopped that hangs.
    pub(super) fn note_hang(&mut self, generation: u64, reason: &'static str) {
        self.forensics.hangs = Some((generation, reason));
    }

    /// Whether the stop signal has to wait: a run that hangs is captured first.
    pub(super) fn holds_signal(&mut self, generation: u64, within: Duration) -> bool {
        let told = self.forensics.hangs.take();
        let told = told
            .filter(|(of, _)| *of == generation)
            .map(|(_, reason)| reason);
        let Some(reason) = told.or_else(|| self.module.hang_reason()) else {
            self.capture_before_kill(generation);
            return false;
        };
        // The signal comes in time too when the capture takes all of its own.
        if within < forensics::CAPTURE_TIMEOUT * 2 {
            self.capture_before_kill(generation);
            return false;
        }
        if !self.start_capture(generation, reason) {
            return false;
        }
        self.forensics.killed = generation;
        self.forensics.held = Some((generation, within, self.ctx.os.now()));
        true
    }

    /// Captures a run shortly before it is killed, if it is still there then.
    fn capture_before_kill(&self, generation: u64) {
        let left = self.module.deadline().map(|at| at.since(self.ctx.os.now()));
        let left = left.unwrap_or_default();
        let lead = LEAD_MAX.min(left / 4);
        if lead < LEAD_MIN || self.capturable(generation).is_none() {
            return;
        }
        let (ctx, id) = (Arc::clone(&self.ctx), self.id);
        tokio::spawn(async move {
            tokio::time::sleep(left - lead).await;
            ctx.actor_refs
                .module(id)
                .cast(ModuleMsg::CaptureDue { generation });
        });
    }

    pub(super) fn capture_due(&mut self, generation: u64) {
        if self.module.is_stopping() && self.forensics.of != generation {
            self.start_capture(generation, BY_FORCE);
        }
    }

    /// Its process, if it is that of this run and bundles are kept.
    fn capturable(&self, generation: u64) -> Option<LiveProcess> {
        let live = self.ctx.os.live_process(&self.ctx.instance(self.id))?;
        let is_kept = self.ctx.configuration().system.forensics.keep > 0;
        (is_kept && live.generation == generation && live.process().is_some()).then_some(live)
    }

    fn start_capture(&mut self, generation: u64, reason: &'static str) -> bool {
        let Some(process) = self.capturable(generation) else {
            return false;
        };
        self.forensics.of = generation;
        self.forensics.captured = None;
        let request = CaptureRequest {
            instance: self.ctx.instance(self.id).as_str().to_owned(),
            process,
            reason,
            log: self.ctx.log_file(self.id),
            at_ms: self.ctx.os.wall_clock().0,
        };
        let (ctx, id) = (Arc::clone(&self.ctx), self.id);
        tokio::spawn(async move {
            let bundle = ctx.os.capture(request).await;
            let msg = ModuleMsg::Captured {
                generation,
                reason,
                bundle,
            };
            ctx.actor_refs.module(id).cast(msg);
        });
        true
    }

    pub(super) fn captured(
        &mut self,
        generation: u64,
        reason: &'static str,
        bundle: Option<Bundle>,
    ) {
        if let Some((of, within, since)) = self.forensics.held.take()
            && of == generation
            && self.module.is_stopping()
        {
            let passed = self.ctx.os.now().since(since);
            self.send_stop_signal(generation, within.saturating_sub(passed));
        }
        let Some(bundle) = bundle else {
            return;
        };
        match self.forensics.killed == generation {
            true => self.write_down(generation, reason, bundle),
            false => self.forensics.captured = Some((generation, bundle)),
        }
    }

    /// A run is killed: what was captured of it is worth keeping.
    pub(super) fn killed(&mut self, generation: u64) {
        self.forensics.held = None;
        self.forensics.killed = generation;
        let captured = self.forensics.captured.take();
        if let Some((of, bundle)) = captured
            && of == generation
        {
            self.write_down(generation, BY_FORCE, bundle);
        }
    }

    fn write_down(&self, generation: u64, reason: &'static str, bundle: Bundle) {
        let (ctx, id) = (Arc::clone(&self.ctx), self.id);
        let system = &ctx.configuration().system;
        let folder = system.state_dir.join("forensics");
        let retention = Retention {
            keep: system.forensics.keep as usize,
            max_bytes: system.forensics.max_bytes,
        };
        let name = format!("{}-{generation}-{}", ctx.name(id), ctx.os.wall_clock().0);
        tokio::task::spawn_blocking(move || {
            let entry = EventBuilder::of(EventKind::ForensicsWritten).module(id, generation);
            match forensics::write(&folder, &name, &bundle, retention) {
                Ok((path, bytes)) => {
                    let payload = json!({ "path": path, "reason": reason, "bytes": bytes });
                    ctx.recorder.record(entry.payload(payload));
                }
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!("cannot write forensics into {folder}: {error}");
                }
            }
        });
    }
}
