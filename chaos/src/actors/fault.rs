//! What happens to a system in a history of the actors.
//! Owns the list, and each one's words. Never makes it happen: the history does.

use std::fmt;
use std::time::Duration;

use mainstay_policy::lifecycle::Operation;

/// One fault, or request.
#[derive(Debug, Clone, PartialEq)]
pub enum ActorFault {
    /// None of the others: time passes.
    Nothing,
    /// A request for a module.
    Request(String, Operation),
    /// The process of a module ends.
    Crash(String),
    /// It hangs.
    Hang(String),
    /// One of the actors that are alive dies, counted around.
    ActorDies(usize),
    /// The runtime dies.
    RuntimeDies,
    /// The holder dies, and another one goes on in its place.
    HolderDies,
    /// The file is changed and a reload is requested.
    Reload {
        /// What was changed, in words.
        what: String,
        /// The file.
        text: String,
        /// A mistake is in it.
        is_broken: bool,
    },
    /// The machine is suspended.
    Sleep(Duration),
    /// The wall clock jumps by this number of milliseconds.
    ClockJumps(i64),
    /// The next drain of a notify socket is lost.
    DrainLost,
    /// The stop of everything is requested.
    StopAll,
}

impl fmt::Display for ActorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActorFault::Nothing => write!(f, "nothing"),
            ActorFault::Request(module, operation) => {
                let operation = format!("{operation:?}").to_lowercase();
                write!(f, "request: {operation} {module}")
            }
            ActorFault::Crash(module) => write!(f, "{module} crashes"),
            ActorFault::Hang(module) => write!(f, "{module} hangs"),
            ActorFault::ActorDies(nth) => write!(f, "actor {nth} dies, counted around"),
            ActorFault::RuntimeDies => write!(f, "the runtime dies"),
            ActorFault::HolderDies => write!(f, "the holder dies, and another one goes on"),
            ActorFault::Reload {
                what, is_broken, ..
            } => {
                let broken = if *is_broken { ", and a mistake" } else { "" };
                write!(f, "reload: {what}{broken}")
            }
            ActorFault::Sleep(span) => write!(f, "the machine sleeps for {span:.1?}"),
            ActorFault::ClockJumps(ms) => write!(f, "the wall clock jumps by {ms} ms"),
            ActorFault::DrainLost => write!(f, "the next drain is lost"),
            ActorFault::StopAll => write!(f, "everything is stopped"),
        }
    }
}
