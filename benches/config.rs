//! What a reload of ten thousand modules costs before anything is applied: reading, comparing.
//! Owns a configuration of that size. Never runs a module.

use std::fmt::Write as _;
use std::fs;

use criterion::Criterion;
use mainstay::config::{ConfigSources, Configuration, load, load_onto};
use mainstay_policy::Plan;
use mainstay_policy::diff::diff;

const MODULES: usize = 10_000;

/// The configuration in which the first `changed` modules have another timeout.
fn configuration(changed: usize, running: Option<&Configuration>) -> Configuration {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for number in 0..MODULES {
        let before = number.saturating_sub(1);
        let timeout = if number < changed { 7 } else { 8 };
        let _ = write!(
            text,
            "[module.m{number}]\ncommand = [\"/bin/sleep\", \"1000\"]\nenv = {{ N = \"{number}\" }}\n\
             shutdown_timeout = \"{timeout}s\"\nwants = [\"m{before}\"]\n"
        );
    }
    let text = text.replace("wants = [\"m0\"]\n", "");
    fs::write(dir.path().join("mainstay.toml"), text).expect("written");
    let sources = ConfigSources::folder(dir.path());
    let read = match running {
        Some(running) => load_onto(&sources, running),
        None => load(&sources),
    };
    read.unwrap_or_else(|problems| panic!("{problems}"))
}

fn plan(number: u64, configuration: &Configuration) -> Plan {
    let specs = configuration.modules.iter().map(|(spec, _)| spec.clone());
    Plan::new(number, configuration.system_spec.clone(), specs).expect("a plan")
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let first = configuration(0, None);
    let former = plan(1, &first);
    for changed in [0, 1, MODULES] {
        let next = configuration(changed, Some(&first));
        let newest = plan(2, &next);
        let name = format!("diff of {MODULES} modules, {changed} changed");
        criterion.bench_function(&name, |bench| {
            bench.iter(|| {
                let classes = first.changes_to(&next).classes();
                diff(&former, &newest, &classes).len()
            });
        });
    }
    criterion.bench_function("read 10000 modules", |bench| {
        bench.iter(|| configuration(1, Some(&first)).modules.len());
    });
    criterion.final_summary();
}
