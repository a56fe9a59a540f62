//! What history needs of a module after the runtime died: its newest event, its open request, why
//! it failed or stopped last. Owns the part of the holder's record that policy does not read.
//! Never longer than what the record leaves: of a long reason the beginning is kept.

use mainstay_policy::lifecycle::Operation;
use mainstay_protocol::Timestamp;

use super::record;
use crate::os::MAX_RECORD_BYTES;

/// Longest name of a requester, in bytes.
const REQUESTER_BYTES: usize = 64;
/// Longest reason of a start, in bytes.
const STARTED_BYTES: usize = 80;
/// Replaces a blank in a value: blanks separate values.
const BLANK: &str = "\u{1f}";

/// What is known beside policy's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModuleMemory {
    /// When it entered its state.
    pub(super) since: Option<Timestamp>,
    /// Its newest event; 0: none.
    pub(super) last_seq: u64,
    /// The requester of its operation.
    pub(super) requester: Option<String>,
    /// That request, if it has no result yet: its event, the operation, the run before it.
    pub(super) request: Option<(u64, Operation, u64)>,
    /// The requester of its hold.
    pub(super) held_by: Option<String>,
    /// Why its current or last run was started.
    pub(super) started_because: Option<String>,
    /// Why it failed or stopped last.
    pub(super) reason: Option<String>,
}

/// An operation in JSON.
pub(super) fn operation_str(operation: Operation) -> &'static str {
    match operation {
        Operation::Start => "start",
        Operation::Stop => "stop",
        Operation::Restart => "restart",
        Operation::Wake => "wake",
        Operation::Recover => "recover",
    }
}

fn operation(text: &str) -> Option<Operation> {
    let all = [
        Operation::Start,
        Operation::Stop,
        Operation::Restart,
        Operation::Wake,
        Operation::Recover,
    ];
    all.into_iter().find(|one| operation_str(*one) == text)
}

impl ModuleMemory {
    /// Appends it to a record, which contains the time already.
    pub(super) fn append_to(&self, text: &mut String) {
        if self.last_seq > 0 {
            push(text, "seq", &self.last_seq.to_string(), usize::MAX);
        }
        if let Some((seq, operation, generation)) = self.request {
            let operation = operation_str(operation);
            push(
                text,
                "request",
                &format!("{seq}/{operation}/{generation}"),
                usize::MAX,
            );
        }
        if let Some(requester) = &self.requester {
            push(text, "by", requester, REQUESTER_BYTES);
        }
        if let Some(requester) = &self.held_by {
            push(text, "held_by", requester, REQUESTER_BYTES);
        }
        if let Some(because) = &self.started_because {
            push(text, "run", because, STARTED_BYTES);
        }
        if let Some(reason) = &self.reason {
            push(text, "why", reason, usize::MAX);
        }
    }

    /// Reads what a record says of it; what is missing is unknown.
    pub(super) fn decode(text: &str) -> ModuleMemory {
        let word = |key: &str| {
            let mut words = text.split(' ');
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let value = |key: &str| word(key).map(|word| word.replace(BLANK, " "));
        ModuleMemory {
            since: record::since(text),
            last_seq: word("seq").and_then(|seq| seq.parse().ok()).unwrap_or(0),
            requester: value("by"),
            request: word("request").and_then(|word| {
                let mut parts = word.split('/');
                let seq = parts.next()?.parse().ok()?;
                let operation = operation(parts.next()?)?;
                Some((seq, operation, parts.next()?.parse().ok()?))
            }),
            held_by: value("held_by"),
            started_because: value("run"),
            reason: value("why"),
        }
    }
}

/// Appends one word, its value cut to `limit` bytes and to what the record leaves.
fn push(text: &mut String, key: &str, value: &str, limit: usize) {
    let room = MAX_RECORD_BYTES.saturating_sub(text.len() + key.len() + 2);
    let value = value.replace(' ', BLANK);
    let end = value.floor_char_boundary(room.min(limit));
    if end > 0 {
        text.push(' ');
        text.push_str(key);
        text.push('=');
        text.push_str(&value[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> ModuleMemory {
        ModuleMemory {
            since: Some(Timestamp(7)),
            last_seq: u64::MAX,
            requester: Some("mainstay 0.1.0 (uid 1000, pid 4711)".to_owned()),
            request: Some((u64::MAX, Operation::Restart, u64::MAX)),
            held_by: Some("mainstay 0.1.0 (uid 0, pid 4712)".to_owned()),
            started_because: Some("restarted: exit code 7".to_owned()),
            reason: Some("exit code 7; key=value".to_owned()),
        }
    }

    #[test]
    fn it_survives_its_text_and_other_words_are_skipped() {
        for memory in [
            memory(),
            ModuleMemory {
                since: Some(Timestamp(7)),
                ..ModuleMemory::default()
            },
        ] {
            let mut text = "up=1 colour=green since=7".to_owned();
            memory.append_to(&mut text);
            text.push_str(" later=1");
            assert_eq!(ModuleMemory::decode(&text), memory);
        }
        assert_eq!(ModuleMemory::decode("nonsense"), ModuleMemory::default());
    }

    #[test]
    fn what_does_not_fit_a_record_is_cut_at_a_character() {
        let long = ModuleMemory {
            requester: Some("ä".repeat(500)),
            reason: Some("ö".repeat(500)),
            ..memory()
        };
        for before in [0, 300, 301, 440, 441, 500, 511, 512] {
            let mut text = "x".repeat(before);
            long.append_to(&mut text);
            assert!(text.len() <= MAX_RECORD_BYTES, "{}", text.len());
            let read = ModuleMemory::decode(&text);
            assert!(
                read.requester
                    .is_none_or(|who| who.len() <= REQUESTER_BYTES)
            );
        }
    }
}
