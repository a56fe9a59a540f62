//! planted: plants one bug after the other and prints which violation found it, and when.
//! Owns the table. Never decides what is a violation.

use std::process::ExitCode;

use planted::{SearchResult, count, describe, name, search_in_time, story};

/// A bug has to be found within this number of short histories.
const HISTORIES: u64 = 1000;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some("show") {
        let sought = words.collect::<Vec<String>>().join(" ");
        return show(&sought);
    }
    let first: u64 = first.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut survivors = 0;
    for number in 0..count() {
        let (is_found, text) = match search_in_time(number, first, HISTORIES) {
            SearchResult::Found(found) => {
                let (after, took) = (found.histories, found.took);
                let by = found.violation;
                (true, format!("{after:>4} histories, {took:>7.1?}: {by}"))
            }
            SearchResult::Survives => {
                let what = describe(number);
                (false, format!("SURVIVES {HISTORIES} histories\n{what}"))
            }
            SearchResult::Hangs => (false, "HANGS: no checker found it".to_owned()),
        };
        survivors += usize::from(!is_found);
        println!("{:<56} {text}", name(number));
    }
    let (all, caught) = (count(), count() - survivors);
    println!("{caught} of {all} planted bugs were found from seed {first} on");
    match survivors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints what a person sees who makes this mistake and runs the simulator.
fn show(sought: &str) -> ExitCode {
    let found = (0..count()).find(|bug| name(*bug).contains(sought));
    let Some(story) = found.and_then(|bug| story(bug, 1, HISTORIES)) else {
        eprintln!("no checker finds a planted bug with {sought:?} in its name");
        return ExitCode::FAILURE;
    };
    println!("{story}");
    ExitCode::SUCCESS
}
