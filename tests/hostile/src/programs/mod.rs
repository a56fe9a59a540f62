//! The programs by their names.
//! Owns the list. Never runs two at once.

mod bystander;
mod connection;
mod datagram;
mod datagram_flood;
mod deep_ancestry;
mod descriptor_giver;
mod escapee;
mod fifo_layer;
mod fork_bomb;
mod line_flooder;
mod link_swapper;
mod log_flooder;
mod mark_guesser;
mod namesake;
mod notify_forger;
mod pid_recycler;
mod refuser;
mod seat_taker;
mod stream_stuffer;
mod words;

use std::io;

use nix::unistd::alarm;
use words::Words;

type Program = fn(&Words) -> io::Result<()>;

const PROGRAMS: &[(&str, Program)] = &[
    ("datagram-flood", datagram_flood::run),
    ("deep-ancestry", deep_ancestry::run),
    ("descriptor-giver", descriptor_giver::run),
    ("escapee", escapee::run),
    ("escapee-last", escapee::last),
    ("escapee-middle", escapee::middle),
    ("fifo-layer", fifo_layer::run),
    ("fork-bomb", fork_bomb::run),
    ("fork-bomb-part", fork_bomb::part),
    ("line-flooder", line_flooder::run),
    ("link-swapper", link_swapper::run),
    ("log-flooder", log_flooder::run),
    ("mark-guesser", mark_guesser::run),
    ("namesake", namesake::run),
    ("namesake-leader", namesake::leader),
    ("notify-forger", notify_forger::run),
    ("notify-once", notify_forger::once),
    ("pid-recycler", pid_recycler::run),
    ("refuser", refuser::run),
    ("resigner", namesake::resigner),
    ("resigner-next", namesake::resigner_next),
    ("seat-taker", seat_taker::run),
    ("small-namespace", pid_recycler::small_namespace),
    ("small-namespace-stage", pid_recycler::stage),
    ("stamp", bystander::stamp),
    ("stream-stuffer", stream_stuffer::run),
    ("talk", bystander::talk),
    ("wait", bystander::wait),
];

/// Seconds after which each of them is ended by the kernel, whatever it waits for.
const LIFE_MAX: u32 = 120;

/// Runs what the first word names with the words behind it.
pub(crate) fn run(mut given: impl Iterator<Item = String>) -> io::Result<()> {
    let name = given.next().unwrap_or_default();
    let program = PROGRAMS.iter().find(|(known, _)| *known == name);
    let unknown = || io::Error::other(format!("cannot run {name:?}: there is no such program"));
    let (_, run) = program.ok_or_else(unknown)?;
    alarm::set(LIFE_MAX);
    run(&Words(given.collect()))
}
