//! Writes as fast as its output is taken: lines, and then bytes that are no lines.
//! Owns nothing. Never stops before its time.

use std::io::{self, Write};

use super::words::{Words, left, under_way};

/// `log-flooder MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let end = words.end(0)?;
    under_way()?;
    let lines = "0123456789 flood\n".repeat(4000).into_bytes();
    let no_lines = vec![0xff; 64 * 1024];
    let (mut out, mut errors) = (io::stdout().lock(), io::stderr().lock());
    while !left(end).is_zero() {
        out.write_all(&lines)?;
        errors.write_all(&no_lines)?;
    }
    writeln!(out)
}
