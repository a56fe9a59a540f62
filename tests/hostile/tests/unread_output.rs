//! What mainstay prints may find no reader: a full pipe, a stopped terminal, a reader that is gone.
//! Owns the other ends. Never reads from them.

use std::io;
use std::os::fd::OwnedFd;

use crate::setup::{Setup, Trees};

/// How it goes with this output, while a module crashes all the time and there is much to tell.
fn goes_on_with(output: OwnedFd) {
    let soon = "{ initial = \"10ms\", floor = \"10ms\", max = \"10ms\" }";
    let more = format!("required = false\nrecovery.backoff = {soon}");
    let crashing = Setup::new(Trees::Grouped).module("crashing", &["none"], &more);
    let errors = output.try_clone().expect("the same output");
    let setup = crashing.printing_to(output.into(), errors.into());
    setup.start().withstand(|_| Vec::new());
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_nothing() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    goes_on_with(writer.into());
}
