//! Sockets of modules that listen before their first start and over all runs (LISTEN_FDS).
//! Owns their descriptors, which the runtime has bound, until the instance is forgotten.
//! Never binds or accepts: what comes waits for the module in the kernel's queue.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mainstay_process::{ActivationSocket, StartStep};

use crate::kernel::Poller;
use crate::messages::BoundSocket;
use crate::poll_key;
use crate::spawn::exec_spec::SOCKETS_MAX;
use crate::spawn::spawn_error::SpawnError;
use crate::workers::foreign_fd::{Closer, ForeignFd, NamedFd};

#[derive(Debug)]
pub(crate) struct KeptSocket {
    pub(crate) bound: BoundSocket,
    pub(crate) fd: Arc<ForeignFd>,
}

/// Those of one instance.
#[derive(Debug, Default)]
pub(crate) struct ActivationSockets {
    pub(crate) kept: Vec<KeptSocket>,
    pub(crate) closer: Arc<Closer>,
    /// Whether the first connection is to be reported while nothing runs.
    pub(crate) wants_activation: bool,
}

impl ActivationSockets {
    /// Keeps these and no others: the descriptors of `passed` are new, the rest is here. Returns
    /// those that no longer listen.
    pub(crate) fn keep(
        &mut self,
        sockets: Vec<BoundSocket>,
        passed: &[u32],
        fds: Vec<OwnedFd>,
    ) -> Vec<BoundSocket> {
        let mut fds = fds.into_iter();
        let before = std::mem::take(&mut self.kept);
        for (bound, place) in sockets.into_iter().zip(0..) {
            let fd = if passed.contains(&place) {
                fds.next()
                    .map(|fd| Arc::new(ForeignFd::new(fd, &self.closer)))
            } else {
                let address = &bound.socket.address;
                let same = before
                    .iter()
                    .find(|one| one.bound.socket.address == *address);
                same.map(|one| Arc::clone(&one.fd))
            };
            self.kept.extend(fd.map(|fd| KeptSocket { bound, fd }));
        }
        let address = |one: &KeptSocket| one.bound.socket.address.clone();
        let kept: Vec<String> = self.kept.iter().map(address).collect();
        let dropped = before
            .into_iter()
            .filter(|one| !kept.contains(&address(one)));
        dropped.map(|one| one.bound).collect()
    }

    /// What each run is given, in the order of the configuration.
    ///
    /// # Errors
    /// One of them was not passed, or they are too many.
    pub(crate) fn given(&self, wanted: &[ActivationSocket]) -> Result<Vec<NamedFd>, SpawnError> {
        let failed = |errno, what: &str| SpawnError::new(StartStep::Descriptors, errno, what);
        if wanted.len() > SOCKETS_MAX {
            let what = format!("pass on more than {SOCKETS_MAX} sockets");
            return Err(failed(libc::E2BIG, &what));
        }
        let given = wanted.iter().map(|socket| {
            let kept = self.kept.iter().find(|one| one.bound.socket == *socket);
            let kept = kept.ok_or_else(|| {
                let what = format!("pass on the socket {}: the holder has none", socket.name);
                failed(libc::EBADF, &what)
            })?;
            Ok((socket.name.clone(), Arc::clone(&kept.fd)))
        });
        given.collect()
    }

    /// What is kept.
    pub(crate) fn bound(&self) -> Vec<BoundSocket> {
        self.kept.iter().map(|one| one.bound.clone()).collect()
    }

    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        let kept = self.kept.get(at);
        kept.map(|one| one.bound.socket.name.as_str())
    }

    /// Watches them while the instance does not run, if its first connection is to be reported.
    pub(crate) fn watch(&self, poll: &Poller, id: u32) {
        for (at, one) in self
            .kept
            .iter()
            .enumerate()
            .filter(|_| self.wants_activation)
        {
            let about = poll_key::ACTIVATION | (at as u64) << 32 | u64::from(id);
            let _ = poll.add(&*one.fd, about); // without it an operation starts it, or a call
        }
    }

    pub(crate) fn unwatch(&self, poll: &Poller) {
        for one in self.kept.iter().filter(|_| self.wants_activation) {
            poll.delete(&*one.fd); // it may not be watched at the moment
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::fd::AsRawFd;

    fn bound(name: &str) -> BoundSocket {
        let (name, address) = (name.to_owned(), format!("/{name}"));
        let socket = ActivationSocket { name, address };
        let file = Some((1, 2));
        BoundSocket { socket, file }
    }

    #[test]
    fn what_is_named_again_is_kept_and_the_rest_is_dropped() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut sockets = ActivationSockets::default();
        let (a, b) = (bound("a"), bound("b"));
        let dropped = sockets.keep(vec![a.clone(), b.clone()], &[0, 1], vec![file(), file()]);
        assert_eq!(dropped, []);
        let wanted = [b.socket.clone(), a.socket.clone()];
        let numbers = |sockets: &ActivationSockets, wanted: &[ActivationSocket]| -> Vec<i32> {
            let given = sockets.given(wanted).unwrap();
            given.iter().map(|(_, fd)| fd.as_raw_fd()).collect()
        };
        let before = numbers(&sockets, &wanted);
        let dropped = sockets.keep(vec![b.clone()], &[], Vec::new());
        assert_eq!(dropped, [a]);
        assert_eq!(numbers(&sockets, &wanted[..1]), before[..1]);
        let error = sockets.given(&wanted).unwrap_err();
        assert_eq!(error.failure.errno, libc::EBADF, "{error:?}");
        // Bound again at the same address, it is another descriptor, and the file stays.
        let (again, number) = (file(), |fd: &OwnedFd| fd.as_raw_fd());
        let expected = number(&again);
        assert_eq!(sockets.keep(vec![b.clone()], &[0], vec![again]), []);
        assert_eq!(numbers(&sockets, &wanted[..1]), [expected]);
        assert_eq!(sockets.bound(), [b]);
    }
}
