//! One run: what happens at start, then signals and the agenda until the end.
//! Owns the main loop, the waiting and the exit code.
//! Never sleeps: every wait ends at a signal or at the next item.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};

use crate::agenda::{Agenda, Item};
use crate::fate::{self, Flood};
use crate::offspring;
use crate::options::Options;
use crate::ready::{self, Announcement};
use crate::{serve, show, stamp};

/// What wakes the main loop besides time.
pub(crate) enum Word {
    /// The process got a signal.
    Signal(Signal),
    /// The flood is over.
    Flooded,
}

struct Run {
    options: Options,
    agenda: Agenda,
    start: Instant,
    tell: Sender<Word>,
    announcement: Announcement,
    hoard: Vec<Vec<u8>>,
}

/// Runs the program; the result is its exit code.
pub(crate) fn run() -> i32 {
    let first = stamp::now();
    let start = Instant::now();
    let options = Options::parse();
    if options.close_all {
        offspring::close_all();
    }
    if let Some(hop) = options.hop {
        return offspring::hop(hop, &options);
    }
    if options.double_fork {
        return offspring::daemonise(&options);
    }
    show::show(&options);
    if let Err(error) = begin(&options, first) {
        eprintln!("misbehave: {error}");
        return 1;
    }
    let (tell, words) = channel();
    if let Err(error) = listen(tell.clone()) {
        eprintln!("misbehave: cannot listen for signals: {error}");
        return 1;
    }
    offspring::start(&options);
    let _kept = fate::keep_busy(&options);
    let mut run = Run {
        agenda: Agenda::default(),
        start,
        tell,
        announcement: Announcement::default(),
        hoard: Vec::new(),
        options,
    };
    run.plan();
    run.live(&words)
}

fn begin(options: &Options, first: u128) -> Result<(), String> {
    if let Some(file) = &options.stamp {
        stamp::append(file, &stamp::line(first, &options.label, ""))?;
    }
    if options.serve {
        serve::serve(options.keep_connections)?;
    }
    if options.store {
        serve::store()?;
    }
    for text in &options.notify {
        let pid = std::process::id().to_string();
        ready::notify(&text.replace("{pid}", &pid))?;
    }
    Ok(())
}

/// Signals become words: blocked everywhere, waited for by one thread.
fn listen(tell: Sender<Word>) -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if tell.send(Word::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

impl Run {
    fn plan(&mut self) {
        let options = &self.options;
        self.agenda
            .add(self.start + options.ready_after, Item::Ready);
        if ready::watchdog_interval().is_some() {
            self.agenda.add(self.start, Item::Feed);
        }
        if let Some(life) = options.end_after {
            self.agenda.add(self.start + life, Item::End);
        }
        if !options.has_failure() || !self.fails_this_time() {
            return;
        }
        if self.options.until_file.is_some() {
            self.agenda.add(self.start, Item::Look);
        } else {
            self.agenda.add(self.start + self.options.after, Item::Fate);
        }
    }

    /// With `--once-file`: only the run that creates the file fails.
    fn fails_this_time(&self) -> bool {
        self.options.once_file.as_ref().is_none_or(|path| {
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .is_ok()
        })
    }

    fn live(&mut self, words: &Receiver<Word>) -> i32 {
        loop {
            let now = Instant::now();
            if let Some(item) = self.agenda.due(now) {
                if let Some(code) = self.perform(item, now) {
                    return code;
                }
                continue;
            }
            let wait = self.agenda.next().map_or(Duration::MAX, |at| at - now);
            let ended = match words.recv_timeout(wait) {
                Ok(Word::Signal(signal)) => self.signalled(signal),
                Ok(Word::Flooded) => self.go_wrong_at_last(),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(1),
            };
            if let Some(code) = ended {
                return code;
            }
        }
    }

    fn signalled(&mut self, signal: Signal) -> Option<i32> {
        match signal {
            Signal::SIGTERM if self.options.ignore_sigterm => None,
            Signal::SIGHUP => {
                show::say("reloaded");
                let told = self.options.on_hup.iter();
                let failed = told.map(|text| ready::notify(text)).find_map(Result::err);
                failed.map(|error| {
                    eprintln!("misbehave: {error}");
                    1
                })
            }
            _ if self.options.slow_stop.is_zero() => Some(self.leave()),
            _ => {
                let end = Instant::now() + self.options.slow_stop;
                self.agenda.add(end, Item::End);
                None
            }
        }
    }

    fn leave(&self) -> i32 {
        if let Some(file) = self
            .options
            .stamp
            .as_ref()
            .filter(|_| self.options.stamp_exit)
        {
            let line = stamp::line(stamp::now(), &self.options.label, " exit");
            if let Err(error) = stamp::append(file, &line) {
                eprintln!("misbehave: {error}");
                return 1;
            }
        }
        0
    }

    fn perform(&mut self, item: Item, now: Instant) -> Option<i32> {
        match item {
            Item::Ready => {
                let times = 1 + usize::from(self.options.ready_twice);
                for _ in 0..times {
                    if let Err(error) = self.announcement.make(&self.options.ready) {
                        eprintln!("misbehave: {error}");
                        return Some(1);
                    }
                }
            }
            Item::Feed => self.feed(now),
            Item::Look => {
                let found = self
                    .options
                    .until_file
                    .as_ref()
                    .is_some_and(|path| path.exists());
                let (delay, item) = if found {
                    (self.options.after, Item::Fate)
                } else {
                    (Duration::from_millis(5), Item::Look)
                };
                self.agenda.add(now + delay, item);
            }
            Item::Fate => return self.go_wrong(now),
            Item::Leak => self.leak(now),
            Item::End => return Some(self.leave()),
        }
        None
    }

    fn feed(&mut self, now: Instant) {
        let Some(every) = ready::watchdog_interval() else {
            return;
        };
        let enough = self.options.watchdog_stop_after;
        if enough.is_some_and(|enough| now >= self.start + enough) {
            return;
        }
        if let Err(error) = ready::notify("WATCHDOG=1") {
            eprintln!("misbehave: {error}");
        }
        self.agenda.add(now + every / 2, Item::Feed);
    }

    fn go_wrong(&mut self, now: Instant) -> Option<i32> {
        if self.options.leak > 0 {
            self.agenda.add(now, Item::Leak);
        }
        fate::burn(self.options.burn_cpu);
        offspring::bomb(&self.options);
        if self.options.flood_stdout > 0 {
            let flood = Flood::of(&self.options);
            let tell = self.tell.clone();
            std::thread::spawn(move || {
                flood.pour();
                // The main loop may be over; then nobody minds.
                let _ = tell.send(Word::Flooded);
            });
            return None;
        }
        self.go_wrong_at_last()
    }

    /// What comes after everything was written.
    fn go_wrong_at_last(&mut self) -> Option<i32> {
        if self.options.close_stdout {
            fate::close_stdout();
        }
        fate::meet(&self.options)
    }

    /// A tenth of a second's worth, every page touched.
    fn leak(&mut self, now: Instant) {
        const MB: usize = 1_000_000;
        if self.hoard.iter().map(Vec::len).sum::<usize>() < self.options.leak_max * MB {
            self.hoard.push(vec![1; self.options.leak * MB / 10]);
            self.agenda
                .add(now + Duration::from_millis(100), Item::Leak);
        }
    }
}
