//! Sequence numbers that survive a crash: a small file names the start of the next free block.
//! Owns `journal.seq`. Never assigns a number: that happens within the reserved block.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use mainstay_protocol::Timestamp;

use super::database;
use crate::os::private;

/// Numbers reserved at once.
pub(super) const BLOCK: u64 = 10_000;

const FILE: &str = "journal.seq";
/// Sequence numbers are sent as JSON, where integers are exact up to this one.
const LARGEST: u64 = 1 << 53;

/// Where the numbers of a run begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstNumber {
    pub(super) seq: u64,
    /// Whether an earlier run recorded it, so that there was a journal.
    pub(super) recorded: bool,
}

/// Returns the first number of this run, at least `kept`, which the holder kept. Reads the database
/// only if the file is missing or malformed.
pub(super) fn first(directory: &Path, database: &Path, now: Timestamp, kept: u64) -> FirstNumber {
    let file = read(directory);
    let next = file.unwrap_or_else(|| match database.exists() {
        false => 1,
        // Neither file can be read: milliseconds since 1970 are larger than any earlier number.
        true => database::newest_of(database).map_or(now.0.max(1), |newest| newest + 1),
    });
    FirstNumber {
        seq: next.max(kept),
        recorded: file.is_some() || kept > 0,
    }
}

/// Returns the number in the file, if it is valid.
pub(super) fn read(directory: &Path) -> Option<u64> {
    let mut text = String::new();
    private::open_regular(&directory.join(FILE))
        .ok()?
        .take(64)
        .read_to_string(&mut text)
        .ok()?;
    let next = text.trim_end().parse().ok()?;
    (1..LARGEST).contains(&next).then_some(next)
}

/// Records that numbers from `next` on are free; `durable` syncs the file.
pub(super) fn write(directory: &Path, next: u64, durable: bool) -> io::Result<()> {
    let fresh = directory.join("journal.seq.new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{next}")?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&fresh, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn first_in(directory: &Path) -> u64 {
        first(
            directory,
            &directory.join("journal.db"),
            Timestamp(1_700_000_000_000),
            0,
        )
        .seq
    }

    #[test]
    fn numbers_begin_at_one_and_go_on_where_the_file_says() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(first_in(directory.path()), 1);
        write(directory.path(), 10_001, false).unwrap();
        assert_eq!(first_in(directory.path()), 10_001);
        write(directory.path(), 20_001, true).unwrap();
        assert_eq!(first_in(directory.path()), 20_001);
    }

    #[test]
    fn numbers_continue_from_what_the_holder_kept_when_the_directory_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let first_of = |kept| {
            let first = first(&gone, &gone.join("journal.db"), Timestamp(0), kept);
            (first.seq, first.recorded)
        };
        assert_eq!(first_of(0), (1, false));
        assert_eq!(first_of(20_001), (20_001, true));
        write(directory.path(), 30_001, false).unwrap();
        let database = directory.path().join("journal.db");
        let first = first(directory.path(), &database, Timestamp(0), 20_001);
        assert_eq!((first.seq, first.recorded), (30_001, true));
    }

    #[test]
    fn nonsense_in_the_file_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        for nonsense in [
            "",
            "0",
            "-4",
            "twelve",
            "99999999999999999999",
            "1 2",
            "\u{0}",
        ] {
            fs::write(directory.path().join(FILE), nonsense).unwrap();
            assert_eq!(first_in(directory.path()), 1, "{nonsense:?}");
        }
    }

    #[test]
    fn when_both_files_are_unreadable_no_old_number_can_come_back() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("journal.db"), "not a database at all").unwrap();
        assert_eq!(first_in(directory.path()), 1_700_000_000_000);
    }
}
