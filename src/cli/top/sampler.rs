//! Reads the system again and again, on a thread of its own.
//! Owns the connection, and when it is made again.
//! Never queues more than the screen takes: a sample that nobody took is replaced by the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{EventKind, ModuleView, SystemView, Timestamp};

use crate::cli::error::CliError;
use crate::cli::system_locator::SystemLocator;
use crate::cli::terminal;

/// Shortest pause between two samples.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How often failures of the last hour are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const HOUR_MS: u64 = 3_600_000;
/// Failures that are counted at most.
const FAILURES_MAX: usize = 5000;
const QUEUE: usize = 4;

/// The system at one moment.
pub(super) struct Sample {
    pub(super) system: SystemView,
    pub(super) modules: Vec<ModuleView>,
    /// Failures in the last hour, by module.
    pub(super) failures: HashMap<String, usize>,
    pub(super) at: Timestamp,
}

/// What the thread found.
pub(super) enum Update {
    Seen(Box<Sample>),
    /// The runtime does not answer; it is tried again.
    Lost(String),
    /// The system was stopped.
    Stopped(String),
}

/// The thread; it ends when this is dropped.
pub(super) struct Sampler {
    updates: Receiver<Update>,
    is_over: Arc<AtomicBool>,
}

impl Sampler {
    pub(super) fn start(instance: &SystemLocator, interval: Duration) -> Sampler {
        let (sender, updates) = sync_channel(QUEUE);
        let is_over = Arc::new(AtomicBool::new(false));
        let (instance, over) = (instance.clone(), Arc::clone(&is_over));
        let thread = std::thread::Builder::new().name("sampler".to_owned());
        let interval = interval.max(INTERVAL_MIN);
        // Without a thread the first sample stays.
        let _no_thread = thread.spawn(move || sample(&instance, interval, &sender, &over));
        Sampler { updates, is_over }
    }

    pub(super) fn next(&self) -> Option<Update> {
        self.updates.try_recv().ok()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Reads the system once.
pub(super) fn first(instance: &SystemLocator) -> Result<Sample, CliError> {
    read(&mut instance.connect()?, HashMap::new()).and_then(|sample| {
        let failures = failures(&mut instance.connect()?, sample.at)?;
        Ok(Sample { failures, ..sample })
    })
}

#[expect(clippy::disallowed_methods, reason = "the clock of a person who looks")]
fn sample(
    instance: &SystemLocator,
    interval: Duration,
    updates: &SyncSender<Update>,
    is_over: &AtomicBool,
) {
    let mut client = None;
    let mut counted: Option<(Instant, HashMap<String, usize>)> = None;
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let seen = client.take().map_or_else(|| instance.connect(), Ok);
        let seen = seen.and_then(|mut open| {
            let sample = read_all(&mut open, &mut counted)?;
            client = Some(open);
            Ok(sample)
        });
        let update = match seen {
            Ok(sample) => Update::Seen(Box::new(sample)),
            Err(CliError::NotRunning { name, .. }) if instance.is_leaving() => {
                Update::Stopped(format!("mainstay '{name}' was stopped"))
            }
            Err(error) => Update::Lost(error.to_string()),
        };
        // A full queue: the screen is behind, and the next sample is newer.
        let _full_or_over = updates.try_send(update);
        std::thread::sleep(interval.saturating_sub(begun.elapsed()));
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of a person who looks")]
fn read_all(
    client: &mut Client,
    counted: &mut Option<(Instant, HashMap<String, usize>)>,
) -> Result<Sample, CliError> {
    let known = counted.take();
    let known = known.filter(|(at, _)| at.elapsed() < COUNT_INTERVAL);
    let (at, failures) = match known {
        Some(known) => known,
        None => (Instant::now(), failures(client, terminal::now())?),
    };
    *counted = Some((at, failures.clone()));
    read(client, failures)
}

fn read(client: &mut Client, failures: HashMap<String, usize>) -> Result<Sample, CliError> {
    Ok(Sample {
        system: client.status()?,
        modules: client.modules()?,
        failures,
        at: terminal::now(),
    })
}

/// Counts the failures that recovery was asked about, in the last hour.
fn failures(client: &mut Client, now: Timestamp) -> Result<HashMap<String, usize>, CliError> {
    let events = client.events(&EventsParams {
        since_time: Some(Timestamp(now.0.saturating_sub(HOUR_MS))),
        kinds: vec![EventKind::RecoveryStarted, EventKind::RecoveryFailed],
        limit: Some(FAILURES_MAX),
        ..EventsParams::default()
    })?;
    let mut counts = HashMap::new();
    for module in events.into_iter().filter_map(|event| event.module) {
        *counts.entry(module).or_insert(0) += 1;
    }
    Ok(counts)
}
