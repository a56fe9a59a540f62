//! The configuration in force, and what the files say now.
//! Owns the comparison of the two. Never applies a change while things run (not built yet).
//! In flight at most: 1 reading of the files.

use std::sync::Arc;

use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use super::House;
use super::chronicle::Entry;
use super::registry::RegistryMsg;

/// What config is told.
#[derive(Debug)]
pub(crate) enum ConfigMsg {
    /// Someone asked for a reload (SIGHUP), or the runtime returned: compare with the files.
    Compare,
    /// The files were read: why they are not in force, if so.
    Compared(Option<String>),
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    problem: Option<String>,
}

/// The actor.
pub(crate) struct Config;

impl Actor for Config {
    type Msg = ConfigMsg;
    type State = Owned;
    type Arguments = Arc<House>;

    async fn pre_start(
        &self,
        _: ActorRef<ConfigMsg>,
        house: Arc<House>,
    ) -> Result<Owned, ActorProcessingErr> {
        Ok(Owned {
            house,
            problem: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<ConfigMsg>,
        msg: ConfigMsg,
        own: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ConfigMsg::Compare => {
                let house = Arc::clone(&own.house);
                tokio::task::spawn_blocking(move || {
                    let _actor_ended = me.cast(ConfigMsg::Compared(compare(&house)));
                });
            }
            ConfigMsg::Compared(problem) => own.compared(problem),
        }
        Ok(())
    }
}

impl Owned {
    fn compared(&mut self, problem: Option<String>) {
        if problem == self.problem {
            return;
        }
        let entry = match &problem {
            Some(text) => Entry::of(EventKind::ConfigRejected).payload(json!({ "text": text })),
            None => Entry::of(EventKind::ConfigProblemCleared),
        };
        self.house.chronicle.tell(entry);
        let msg = RegistryMsg::ConfigProblem(problem.clone());
        self.house.switchboard.registry.cast(msg);
        self.problem = problem;
    }
}

fn compare(house: &House) -> Option<String> {
    let ids = house.configuration().ids.clone();
    match crate::config::load_onto(&house.sources, ids) {
        Ok(now) if now.fingerprint == house.configuration().fingerprint => None,
        Ok(_) => Some(
            "the configuration files changed; applying them while running is not available yet: \
             `mainstay down` and `mainstay up` apply them"
                .to_owned(),
        ),
        Err(problems) => Some(problems.to_string()),
    }
}
