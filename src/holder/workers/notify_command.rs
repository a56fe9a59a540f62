//! What is requested of the thread that receives sd_notify messages, and what others see of it.
//! Owns what both sides share.
//! Never has a descriptor: the thread has a table of its own.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
#[cfg(target_os = "linux")]
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

use mainstay_process::Instance;

#[cfg(target_os = "linux")]
use crate::reexec::{HandedOver, NotifyThreadState};
use crate::workers::membership::RunTree;

/// In the place of an instance: the socket is the one to which all is sent.
#[cfg(target_os = "linux")]
pub(super) const MIRROR: u32 = u32::MAX;

/// What is requested of the thread.
#[derive(Debug)]
pub(crate) enum Command {
    Bind {
        id: u32,
        /// Generation, name and user.
        run: (u64, Instance, u32),
        reply: SyncSender<io::Result<PathBuf>>,
    },
    Open {
        id: u32,
        generation: u64,
        tree: RunTree,
    },
    Drain(u32, u64, i32),
    Close(u32, u64),
    Forget(u32),
    Restore,
    /// Reply with all there is, then wait for the end of the second.
    #[cfg(target_os = "linux")]
    HandOver(SyncSender<HandedOver>, Receiver<()>),
    /// Take so many descriptors, which are sent after the first reply.
    #[cfg(target_os = "linux")]
    Resume(
        NotifyThreadState<usize>,
        usize,
        SyncSender<()>,
        SyncSender<io::Result<()>>,
    ),
}

#[cfg(target_os = "linux")]
impl Command {
    /// The instance whose socket or store it may change.
    pub(super) fn instance(&self) -> Option<u32> {
        match self {
            Command::Bind { id, .. }
            | Command::Open { id, .. }
            | Command::Close(id, _)
            | Command::Forget(id) => Some(*id),
            Command::Drain(..) | Command::Restore | Command::HandOver(..) | Command::Resume(..) => {
                None
            }
        }
    }
}

/// What both sides use: no descriptor, for they do not share a table.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) commands: Mutex<Vec<Command>>,
    /// The numbers and names of the descriptors that each instance has stored.
    pub(super) stored: Mutex<HashMap<u32, Vec<(u32, String)>>>,
    /// Where the sockets are.
    pub(super) folder: PathBuf,
    pub(super) quit: AtomicBool,
}
