//! planted: plants one bug after the other and prints which violation found it, and when.
//! Owns the table. Never decides what is a violation.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use planted::{count, describe, name, search};

/// A bug has to be found within this number of short histories.
const HISTORIES: u64 = 1000;
/// A search that takes longer hangs in a policy that never comes to rest.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let first = std::env::args().nth(1).and_then(|seed| seed.parse().ok());
    let first: u64 = first.unwrap_or(1);
    let mut survivors = 0;
    for number in 0..count() {
        let (done, result) = mpsc::sync_channel(1);
        std::thread::spawn(move || done.send(search(Some(number), first, HISTORIES)));
        let Ok(found) = result.recv_timeout(LIMIT) else {
            println!("{:<56} hangs: no checker found it", name(number));
            survivors += 1;
            continue;
        };
        let found = found.map(|found| {
            let (after, took) = (found.histories, found.took);
            format!("{after:>4} histories, {took:>7.1?}: {:?}", found.violation)
        });
        survivors += usize::from(found.is_none());
        let found = found
            .unwrap_or_else(|| format!("SURVIVES {HISTORIES} histories\n{}", describe(number)));
        println!("{:<56} {found}", name(number));
    }
    let (all, caught) = (count(), count() - survivors);
    println!("{caught} of {all} planted bugs were found from seed {first} on");
    match survivors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
