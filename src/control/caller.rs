//! The sender of a request: who it is, by which way it comes, and what it may do.
//! Owns the translation of peer credentials and module tokens to a level.
//! Never trusts what a client says about itself without a token.

use std::sync::Arc;

use mainstay_policy::states::State;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::method::Hello;
use mainstay_protocol::methods::MethodInfo;
use mainstay_protocol::{AccessLevel, ErrorCode, RequestError};

use super::accounts::{Accounts, ConnectionPermit, MemoryShare, Principal, TooMany};
use super::refusals;
use crate::actors::RuntimeContext;
use crate::config::Principal as Listed;
use crate::os::{LiveProcess, PeerCredentials, machine, transport};

/// How a request arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The socket of users and programs; the level comes from the peer's credentials.
    ControlSocket,
    /// The socket of modules; only a token of a live run is admitted.
    ModuleSocket,
    /// The application that embeds mainstay.
    Application,
}

/// The run a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModuleRun {
    /// The module.
    pub(crate) module: ModuleId,
    /// The number of the run.
    pub(crate) generation: u64,
    /// Its connection to the bus.
    pub(crate) connection: u64,
}

/// The sender of a request.
pub(crate) struct Caller {
    /// Whose allowance it spends.
    pub(crate) principal: Principal,
    /// What it may do. Scopes that narrow a level would stand beside it.
    pub(crate) level: AccessLevel,
    /// Its way in.
    pub(crate) via: Via,
    /// Its run, if it is a module.
    pub(crate) module: Option<ModuleRun>,
    /// For the journal, for instance `cli 0.1.0 (uid 0, pid 7)`.
    pub(crate) label: String,
    /// None: not limited.
    pub(super) accounts: Option<Arc<Accounts>>,
    connection: Option<ConnectionPermit>,
}

impl Caller {
    /// The application that embeds mainstay: it may do everything, without a limit.
    pub(crate) fn application() -> Caller {
        Caller {
            principal: Principal::Application,
            level: AccessLevel::Admin,
            via: Via::Application,
            module: None,
            label: "application".to_owned(),
            accounts: None,
            connection: None,
        }
    }

    /// What it may keep in memory, with the other connections of its principal; None: not limited.
    pub(crate) fn memory(&self) -> Option<&MemoryShare> {
        self.connection.as_ref().map(|permit| &permit.memory)
    }

    /// Whether it has the level of a method. A module has exactly its own methods, and a user none
    /// of a module's.
    pub(super) fn may(&self, info: &MethodInfo) -> bool {
        match self.module {
            Some(_) => info.level == AccessLevel::Module,
            None => info.level > AccessLevel::Module && self.level >= info.level,
        }
    }

    /// Takes one changing request from the allowance; false: none is left.
    pub(super) fn take_request(&self, per_second: u32, now: MonoTime) -> bool {
        let accounts = self.accounts.as_ref();
        accounts.is_none_or(|accounts| accounts.take_request(self.principal, per_second, now))
    }

    /// Identifies the client of a connection by its hello, its credentials and the socket.
    ///
    /// # Errors
    /// `not_permitted`, `invalid_token`, `too_many_connections`, or `rate_limited` for a principal
    /// whose requests were refused too often.
    pub(crate) fn identify(
        ctx: &Arc<RuntimeContext>,
        accounts: &Arc<Accounts>,
        via: Via,
        hello: &Hello,
        peer: Option<&PeerCredentials>,
    ) -> Result<Caller, RequestError> {
        let (principal, level, module) = match via {
            Via::ModuleSocket => {
                let run = run_of_token(ctx, hello.token.as_deref())?;
                (
                    Principal::Module(run.module),
                    AccessLevel::Module,
                    Some(run),
                )
            }
            Via::ControlSocket | Via::Application => {
                if hello.token.is_some() {
                    let text = "cannot use a module token on the control socket; connect to the \
                                module socket, $MAINSTAY_SOCKET";
                    return Err(RequestError::new(ErrorCode::InvalidToken, text));
                }
                let (user, level) = level_of(ctx, peer)?;
                (Principal::User(user), level, None)
            }
        };
        let now = ctx.os.now();
        if accounts.is_exhausted(principal, now) {
            let text = "cannot use mainstay: too many requests were refused; try again later";
            return Err(RequestError::new(ErrorCode::RateLimited, text));
        }
        let is_admin = level == AccessLevel::Admin;
        let permit = accounts
            .connect(principal, is_admin, now)
            .map_err(too_many)?;
        Ok(Caller {
            principal,
            level,
            via,
            module,
            label: label(&hello.client, peer),
            accounts: Some(Arc::clone(accounts)),
            connection: Some(permit),
        })
    }

    /// Records that a client was refused before it was identified.
    pub(crate) fn refuse_unidentified(
        ctx: &Arc<RuntimeContext>,
        accounts: &Arc<Accounts>,
        peer: Option<&PeerCredentials>,
        error: &RequestError,
    ) {
        if error.data.code == ErrorCode::NotPermitted {
            let principal = Principal::Unverified(peer.map(|peer| peer.uid));
            refusals::record(ctx, accounts, principal, "hello", None);
        }
    }
}

