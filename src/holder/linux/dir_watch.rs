//! Notices that a directory was removed, renamed or emptied, or one above it: inotify.
//! Owns the descriptor, which becomes readable then.
//! Never says what happened: its owner checks what is in place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Watched directories.
#[derive(Debug)]
pub(crate) struct DirWatch(Inotify);

impl DirWatch {
    pub(crate) fn new() -> io::Result<DirWatch> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        Ok(DirWatch(Inotify::init(flags)?))
    }

    /// Watches this directory, its entries and the directories above it. What cannot be watched,
    /// for want of a permission or of watches, is left out.
    pub(crate) fn add(&self, path: &Path) {
        // Two watched directories have most of those above them in common.
        let always = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
        let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | always;
        for above in path.ancestors().skip(1) {
            let _ = self.0.add_watch(above, gone);
        }
        let _ = self.0.add_watch(path, gone | AddWatchFlags::IN_DELETE);
    }

    /// Empties the descriptor.
    pub(crate) fn clear(&self) {
        while self.0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for DirWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::fs;

    fn noticed(watch: &DirWatch) -> bool {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        let readable = poll(&mut fds, PollTimeout::from(0_u8)).unwrap() > 0;
        watch.clear();
        readable
    }

    #[test]
    fn what_goes_away_is_noticed_and_what_comes_is_not() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("above/run");
        fs::create_dir_all(&run).unwrap();
        let watch = DirWatch::new().unwrap();
        watch.add(&run);
        watch.add(&home.path().join("none/at/all"));
        fs::write(run.join("holder.json.new"), "").unwrap();
        fs::rename(run.join("holder.json.new"), run.join("holder.json")).unwrap();
        fs::create_dir(run.join("notify")).unwrap();
        fs::write(run.join("notify/a.sock"), "").unwrap();
        fs::remove_file(run.join("notify/a.sock")).unwrap();
        assert!(!noticed(&watch));
        fs::remove_file(run.join("holder.json")).unwrap();
        assert!(noticed(&watch), "an entry");
        fs::rename(home.path().join("above"), home.path().join("away")).unwrap();
        assert!(noticed(&watch), "the directory above");
        fs::remove_dir_all(home.path().join("away")).unwrap();
        assert!(noticed(&watch), "itself");
    }
}
