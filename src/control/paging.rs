//! Results that must fit into one line: pages of modules, the newest of a list.
//! Owns the space that a result may take.
//! Never cuts an item: it leaves items out.

use std::io;

use mainstay_policy::ModuleId;
use mainstay_protocol::method::PageParams;
use mainstay_protocol::{MAX_LINE_BYTES, RequestError};

use super::modules::find_module;
use crate::actors::RuntimeContext;

/// Bytes of a line for the result; the rest is for the response around it.
pub(super) const RESULT_BYTES_MAX: usize = MAX_LINE_BYTES - 4096;

/// Returns the modules of `order` after the requested one, built by `build`: all of them if no page
/// is requested, else as many as fit into a line.
pub(super) fn page<T: serde::Serialize>(
    ctx: &RuntimeContext,
    order: &[ModuleId],
    requested: &PageParams,
    build: impl Fn(&[ModuleId]) -> T,
) -> Result<T, RequestError> {
    let after = requested
        .after
        .as_ref()
        .map(|after| find_module(ctx, after));
    let after = after.transpose()?;
    let position = order.iter().position(|id| Some(*id) == after);
    let rest = &order[position.map_or(0, |at| at + 1)..];
    let limit = requested.limit.unwrap_or(usize::MAX);
    let mut count = limit.clamp(1, rest.len().max(1));
    loop {
        let result = build(&rest[..count.min(rest.len())]);
        // A client that requests all gets all, or the error that it does not fit.
        let is_all = *requested == PageParams::default();
        if is_all || count == 1 || encoded_bytes(&result) <= RESULT_BYTES_MAX {
            return Ok(result);
        }
        count /= 2;
    }
}

/// Keeps the newest items that fit into a line.
pub(super) fn newest_that_fit<T: serde::Serialize>(mut items: Vec<T>) -> Vec<T> {
    let mut taken = 0;
    let fits = items.iter().rev().take_while(|item| {
        taken += encoded_bytes(item) + 1; // with its comma
        taken <= RESULT_BYTES_MAX
    });
    let too_many = items.len() - fits.count();
    items.drain(..too_many);
    items
}

/// The length of a value as JSON.
fn encoded_bytes(value: &impl serde::Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let _never_fails = serde_json::to_writer(&mut counter, value);
    counter.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_when_not_all_fit() {
        let item = |byte: char| byte.to_string().repeat(RESULT_BYTES_MAX / 2 - 10);
        let kept = newest_that_fit(vec![item('a'), item('b'), item('c')]);
        let first: Vec<char> = kept.iter().filter_map(|item| item.chars().next()).collect();
        assert_eq!(first, ['b', 'c']);
        assert_eq!(encoded_bytes(&"a\n"), r#""a\n""#.len());
    }
}
