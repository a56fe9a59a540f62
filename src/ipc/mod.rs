//! Bytes on a socket to words of the protocol, words to actors; who is asking.
//! Owns connections while they last, the event bus, and the views readers get.
//! Never decides about a module: it asks the actors and shows what they published.

pub(crate) mod allowance;
pub(crate) mod bus;
pub(crate) mod connection;
mod follow;
mod line;
pub(crate) mod lobby;
mod methods;
mod outbox;
mod peer;
pub(crate) mod requests;
pub(crate) mod seat;
pub(crate) mod token;
pub(crate) mod view;
