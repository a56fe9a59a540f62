//! Descriptors that modules leave with us for their next run (FDSTORE).
//! Owns them: each file once, at most so many an instance, until the instance is forgotten.
//! Never reads or writes one, never waits for one to close.

use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::SockType};
use nix::sys::stat::fstat;

use crate::kernel::{Poller, is_pipe, is_same_file};
use crate::poll_key;
use crate::spawn::exec_spec::STORED_MAX;
use crate::workers::foreign_fd::{ForeignFd, NamedFd};

/// What one without a name is called.
const UNNAMED: &str = "stored";
const NAME_BYTES: usize = 255;

#[derive(Debug)]
struct StoredFd {
    name: String,
    fd: Arc<ForeignFd>,
    key: u64,
}

/// What one instance left.
#[derive(Debug, Default)]
pub(crate) struct FdStore {
    kept: Vec<StoredFd>,
    last_key: u64,
}

impl FdStore {
    /// Keeps these, watched for a hang-up if `watch`; says what of it is not done.
    pub(crate) fn put(
        &mut self,
        (poll, id): (&Poller, u32),
        name: Option<&str>,
        fds: Vec<ForeignFd>,
        watch: bool,
    ) -> Option<String> {
        let good = name.filter(|name| is_name(name));
        let mut problem = (name.is_some() && good.is_none()).then(|| {
            format!(
                "cannot use the FDNAME it gave, it is kept as `{UNNAMED}`; choose 1 to \
                 {NAME_BYTES} printable ASCII characters without `:`"
            )
        });
        for (number, fd) in fds.into_iter().enumerate() {
            // Without a comparison with those that are kept: a message costs the loop a bounded
            // time.
            if self.kept.len() >= STORED_MAX || number >= STORED_MAX {
                problem = Some(format!(
                    "cannot store more than {STORED_MAX} descriptors; remove some with \
                     FDSTOREREMOVE=1"
                ));
            } else if !self.kept.iter().any(|one| is_same(&one.fd, &fd)) {
                self.last_key = (self.last_key + 1) & 0xff_ffff;
                let key = self.last_key;
                if watch && can_hang_up(&fd) {
                    let about = poll_key::STORED | key << 32 | u64::from(id);
                    poll.add_for_end(&fd, about);
                }
                let name = good.unwrap_or(UNNAMED).to_owned();
                let fd = Arc::new(fd);
                self.kept.push(StoredFd { name, fd, key });
            }
        }
        problem
    }

    /// Drops those of this name; how many.
    pub(crate) fn remove(&mut self, poll: &Poller, name: &str) -> usize {
        self.drop_if(poll, |one| one.name == name)
    }

    /// Nobody is at the other end of this one any more.
    pub(crate) fn hung_up(&mut self, poll: &Poller, key: u64) {
        self.drop_if(poll, |one| one.key == key);
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, poll: &Poller) {
        self.drop_if(poll, |_| true);
    }

    /// What the next run is given.
    pub(crate) fn for_next_run(&self) -> impl Iterator<Item = NamedFd> {
        let share = |one: &StoredFd| (one.name.clone(), Arc::clone(&one.fd));
        self.kept.iter().map(share)
    }

    fn drop_if(&mut self, poll: &Poller, goes: impl Fn(&StoredFd) -> bool) -> usize {
        let before = self.kept.len();
        let (gone, kept): (Vec<_>, _) = self.kept.drain(..).partition(goes);
        self.kept = kept;
        for one in &gone {
            // The file may stay open elsewhere: closing alone would leave it watched.
            poll.delete(&*one.fd);
        }
        before - self.kept.len()
    }
}

fn is_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES).contains(&name.len());
    fits && name.chars().all(|c| matches!(c, ' '..='~') && c != ':')
}

/// Whether a descriptor is of a kind that is polled without asking a file system, which may take as
/// long as it likes.
fn can_hang_up(fd: &ForeignFd) -> bool {
    is_pipe(fd) || getsockopt(fd, SockType).is_ok()
}

/// Whether both are the same open file. Where the kernel does not say, two of the same inode
/// count as one if they are opened the same way (the ends of a pipe are not).
fn is_same(one: &ForeignFd, other: &ForeignFd) -> bool {
    if let Some(same) = is_same_file(one, other) {
        return same;
    }
    if !can_hang_up(one) || !can_hang_up(other) {
        return false;
    }
    let flags = |fd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).ok();
    match (fstat(one), fstat(other)) {
        (Ok(a), Ok(b)) => {
            let inode = (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
            // Without a number it is one of those that all share a single inode.
            inode && a.st_ino != 0 && flags(one) == flags(other)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use nix::unistd::{dup, pipe};

    #[test]
    fn a_file_is_kept_once_and_both_ends_of_a_pipe_are_two() {
        let poll = Poller::new().unwrap();
        let (read, write) = pipe().unwrap();
        let again = dup(&read).unwrap();
        let closer = Arc::default();
        let [read, write, again] = [read, write, again].map(|fd| ForeignFd::new(fd, &closer));
        let mut store = FdStore::default();
        let put = |store: &mut FdStore, name, fd| store.put((&poll, 1), Some(name), vec![fd], true);
        assert_eq!(put(&mut store, "r", read), None);
        assert_eq!(put(&mut store, "again", again), None);
        assert_eq!(put(&mut store, "w", write), None);
        let names = |store: &FdStore| -> Vec<String> {
            store.for_next_run().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&store), ["r", "w"]);
        assert_eq!(store.remove(&poll, "again"), 0);
        assert_eq!(store.remove(&poll, "r"), 1);
        assert_eq!(names(&store), ["w"]);
    }

    #[test]
    fn a_name_that_cannot_be_passed_on_is_not_used_and_the_number_is_bounded() {
        let poll = Poller::new().unwrap();
        let mut store = FdStore::default();
        let closer = Arc::default();
        let file = || {
            let file = std::fs::File::open("/dev/null").unwrap();
            ForeignFd::new(file.into(), &closer)
        };
        for name in ["a:b", "", "\u{e9}", "a\tb", &"x".repeat(256)] {
            let problem = store.put((&poll, 1), Some(name), vec![file()], true);
            assert!(problem.unwrap().contains("FDNAME"), "{name}");
        }
        assert!(store.for_next_run().all(|(name, _)| name == UNNAMED));
        let many = (0..100).map(|_| file()).collect();
        let problem = store.put((&poll, 1), Some("fine"), many, true);
        assert!(problem.unwrap().contains("64"));
        assert_eq!(store.for_next_run().count(), STORED_MAX);
        store.clear(&poll);
        assert_eq!(store.for_next_run().count(), 0);
    }
}
