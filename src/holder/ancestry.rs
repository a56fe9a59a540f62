//! What others may know of a process: when it started, and from which processes it descends.
//! Owns nothing. Reads at the moment it is called.
//! Never judges what it finds.

use crate::kernel;

/// Returns the start time of a process, in the unit of
/// [`crate::messages::InstanceInfo::start_time`]; none if it has exited.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let seen = kernel::process(i32::try_from(pid).ok()?)?;
    (!seen.zombie).then_some(seen.start_time)
}

/// The processes above this one, nearest first, itself included: (pid, session).
#[must_use]
pub fn ancestry(pid: u32) -> Vec<(u32, u32)> {
    let mut line = Vec::new();
    let mut at = i32::try_from(pid).unwrap_or(0);
    while at > 0 && line.len() < 64 {
        let Some(seen) = kernel::process(at) else {
            break;
        };
        line.push((seen.pid.unsigned_abs(), seen.session.unsigned_abs()));
        at = seen.parent;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessInfo;

    #[test]
    fn we_descend_from_ourselves() {
        let own = std::process::id();
        let line = ancestry(own);
        assert_eq!(line.first().map(|(pid, _)| *pid), Some(own));
        let parent = std::os::unix::process::parent_id();
        let above = line.get(1).map(|(pid, _)| *pid);
        assert_eq!(above, (parent > 0).then_some(parent), "{line:?}");
    }

    #[test]
    fn a_process_with_another_start_time_is_not_signalled() {
        let me = i32::try_from(std::process::id()).expect("a pid");
        let me = kernel::process(me).expect("we exist");
        assert!(kernel::signal_verified(&me, 0));
        let stranger = ProcessInfo {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!kernel::signal_verified(&stranger, libc::SIGKILL));
    }
}
