//! The index of a log: what is written is read, and nothing else, whatever happened to the file.
//! Owns the model: the true time and run of every byte. Never touches a disk.

extern crate std;

use std::vec;

use proptest::prelude::*;

use super::*;

/// The true time, run and stream of each byte of a log.
type Truth = Vec<(Option<u64>, u64, StdStream)>;

const BOTH: StdStream = StdStream::Both;

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
            let (time, run, stream) = truth[byte as usize];
            let Some(said) = entry.time else {
                continue;
            };
            timed += 1;
            let true_time = time.expect("its time is known");
            assert!(said.abs_diff(true_time) <= off_by, "{said} for {true_time}");
            assert_eq!(entry.run, run);
            assert!(entry.stream.is_both() || entry.stream == stream);
        }
    }
    timed
}

#[derive(Debug, Clone)]
enum Step {
    /// Bytes, this long after the last ones.
    Bytes(u64, i64, StdStream),
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
        8 => (1_u64..300, -5_i64..3000, 0..3_usize).prop_map(|(length, since, stream)| {
            let streams = [BOTH, StdStream::Stdout, StdStream::Stderr];
            Step::Bytes(length, since, streams[stream])
        }),
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
            Step::Bytes(length, since, stream) => {
                now = now.wrapping_add_signed(since);
                encoder.append(length, Some(now), stream);
                truth.extend(vec![(Some(now), run, stream); length as usize]);
            }
            Step::Unknown(length) => {
                encoder.append(length, None, BOTH);
                truth.extend(vec![(None, run, BOTH); length as usize]);
            }
            Step::Start(more) => {
                run += more;
                encoder.start_run(run, now);
            }
            Step::Late(length) => {
                encoder.set_run(run.saturating_sub(1));
                encoder.append(length, Some(now), BOTH);
                encoder.set_run(run);
                truth.extend(vec![
                    (Some(now), run.saturating_sub(1), BOTH);
                    length as usize
                ]);
            }
            Step::End(code) => encoder.end_run(run, Exit::Code(code), now),
            Step::Resume(lost) => {
                encoder.flush();
                index.extend(encoder.take());
                truth.extend(vec![(None, 0, BOTH); lost as usize]);
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
        let known = truth.iter().filter(|(time, ..)| time.is_some()).count();
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
        encoder.append(100, Some(1_795_000_000_000 + 30 * line), BOTH);
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
        encoder.append(10, Some(1000 * run + 1), BOTH);
        encoder.end_run(run, exit, 1000 * run + 2);
    }
    let read = entries(&encoder.take());
    assert_eq!(read.len(), 18);
    for ((exit, run), said) in ends.into_iter().zip(1..).zip(read.chunks(3)) {
        let entry = |offset, time, what| IndexEntry {
            offset,
            time: Some(1000 * run + time),
            run,
            stream: BOTH,
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
            encoder.append(line, Some(now), BOTH);
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
        encoder.append(30, Some(1_795_000_000_000 + 7 * line), BOTH);
    }
    let times: Vec<u64> = entries(&encoder.take())
        .iter()
        .filter_map(|entry| entry.time)
        .collect();
    assert_eq!(times.len(), 500);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 7));
    assert!(!encoder.is_open());
}

#[test]
fn streams_that_alternate_are_kept_apart_within_an_eighth_of_the_log() {
    let streams = [StdStream::Stdout, StdStream::Stderr];
    // Length of a line; whether each line has its stream.
    for (line, all_are_known) in [(64_u64, true), (1, false)] {
        let mut encoder = IndexEncoder::resume(0, 0, 1_795_000_000_000);
        let mut truth = Truth::new();
        for number in 0..100_000_u64 {
            let (time, stream) = (1_795_000_000_000 + number, streams[number as usize % 2]);
            encoder.append(line, Some(time), stream);
            truth.extend(vec![(Some(time), 0, stream); line as usize]);
        }
        encoder.flush();
        let index = encoder.take();
        check_truth(&index, &truth, COARSE_MS);
        let share = (index.len() - 4096) as f64 / truth.len() as f64;
        assert!(share <= 0.125, "{share} for lines of {line} bytes");
        let known = entries(&index).iter().all(|entry| !entry.stream.is_both());
        assert_eq!(known, all_are_known, "lines of {line} bytes");
    }
}

#[test]
fn an_index_of_one_pipe_has_the_bytes_it_had_before_there_were_streams() {
    let mut encoder = IndexEncoder::resume(0, 0, 1000);
    encoder.start_run(1, 1001);
    encoder.append(10, Some(1002), BOTH);
    encoder.append(300, None, BOTH);
    encoder.end_run(1, Exit::Code(3), 1005);
    let index = encoder.take();
    let records = [
        0, 2, 1, 2, 21, 10, 2, 154, 0, 1, 172, 2, 75, 0, 3, 1, 6, 1, 6, 136,
    ];
    assert_eq!(&index[..4], b"mli1");
    assert_eq!(&index[HEADER_BYTES..], records);
}
