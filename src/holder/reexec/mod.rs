//! The holder executes another program, with its process number, children and descriptors kept.
//! Owns the state that is passed on, in which form, and the order of the hand-over.
//! Never leaves the holder half way: a program that cannot go on is not executed, or executes the
//! one before.

pub(crate) mod channel;
mod check;
mod execute;
pub(crate) mod groups;
mod hand_over;
pub(crate) mod instances;
pub(crate) mod kept_fds;
mod notify;
pub(crate) mod notify_state;
pub(crate) mod output;
mod pass_fds;
mod request;
pub(crate) mod restore;
pub(crate) mod state;
pub(crate) mod system;

pub use check::check_state;
pub(crate) use notify_state::{HandedOver, NotifyThreadState};
pub(crate) use request::ReexecRequest;
pub use restore::resume;
