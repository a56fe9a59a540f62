//! Swaps a folder of its own for a link to another's, back and forth, while somebody makes files
//! below it.
//! Owns the folder that it swaps. Never has the right to write where the link leads.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::words::{Words, left, say, under_way};

/// `link-swapper FOLDER TARGET MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (folder, target) = (Path::new(words.text(0)?), words.text(1)?);
    let end = words.end(2)?;
    let aside = folder.with_extension("aside");
    let link = folder.with_extension("link");
    symlink(target, &link)?;
    under_way()?;
    let mut swaps = 0_u64;
    while !left(end).is_zero() {
        // Another may make the folder meanwhile, so each step may fail.
        let swapped = fs::rename(folder, &aside).and_then(|()| fs::rename(&link, folder));
        swaps += u64::from(swapped.is_ok());
        let _back = fs::rename(folder, &link).and_then(|()| fs::rename(&aside, folder));
    }
    say(&format!("{swaps} swaps"))
}
