//! The gateway: accepts on the two sockets and serves each connection in a task of its own.
//! Owns the accept loops and how many connections may be open. Never reads or answers by itself.
//! In flight at most: nothing; connections talk to the other actors directly.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};

use super::House;
use crate::ipc::connection::{Door, serve};
use crate::ipc::lobby::Lobby;
use crate::os::machine;
use crate::os::transport::{ClientListener, ListenerHandle};

/// Connections of clients that said hello, open at once on the control socket.
const CONTROL_MAX: usize = 512;

/// What the gateway is told: nothing yet.
#[derive(Debug)]
pub(crate) enum GatewayMsg {}

/// The listeners, kept by root for a gateway that has to begin again.
pub(crate) struct Arguments {
    pub(crate) house: Arc<House>,
    pub(crate) entrances: Arc<[ListenerHandle; 2]>,
}

/// The state: the accept loops end with it, and connections with them.
pub(crate) struct Owned {
    loops: [AbortHandle; 2],
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

/// The actor.
pub(crate) struct Gateway;

impl Actor for Gateway {
    type Msg = GatewayMsg;
    type State = Owned;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _: ActorRef<GatewayMsg>,
        Arguments { house, entrances }: Arguments,
    ) -> Result<Owned, ActorProcessingErr> {
        let [control, module] = &*entrances;
        let (control, module) = (control.listen()?, module.listen()?);
        // Every run of every module may hold one, and an old one may still be closing.
        let modules_max = house.plan.len() * 2 + 64;
        let loops = [
            tokio::spawn(accept(
                Arc::clone(&house),
                control,
                Door::Control,
                CONTROL_MAX,
            )),
            tokio::spawn(accept(house, module, Door::Module, modules_max)),
        ];
        Ok(Owned {
            loops: loops.map(|task| task.abort_handle()),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<GatewayMsg>,
        msg: GatewayMsg,
        _: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        match msg {}
    }
}

async fn accept(house: Arc<House>, mut listener: ClientListener, door: Door, seats: usize) {
    let lobby = Lobby::new(seats);
    let mut connections = JoinSet::new(); // ends them when this loop is aborted
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(stream) => {
                let peer = machine::peer(&stream);
                let place = lobby.enter(peer.map(|(_, user, _)| user));
                connections.spawn(serve(Arc::clone(&house), stream, door, peer, place));
                // Who is in may speak before the next one comes and perhaps takes its place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                // Out of descriptors, for instance: others must end first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
