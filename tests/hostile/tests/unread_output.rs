//! What mainstay prints may find no reader: a full pipe, a stopped terminal, a reader that is gone.
//! Owns the other ends. Never reads from them.

use std::io;
use std::os::fd::OwnedFd;

use crate::setup::{Setup, Trees};
use crate::system::withstand;

/// A system that prints to this, where a module crashes all the time and there is much to tell.
fn printing_to(output: OwnedFd) -> Setup {
    let soon = "{ initial = \"10ms\", floor = \"10ms\", max = \"10ms\" }";
    let more = format!("required = false\nrecovery.backoff = {soon}");
    let crashing = Setup::new(Trees::Grouped).module("crashing", &["none"], &more);
    let errors = output.try_clone().expect("the same output");
    crashing.printing_to(output.into(), errors.into())
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_nothing() {
    let setup = || {
        let (_, writer) = io::pipe().expect("a pipe");
        printing_to(writer.into())
    };
    withstand(setup, |_| Vec::new());
}
