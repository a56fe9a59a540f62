//! Random names and numbers, from the random source of the kernel.

use std::io;
use std::ops::Range;

/// Numbers by which runs are known where a mark may be lost: each run has another one.
#[derive(Debug)]
pub(crate) struct Tags {
    first: u64,
    next: u64,
}

impl Tags {
    /// They begin where those of another holder hardly do.
    pub(crate) fn new() -> io::Result<Tags> {
        let random = u64::from_str_radix(&random::<4>()?, 16).unwrap_or(0);
        let first = (1 << 62) | ((random >> 2) << 32);
        Ok(Tags { first, next: first })
    }

    /// They go on after these, which the same holder drew.
    #[cfg(target_os = "linux")]
    pub(crate) fn after((first, next): (u64, u64)) -> Tags {
        Tags { first, next }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether the same holder draws both.
    pub(crate) fn are_of_one_holder(one: u64, other: u64) -> bool {
        one >> 32 == other >> 32
    }

    /// All that were drawn.
    pub(crate) fn given(&self) -> Range<u64> {
        self.first..self.next
    }
}

/// So many random bytes, in hexadecimal digits.
#[expect(unsafe_code, reason = "getentropy")]
pub(crate) fn random<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0u8; BYTES];
    // SAFETY: a buffer of the stated length, at most 256 bytes.
    if unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), BYTES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
