//! mainstay withstands its attackers: each test lets one loose on a system that works meanwhile.
//! Owns the list of them; the attackers are the programs beside it. docs/SECURITY.md says what for.
//! Never asks more of the machine than before the attack: what is measured is the difference.
#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests start programs, wait for them and look at the clock themselves"
)]

mod attacker;
mod lateness;
mod setup;
mod system;
mod traces;

mod datagram_flood;
mod descriptor_giver;
mod escapee;
mod everyone;
mod fifo_layer;
mod fork_bomb;
mod line_flooder;
mod link_swapper;
mod log_flooder;
mod mark_guesser;
mod namesake;
mod nobody;
mod notify_forger;
mod pid_recycler;
mod refuser;
mod seat_taker;
mod stream_stuffer;
mod unread_output;
