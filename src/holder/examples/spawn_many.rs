//! Starts many short processes through the engine and, for comparison, with a plain vfork loop.
//! Prints milliseconds; arguments: how many (1000), how often (5).
//! Never asserts anything: it is for people who measure.

#[cfg(target_os = "linux")]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    let number = |place: usize, otherwise: usize| {
        std::env::args()
            .nth(place)
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    };
    let (count, rounds) = (number(1, 1000), number(2, 5));
    let show = |what: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        println!(
            "{what:40} {:8.1} ms (least {:.1})",
            times[times.len() / 2],
            times[0]
        );
    };
    show(
        "vfork, execve, wait: one thread",
        (0..rounds).map(|_| measure::floor(count)).collect(),
    );
    let ways = [
        ("groups", false, false),
        ("walk", true, false),
        ("walk, fork", true, true),
    ];
    for (name, no_groups, plain_fork) in ways {
        let options = mainstay_holder::EngineOptions {
            no_groups,
            plain_fork,
        };
        let (mut first, mut again, mut exits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let times = measure::engine(&options, count);
            first.push(times.0);
            again.push(times.1);
            exits.push(times.2);
        }
        show(&format!("{name}: spawned, first run"), first);
        show(&format!("{name}: spawned, second run"), again);
        show(&format!("{name}: spawned and exited, third run"), exits);
    }
    for (name, no_groups, plain_fork) in ways {
        let options = mainstay_holder::EngineOptions {
            no_groups,
            plain_fork,
        };
        show(
            &format!("{name}: kill -9 to its replacement, of 20"),
            measure::replace(&options),
        );
    }
    measure::groups(count);
}

#[cfg(target_os = "linux")]
mod measure {
    use std::time::Instant;

    use mainstay_holder::EngineOptions;
    use mainstay_holder::messages::{HolderMessage, HolderRequest};
    use mainstay_process::{Output, ProcessEvent, ProcessEventKind};

    use nix::sys::signal::Signal;

    use crate::common::{Rig, spawn_of};

    #[expect(unsafe_code, reason = "the floor is made of system calls")]
    pub(crate) fn floor(count: usize) -> f64 {
        let begin = Instant::now();
        let argv = [c"/bin/true".as_ptr(), std::ptr::null()];
        let env = [std::ptr::null()];
        // SAFETY: the child only execs or exits; every child is waited for.
        unsafe {
            for _ in 0..count {
                #[expect(deprecated, reason = "the floor is vfork")]
                let pid = libc::vfork();
                if pid == 0 {
                    libc::execve(argv[0], argv.as_ptr(), env.as_ptr());
                    libc::_exit(127);
                }
            }
            while libc::waitpid(-1, std::ptr::null_mut(), 0) > 0 {}
        }
        ms(begin)
    }

    fn ms(begin: Instant) -> f64 {
        begin.elapsed().as_secs_f64() * 1000.0
    }

    fn start(rig: &mut Rig, count: usize, generation: u64, program: &[&str]) {
        for number in 0..count {
            let mut spawn = spawn_of(&format!("m{number}"), generation, program);
            spawn.output = Output::Log;
            spawn.clear_env = true;
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        }
    }

    fn wait(rig: &mut Rig, count: usize, what: fn(&HolderMessage) -> bool) {
        for _ in 0..count {
            rig.line.until(|tell| what(tell).then_some(()));
        }
    }

    pub(crate) fn engine(options: &EngineOptions, count: usize) -> (f64, f64, f64) {
        let mut rig = Rig::new(options.clone());
        let spawned = |tell: &HolderMessage| {
            matches!(
                tell,
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Spawned { .. },
                    ..
                })
            )
        };
        let exited = |tell: &HolderMessage| {
            matches!(
                tell,
                HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Exited(_),
                    ..
                })
            )
        };
        let begin = Instant::now();
        start(&mut rig, count, 1, &["/bin/true"]);
        wait(&mut rig, count, spawned);
        let first = ms(begin);
        wait(&mut rig, count, exited);
        let begin = Instant::now();
        start(&mut rig, count, 2, &["/bin/true"]);
        wait(&mut rig, count, spawned);
        let again = ms(begin);
        wait(&mut rig, count, exited);
        let begin = Instant::now();
        start(&mut rig, count, 3, &["/bin/true"]);
        wait(&mut rig, count, exited);
        (first, again, ms(begin))
    }

    /// From the signal to the news that the next generation runs.
    pub(crate) fn replace(options: &EngineOptions) -> Vec<f64> {
        let mut rig = Rig::new(options.clone());
        let pids: Vec<i32> = (0..20)
            .map(|n| rig.start(spawn_of(&format!("m{n}"), 1, &["sleep", "100"])))
            .collect();
        let mut times = Vec::new();
        for (number, pid) in pids.into_iter().enumerate() {
            let name = format!("m{number}");
            let begin = Instant::now();
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            rig.line.exited(&name, 1);
            rig.start(spawn_of(&name, 2, &["sleep", "100"]));
            times.push(ms(begin));
        }
        times
    }

    pub(crate) fn groups(count: usize) {
        let base = std::path::Path::new("/sys/fs/cgroup/unified/mainstay-measure");
        if std::fs::create_dir(base).is_err() {
            return;
        }
        let begin = Instant::now();
        for number in 0..count {
            let _ = std::fs::create_dir(base.join(format!("m-{number}")));
        }
        let made = ms(begin);
        let begin = Instant::now();
        for number in 0..count {
            let _ = std::fs::remove_dir(base.join(format!("m-{number}")));
        }
        println!(
            "{count} groups: made in {made:.1} ms, removed in {:.1} ms",
            ms(begin)
        );
        let _ = std::fs::remove_dir(base);
    }
}
