//! A set of ranks: the work list of the lifecycle.
//! Owns two layers of bits, so that first and last are found without visiting every module.
//! Never allocates after its making.

use alloc::vec;
use alloc::vec::Vec;

/// A set of small numbers, ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RankSet {
    bits: Vec<u64>,
    /// One bit for each word of `bits` that is not zero.
    words: Vec<u64>,
}

impl RankSet {
    /// Room for the numbers below `len`.
    pub(super) fn new(len: usize) -> RankSet {
        let words = len.div_ceil(64);
        RankSet {
            bits: vec![0; words],
            words: vec![0; words.div_ceil(64)],
        }
    }

    pub(super) fn insert(&mut self, rank: u32) {
        let (word, bit) = split(rank);
        self.bits[word] |= 1 << bit;
        self.words[word / 64] |= 1 << (word % 64);
    }

    pub(super) fn remove(&mut self, rank: u32) {
        let (word, bit) = split(rank);
        self.bits[word] &= !(1 << bit);
        if self.bits[word] == 0 {
            self.words[word / 64] &= !(1 << (word % 64));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Takes the lowest.
    pub(super) fn pop_first(&mut self) -> Option<u32> {
        let top = self.words.iter().position(|word| *word != 0)?;
        let word = top * 64 + self.words[top].trailing_zeros() as usize;
        let rank = joined(word, self.bits[word].trailing_zeros());
        self.remove(rank);
        Some(rank)
    }

    /// Takes the highest.
    pub(super) fn pop_last(&mut self) -> Option<u32> {
        let top = self.words.iter().rposition(|word| *word != 0)?;
        let word = top * 64 + 63 - self.words[top].leading_zeros() as usize;
        let rank = joined(word, 63 - self.bits[word].leading_zeros());
        self.remove(rank);
        Some(rank)
    }
}

fn split(rank: u32) -> (usize, u32) {
    ((rank / 64) as usize, rank % 64)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a word's number came from a u32 rank"
)]
fn joined(word: usize, bit: u32) -> u32 {
    word as u32 * 64 + bit
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn behaves_like_an_ordered_set() {
        let (mut ranks, mut model, mut seed) = (RankSet::new(10_000), BTreeSet::new(), 1);
        for _ in 0..100_000 {
            seed = crate::backoff::splitmix64(seed);
            let rank = u32::try_from(seed % 10_000).expect("small");
            match (seed >> 32) % 5 {
                0 | 1 => {
                    ranks.insert(rank);
                    model.insert(rank);
                }
                2 => {
                    ranks.remove(rank);
                    model.remove(&rank);
                }
                3 => assert_eq!(ranks.pop_first(), model.pop_first()),
                _ => assert_eq!(ranks.pop_last(), model.pop_last()),
            }
            assert_eq!(ranks.is_empty(), model.is_empty());
        }
    }
}
