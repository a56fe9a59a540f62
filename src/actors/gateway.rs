//! The gateway: keeps the two sockets open.
//! Owns the accept loops; the composition root says what they do with a connection.
//! Never reads a request and never replies to one.
//! In flight at most: nothing; connections talk to the other actors directly.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use super::RuntimeContext;
use crate::os::transport::{ClientListener, ListenerHandle};

/// Which of the two sockets a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// For users and programs.
    Control,
    /// For modules.
    Module,
}

/// Serves the connections of one socket until it is dropped.
pub(crate) type AcceptLoop = Arc<
    dyn Fn(
            Arc<RuntimeContext>,
            ClientListener,
            SocketKind,
        ) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync,
>;

/// Messages of the gateway: none yet.
#[derive(Debug)]
pub(crate) enum GatewayMsg {}

/// The sockets and their loop, kept by root for a gateway that is started again.
#[derive(Clone)]
pub(crate) struct GatewayArgs {
    pub(crate) ctx: Arc<RuntimeContext>,
    pub(crate) listeners: Arc<[ListenerHandle; 2]>,
    pub(crate) accept: AcceptLoop,
}

/// The state: the accept loops end with it, and connections with them.
pub(crate) struct GatewayActorState {
    loops: [AbortHandle; 2],
}

impl Drop for GatewayActorState {
    fn drop(&mut self) {
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

/// The actor.
pub(crate) struct GatewayActor;

impl Actor for GatewayActor {
    type Msg = GatewayMsg;
    type State = GatewayActorState;
    type Arguments = GatewayArgs;

    async fn pre_start(
        &self,
        _: ActorRef<GatewayMsg>,
        args: GatewayArgs,
    ) -> Result<GatewayActorState, ActorProcessingErr> {
        let [control, module] = &*args.listeners;
        let accept = |listener: ClientListener, kind| {
            tokio::spawn((args.accept)(Arc::clone(&args.ctx), listener, kind)).abort_handle()
        };
        let loops = [
            accept(control.listen()?, SocketKind::Control),
            accept(module.listen()?, SocketKind::Module),
        ];
        Ok(GatewayActorState { loops })
    }

    async fn handle(
        &self,
        _: ActorRef<GatewayMsg>,
        msg: GatewayMsg,
        _: &mut GatewayActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {}
    }
}
