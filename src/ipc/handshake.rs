//! Hello: from a connected peer to a caller, or an error.
//! Owns what is known of a peer before its hello.
//! Never admits a client that speaks another protocol.

use std::sync::Arc;

use mainstay_protocol::method::{Hello, Welcome, name};
use mainstay_protocol::{ErrorCode, PROTOCOL, RequestError, RequestId, RpcMessage};

use crate::actors::RuntimeContext;
use crate::control::Caller;
use crate::control::accounts::Accounts;
use crate::control::caller::Via;
use crate::os::PeerCredentials;

/// A connection before its hello.
pub(super) struct Incoming {
    pub(super) ctx: Arc<RuntimeContext>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) via: Via,
    pub(super) peer: Option<PeerCredentials>,
}

/// The id of the call that was refused, and why.
pub(super) type Rejection = (Option<RequestId>, RequestError);

impl Incoming {
    /// Reads the first line of the client and identifies it.
    pub(super) fn handshake(&self, line: &[u8]) -> Result<(Option<RequestId>, Caller), Rejection> {
        let error = |code, text: String| RequestError::new(code, text);
        let hello_required = |id| {
            let text = "cannot answer: the first call must be hello".to_owned();
            (id, error(ErrorCode::HelloRequired, text))
        };
        let request = match RpcMessage::parse(line).map_err(|error| (None, error))? {
            RpcMessage::Request(request) if request.method == name::HELLO => request,
            RpcMessage::Request(request) => return Err(hello_required(request.id)),
            RpcMessage::Reply(_) => return Err(hello_required(None)),
        };
        let id = request.id;
        let hello: Hello = serde_json::from_value(request.params).map_err(|cause| {
            let text = format!("cannot read the parameters of hello: {cause}");
            (id.clone(), error(ErrorCode::InvalidParams, text))
        })?;
        if hello.protocol == 0 || hello.protocol > PROTOCOL {
            let text = format!(
                "cannot speak protocol {}: this mainstay speaks protocol {PROTOCOL}",
                hello.protocol
            );
            return Err((id, error(ErrorCode::UnsupportedProtocol, text)));
        }
        let peer = self.peer.as_ref();
        match Caller::identify(&self.ctx, &self.accounts, self.via, &hello, peer) {
            Ok(caller) => Ok((id, caller)),
            Err(error) => Err((id, error)),
        }
    }

    /// Records the refusal of a client, unless it closed the connection and exited before the
    /// answer: a client that gave up was not refused.
    pub(super) fn refused(&self, error: &RequestError, is_closed: bool) {
        let has_exited = self.peer.as_ref().is_some_and(PeerCredentials::has_exited);
        if !(is_closed && has_exited) {
            Caller::refuse_unidentified(&self.ctx, &self.accounts, self.peer.as_ref(), error);
        }
    }

    /// The result of hello.
    pub(super) fn welcome(&self, caller: &Caller) -> Welcome {
        let module = caller
            .module
            .map(|run| self.ctx.name(run.module).to_string());
        Welcome {
            server: format!("mainstay {}", env!("CARGO_PKG_VERSION")),
            protocol: PROTOCOL,
            level: caller.level,
            module,
        }
    }
}
