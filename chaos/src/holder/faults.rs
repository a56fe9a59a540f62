//! What goes wrong in a history: crashes, a runtime that dies or hangs, requests that are wrong.
//! Owns the choice of the next fault.
//! Never breaks the machines themselves: an injected bug does that.

use std::time::Duration;

use super::fake_runtime::Request;
use super::{HolderBug, Item, Sim};

impl Sim {
    pub(super) fn inject_fault(&mut self) {
        if self.faults_left == 0 {
            return;
        }
        self.faults_left -= 1;
        let delay = self.rng.span(Duration::from_secs(3));
        self.after(delay, Item::Fault);
        match self.rng.below(100) {
            0..25 => self.crash_process(),
            25..33 => self.crash_runtime(),
            33..38 => self.hang_runtime(),
            38..50 => self.request_wrongly(),
            50..62 => self.kill_random(),
            62..67 => self.forget_random(),
            67..82 => {
                let number = self.rng.below(40);
                let timeout = self.rng.span(Duration::from_secs(5)) + Duration::from_millis(1);
                self.start_instance(format!("m0#{number}"), timeout);
            }
            82..90 => self.notify_random(),
            90..93 => {
                if let Some(number) = self.random_process() {
                    self.change_main(number);
                }
            }
            93..95 => {
                if let Some(number) = self.random_process() {
                    self.toggle_suspension(number);
                }
            }
            95 => self.suspend(),
            96 => self.holder_dies(),
            97 if self.rng.permille(200) => self.request_stop(),
            97 => self.read_again(),
            _ => self.request_upgrade(),
        }
    }

    fn random_process(&mut self) -> Option<u32> {
        let all = self.os.running_processes();
        let place = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
        all.get(place).copied()
    }

    fn crash_process(&mut self) {
        if let Some(number) = self.random_process() {
            let signal = self.rng.pick(&[6, 9, 11]);
            self.process_exits(number, super::fake_os::signalled(signal));
        }
    }

    fn crash_runtime(&mut self) {
        if let Some(epoch) = self.runtime.as_ref().map(|one| one.epoch) {
            self.runtime_exits(epoch);
        }
    }

    pub(super) fn hang_runtime(&mut self) {
        let may_hang = self.roster.is_taken_over() && self.configured && !self.embedded;
        let Some(runtime) = self.runtime.as_mut().filter(|_| may_hang) else {
            return;
        };
        let epoch = runtime.epoch;
        if !std::mem::replace(&mut runtime.unresponsive, true) {
            self.summary.unresponsive += 1;
            self.check.unresponsive(epoch, self.now);
            self.note(|| format!("runtime {epoch} hangs"));
        }
    }

    /// A run that exists or existed, a run of the past, one of the future, a record too long.
    fn request_wrongly(&mut self) {
        let views = self.runtime.iter().flat_map(|one| &one.views);
        let all: Vec<(String, u64)> = views
            .map(|(name, view)| (name.clone(), view.generation()))
            .collect();
        let number = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
        let Some((name, generation)) = all.get(number).cloned() else {
            return;
        };
        let request = match self.rng.below(4) {
            0 => Request::Spawn {
                name,
                generation: generation - self.rng.below(2).min(generation),
                timeout: Duration::ZERO,
                hostile: true,
            },
            1 => Request::Kill {
                name,
                generation: generation.saturating_sub(1),
            },
            2 => Request::Signal {
                name,
                generation: generation + 1,
            },
            _ => Request::SaveRecord {
                name,
                record: "x".repeat(600),
            },
        };
        self.request(request);
    }

    fn random_busy(&mut self) -> Option<(String, u64)> {
        let busy = self.busy_instances();
        let number = usize::try_from(self.rng.below(busy.len() as u64)).unwrap_or(0);
        busy.get(number).cloned()
    }

    fn kill_random(&mut self) {
        if let Some((name, generation)) = self.random_busy() {
            let within = self.rng.span(Duration::from_secs(12));
            let request = match self.rng.below(4) {
                0 | 1 => Request::Stop {
                    name,
                    generation,
                    within,
                },
                2 => Request::Signal { name, generation },
                _ => Request::Kill { name, generation },
            };
            self.request(request);
        }
    }

    fn forget_random(&mut self) {
        if let Some((name, _)) = self.random_busy() {
            self.request(Request::Forget { name });
        }
    }

    fn notify_random(&mut self) {
        let Some((id, pid)) = self.random_process().and_then(|one| self.os.main(one)) else {
            return;
        };
        let lags = self.rng.permille(300);
        self.statuses += 1;
        let status = format!("working {}", self.statuses);
        let text = format!("STATUS={status}\nREADY=1");
        self.check.notified(id, status, lags);
        self.roster.notify_received(id, pid, text, lags);
        if lags {
            let delay = self.rng.span(Duration::from_secs(1));
            self.after(delay, Item::ReadAgain);
        }
    }

    /// The runtime reads what was held back.
    pub(super) fn read_again(&mut self) {
        self.check.reads();
        if !self.has_bug(HolderBug::NeverSendDeferred) {
            self.roster.send_deferred_notify();
        }
    }

    /// The machine sleeps, or the holder alone is stopped: everything is late at once.
    pub(super) fn suspend(&mut self) {
        if self.supervisor.is_stopping() {
            return;
        }
        let lasted = self.rng.span(Duration::from_secs(60));
        self.note(|| format!("suspended for {lasted:?}"));
        self.check.slept(lasted);
        self.upgrades.slept(lasted);
        self.now += lasted;
        if self.rng.permille(500) {
            let agenda = std::mem::take(&mut self.agenda).into_iter();
            let later = agenda.map(|((at, order), item)| ((at + lasted, order), item));
            self.agenda = later.collect();
            if let Some((_, to_holder, to_runtime)) = &mut self.channel {
                (*to_holder, *to_runtime) = (*to_holder + lasted, *to_runtime + lasted);
            }
        }
    }
}
