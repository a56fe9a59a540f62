//! Subjects on the bus: names joined by dots, and patterns over them.
//! Owns the matching. Never allocates while matching.

/// Longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

/// Returns whether `text` is a subject: names of letters, digits, `-` and `_`, joined by dots.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    text.len() <= SUBJECT_BYTES_MAX && text.split('.').all(is_word)
}

/// Returns whether `text` is a pattern: a subject in which `*` may replace a name.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.len() <= SUBJECT_BYTES_MAX && text.split('.').all(|word| word == "*" || is_word(word))
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Returns whether the pattern matches: `*` matches one name; at the end, one or more.
#[must_use]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    let mut parts = pattern.split('.').peekable();
    while let Some(part) = parts.next() {
        let Some(word) = words.next() else {
            return false;
        };
        if part == "*" && parts.peek().is_none() {
            return true;
        }
        if part != "*" && part != word {
            return false;
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let yes = [
            ("a", "a"),
            ("a.*", "a.b"),
            ("a.*", "a.b.c"),
            ("*", "a.b"),
            ("a.*.c", "a.b.c"),
            ("*.c", "a.c"),
        ];
        let no = [
            ("a", "b"),
            ("a", "a.b"),
            ("*.c", "a.d"),
            ("*.c", "a.b.c"),
            ("samples", "sample"),
            ("a.*", "a"),
            ("a.*.c", "a.b.d"),
            ("a.*.c", "a.b.c.d"),
        ];
        assert!(
            yes.iter()
                .all(|(pattern, subject)| matches(pattern, subject))
        );
        assert!(
            !no.iter()
                .any(|(pattern, subject)| matches(pattern, subject))
        );
    }

    #[test]
    fn what_may_be_published_and_subscribed() {
        assert!(is_subject("samples.machine") && is_pattern("samples.*"));
        assert!(
            !["", ".", "a..b", "a b", "a.*"]
                .iter()
                .any(|text| is_subject(text))
        );
        assert!(!["", "a.**", "a*"].iter().any(|text| is_pattern(text)));
    }
}
