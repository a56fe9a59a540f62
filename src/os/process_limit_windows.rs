//! No limit on processes or threads is known here that has a value and a place.
//! Never fails: what cannot make a thread says so itself.

pub(crate) fn with_limit(message: &str) -> String {
    message.to_owned()
}

/// Windows writes no core dumps by itself.
pub(crate) fn forbid_core_dumps() {}

/// There is no such limit.
#[cfg(feature = "cli")]
pub(crate) fn raise_open_files() {}

pub(crate) fn check_threads(_: usize) -> Result<(), String> {
    Ok(())
}
