//! The newest of what a run wrote into its tap, for a runtime that was not there to hear it.
//! Owns at most two times its limit in bytes.
//! Never goes over to the next run.

/// How much is told again at least, where there was so much.
const KEPT_BYTES: usize = 32 * 1024;

/// What was passed on since the tap was opened.
#[derive(Debug, Default)]
pub(crate) struct TapReplay(String);

impl TapReplay {
    pub(crate) fn push(&mut self, text: &str) {
        self.0.push_str(text);
        if self.0.len() > 2 * KEPT_BYTES {
            let from = self.0.ceil_char_boundary(self.0.len() - KEPT_BYTES);
            self.0.drain(..from);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = String::new();
    }

    pub(crate) fn text(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_kept_whole_in_bounds() {
        let mut kept = TapReplay::default();
        kept.push("first\n");
        assert_eq!(kept.text(), "first\n");
        for number in 0..100_000 {
            kept.push(&format!("{number} ä\n"));
            assert!(kept.0.len() <= 2 * KEPT_BYTES);
        }
        let text = kept.text();
        assert!(text.len() >= KEPT_BYTES && text.ends_with("\n99998 ä\n99999 ä\n"));
        kept.clear();
        assert_eq!(kept.text(), "");
    }
}
