//! The holder executes another program, with its process number, children and descriptors kept.
//! Owns the state that is passed on, in which form, and the order of the hand-over.
//! Never leaves the holder half way: a program that cannot go on is not executed, or executes the
//! one before.

mod channel;
mod check;
mod execute;
mod groups;
mod hand_over;
mod instances;
mod kept_fds;
mod notify;
mod notify_state;
mod output;
mod pass_fds;
mod request;
mod restore;
mod state;
mod system;

pub use check::check_state;
pub(crate) use notify_state::{HandedOver, NotifyThreadState};
pub(crate) use request::ReexecRequest;
pub use restore::resume;
