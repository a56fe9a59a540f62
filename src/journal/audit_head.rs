//! The newest link of the audit chain, outside the database: without it, a cut-off end is not seen.
//! Owns the file `audit.head` in the state directory, for its user alone.
//! Never leaves half a file, and never judges what the database says.

use std::io::{self, Read};
use std::path::Path;

use super::chain::ChainPosition;
use crate::os::private;

/// Its name in the state directory.
pub(super) const FILE: &str = "audit.head";

/// Reads the position; nothing where there is no file.
///
/// # Errors
/// A file that cannot be read, or that names no position.
pub(super) fn read(directory: &Path) -> io::Result<Option<ChainPosition>> {
    let mut text = String::new();
    match private::open_regular(&directory.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(512).read_to_string(&mut text)?,
    };
    let position = ChainPosition::parse(&text);
    position
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it names no link of a chain"))
}

/// Replaces the file.
///
/// # Errors
/// What the system says.
pub(super) fn write(directory: &Path, position: &ChainPosition) -> io::Result<()> {
    let text = format!("{position}\n");
    private::write(&directory.join(FILE), text.as_bytes(), None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_nonsense_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        for count in [0, 7, u64::MAX] {
            let position = ChainPosition {
                seq: count / 2,
                count,
                hash: [u8::try_from(count % 200).unwrap(); 32],
            };
            write(directory.path(), &position).unwrap();
            assert_eq!(read(directory.path()).unwrap(), Some(position));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = std::fs::metadata(directory.path().join(FILE)).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(directory.path().join(FILE), "count=1").unwrap();
        assert!(read(directory.path()).is_err());
    }
}
