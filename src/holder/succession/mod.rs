//! The holder's own death: the runtime has duplicates of what it keeps, and starts another one.
//! Owns what is passed on at each change, and the order in which a successor goes on from it.
//! Never waits for the runtime, and never passes on its end of the channel: the end of that tells.

mod exec_barrier;
mod lost_children;
mod mirror;
mod notify;
mod record;
mod successor;
mod tell;

pub(crate) use exec_barrier::ExecBarrier;
pub(crate) use mirror::{BASE, SUPERVISION, Succession};
pub use successor::succeed;
