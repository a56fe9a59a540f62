//! Modules whose holder is gone: ending them is all that is left.
//! Owns nothing; each is named by its identity for the moment of a signal.
//! Never signals a process that may be another by now: nobody reaps for us any more.

use mainstay_holder::messages::HolderRequest;
use mainstay_process::Instance;

use super::{LiveProcess, machine};

/// Does what the holder was asked for, if it is to ask for the end or to end.
pub(super) fn end_orphans(ask: &HolderRequest, alive: impl Fn(&Instance) -> Option<LiveProcess>) {
    let pinned = |instance: &Instance, generation: u64| {
        let alive = alive(instance)?;
        (alive.generation == generation)
            .then(|| machine::VerifiedProcess::new(alive.pid, alive.start_time))?
            .map(|pinned| (pinned, alive.pid))
    };
    match ask {
        HolderRequest::Signal {
            instance,
            generation,
            signal,
            cont,
            within_ms: _,
        } => {
            if let Some((process, _)) = pinned(instance, *generation) {
                process.signal(signal.0);
                if *cont {
                    process.signal(libc::SIGCONT);
                }
            }
        }
        HolderRequest::Kill {
            instance,
            generation,
        } => {
            if let Some((process, pid)) = pinned(instance, *generation) {
                process.signal(libc::SIGKILL); // it may lead no group
                // The pin keeps the pid, and with it the group id, from being reused.
                let group = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(0));
                let _already_gone = nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL);
            }
        }
        _ => {}
    }
}
