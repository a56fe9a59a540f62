//! The index of a log: what is written is read, and nothing else, whatever happened to the file.
//! Owns the model: the true time and run of every byte. Never touches a disk.

extern crate std;

use std::vec;

use proptest::prelude::*;

use super::*;

/// The true time and run of each byte of a log.
type Truth = Vec<(Option<u64>, u64)>;

fn entries(index: &[u8]) -> Vec<IndexEntry> {
    let blocks = index.chunks(BLOCK_BYTES).filter_map(BlockEntries::of);
    blocks.flatten().collect()
}

/// Checks that all that an index says is true; returns the number of bytes whose time it says.
fn check_truth(index: &[u8], truth: &Truth, off_by: u64) -> usize {
    let mut timed = 0;
    for entry in entries(index) {
        let IndexEntryKind::Bytes(length) = entry.what else {
            continue;
        };
        for byte in entry.offset..entry.offset + length {
            let (time, run) = truth[byte as usize];
            let Some(said) = entry.time else {
                continue;
            };
            timed += 1;
            let true_time = time.expect("its time is known");
            assert!(said.abs_diff(true_time) <= off_by, "{said} for {true_time}");
            assert_eq!(entry.run, run);
        }
    }
    timed
}

#[derive(Debug, Clone)]
enum Step {
    /// Bytes, this long after the last ones.
    Bytes(u64, i64),
    Unknown(u64),
    Start(u64),
    /// Bytes of an earlier run.
    Late(u64),
    End(i32),
    /// Another holder continues; this many bytes were written without an index.
    Resume(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_u64..300, -5_i64..3000).prop_map(|(length, since)| Step::Bytes(length, since)),
        1 => (1_u64..100).prop_map(Step::Unknown),
        1 => (1_u64..5).prop_map(Step::Start),
        1 => (1_u64..20).prop_map(Step::Late),
        1 => any::<i32>().prop_map(Step::End),
        1 => (0_u64..50).prop_map(Step::Resume),
    ];
    prop::collection::vec(step, 1..100)
}

fn written(steps: &[Step]) -> (Vec<u8>, Truth) {
    let (mut index, mut truth) = (Vec::new(), Truth::new());
    let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
    let (mut now, mut run) = (1_795_000_000_000_u64, 0);
    for step in steps {
        match *step {
            Step::Bytes(length, since) => {
                now = now.wrapping_add_signed(since);
                encoder.append(length, Some(now));
                truth.extend(vec![(Some(now), run); length as usize]);
            }
            Step::Unknown(length) => {
                encoder.append(length, None);
                truth.extend(vec![(None, run); length as usize]);
            }
            Step::Start(more) => {
                run += more;
                encoder.start_run(run, now);
            }
            Step::Late(length) => {
                encoder.set_run(run.saturating_sub(1));
                encoder.append(length, Some(now));
                encoder.set_run(run);
                truth.extend(vec![(Some(now), run.saturating_sub(1)); length as usize]);
            }
            Step::End(code) => encoder.end_run(run, Exit::Code(code), now),
            Step::Resume(lost) => {
                encoder.flush();
                index.extend(encoder.take());
                truth.extend(vec![(None, 0); lost as usize]);
                encoder = IndexEncoder::resume(index.len() as u64, truth.len() as u64, now);
                encoder.set_run(run);
            }
        }
    }
    encoder.flush();
    index.extend(encoder.take());
    (index, truth)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_an_index_says_is_true(steps in steps()) {
        let (index, truth) = written(&steps);
        let timed = check_truth(&index, &truth, COARSE_MS);
        let known = truth.iter().filter(|(time, _)| time.is_some()).count();
        prop_assert_eq!(timed, known, "it says all it was given");
    }

    #[test]
    fn an_index_that_is_cut_anywhere_says_less_and_nothing_false(steps in steps()) {
        let (index, truth) = written(&steps);
        let mut last = 0;
        for length in 0..index.len() {
            let timed = check_truth(&index[..length], &truth, COARSE_MS);
            prop_assert!(timed >= last);
            last = timed;
        }
    }
}

#[test]
fn damage_costs_its_own_block_and_nothing_else() {
    let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
    for line in 0..800 {
        encoder.append(100, Some(1_795_000_000_000 + 30 * line));
    }
    let index = encoder.take();
    let whole = entries(&index);
    let full = index.len() / BLOCK_BYTES * BLOCK_BYTES;
    assert!(full >= 2 * BLOCK_BYTES);
    for place in (0..full).step_by(3) {
        for wrong in [index[place] ^ 0x10, !index[place]] {
            let mut damaged = index.clone();
            damaged[place] = wrong;
            let own = place / BLOCK_BYTES;
            let block = &index[own * BLOCK_BYTES..][..BLOCK_BYTES];
            let lost = BlockEntries::of(block).expect("whole").count();
            let left = entries(&damaged);
            assert_eq!(left.len(), whole.len() - lost, "byte {place}");
            assert!(left.iter().all(|entry| {
                whole
                    .binary_search_by_key(&entry.offset, |one| one.offset)
                    .is_ok()
            }));
        }
    }
}

#[test]
fn starts_and_ends_of_runs_are_read_as_they_were() {
    let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
    let signal = |core| Exit::Signal {
        signal: Signal(11),
        core,
    };
    let ends = [
        Exit::Code(-3),
        signal(true),
        signal(false),
        Exit::Oom,
        Exit::Stuck,
        Exit::Unknown,
    ];
    for (exit, run) in ends.into_iter().zip(1..) {
        encoder.start_run(run, 1000 * run);
        encoder.append(10, Some(1000 * run + 1));
        encoder.end_run(run, exit, 1000 * run + 2);
    }
    let read = entries(&encoder.take());
    assert_eq!(read.len(), 18);
    for ((exit, run), said) in ends.into_iter().zip(1..).zip(read.chunks(3)) {
        let entry = |offset, time, what| IndexEntry {
            offset,
            time: Some(1000 * run + time),
            run,
            what,
        };
        let expected = [
            entry(10 * run - 10, 0, IndexEntryKind::Started),
            entry(10 * run - 10, 1, IndexEntryKind::Bytes(10)),
            entry(10 * run, 2, IndexEntryKind::Ended(exit)),
        ];
        assert_eq!(said, expected);
    }
}

#[test]
fn an_index_stays_small_however_its_log_is_written() {
    // Length of a line, and the milliseconds between two.
    for (line, apart) in [(5, 1), (60, 1), (60, 100), (200, 700), (65536, 0)] {
        let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
        let mut now = 1_795_000_000_000;
        let mut log = 0;
        while log < 4_000_000 {
            now += apart;
            log += line;
            encoder.append(line, Some(now));
        }
        encoder.flush();
        assert_eq!(encoder.log_length(), log);
        let share = encoder.index_length() as f64 / log as f64;
        assert!(share <= 0.03, "{share} for {line} bytes every {apart} ms");
    }
}

#[test]
fn a_short_log_has_the_exact_time_of_every_line() {
    let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
    for line in 0..500 {
        encoder.append(30, Some(1_795_000_000_000 + 7 * line));
    }
    let times: Vec<u64> = entries(&encoder.take())
        .iter()
        .filter_map(|entry| entry.time)
        .collect();
    assert_eq!(times.len(), 500);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 7));
    assert!(!encoder.is_open());
}
