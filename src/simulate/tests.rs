//! Simulations whose result is known beforehand.
//! Owns small configurations for them. Never starts a process.

use std::time::Duration;

use super::{FaultFile, Figures, Model, SimulationOptions};
use crate::config::{ConfigSources, Configuration, load};

fn configuration(text: &str) -> Configuration {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mainstay.toml"), text).expect("a file");
    load(&ConfigSources::folder(folder.path())).expect("a good configuration")
}

fn simulate_from(seed: u64, config: &str, faults: &str, histories: u32) -> Figures {
    let faults = FaultFile::parse(faults, "faults.toml").expect("good faults");
    let model = Model::new(&configuration(config), &faults).expect("a model");
    model.run(SimulationOptions {
        histories,
        seed,
        lasts: Duration::from_mins(20),
    })
}

fn simulate(config: &str, faults: &str) -> Figures {
    simulate_from(1, config, faults, 400)
}

/// A database that says when it is ready, and who needs it.
const SHOP: &str = "\
[recovery]
max_attempts = 20
backoff = { initial = \"100ms\", factor = 1.0, max = \"100ms\", jitter = 0.0, floor = \"100ms\" }
[module.db]
command = [\"db\"]
ready = { notify = true }
[module.api]
command = [\"api\"]
ready = { notify = true }
requires = [\"db\"]
[module.web]
command = [\"web\"]
requires = [\"api\"]
";

#[test]
fn without_faults_everything_is_up_after_the_longest_chain_of_starts() {
    let figures = simulate(SHOP, "");
    assert_eq!((figures.converged, figures.histories), (400, 400));
    // Two of them say that they are ready after 100 ms, one after the other.
    assert_eq!(figures.convergence.p50_ms, Some(200));
    assert_eq!(figures.convergence.max_ms, Some(200));
    assert_eq!(figures.recoveries, 0);
    assert!(figures.all_up > 0.999, "{}", figures.all_up);
    assert!(figures.modules.iter().all(|it| it.restarts == 0.0));
    assert_eq!(figures.weakest, None);
    assert_eq!(figures.advice, [""; 0]);
}

#[test]
fn a_module_that_always_fails_is_never_up_and_its_dependents_are_named() {
    let optional = SHOP.replace("command", "required = false\ncommand");
    let optional = optional.replace("max_attempts = 20", "max_attempts = 2");
    let figures = simulate(&optional, "[module.db]\nstart_fails = 1.0");
    assert_eq!(figures.converged, 0);
    assert_eq!(figures.convergence.p50_ms, None);
    let never: Vec<(&str, &str, u32)> = figures
        .never_up
        .iter()
        .map(|it| (it.module.as_str(), it.because_of.as_str(), it.histories))
        .collect();
    let expected = [("api", "db", 400), ("db", "db", 400), ("web", "db", 400)];
    assert_eq!(never, expected);
    let weakest = figures.weakest.expect("a weakest dependency");
    assert_eq!(weakest.module, "db");
    assert_eq!(weakest.dependents, ["api", "web"]);
    assert!(weakest.share > 0.999, "{}", weakest.share);
}

#[test]
fn a_required_module_that_always_fails_fails_the_startup_and_advice_says_so() {
    let config = SHOP.replace("max_attempts = 20", "max_attempts = 2");
    let figures = simulate(&config, "[module.db]\nstart_fails = 1.0");
    assert_eq!(figures.startup_failures.get("db was given up"), Some(&400));
    assert_eq!(figures.first_not_converged, Some(1));
    assert!(
        figures.advice[0].starts_with("db was given up during the first start in 400 histories"),
        "{:?}",
        figures.advice
    );
}

#[test]
fn starts_that_fail_by_chance_need_as_many_attempts_as_chance_says() {
    let figures = simulate_from(7, SHOP, "[module.db]\nstart_fails = 0.3", 4000);
    assert_eq!(figures.converged, 4000, "20 attempts are enough");
    let db = figures.modules.iter().find(|it| it.module == "db");
    let restarts = db.expect("db").restarts;
    // 0.3 / 0.7 on average; of 4000 histories the mean is that within 0.05.
    assert!((restarts - 3.0 / 7.0).abs() < 0.05, "{restarts}");
    // Half of the histories need no restart, and one in a hundred more than three.
    assert_eq!(figures.convergence.p50_ms, Some(200));
    let p99 = figures.convergence.p99_ms.expect("they converge");
    assert!((600..=1000).contains(&p99), "{p99}");
    // With one restart 0.3 × 0.3 of all starts are given up: the advice says what is enough.
    let one = SHOP.replace("max_attempts = 20", "max_attempts = 1");
    let figures = simulate_from(7, &one, "[module.db]\nstart_fails = 0.3", 4000);
    let failed = 1.0 - f64::from(figures.converged) / 4000.0;
    assert!((failed - 0.09).abs() < 0.02, "{failed}");
    assert!(
        figures.advice[0].contains("[module.db.recovery] max_attempts = 5 makes that rarer"),
        "{:?}",
        figures.advice
    );
}

#[test]
fn the_same_seed_is_the_same_history_and_another_is_another() {
    let faults = "[every]\nstart_fails = 0.2\ncrashes_every = \"2m\"\nstart_takes = \"10ms..2s\"";
    let json = |seed| {
        let figures = simulate_from(seed, SHOP, faults, 20);
        serde_json::to_string(&figures).expect("JSON")
    };
    assert_eq!(json(5), json(5));
    assert_ne!(json(5), json(6));
}

#[test]
fn a_crash_takes_the_time_of_a_restart_and_is_blamed_on_who_crashed() {
    let along = SHOP.replace(
        "requires = [\"db\"]",
        "requires = [\"db\"]\nrecovery.on_dependency_restart = \"restart\"",
    );
    let figures = simulate(&along, "[module.db]\ncrashes_every = \"5m\"");
    assert_eq!(figures.converged, 400);
    // 20 minutes with a crash every five of them.
    let db = figures.modules.iter().find(|it| it.module == "db");
    let restarts = db.expect("db").restarts;
    assert!((restarts - 4.0).abs() < 0.4, "{restarts}");
    let weakest = figures.weakest.as_ref().expect("a weakest dependency");
    assert_eq!(weakest.module, "db");
    assert_eq!(weakest.dependents, ["api"]);
    assert!(
        figures
            .advice
            .iter()
            .any(|it| it.contains("on_dependency_restart")),
        "{:?}",
        figures.advice
    );
}

#[test]
fn an_outage_is_survived_by_probation() {
    let config = SHOP.replace("max_attempts = 20", "max_attempts = 2");
    let figures = simulate(&config, "[module.db]\ndown = [\"5m..8m\"]");
    assert_eq!(figures.converged, 400);
    let db = figures.modules.iter().find(|it| it.module == "db");
    assert_eq!(
        db.expect("db").given_up,
        400,
        "two attempts do not last three minutes"
    );
    let back = figures.recovery.p50_ms.expect("it comes back");
    assert!((180_000..=360_000).contains(&back), "{back}");
    let stays = config.replace("max_attempts = 2", "max_attempts = 2\nprobation = \"off\"");
    let figures = simulate(&stays, "[module.db]\ndown = [\"5m..8m\"]");
    assert_eq!(figures.recovery.p50_ms, None);
    assert!(
        figures
            .advice
            .iter()
            .any(|it| it.contains("recovery] probation")),
        "{:?}",
        figures.advice
    );
}

#[test]
fn a_hang_is_noticed_by_a_probe_and_without_one_it_is_not() {
    let hangs = "[module.db]\nhangs_every = \"5m\"";
    let figures = simulate(SHOP, hangs);
    assert!(
        figures
            .advice
            .iter()
            .any(|it| it.contains("nothing notices that db hangs")),
        "{:?}",
        figures.advice
    );
    let probed = SHOP.replace(
        "command = [\"db\"]",
        "command = [\"db\"]\nhealth.probes = [{ tcp = \"127.0.0.1:1\", interval = \"5s\" }]",
    );
    let figures = simulate(&probed, hangs);
    assert_eq!(figures.advice, [""; 0]);
    let noticed = figures.recovery.p99_ms.expect("it comes back");
    // Three failures 5 s apart, two rechecks of 5 s each, the stop and a restart.
    assert!((15_000..=60_000).contains(&noticed), "{noticed}");
    let watched = SHOP.replace(
        "command = [\"db\"]",
        "command = [\"db\"]\nhealth.probes = [{ watchdog = \"2s\" }]",
    );
    let figures = simulate(&watched, hangs);
    let db = figures.modules.iter().find(|it| it.module == "db");
    assert!(db.expect("db").restarts > 2.0);
}

#[test]
fn a_task_is_done_and_what_needs_it_starts_then() {
    let config = "[module.schema]\ncommand = [\"m\"]\nkind = \"task\"\n[module.web]\n\
        command = [\"web\"]\nrequires = [{ module = \"schema\", until = \"completed\" }]\n";
    let figures = simulate(config, "[module.schema]\nstart_takes = \"3s\"");
    assert_eq!(
        (figures.converged, figures.convergence.p50_ms),
        (400, Some(3000))
    );
    assert_eq!(figures.recoveries, 0);
}

#[test]
fn probes_that_fail_by_chance_restart_nobody() {
    let probed = SHOP.replace(
        "command = [\"db\"]",
        "command = [\"db\"]\nhealth.probes = [{ tcp = \"127.0.0.1:1\", interval = \"5s\" }]",
    );
    let figures = simulate(&probed, "[module.db]\nprobe_fails = 0.05");
    let db = figures.modules.iter().find(|it| it.module == "db");
    assert_eq!(db.expect("db").restarts, 0.0);
}

#[test]
fn mistakes_in_a_fault_file_are_named_with_their_line() {
    let wrong = |text: &str| {
        let error = FaultFile::parse(text, "faults.toml").expect_err("a mistake");
        error.to_string()
    };
    let text = wrong("[module.db]\nstart_fail = 0.3");
    assert!(
        text.contains("faults.toml") && text.contains("line 2"),
        "{text}"
    );
    assert!(
        text.contains("start_fails") && text.contains("docs/simulate.md"),
        "{text}"
    );
    let text = wrong("[module.db]\nstart_fails = 30");
    assert!(
        text.contains("30 is no share: 0.0 is never, 1.0 is always"),
        "{text}"
    );
    let text = wrong("[every]\nstart_takes = \"5s..2s\"");
    assert!(text.contains("5s..2s ends before it begins"), "{text}");
    let text = wrong("[every]\ncrashes_every = \"often\"");
    assert!(text.contains("\"often\" is no duration"), "{text}");
    let faults = FaultFile::parse("[module.dbb]\n", "faults.toml").expect("it is one");
    let Err(error) = Model::new(&configuration(SHOP), &faults) else {
        panic!("there is no dbb");
    };
    let text = error.to_string();
    assert!(
        text.ends_with("has no module dbb; did you mean db?"),
        "{text}"
    );
}
