//! A file whose last close never returns: on a FUSE file system that does not answer FLUSH.
//! Owns the mount and the open file, in a namespace and a descriptor table of one thread: a table
//! that processes copy must not have it.
//! Never leaves a process waiting: dropped, it aborts the connection.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// An open file for reading.
const REGULAR: u32 = libc::S_IFREG | 0o644;

/// The file system, of one file.
pub(crate) struct Fuse {
    /// The file, open, as another process of root finds it.
    pub(crate) path: PathBuf,
    flushes: Arc<AtomicUsize>,
    sends: Option<SyncSender<PathBuf>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Fuse {
    /// None, and a word why, where there is no FUSE or this user may not mount it.
    pub(crate) fn mount() -> Option<Fuse> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: not tested");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let flushes = Arc::new(AtomicUsize::new(0));
        let (sends, to) = sync_channel::<PathBuf>(8);
        let (opened, open) = sync_channel(1);
        let counter = Arc::clone(&flushes);
        let holds = std::thread::spawn(move || {
            let Some(server) = mounted(&path) else {
                return;
            };
            let serves = std::thread::spawn(move || serve(server, &counter));
            let file = File::open(&path).unwrap();
            let (pid, thread) = (std::process::id(), nix::unistd::gettid());
            let at = format!("/proc/{pid}/task/{thread}/fd/{}", file.as_raw_fd());
            opened.send(PathBuf::from(at)).unwrap();
            for socket in to {
                send(&file, &socket);
            }
            let _ = umount2(&path, MntFlags::MNT_FORCE); // aborts, though it is busy
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            serves.join().unwrap();
        });
        let Ok(path) = open.recv() else {
            eprintln!("no FUSE can be mounted here: not tested");
            return None;
        };
        Some(Fuse {
            path,
            flushes,
            sends: Some(sends),
            thread: Some(holds),
            _dir: dir,
        })
    }

    /// Sends three descriptors of the file to a notify socket.
    pub(crate) fn send(&self, socket: PathBuf) {
        self.sends.as_ref().unwrap().send(socket).unwrap();
    }

    /// How many closes wait for an answer.
    pub(crate) fn flushes(&self) -> usize {
        self.flushes.load(Ordering::SeqCst)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        drop(self.sends.take());
        let _ = self.thread.take().unwrap().join();
    }
}

fn send(file: &File, path: &Path) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    // Not one of them is closed here: that would wait as well.
    let fds = [0; 3].map(|_| file.try_clone().unwrap().into());
    let fds = std::mem::ManuallyDrop::new(fds);
    mainstay_holder::send_with_fds(&socket, b"STATUS=x", &*fds).unwrap();
}

/// Mounts it where only this thread sees it.
fn mounted(path: &Path) -> Option<File> {
    let none = None::<&str>;
    let flags = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FILES;
    unshare(flags).ok()?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
    let server = File::options().read(true).write(true).open("/dev/fuse");
    let server = server.ok()?;
    let options = format!(
        "fd={},rootmode={REGULAR:o},user_id=0,group_id=0,allow_other",
        server.as_raw_fd()
    );
    let options = Some(&*options);
    mount(Some("test"), path, Some("fuse"), MsFlags::empty(), options).ok()?;
    Some(server)
}

/// Answers what opens a file; ends when the connection is aborted.
fn serve(mut server: File, flushes: &AtomicUsize) {
    let mut request = vec![0; 256 * 1024];
    while let Ok(length @ 40..) = server.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(length >= 40);
        let words: Vec<u32> = match word(4) {
            FLUSH => {
                flushes.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            INIT => {
                let mut out = vec![7, 31, 0, 0, 0, 4096, 1];
                out.resize(16, 0);
                out
            }
            OPEN => vec![1, 0, 0, 0],
            GETATTR => {
                let mut out = vec![0; 26];
                (out[4], out[19], out[20]) = (1, REGULAR, 1);
                out
            }
            _ => Vec::new(),
        };
        let error = if words.is_empty() { -libc::ENOSYS } else { 0 };
        let mut answer = Vec::new();
        answer.extend((16 + 4 * words.len() as u32).to_ne_bytes());
        answer.extend(error.to_ne_bytes());
        answer.extend(&request[8..16]);
        words
            .iter()
            .for_each(|one| answer.extend(one.to_ne_bytes()));
        let _ = server.write_all(&answer); // the process that asked may be gone
    }
}
