//! Giving memory back that only the start needed.
//! Called once, when the initial startup has ended, by the runtime and by a holder of its own.
//! Never drops a page that could have been written to.

/// Gives back freed heap, and the pages of our own code: those still needed come back from the
/// page cache as they are used.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "malloc_trim, madvise")]
pub fn release_startup_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a number only; other threads may allocate meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, length) in maps.lines().filter_map(code) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: private pages of a file that are not writable: a thread that runs in them
        // faults and reads the same bytes again.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// Nothing is known to be worth it here.
#[cfg(not(target_os = "linux"))]
pub fn release_startup_memory() {}

/// Start and length of a mapping of code or constants from a file.
#[cfg(target_os = "linux")]
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, mode) = (words.next()?, words.next()?);
    let (start, end) = range.split_once('-')?;
    let at = words.next()?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let from_file = words.nth(2)?.starts_with('/');
    // What lies at the beginning of a program are its constants; what was relocated comes later.
    let clean = mode == "r-xp" || (mode == "r--p" && at == "00000000");
    (clean && from_file).then_some((start, end.checked_sub(start)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_let_go_of() {
        let line = |mode: &str, file: &str| format!("1000-3000 {mode} 00000000 fe:00 42  {file}");
        for mode in ["r-xp", "r--p"] {
            assert_eq!(code(&line(mode, "/bin/mainstay")), Some((0x1000, 0x2000)));
        }
        let relocated = line("r--p", "/bin/mainstay").replace("00000000", "00940ec0");
        assert_eq!(code(&relocated), None);
        for other in [("rw-p", "/bin/mainstay"), ("r-xp", "[vdso]")] {
            assert_eq!(code(&line(other.0, other.1)), None, "{other:?}");
        }
        assert_eq!(code("1000-3000 rw-p 00000000 00:00 0"), None);
        release_startup_memory();
    }
}
