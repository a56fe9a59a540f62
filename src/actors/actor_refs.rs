//! How actors find each other: the current reference of each.
//! Owns the references; root writes them when an actor is (re)started.
//! Never queues: a message to an actor that just died is lost, and rebuilt state makes up for it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mainstay_policy::ModuleId;
use ractor::{ActorRef, Message};

use super::config::ConfigMsg;
use super::gateway::GatewayMsg;
use super::health::HealthMsg;
use super::lifecycle::LifecycleMsg;
use super::module::ModuleMsg;
use super::recovery_trials::RecoveryMsg;
use super::registry::RegistryMsg;
use super::resources::ResourcesMsg;
use super::root::RootMsg;
use super::slot_store::SlotStore;
use super::source_files::SourceFilesMsg;

/// The current reference of one actor.
pub(crate) struct CurrentRef<M: Message>(ArcSwapOption<ActorRef<M>>);

impl<M: Message> Default for CurrentRef<M> {
    fn default() -> Self {
        CurrentRef(ArcSwapOption::empty())
    }
}

impl<M: Message> CurrentRef<M> {
    /// Sets the (new) actor.
    pub(super) fn set(&self, actor: ActorRef<M>) {
        self.0.store(Some(Arc::new(actor)));
    }

    /// Ends the actor, and with it those that are linked to it.
    pub(super) fn stop(&self) {
        if let Some(actor) = self.0.load().as_ref() {
            actor.stop(None);
        }
    }

    /// Whether an actor was ever started here.
    pub(super) fn is_set(&self) -> bool {
        self.0.load().is_some()
    }

    /// The current actor, for those that kill it.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn current(&self) -> Option<ActorRef<M>> {
        self.0.load().as_ref().map(|actor| ActorRef::clone(actor))
    }

    /// Sends the message; returns false if the actor is not running.
    pub(crate) fn cast(&self, msg: M) -> bool {
        self.0
            .load()
            .as_ref()
            .is_some_and(|actor| actor.cast(msg).is_ok())
    }
}

/// The references of all actors.
pub(crate) struct ActorRefs {
    pub(crate) root: CurrentRef<RootMsg>,
    pub(crate) registry: CurrentRef<RegistryMsg>,
    pub(crate) lifecycle: CurrentRef<LifecycleMsg>,
    pub(crate) recovery: CurrentRef<RecoveryMsg>,
    pub(crate) health: CurrentRef<HealthMsg>,
    pub(crate) resources: CurrentRef<ResourcesMsg>,
    pub(crate) config: CurrentRef<ConfigMsg>,
    pub(crate) source_files: CurrentRef<SourceFilesMsg>,
    pub(crate) gateway: CurrentRef<GatewayMsg>,
    modules: SlotStore<CurrentRef<ModuleMsg>>,
}

impl ActorRefs {
    /// References for `modules` modules, none set yet.
    pub(crate) fn new(modules: usize) -> ActorRefs {
        ActorRefs {
            root: CurrentRef::default(),
            registry: CurrentRef::default(),
            lifecycle: CurrentRef::default(),
            recovery: CurrentRef::default(),
            health: CurrentRef::default(),
            resources: CurrentRef::default(),
            config: CurrentRef::default(),
            source_files: CurrentRef::default(),
            gateway: CurrentRef::default(),
            modules: SlotStore::new(modules, |_| CurrentRef::default()),
        }
    }

    /// The reference of the actor of a module.
    pub(crate) fn module(&self, module: ModuleId) -> Arc<CurrentRef<ModuleMsg>> {
        self.modules.get(module)
    }

    /// Every actor but root that was ever started, by name, for those that kill it.
    #[cfg(feature = "simulation")]
    fn cells(&self, slots: usize) -> Vec<(String, ractor::ActorCell)> {
        let mut cells = Vec::new();
        macro_rules! add {
            ($($role:ident)*) => { $(
                let cell = self.$role.current().map(|actor| actor.get_cell());
                cells.extend(cell.map(|cell| (stringify!($role).to_owned(), cell)));
            )* };
        }
        add!(registry lifecycle recovery health resources config source_files gateway);
        for slot in (0_u32..).map(ModuleId).take(slots) {
            let cell = self.module(slot).current();
            let cell = cell.map(|actor| actor.get_cell());
            cells.extend(cell.map(|cell| (format!("module {}", slot.0), cell)));
        }
        cells
    }

    /// Kills one of the actors of this number of slots; returns which.
    #[cfg(feature = "simulation")]
    pub(crate) fn kill(&self, slots: usize, nth: usize) -> Option<String> {
        let cells = self.cells(slots);
        let (name, cell) = cells.get(nth.checked_rem(cells.len())?)?;
        cell.kill();
        Some(name.clone())
    }

    /// The actors of this number of slots that do not run.
    #[cfg(feature = "simulation")]
    pub(crate) fn dead(&self, slots: usize) -> Vec<String> {
        let runs = |cell: &ractor::ActorCell| cell.get_status() == ractor::ActorStatus::Running;
        let dead = self.cells(slots).into_iter();
        dead.filter(|(_, cell)| !runs(cell))
            .map(|(name, _)| name)
            .collect()
    }

    /// Makes room for the modules of a later plan.
    pub(super) fn grow(&self, slots: usize) {
        self.modules.grow(slots, |_| CurrentRef::default());
    }
}
