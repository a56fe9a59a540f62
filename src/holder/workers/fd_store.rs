//! Descriptors that modules store for their next run (FDSTORE).
//! Owns them: each file once, at most 64 of an instance, until the instance is forgotten.
//! Never reads or writes one, never waits for one to close.

use nix::sys::socket::{getsockopt, sockopt::SockType};
use nix::sys::stat::fstat;

use crate::kernel::{Poller, is_pipe, is_same_file};
use crate::spawn::exec_spec::STORED_MAX;
use crate::workers::foreign_fd::ForeignFd;
use crate::workers::notify::{has_line, value};

/// Marks the keys of watched descriptors; the number of the instance is in the low half.
pub(crate) const STORED: u64 = 1 << 63;

/// What one without a name is called.
const UNNAMED: &str = "stored";
const NAME_BYTES: usize = 255;

#[derive(Debug)]
pub(crate) struct StoredFd {
    pub(crate) name: String,
    pub(crate) fd: ForeignFd,
    key: u32,
    /// It is dropped at a hang-up.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only a holder that executes another reads it")
    )]
    pub(crate) watched: bool,
}

/// The store of one instance.
#[derive(Debug, Default)]
pub(crate) struct FdStore {
    pub(crate) kept: Vec<StoredFd>,
    last_key: u32,
}

impl FdStore {
    /// Does what a message requests; returns what of it is not done.
    pub(crate) fn apply(
        &mut self,
        watch: (&Poller, u32),
        text: &str,
        fds: Vec<ForeignFd>,
    ) -> Option<String> {
        let name = value(text, "FDNAME");
        if has_line(text, "FDSTOREREMOVE=1") {
            let removed = name.map_or(0, |name| self.remove(watch.0, name));
            let which = name.unwrap_or("a descriptor without FDNAME");
            (removed == 0).then(|| format!("cannot remove {which}: nothing of that name is stored"))
        } else if has_line(text, "FDSTORE=1") {
            self.put(watch, name, fds, !has_line(text, "FDPOLL=0"))
        } else {
            None
        }
    }

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
            // Without a comparison with those that are kept: a message takes a bounded time.
            if self.kept.len() >= STORED_MAX || number >= STORED_MAX {
                problem = Some(format!(
                    "cannot store more than {STORED_MAX} descriptors; remove some with \
                     FDSTOREREMOVE=1"
                ));
            } else if !self.kept.iter().any(|one| is_same(&one.fd, &fd)) {
                self.last_key = (self.last_key + 1) & 0xff_ffff;
                let key = self.last_key;
                if watch && can_hang_up(&fd) {
                    poll.add_for_end(&fd, STORED | u64::from(key) << 32 | u64::from(id));
                }
                let name = good.unwrap_or(UNNAMED).to_owned();
                self.kept.push(StoredFd {
                    name,
                    fd,
                    key,
                    watched: watch,
                });
            }
        }
        problem
    }

    /// Drops those of this name; how many.
    fn remove(&mut self, poll: &Poller, name: &str) -> usize {
        self.drop_if(poll, |one| one.name == name)
    }

    /// The other end of the one with this key of the poller is closed.
    pub(crate) fn hung_up(&mut self, poll: &Poller, key: u64) {
        let key = (key & !STORED) >> 32;
        self.drop_if(poll, |one| u64::from(one.key) == key);
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, poll: &Poller) {
        self.drop_if(poll, |_| true);
    }

    /// Number and name of each, for the next run.
    pub(crate) fn names(&self) -> Vec<(u32, String)> {
        let named = |one: &StoredFd| (one.key, one.name.clone());
        self.kept.iter().map(named).collect()
    }

    /// Number and descriptor of each.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (u32, &ForeignFd)> {
        self.kept.iter().map(|one| (one.key, &one.fd))
    }

    fn drop_if(&mut self, poll: &Poller, goes: impl Fn(&StoredFd) -> bool) -> usize {
        let before = self.kept.len();
        let (gone, kept): (Vec<_>, _) = self.kept.drain(..).partition(goes);
        self.kept = kept;
        for one in &gone {
            // The file may stay open elsewhere: closing alone would leave it watched.
            poll.delete(&one.fd);
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
    use std::sync::Arc;

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
            store.names().into_iter().map(|(_, name)| name).collect()
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
        assert!(store.names().iter().all(|(_, name)| name == UNNAMED));
        let many = (0..100).map(|_| file()).collect();
        let problem = store.put((&poll, 1), Some("fine"), many, true);
        assert!(problem.unwrap().contains("64"));
        assert_eq!(store.names().len(), STORED_MAX);
        store.clear(&poll);
        assert_eq!(store.names().len(), 0);
    }
}
