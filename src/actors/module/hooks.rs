//! The commands around a run: before_start and after_stop, one after the other.
//! Owns the one that is running. Never decides when its time has expired: policy does.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::run::RunEvent;
use mainstay_process::{Instance, Signal};
use mainstay_protocol::EventKind;
use serde_json::json;

use super::{ModuleActorState, ModuleMsg};
use crate::actors::event_recorder::EventBuilder;
use crate::actors::{CONSOLE_TARGET, launching};
use crate::os::CommandResult;

/// A command that is running.
pub(super) struct Hook {
    generation: u64,
    before: bool,
    /// Its place in the list.
    index: usize,
    /// The number that distinguishes it from other commands.
    command_id: u64,
    /// Its stop was requested: no further command follows.
    stop_requested: bool,
}

impl ModuleActorState {
    /// Runs the command at `index` of before_start or after_stop, or reports that all are done.
    pub(super) fn run_hook(&mut self, generation: u64, before: bool, place: usize) {
        let (ctx, id) = (Arc::clone(&self.ctx), self.id);
        let (spec, launch) = (ctx.spec(id), ctx.launch(id));
        let commands = if before {
            &launch.before_start
        } else {
            &launch.after_stop
        };
        if before && place == 0 {
            // A failure is that of the start, after the hooks.
            let _told_by_the_start = ctx.write_secrets(id);
        }
        let Some(argv) = commands.get(place) else {
            return self.hooks_done(generation, before, true);
        };
        let number = ctx.os.now().0;
        let mut spawn = launching::command_request(&ctx, id, argv);
        spawn.generation = number;
        // Policy ends it before; this is for a runtime that died meanwhile.
        spawn.timeout_ms = ms(spec.startup_timeout + spec.shutdown_timeout);
        self.hook = Some(Hook {
            generation,
            before,
            index: place,
            command_id: number,
            stop_requested: false,
        });
        tokio::spawn(async move {
            let outcome = ctx.os.command(spawn).await;
            ctx.actor_refs
                .module(id)
                .cast(ModuleMsg::HookEnded { number, outcome });
        });
    }

    /// A command ended: runs the next one, unless this one failed or its stop was requested.
    pub(super) fn hook_ended(&mut self, number: u64, outcome: &CommandResult) {
        let Some(hook) = self.hook.take_if(|hook| hook.command_id == number) else {
            return;
        };
        let (generation, before) = (hook.generation, hook.before);
        if !outcome.ok {
            self.record_failure(&hook, outcome);
        }
        if hook.stop_requested || (before && !outcome.ok) {
            return self.hooks_done(generation, before, false);
        }
        // What cleans up does so whatever became of the command before it.
        self.run_hook(generation, before, hook.index + 1);
    }

    fn hooks_done(&mut self, generation: u64, before: bool, ok: bool) {
        self.note(if before {
            RunEvent::Prepared { generation, ok }
        } else {
            RunEvent::CleanedUp { generation }
        });
    }

    fn record_failure(&mut self, hook: &Hook, ended: &CommandResult) {
        let launch = self.ctx.launch(self.id);
        let (key, commands) = if hook.before {
            ("before_start", &launch.before_start)
        } else {
            ("after_stop", &launch.after_stop)
        };
        let command = commands.get(hook.index).map(|argv| argv.join(" "));
        let command = command.unwrap_or_default();
        let event = EventBuilder::of(EventKind::ModuleHookFailed)
            .module(self.id, hook.generation)
            .payload(json!({
                "hook": key, "command": command, "text": ended.text, "output": ended.output,
            }));
        self.ctx.recorder.record(event);
        let text = format!("`{command}` failed: {}", ended.text);
        let module = &*self.ctx.name(self.id);
        // How the module itself ended is not hidden by what cleans up after it.
        if !hook.before {
            tracing::warn!(module, "{text}");
        } else {
            tracing::warn!(target: CONSOLE_TARGET, module, "{text}");
            self.publish_exit(hook.generation, None, None, text.clone());
            self.detail = Some(text);
        }
    }

    /// Asks the command that is in flight to end; false if there is none.
    pub(super) fn stop_hook(&mut self, within: Duration) -> bool {
        let command = self.stopped_hook();
        if let Some((command, number)) = &command {
            let signal = Signal::TERMINATE;
            self.ctx.os.stop(command, *number, signal, within);
        }
        command.is_some()
    }

    /// Kills the command that is in flight; false if there is none.
    pub(super) fn kill_hook(&mut self) -> bool {
        let command = self.stopped_hook();
        if let Some((command, number)) = &command {
            self.ctx.os.kill(command, *number);
        }
        command.is_some()
    }

    fn stopped_hook(&mut self) -> Option<(Instance, u64)> {
        let hook = self.hook.as_mut()?;
        hook.stop_requested = true;
        let number = hook.command_id;
        Some((self.ctx.instance(self.id).with_command(number), number))
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
