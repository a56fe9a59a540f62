//! What mainstay prints may find no reader: a full pipe, a stopped terminal, a reader that is gone.
//! Owns the other ends. Never reads from them.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;

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

#[test]
fn a_pipe_that_nobody_reads_holds_nothing_up() {
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag");
    let setup = || printing_to(writer.try_clone().expect("the same pipe").into());
    withstand(setup, |_| Vec::new());
}

#[test]
fn a_terminal_that_is_stopped_holds_nothing_up() {
    let terminal = openpty(None, None).expect("a terminal");
    let mut keyboard = fs::File::from(terminal.master);
    keyboard.write_all(b"\x13").expect("a key"); // Ctrl-S
    let setup = || printing_to(terminal.slave.try_clone().expect("the same terminal"));
    withstand(setup, |_| Vec::new());
}
