//! The throttle ladder over a fake machine: what is set for a run on each rung, and taken back.
//! Owns the stories of a leak, a release and a machine that is short. Never waits for real time.

use super::*;

const MIB: u64 = 1 << 20;
const LEAKY: &str = "[resources]\ncheck_interval = \"1s\"\ndwell = \"10s\"\nrelease = \"30s\"\n\
    [module.a]\ncommand = [\"a\"]\nlimits = { memory_mb = 50, cpu_percent = 20, threads = 9 }\n";
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

fn uses(rig: &Rig, memory_bytes: u64, cpu_ns: u64) {
    let usage = TreeUsage {
        memory_bytes,
        cpu_ns,
        processes: 1,
        ..TreeUsage::default()
    };
    let mut uses = rig.os.uses.lock().expect("whole");
    uses.insert(Instance::new("a", 1), usage);
}

/// The limits that were set, in order, and what stopped it.
fn deeds(rig: &Rig) -> Vec<String> {
    let deeds = rig.os.deeds().into_iter();
    deeds.filter(|deed| !deed.starts_with("spawn")).collect()
}

fn limits(change: impl FnOnce(&mut RunLimits)) -> String {
    let mut limits = RunLimits {
        cpu_permille: Some(200),
        threads: Some(9),
        ..RunLimits::default()
    };
    change(&mut limits);
    format!("limit a {limits:?}")
}

#[tokio::test(start_paused = true)]
async fn a_leak_climbs_rung_by_rung_and_its_new_run_begins_below() {
    let rig = Rig::start_with(&CONTROLLERS, LEAKY).await;
    let began = tokio::time::Instant::now();
    uses(&rig, 60 * MIB, 0);
    rig.until("its restart", |rig| {
        rig.os.deeds().iter().any(|deed| deed == "spawn a 2")
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!((38..50).contains(&took), "four rungs, 10 s each: {took} s");
    uses(&rig, MIB, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let expected = [
        limits(|_| {}), // ready: the standing limits
        limits(|it| it.background = true),
        limits(|it| (it.background, it.memory_high) = (true, Some(50 * MIB))),
        "freeze a 300ms".to_owned(),
        limits(|it| {
            it.background = true;
            (it.memory_high, it.memory_max) = (Some(50 * MIB), Some(50 * MIB));
        }),
        "signal a 15".to_owned(),
        limits(|_| {}), // the new run
    ];
    assert_eq!(deeds(&rig), expected);
}

#[tokio::test(start_paused = true)]
async fn a_module_without_a_memory_controller_is_never_capped_for_memory() {
    let rig = Rig::start(LEAKY).await;
    uses(&rig, 60 * MIB, 0);
    rig.until("its restart", |rig| {
        rig.os.deeds().iter().any(|deed| deed == "spawn a 2")
    })
    .await;
    assert!(
        !deeds(&rig)
            .iter()
            .any(|deed| deed.contains("memory_high: Some"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_needs_less_again_comes_down_rung_by_rung() {
    let rig = Rig::start_with(&CONTROLLERS, LEAKY).await;
    uses(&rig, 60 * MIB, 0);
    tokio::time::sleep(Duration::from_secs(33)).await; // notice, priority, cap
    assert!(
        deeds(&rig)
            .last()
            .is_some_and(|deed| deed.contains("memory_high: Some"))
    );
    uses(&rig, 45 * MIB, 0); // below the limit, above 80 % of it
    tokio::time::sleep(Duration::from_mins(10)).await;
    let is_held = |deed: &String| deed.contains("memory_high: Some");
    assert!(deeds(&rig).last().is_some_and(is_held), "{:?}", deeds(&rig));
    uses(&rig, 30 * MIB, 0);
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(50)).await;
    rig.until("the release", |rig| {
        deeds(rig).last() == Some(&limits(|_| {}))
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!(
        (58..66).contains(&took),
        "{took} s: cap and priority, 30 s each"
    );
    let released = deeds(&rig).into_iter().rev().nth(1);
    assert_eq!(released, Some(limits(|it| it.background = true)));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_short_caps_the_least_important_and_restarts_none() {
    let modules = "[resources]\ncheck_interval = \"1s\"\n\
        [module.a]\ncommand = [\"a\"]\nimportance = \"low\"\n";
    let rig = Rig::start_with(&CONTROLLERS, modules).await;
    let busy = |seconds: u64, share: u64| {
        let ns = seconds * 1_000_000_000;
        rig.os.machine.lock().expect("whole").cpu_ns = ns * 2;
        uses(&rig, MIB, ns * share / 100);
    };
    for second in 0..200 {
        busy(second, 80);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let capped = deeds(&rig).pop().expect("limits");
    assert!(
        capped.contains("cpu_permille: Some(4"),
        "half of 80 %: {capped}"
    );
    assert!(!deeds(&rig).iter().any(|deed| deed.starts_with("signal")));
}
