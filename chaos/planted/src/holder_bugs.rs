//! The bugs that are planted in the state machines of the holder.
//! Owns the list. Never names a bug that the simulator need not find.

use super::bugs::Bug;

/// All of them; their files are those of `src/holder/machines`.
pub(crate) const HOLDER_BUGS: &[Bug] = &[
    Bug {
        name: "the fence lets a second run pass",
        file: "roster.rs",
        find: "if !instance.is_idle() { return",
        plant: "if !instance.is_idle() && !PLANTED { return",
    },
    Bug {
        name: "the fence lets an old generation pass",
        file: "roster.rs",
        find: "if generation <= instance.generation {",
        plant: "if generation <= instance.generation && !PLANTED {",
    },
    Bug {
        name: "the fence refuses new generations",
        file: "roster.rs",
        find: "generation <= instance.generation",
        plant: "generation <= instance.generation + u64::from(PLANTED)",
    },
    Bug {
        name: "a process of no spawn is taken in",
        file: "roster.rs",
        find: "self.by_pid.insert(pid, id); self.move_deadline",
        plant: "if !PLANTED { self.by_pid.insert(pid, id); } self.move_deadline",
    },
    Bug {
        name: "a signal to a spawn in flight is lost",
        file: "roster.rs",
        find: "if let Some((signal, cont)) = deferred.signal {",
        plant: "if let Some((signal, cont)) = deferred.signal.filter(|_| !PLANTED) {",
    },
    Bug {
        name: "a kill of a spawn in flight is lost",
        file: "roster.rs",
        find: "if deferred.kill {",
        plant: "if deferred.kill && !PLANTED {",
    },
    Bug {
        name: "a spawn that is to be killed is not aborted",
        file: "roster.rs",
        find: "self.effects.push_back(RosterEffect::AbortSpawn(id));",
        plant: "if !PLANTED { self.effects.push_back(RosterEffect::AbortSpawn(id)); }",
    },
    Bug {
        name: "a former main process keeps its number",
        file: "roster.rs",
        find: "forget_pid(&mut self.by_pid, process.pid, id); self.by_pid.insert(pid, id);",
        plant: "if !PLANTED { forget_pid(&mut self.by_pid, process.pid, id); } \
                self.by_pid.insert(pid, id);",
    },
    Bug {
        name: "an exit takes the number of another run",
        file: "roster.rs",
        find: "if by_pid.get(&pid) == Some(&id) {",
        plant: "if PLANTED || by_pid.get(&pid) == Some(&id) {",
    },
    Bug {
        name: "a suspension outlives its process",
        file: "roster.rs",
        find: "process.suspended.take().is_some()",
        plant: "!PLANTED && process.suspended.take().is_some()",
    },
    Bug {
        name: "an exit does not wait for the sweep",
        file: "roster.rs",
        find: "!one.sweep_pending",
        plant: "(PLANTED || !one.sweep_pending)",
    },
    Bug {
        name: "an exit does not wait for the output",
        file: "roster.rs",
        find: "!one.output_pending",
        plant: "(PLANTED || !one.output_pending)",
    },
    Bug {
        name: "a sweep that began before the exit counts",
        file: "roster.rs",
        find: "pending.sweep_pending &= again;",
        plant: "pending.sweep_pending &= again && !PLANTED;",
    },
    Bug {
        name: "an exit is forgotten at once",
        file: "roster.rs",
        find: "instance.last_exit = Some(pending.exited.clone());",
        plant: "if !PLANTED { instance.last_exit = Some(pending.exited.clone()); }",
    },
    Bug {
        name: "an exit is reported to nobody",
        file: "roster.rs",
        find: "let message = instance.event(ProcessEventKind::Exited(pending.exited)); \
               self.send(message);",
        plant: "let message = instance.event(ProcessEventKind::Exited(pending.exited)); \
                if !PLANTED { self.send(message); }",
    },
    Bug {
        name: "an instance is dropped while it runs",
        file: "roster.rs",
        find: "match instance.is_idle() { true => self.remove(id),",
        plant: "match instance.is_idle() || PLANTED { true => self.remove(id),",
    },
    Bug {
        name: "a saved record does not keep an instance",
        file: "roster.rs",
        find: "instance.record = Some(record); instance.forgotten = false;",
        plant: "instance.record = Some(record); instance.forgotten &= PLANTED;",
    },
    Bug {
        name: "a record that is too long is kept",
        file: "roster.rs",
        find: "if record.len() <= MAX_RECORD_BYTES",
        plant: "if (PLANTED || record.len() <= MAX_RECORD_BYTES)",
    },
    Bug {
        name: "the takeover does not wait for spawns",
        file: "roster.rs",
        find: "&& self.spawns_in_flight() == 0 {",
        plant: "&& (PLANTED || self.spawns_in_flight() == 0) {",
    },
    Bug {
        name: "the takeover waits for a hung spawn for ever",
        file: "roster.rs",
        find: "Takeover::Waits { deadline } => Some(deadline),",
        plant: "Takeover::Waits { deadline } => Some(deadline).filter(|_| !PLANTED),",
    },
    Bug {
        name: "hung spawns are not aborted at a takeover",
        file: "roster.rs",
        find: "hung.into_iter().for_each(|id| self.kill(id));",
        plant: "hung.into_iter().filter(|_| !PLANTED).for_each(|id| self.kill(id));",
    },
    Bug {
        name: "a takeover replays no exits",
        file: "roster.rs",
        find: "state.chain(one.exit_replay())",
        plant: "state.chain(one.exit_replay().filter(|_| !PLANTED))",
    },
    Bug {
        name: "a takeover replays no status",
        file: "roster.rs",
        find: "one.notify_replay().into_iter()",
        plant: "one.notify_replay().filter(|_| !PLANTED).into_iter()",
    },
    Bug {
        name: "a takeover replays no suspension",
        file: "roster.rs",
        find: "one.suspension()",
        plant: "one.suspension().filter(|_| !PLANTED)",
    },
    Bug {
        name: "messages go before the takeover state",
        file: "roster.rs",
        find: "if self.is_taken_over() {",
        plant: "if self.is_taken_over() || PLANTED {",
    },
    Bug {
        name: "a channel that is closed counts as open",
        file: "roster.rs",
        find: "self.takeover = Takeover::None;",
        plant: "if !PLANTED { self.takeover = Takeover::None; }",
    },
    Bug {
        name: "a held back status is forgotten",
        file: "roster.rs",
        find: "true => drop(self.deferred_notify.insert(id)),",
        plant: "true => drop(PLANTED || self.deferred_notify.insert(id)),",
    },
    Bug {
        name: "the timeout of a run is forgotten",
        file: "roster.rs",
        find: "self.run_deadlines.extend(to.map(|at| (at, id)));",
        plant: "self.run_deadlines.extend(to.filter(|_| !PLANTED).map(|at| (at, id)));",
    },
    Bug {
        name: "the deadlines of an exited run stay",
        file: "roster.rs",
        find: "self.move_deadline(id, process.limits.next_deadline(), None); \
               self.report_exit(id);",
        plant: "if !PLANTED { self.move_deadline(id, process.limits.next_deadline(), None); } \
                self.report_exit(id);",
    },
    Bug {
        name: "a run that timed out is not killed",
        file: "roster.rs",
        find: "self.run_deadlines.extend(next.map(|at| (at, id))); self.kill(id);",
        plant: "self.run_deadlines.extend(next.map(|at| (at, id))); \
                if !PLANTED { self.kill(id); }",
    },
    Bug {
        name: "a later stop gives more time",
        file: "roster/stops.rs",
        find: "stop.deadline.min(deadline)",
        plant: "if PLANTED { stop.deadline.max(deadline) } else { stop.deadline.min(deadline) }",
    },
    Bug {
        name: "a stop of a spawn in flight has no deadline",
        file: "roster/stops.rs",
        find: "self.instances.get_mut(&id).and_then(RosterInstance::limits)",
        plant: "self.instances.get_mut(&id).filter(|one| !PLANTED || \
                one.running().is_some()).and_then(RosterInstance::limits)",
    },
    Bug {
        name: "a stop of a run has no deadline",
        file: "roster/stops.rs",
        find: "let after = limits.next_deadline();",
        plant: "let after = limits.next_deadline().filter(|_| !PLANTED);",
    },
    Bug {
        name: "a stop sends no signal",
        file: "roster/stops.rs",
        find: "self.move_deadline(id, before, after);",
        plant: "self.move_deadline(id, before, after); if PLANTED { return; }",
    },
    Bug {
        name: "a stop does not continue what is suspended",
        file: "roster/stops.rs",
        find: "signal, true);",
        plant: "signal, !PLANTED);",
    },
    Bug {
        name: "a main process that exited in a stop keeps its number",
        file: "roster/stops.rs",
        find: "super::forget_pid(&mut self.by_pid, process.pid, id);",
        plant: "if !PLANTED { super::forget_pid(&mut self.by_pid, process.pid, id); }",
    },
    Bug {
        name: "the rest of a tree loses its run",
        file: "roster/stops.rs",
        find: "process.main_exited = true;",
        plant: "process.main_exited = !PLANTED;",
    },
    Bug {
        name: "a continued process counts as suspended",
        file: "roster/stops.rs",
        find: "if process.main_exited || process.suspended == signal {",
        plant: "if process.main_exited || process.suspended == signal || (PLANTED && \
                signal.is_none()) {",
    },
    Bug {
        name: "a new run keeps the status of the last",
        file: "roster/instance.rs",
        find: "self.phase = InstancePhase::Starting(deferred); \
               self.notify_state = NotifyState::default();",
        plant: "self.phase = InstancePhase::Starting(deferred); if !PLANTED { \
                self.notify_state = NotifyState::default(); }",
    },
    Bug {
        name: "a takeover forgets the record",
        file: "roster/instance.rs",
        find: "record: self.record.clone(),",
        plant: "record: self.record.clone().filter(|_| !PLANTED),",
    },
    Bug {
        name: "a takeover forgets what runs",
        file: "roster/instance.rs",
        find: "pid: process.map(|process| process.pid),",
        plant: "pid: process.map(|process| process.pid).filter(|_| !PLANTED),",
    },
    Bug {
        name: "the status of one key replaces all",
        file: "notify_state.rs",
        find: "self.0.retain(|(old, _)| !replaced(old));",
        plant: "self.0.retain(|(old, _)| !(replaced(old) || PLANTED && key == \"READY\"));",
    },
    Bug {
        name: "a runtime that exits is not started again",
        file: "runtime_supervisor.rs",
        find: "let start_at = now + self.backoff(); self.process",
        plant: "let start_at = now + self.backoff() + if PLANTED { \
                Duration::from_secs(3600) } else { Duration::ZERO }; self.process",
    },
    Bug {
        name: "a failed start is the last",
        file: "runtime_supervisor.rs",
        find: "let start_at = now + self.backoff().max(BACKOFF_MIN);",
        plant: "let start_at = now + self.backoff().max(BACKOFF_MIN) + if PLANTED { \
                Duration::from_secs(3600) } else { Duration::ZERO };",
    },
    Bug {
        name: "the backoff grows without end",
        file: "runtime_supervisor.rs",
        find: "(BACKOFF_MIN * 2u32.pow((failures - 2).min(10))).min(BACKOFF_MAX)",
        plant: "(BACKOFF_MIN * 2u32.pow((failures - 2).min(10))).min(if PLANTED { \
                BACKOFF_MAX * 20 } else { BACKOFF_MAX })",
    },
    Bug {
        name: "a silent runtime is not pinged",
        file: "runtime_supervisor.rs",
        find: "return parts_left.is_none().then_some(SupervisorEffect::SendPing);",
        plant: "return parts_left.is_none().then_some(SupervisorEffect::SendPing) \
                .filter(|_| !PLANTED);",
    },
    Bug {
        name: "a ping is sent for ever",
        file: "runtime_supervisor.rs",
        find: "if parts_left != Some(1) {",
        plant: "let parts_left = parts_left.filter(|_| !PLANTED); if parts_left != Some(1) {",
    },
    Bug {
        name: "no heartbeat",
        file: "runtime_supervisor.rs",
        find: "self.heartbeat_timeout = Some(heartbeat_timeout)",
        plant: "self.heartbeat_timeout = Some(heartbeat_timeout).filter(|_| !PLANTED)",
    },
    Bug {
        name: "an answer does not count",
        file: "runtime_supervisor.rs",
        find: "channel.last_heard, channel.ping) = (now, None)",
        plant: "channel.last_heard, channel.ping) = (now, \
                channel.ping.take().filter(|_| PLANTED))",
    },
    Bug {
        name: "an unresponsive runtime is not killed",
        file: "runtime_supervisor.rs",
        find: "self.fault = Some(UNRESPONSIVE); *kill_at = Some(now);",
        plant: "self.fault = Some(UNRESPONSIVE); *kill_at = Some(now).filter(|_| !PLANTED);",
    },
    Bug {
        name: "a suspension of the machine counts as silence",
        file: "runtime_supervisor.rs",
        find: "parts_left.map_or(PING_PARTS, |parts| parts - 1)",
        plant: "parts_left.map_or(if PLANTED { 1 } else { PING_PARTS }, |parts| parts - 1)",
    },
    Bug {
        name: "a stop has no deadline",
        file: "runtime_supervisor.rs",
        find: "if self.stop_deadline.is_some_and(|at| at <= now) { self.exit(1); }",
        plant: "if !PLANTED && self.stop_deadline.is_some_and(|at| at <= now) { \
                self.exit(1); }",
    },
    Bug {
        name: "a second stop moves the deadline back",
        file: "runtime_supervisor.rs",
        find: "self.stop_deadline.map_or(deadline, |at| at.min(deadline))",
        plant: "self.stop_deadline.map_or(deadline, |at| if PLANTED { at.max(deadline) } \
                else { at.min(deadline) })",
    },
    Bug {
        name: "a returned runtime is not told of the stop",
        file: "runtime_supervisor.rs",
        find: "if self.stop_deadline.is_some() { let signal",
        plant: "if self.stop_deadline.is_some() && !PLANTED { let signal",
    },
    Bug {
        name: "a stop is requested before the takeover",
        file: "runtime_supervisor.rs",
        find: "self.channel.as_ref().filter(|one| one.takeover_sent)?; let (signal",
        plant: "self.channel.as_ref().filter(|one| one.takeover_sent || PLANTED)?; let (signal",
    },
    Bug {
        name: "a refused holder stays",
        file: "runtime_supervisor.rs",
        find: "self.refused = Some(code);",
        plant: "self.refused = Some(code).filter(|_| !PLANTED);",
    },
    Bug {
        name: "a refused runtime that hangs is kept",
        file: "runtime_supervisor.rs",
        find: "*kill_at = Some(now + RUNTIME_EXIT_TIMEOUT);",
        plant: "*kill_at = Some(now + RUNTIME_EXIT_TIMEOUT).filter(|_| !PLANTED);",
    },
    Bug {
        name: "an embedded holder outlives its application",
        file: "runtime_supervisor.rs",
        find: "Process::Embedded => self.exit(0),",
        plant: "Process::Embedded if PLANTED => {} Process::Embedded => self.exit(0),",
    },
    Bug {
        name: "a channel that never closes holds the runtime up",
        file: "runtime_supervisor.rs",
        find: "let close_at = now + RUNTIME_EXIT_TIMEOUT; self.process",
        plant: "let close_at = now + if PLANTED { Duration::from_secs(3600) } else { \
                RUNTIME_EXIT_TIMEOUT }; self.process",
    },
    Bug {
        name: "a new program that is ready is not kept",
        file: "runtime_supervisor/upgrade.rs",
        find: "self.keep = true;",
        plant: "self.keep = !PLANTED;",
    },
    Bug {
        name: "a new program that fails is tried again",
        file: "runtime_supervisor/upgrade.rs",
        find: "let is_trial = self.ready_by().is_some();",
        plant: "let is_trial = self.ready_by().is_some() && !PLANTED;",
    },
    Bug {
        name: "a new program has all the time to be ready",
        file: "runtime_supervisor/upgrade.rs",
        find: "let ready_by = now + TRIAL_TIMEOUT;",
        plant: "let ready_by = now + if PLANTED { TRIAL_TIMEOUT * 6 } else { TRIAL_TIMEOUT };",
    },
    Bug {
        name: "a runtime that does not exit for its upgrade is kept",
        file: "runtime_supervisor.rs",
        find: "*kill_at = Some(now + RETIRE_TIMEOUT);",
        plant: "*kill_at = Some(now + RETIRE_TIMEOUT).filter(|_| !PLANTED);",
    },
    Bug {
        name: "two upgrades are in flight",
        file: "runtime_supervisor.rs",
        find: "if self.upgrades.is_in_flight() {",
        plant: "if self.upgrades.is_in_flight() && !PLANTED {",
    },
    Bug {
        name: "the result of an upgrade is not told",
        file: "runtime_supervisor.rs",
        find: "self.upgrades.last() }",
        plant: "self.upgrades.last().filter(|_| !PLANTED) }",
    },
];
