//! The holder dies, and another one goes on from what it had passed on to the runtime.
//! Owns what is lost with it: starts in flight, and what its threads were busy with.
//! Never loses what was on its way: the runtime reads what came, and sends again what did not.

use mainstay_holder::machines::Roster;
use mainstay_holder::messages::HolderMessage;
use mainstay_process::{ProcessEventKind, StartFailure, StartStep};

use super::fake_runtime::Delivery;
use super::{Item, Sim};

const LOST: StartFailure = StartFailure {
    step: StartStep::Holder,
    errno: 0,
};

impl Sim {
    /// Both machines go through the form in which they are passed on.
    pub(super) fn holder_dies(&mut self) {
        let reads = self.runtime.as_ref().is_some_and(|one| !one.unresponsive);
        let has_passed = self.channel.is_some() && self.roster.is_taken_over() && self.configured;
        if self.embedded || !reads || !has_passed || self.exited.is_some() {
            return;
        }
        let entries = serde_json::to_value(&self.roster).map(|mut all| all["instances"].take());
        let entries = entries.and_then(serde_json::from_value);
        let supervisor = serde_json::to_value(&self.supervisor);
        let supervisor = supervisor.and_then(serde_json::from_value);
        let (Ok(entries), Ok(supervisor)) = (entries, supervisor) else {
            self.note(|| "what is passed on cannot be read".to_owned());
            self.roster = Roster::default();
            return;
        };
        self.note(|| "the holder dies, and another one goes on".to_owned());
        self.summary.successions += 1;
        (self.roster, self.supervisor) = (Roster::from_entries(entries), supervisor);
        self.lose_messages();
        self.lose_starts();
        for id in self.roster.starting() {
            self.roster.spawn_failed(id, LOST, "lost".to_owned());
        }
        for (id, _) in self.roster.exiting() {
            if let Some((_, generation)) = self.roster.name_and_generation(id) {
                self.check.collected(id, generation);
                self.roster.output_collected(id, generation, String::new());
            }
            self.check.swept(id, false);
            self.roster.tree_swept(id, false);
        }
        self.check.reads();
        self.roster.tell_again();
        self.supervisor.request_received(self.now);
        self.supervisor.takeover_sent(self.now);
    }

    /// The last of what it had to say was not sent, but for the beginning: before that it passes
    /// nothing on.
    fn lose_messages(&mut self) {
        let of_it = |item: &Item| matches!(item, Item::ToRuntime(_, Delivery::Message(_)));
        let sent = self.agenda.iter().filter(|(_, item)| of_it(item));
        let keys: Vec<_> = sent.map(|(key, _)| *key).collect();
        let kept = usize::try_from(self.rng.below(keys.len() as u64 + 1)).unwrap_or(0);
        for key in &keys[kept..] {
            if let Some(Item::ToRuntime(_, Delivery::Message(message))) = self.agenda.remove(key)
                && let HolderMessage::Process(event) = *message
            {
                self.check.not_sent(&event.instance, event.generation);
            }
        }
    }

    /// Starts in flight are killed; sweeps and last output are not awaited any more.
    fn lose_starts(&mut self) {
        let lost = |item: &Item| matches!(item, Item::SweepDone(_) | Item::OutputCollected(..));
        self.agenda.retain(|_, item| !lost(item));
        self.to_sweep.clear();
        self.sweeping = false;
        for (name, process) in self.os.take_starts() {
            if let Some(pid) = process {
                self.os.free_pid(pid);
                self.check.process_gone(&name);
            }
            self.check.spawn_failed(&name);
        }
    }

    /// Whether the runtime drops a message, for the holder before has sent it.
    pub(super) fn is_told_again(&self, message: &HolderMessage) -> bool {
        let HolderMessage::Process(event) = message else {
            return false;
        };
        let is_exit = matches!(event.what, ProcessEventKind::Exited(_));
        self.summary.successions > 0
            && is_exit
            && self.check.was_sent(&event.instance, event.generation)
    }
}
