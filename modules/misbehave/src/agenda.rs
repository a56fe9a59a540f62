//! What is to be done when: a handful of instants, the earliest first.
//! Owns the order.
//! Never waits and never reads a clock.

use std::time::Instant;

/// Something that is due at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// Say ready.
    Ready,
    /// Feed the watchdog.
    Feed,
    /// Look whether the file of `--until-file` exists.
    Look,
    /// Go wrong.
    Fate,
    /// Take more memory.
    Leak,
    /// Exit with 0: the slow stop or the bounded life is over.
    End,
}

/// The open items; few, so a plain list will do.
#[derive(Debug, Default)]
pub(crate) struct Agenda(Vec<(Instant, Item)>);

impl Agenda {
    pub(crate) fn add(&mut self, at: Instant, item: Item) {
        self.0.push((at, item));
    }

    /// When the next item is due; of two at once the one added first.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|entry| entry.0).min()
    }

    /// Takes the next item if it is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Item> {
        let next = self.next().filter(|next| *next <= now)?;
        let at = self.0.iter().position(|entry| entry.0 == next)?;
        Some(self.0.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_nothing_comes_early() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut agenda = Agenda::default();
        agenda.add(later, Item::End);
        agenda.add(now, Item::Ready);
        agenda.add(now, Item::Fate);
        assert_eq!(agenda.next(), Some(now));
        assert_eq!(agenda.due(now), Some(Item::Ready));
        assert_eq!(agenda.due(now), Some(Item::Fate));
        assert_eq!(agenda.due(now), None);
        assert_eq!(agenda.due(later), Some(Item::End));
        assert_eq!(agenda.next(), None);
    }
}
