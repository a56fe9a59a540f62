//! Forensics: what a run is doing just before it is killed, written down as one JSON file.
//! Owns the bounds (time, processes, threads, descriptors, bytes) and the retention of the files.
//! Never delays a kill, and never blocks an actor: reading happens on a thread that may hang.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{LiveProcess, private, tail};

#[cfg(target_os = "linux")]
mod procfs;

/// Time that a capture has; what is read by then is kept.
pub(crate) const CAPTURE_TIMEOUT: Duration = Duration::from_secs(2);
/// Captures at the same time, those that hang in the kernel included.
const CAPTURES_MAX: usize = 4;
/// Lines of the log, and bytes of the file that are searched for them.
const LOG_LINES: usize = 50;
const LOG_BYTES: u64 = 64 * 1024;
/// Bytes of one bundle.
const BUNDLE_BYTES_MAX: usize = 1024 * 1024;
/// What the name of each bundle ends with.
const SUFFIX: &str = ".forensics.json";

/// How many captures are running.
#[derive(Debug, Default, Clone)]
pub(crate) struct CaptureSlots(Arc<AtomicUsize>);

/// One of the slots, until its thread has ended.
struct CaptureSlot(Arc<AtomicUsize>);

impl CaptureSlots {
    fn take(&self) -> Option<CaptureSlot> {
        let take = |count: usize| (count < CAPTURES_MAX).then_some(count + 1);
        let taken = self.0.try_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.is_ok().then(|| CaptureSlot(Arc::clone(&self.0)))
    }
}

impl Drop for CaptureSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is to be captured.
#[derive(Debug, Clone)]
pub(crate) struct CaptureRequest {
    /// The instance, as the holder names it.
    pub(crate) instance: String,
    /// Its main process.
    pub(crate) process: LiveProcess,
    /// Why it is killed, a noun.
    pub(crate) reason: &'static str,
    /// Its log.
    pub(crate) log: PathBuf,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// What was captured; the thread fills it part by part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundle(Arc<Mutex<Map<String, Value>>>);

impl Bundle {
    fn parts(&self) -> MutexGuard<'_, Map<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &str, value: Value) {
        self.parts().insert(name.to_owned(), value);
    }

    /// What there is so far, as text of bounded length.
    fn text(&self) -> String {
        let mut parts = self.parts().clone();
        let mut text = Value::Object(parts.clone()).to_string();
        // The largest parts are the least worth.
        for name in ["maps", "descriptors", "threads", "log", "processes"] {
            if text.len() <= BUNDLE_BYTES_MAX {
                break;
            }
            parts.insert(name.to_owned(), json!("too long, left out"));
            text = Value::Object(parts.clone()).to_string();
        }
        text
    }
}

/// Captures on a thread of its own. Completes after [`CAPTURE_TIMEOUT`] at the latest, with what
/// was read by then; None: too many captures are running.
pub(crate) async fn capture(slots: &CaptureSlots, request: CaptureRequest) -> Option<Bundle> {
    let slot = slots.take()?;
    let bundle = Bundle::default();
    let filled = bundle.clone();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("forensics".to_owned());
    let thread = thread.stack_size(256 * 1024).spawn(move || {
        let _slot = slot;
        fill(&filled, &request);
        let _waits_no_longer = done.send(());
    });
    thread.ok()?;
    let in_time = tokio::time::timeout(CAPTURE_TIMEOUT, finished)
        .await
        .is_ok();
    bundle.set("complete", json!(in_time));
    Some(bundle)
}

fn fill(bundle: &Bundle, request: &CaptureRequest) {
    let process = request.process;
    bundle.set("reason", json!(request.reason));
    bundle.set("instance", json!(request.instance));
    bundle.set("generation", json!(process.generation));
    bundle.set("pid", json!(process.pid));
    bundle.set("at_ms", json!(request.at_ms));
    bundle.set("version", json!(env!("CARGO_PKG_VERSION")));
    let log = tail::last_lines(&request.log, LOG_LINES, LOG_BYTES).unwrap_or_default();
    let cut = |line: &String| line.chars().take(1000).collect::<String>();
    bundle.set("log", json!(log.iter().map(cut).collect::<Vec<_>>()));
    #[cfg(target_os = "linux")]
    procfs::fill(bundle, request);
}

/// How many bundles are kept, and how many bytes of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Bundles.
    pub(crate) keep: usize,
    /// Bytes.
    pub(crate) max_bytes: u64,
}

/// Writes a bundle into `folder`, for this user alone, and removes the oldest ones beyond what is
/// kept. Returns its path and its length. Blocks.
///
/// # Errors
/// What the system says.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    bundle: &Bundle,
    retention: Retention,
) -> io::Result<(PathBuf, u64)> {
    private::private_dir(folder)?;
    let text = bundle.text();
    let path = folder.join(format!("{name}{SUFFIX}"));
    let mut file = private::create_new(&path)?;
    file.write_all(text.as_bytes())?;
    remove_oldest(folder, retention)?;
    Ok((path, text.len() as u64))
}

fn remove_oldest(folder: &Path, retention: Retention) -> io::Result<()> {
    let mut bundles = list(folder)?;
    bundles.sort();
    let mut bytes = 0_u64;
    for (count, (_, length, path)) in bundles.iter().rev().enumerate() {
        bytes = bytes.saturating_add(*length);
        if count >= retention.keep || (count > 0 && bytes > retention.max_bytes) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {} // or another module's capture removed it
            }
        }
    }
    Ok(())
}

/// The bundles in a folder: when each was written, its length, its path.
fn list(folder: &Path) -> io::Result<Vec<(std::time::SystemTime, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let is_bundle = entry.file_name().to_string_lossy().ends_with(SUFFIX);
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if is_bundle && about.is_file() {
            found.push((about.modified()?, about.len(), entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(length: usize) -> Bundle {
        let bundle = Bundle::default();
        bundle.set("log", json!("x".repeat(length)));
        bundle
    }

    #[test]
    fn the_oldest_bundles_go_by_number_and_by_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("forensics");
        let by_number = Retention {
            keep: 3,
            max_bytes: u64::MAX,
        };
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("notes.txt"), "of a person").expect("a file");
        for number in 0..6 {
            write(&folder, &format!("a-{number}"), &bundle(10), by_number).expect("written");
        }
        assert_eq!(list(&folder).expect("read").len(), 3);
        let by_bytes = Retention {
            keep: 100,
            max_bytes: 2500,
        };
        for number in 6..12 {
            write(&folder, &format!("a-{number}"), &bundle(1000), by_bytes).expect("written");
        }
        assert_eq!(list(&folder).expect("read").len(), 2);
        assert!(folder.join("notes.txt").exists(), "it is no bundle");
    }

    #[test]
    fn a_bundle_is_bounded_and_for_its_user_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let retention = Retention {
            keep: 3,
            max_bytes: u64::MAX,
        };
        let huge = bundle(3 * BUNDLE_BYTES_MAX);
        let (path, length) = write(dir.path(), "huge", &huge, retention).expect("written");
        assert!(length < 1000, "{length}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        }
        assert!(
            write(dir.path(), "huge", &huge, retention).is_err(),
            "it is there: {path:?}"
        );
    }

    #[test]
    fn captures_that_hang_take_no_more_than_their_slots() {
        let slots = CaptureSlots::default();
        let mut taken: Vec<_> = (0..CAPTURES_MAX).map(|_| slots.take()).collect();
        assert!(taken.iter().all(Option::is_some) && slots.take().is_none());
        taken.pop();
        assert!(slots.take().is_some());
    }
}
