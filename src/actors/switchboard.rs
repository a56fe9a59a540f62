//! How actors find each other: the current reference of each.
//! Owns the references; root writes them when an actor is (re)started.
//! Never queues: a message to an actor that just died is lost, and rebuilt state makes up for it.

use arc_swap::ArcSwapOption;
use mainstay_policy::ModuleId;
use ractor::{ActorRef, Message};

use super::config::ConfigMsg;
use super::gateway::GatewayMsg;
use super::health::HealthMsg;
use super::lifecycle::LifecycleMsg;
use super::module::ModuleMsg;
use super::recovery::RecoveryMsg;
use super::registry::RegistryMsg;
use super::resources::ResourcesMsg;
use super::root::RootMsg;

/// One extension.
pub(crate) struct Line<M: Message>(ArcSwapOption<ActorRef<M>>);

impl<M: Message> Default for Line<M> {
    fn default() -> Self {
        Line(ArcSwapOption::empty())
    }
}

impl<M: Message> Line<M> {
    /// Connects a (new) actor.
    pub(super) fn connect(&self, actor: ActorRef<M>) {
        self.0.store(Some(std::sync::Arc::new(actor)));
    }

    /// Ends the actor, and with it those that are linked to it.
    pub(super) fn end(&self) {
        if let Some(actor) = self.0.load().as_ref() {
            actor.stop(None);
        }
    }

    /// The current actor, for tests that kill it.
    #[cfg(test)]
    pub(super) fn current(&self) -> Option<ActorRef<M>> {
        self.0.load().as_ref().map(|actor| ActorRef::clone(actor))
    }

    /// Sends; false when nobody is there.
    pub(crate) fn cast(&self, msg: M) -> bool {
        self.0
            .load()
            .as_ref()
            .is_some_and(|actor| actor.cast(msg).is_ok())
    }
}

/// All extensions.
pub(crate) struct Switchboard {
    pub(crate) root: Line<RootMsg>,
    pub(crate) registry: Line<RegistryMsg>,
    pub(crate) lifecycle: Line<LifecycleMsg>,
    pub(crate) recovery: Line<RecoveryMsg>,
    pub(crate) health: Line<HealthMsg>,
    pub(crate) resources: Line<ResourcesMsg>,
    pub(crate) config: Line<ConfigMsg>,
    pub(crate) gateway: Line<GatewayMsg>,
    modules: Vec<Line<ModuleMsg>>,
}

impl Switchboard {
    /// A board for so many modules, with nobody connected.
    pub(crate) fn new(modules: usize) -> Switchboard {
        Switchboard {
            root: Line::default(),
            registry: Line::default(),
            lifecycle: Line::default(),
            recovery: Line::default(),
            health: Line::default(),
            resources: Line::default(),
            config: Line::default(),
            gateway: Line::default(),
            modules: (0..modules).map(|_| Line::default()).collect(),
        }
    }

    /// The line of a module.
    pub(crate) fn module(&self, module: ModuleId) -> &Line<ModuleMsg> {
        &self.modules[module.index()]
    }
}
