//! What others may know of a process: when it started, and from which processes it descends.
//! Reads at the moment it is called.
//! Never judges what it finds.

use crate::kernel;

/// Returns the start time of a process, in the unit of
/// [`crate::messages::InstanceInfo::start_time`]; none if it has exited.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let seen = kernel::process(i32::try_from(pid).ok()?)?;
    (!seen.zombie).then_some(seen.start_time)
}

/// The most processes above one that are read: reading them costs the process that asks.
const DEPTH_MAX: usize = 128;
/// How often the line is read again of which a process exited meanwhile.
const ATTEMPTS: usize = 3;

/// The processes above this one, nearest first, itself included: (pid, session). None if they are
/// not all known: it has exited, the line changed under the reader, or it is too long. From a part
/// of the line nothing may be concluded: a process decides how many it puts above itself.
#[must_use]
pub fn ancestry(pid: u32) -> Option<Vec<(u32, u32)>> {
    let pid = i32::try_from(pid).ok()?;
    (0..ATTEMPTS).find_map(|_| kernel::look_at(pid, whole_line)?)
}

fn whole_line(pid: i32) -> Option<Vec<(u32, u32)>> {
    let mut line = Vec::new();
    let (mut at, mut youngest) = (pid, u64::MAX);
    while at > 0 {
        // A parent is older than its child: a younger one has the number of one that ended.
        let seen = kernel::process_on_the_way(at).filter(|seen| seen.start_time <= youngest)?;
        if line.len() == DEPTH_MAX {
            return None;
        }
        line.push((seen.pid.unsigned_abs(), seen.session.unsigned_abs()));
        (at, youngest) = (seen.parent, seen.start_time);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessInfo;

    #[test]
    fn we_descend_from_ourselves() {
        let own = std::process::id();
        let line = ancestry(own).expect("a line that ends");
        assert_eq!(line.first().map(|(pid, _)| *pid), Some(own));
        let parent = std::os::unix::process::parent_id();
        let above = line.get(1).map(|(pid, _)| *pid);
        assert_eq!(above, (parent > 0).then_some(parent), "{line:?}");
    }

    #[test]
    fn of_a_process_that_is_gone_no_line_is_known() {
        assert_eq!(ancestry(0x3fff_ffff), None);
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
