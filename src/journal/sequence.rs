//! Sequence numbers that outlive a crash: a small file with the start of the next free block.
//! Owns `journal.seq`. Never hands out a number itself: the intake does, within the block.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use mainstay_protocol::Timestamp;

use super::store;

/// Numbers reserved at once.
pub(super) const BLOCK: u64 = 10_000;

const FILE: &str = "journal.seq";
/// Numbers travel as JSON, where integers are exact up to here.
const LARGEST: u64 = 1 << 53;

/// The first number of this run. Waits for the database only when the file is of no use.
pub(super) fn first(directory: &Path, database: &Path, now: Timestamp) -> u64 {
    if let Some(next) = read(directory) {
        return next;
    }
    if !database.exists() {
        return 1;
    }
    // Neither file can be read: milliseconds since 1970 are larger than any number given before.
    store::newest_of(database).map_or(now.0.max(1), |newest| newest + 1)
}

/// What the file says, if it says anything.
pub(super) fn read(directory: &Path) -> Option<u64> {
    let mut text = String::new();
    File::open(directory.join(FILE))
        .ok()?
        .take(64)
        .read_to_string(&mut text)
        .ok()?;
    let next = text.trim_end().parse().ok()?;
    (1..LARGEST).contains(&next).then_some(next)
}

/// Says that numbers from `next` on are free. `durable` also waits for the disk.
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
        )
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
