//! Writing a file so that a reader sees the old one or the new one, never half of it.
//! Owns the temporary name beside the file.
//! Never leaves the temporary file behind when the writing fails.

use std::fs;
use std::io;
use std::path::Path;

/// Replaces the file; its folder is made when it is missing.
///
/// # Errors
/// When the folder or the file cannot be written; the old file is as it was.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    fs::write(&name, content)
        .and_then(|()| fs::rename(&name, path))
        .inspect_err(|_| {
            // It may not have been made at all.
            let _ = fs::remove_file(&name);
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let below_a_file = path.join("impossible");
        write(&below_a_file, b"three").unwrap_err();
    }
}
