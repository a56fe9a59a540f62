//! The accept loop of one socket.
//! Owns the tasks of its connections: they end with it.
//! Never reads from a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection;
use super::handshake::Incoming;
use super::handshake_limit::HandshakeLimiter;
use crate::actors::RuntimeContext;
use crate::actors::gateway::{AcceptLoop, SocketKind};
use crate::control::accounts::Accounts;
use crate::control::caller::Via;
use crate::os::machine;
use crate::os::transport::ClientListener;

/// Pause after a failed accept: without descriptors, other connections must close first.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Returns the accept loop that the gateway runs for each of its sockets. All connections of a
/// user or module share one account, also after the gateway was restarted.
pub(crate) fn accept_loop() -> AcceptLoop {
    let accounts = Arc::new(Accounts::default());
    Arc::new(move |ctx, listener, kind| {
        let via = match kind {
            SocketKind::Control => Via::ControlSocket,
            SocketKind::Module => Via::ModuleSocket,
        };
        Box::pin(accept(ctx, listener, via, Arc::clone(&accounts)))
    })
}

async fn accept(
    ctx: Arc<RuntimeContext>,
    mut listener: ClientListener,
    via: Via,
    accounts: Arc<Accounts>,
) {
    let limiter = Arc::new(HandshakeLimiter::default());
    let mut connections = JoinSet::new(); // aborted with this loop
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(stream) => {
                let peer = machine::peer(&stream);
                let permit = limiter.admit(peer.as_ref().map(|peer| peer.uid));
                let incoming = Incoming {
                    ctx: Arc::clone(&ctx),
                    accounts: Arc::clone(&accounts),
                    via,
                    peer,
                };
                connections.spawn(connection::serve(incoming, stream, permit));
                // A connected client can send its hello before the next one evicts it.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