fn too_many(why: TooMany) -> RequestError {
    let text = match why {
        TooMany::OfPrincipal(max) => format!(
            "cannot accept the connection: {max} connections of this user or module are open; \
             close one"
        ),
        TooMany::InTotal(max) => format!(
            "cannot accept the connection: {max} connections are open, the rest is reserved for \
             administrators; close one"
        ),
    };
    RequestError::new(ErrorCode::TooManyConnections, text)
}

/// The name the client gives itself, and its credentials.
fn label(client: &str, peer: Option<&PeerCredentials>) -> String {
    let client: String = client
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    match peer {
        Some(peer) => format!("{client} (uid {}, pid {})", peer.uid, peer.pid),
        None => client,
    }
}

/// The live run that a token names.
fn run_of_token(ctx: &RuntimeContext, token: Option<&str>) -> Result<ModuleRun, RequestError> {
    let Some(token) = token else {
        let text = "cannot use the module socket without a token: it is for modules; connect to \
                    control.sock";
        return Err(RequestError::new(ErrorCode::NotPermitted, text));
    };
    let invalid = || {
        let text = "cannot use the module socket: the token is not the one of a live run";
        RequestError::new(ErrorCode::InvalidToken, text)
    };
    let (instance, generation) = ctx.tokens.verify(token).ok_or_else(invalid)?;
    let module = ctx.find_instance(instance);
    let module = module
        .filter(|id| ctx.plan().has(*id))
        .ok_or_else(invalid)?;
    let now = ctx.snapshots.module(module);
    let is_live = ctx
        .os
        .live_process(&ctx.instance(module))
        .is_some_and(|live| live.generation == generation);
    // A module can connect before the event of its start arrives.
    let is_starting =
        now.lifecycle.info.state == State::Starting && now.lifecycle.info.generation <= generation;
    if !is_live && !is_starting {
        return Err(invalid());
    }
    Ok(ModuleRun {
        module,
        generation,
        connection: 0,
    })
}

/// The level of a peer of the control socket: None of the lists, or inside a module: no access.
fn level_of(
    ctx: &RuntimeContext,
    peer: Option<&PeerCredentials>,
) -> Result<(u32, AccessLevel), RequestError> {
    let refused = |text: String| Err(RequestError::new(ErrorCode::NotPermitted, text));
    let Some(peer) = peer else {
        return refused(
            "cannot use the control socket: the system does not say who you are".into(),
        );
    };
    let ipc = &ctx.configuration().system.ipc;
    let allows = |listed: &[Listed]| listed.iter().any(|listed| matches(peer, listed));
    let level = if allows(&ipc.admins) {
        AccessLevel::Admin
    } else if allows(&ipc.operators) {
        AccessLevel::Operate
    } else if allows(&ipc.observers) {
        AccessLevel::Observe
    } else {
        return refused(format!(
            "cannot use the control socket: user {} has no access level; add it to [ipc] \
             observers, operators or admins",
            peer.uid
        ));
    };
    if is_inside_module(ctx, peer) {
        return refused(format!(
            "cannot use the control socket: process {} is inside a module, has exited or has too \
             many processes above it; a module uses $MAINSTAY_SOCKET and its token",
            peer.pid
        ));
    }
    Ok((peer.uid, level))
}

/// `user`: the user mainstay runs as, and root, which could do everything anyway.
fn matches(peer: &PeerCredentials, listed: &Listed) -> bool {
    match listed {
        Listed::Everyone => true,
        Listed::User => peer.uid == machine::own_uid() || peer.uid == 0,
        Listed::Uid(uid) => peer.uid == *uid,
        Listed::Group(group) => machine::in_group(peer.uid, peer.gid, group),
    }
}

/// Whether a peer belongs to a module, whatever its user. Every descendant of the holder does:
/// modules and their commands are all that it starts, and their orphans come back to it. A peer
/// whose ancestors are not all known is taken for one, and so is one that has exited: a module
/// could put any number of processes above it, or have a short-lived child connect for it.
fn is_inside_module(ctx: &RuntimeContext, peer: &PeerCredentials) -> bool {
    let Some(ancestry) = transport::ancestry(peer.pid, ctx.holder.get()) else {
        return true;
    };
    let is_embedded = ctx.holder.get() == std::process::id();
    let descends = ancestry
        .iter()
        .skip(1)
        .any(|(pid, _)| *pid == ctx.holder.get());
    if !is_embedded && descends {
        return true;
    }
    let plan = ctx.plan();
    let live = plan
        .ids()
        .filter_map(|id| ctx.os.live_process(&ctx.instance(id)));
    let mains: Vec<u32> = live.filter_map(LiveProcess::process).collect();
    let is_related = |main: &u32| {
        let mut line = ancestry.iter();
        line.any(|(pid, session)| pid == main || session == main)
    };
    // In an application the orphans of a module do not come back to the holder, nor do those that
    // an earlier holder started.
    let orphans_are_elsewhere = is_embedded || ctx.holder.is_successor();
    let is_marked = || orphans_are_elsewhere && machine::shares_tree(peer.pid, &mains);
    // Checked last: what was read before was true of the peer if it has not exited by now.
    mains.iter().any(is_related) || is_marked() || peer.has_exited()
}
