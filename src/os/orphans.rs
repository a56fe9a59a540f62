//! Modules whose holder has exited: a request to signal or to kill one is carried out here.
//! Owns nothing; each process is verified by its start time for the moment of a signal.
//! Never signals a number: with the holder gone, a pid or a group may be another's by now.

use mainstay_holder::messages::HolderRequest;
use mainstay_process::{Instance, Signal};

use super::{LiveProcess, machine};

/// Signals the main process if `ask` is to signal or to kill its run. Once it has exited, the rest
/// of its tree is killed by the task that waits for it (`holder_lost.rs`).
pub(super) fn end_orphans(ask: &HolderRequest, alive: impl Fn(&Instance) -> Option<LiveProcess>) {
    let (run, signal, cont) = match ask {
        HolderRequest::Signal {
            instance,
            generation,
            signal,
            cont,
            within_ms: _,
        } => ((instance, *generation), *signal, *cont),
        HolderRequest::Kill {
            instance,
            generation,
        } => ((instance, *generation), Signal::KILL, false),
        _ => return,
    };
    let alive = alive(run.0).filter(|alive| alive.generation == run.1);
    if let Some(process) =
        alive.and_then(|alive| machine::VerifiedProcess::new(alive.pid, alive.start_time))
    {
        process.signal(signal.0);
        if cont {
            process.signal(libc::SIGCONT);
        }
    }
}
