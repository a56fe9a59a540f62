//! Random numbers from a seed.
//! Owns one generator (xorshift64*), the only source of chance in a simulation.
//! Never asks the machine for entropy.

use std::time::Duration;

/// A generator; the same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
    /// The choice that is being made is left out: nothing goes wrong, and at once.
    is_calm: bool,
}

impl Rng {
    /// A generator from any seed, zero included.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng::from_state(mainstay_policy::backoff::splitmix64(seed) | 1)
    }

    /// A generator that continues where another stopped.
    #[must_use]
    pub fn from_state(state: u64) -> Rng {
        Rng {
            state,
            is_calm: false,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Goes on from a state; None: what follows is calm.
    pub fn set(&mut self, state: Option<u64>) {
        self.is_calm = state.is_none();
        self.state = state.unwrap_or(self.state);
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if that is 0, or if the choice is calm.
    pub fn below(&mut self, end: u64) -> u64 {
        if self.is_calm {
            return 0;
        }
        // The high half of a product spreads evenly and costs no division.
        let wide = u128::from(self.draw()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True in `share` of 1000 cases; never if the choice is calm.
    pub fn permille(&mut self, share: u64) -> bool {
        !self.is_calm && self.below(1000) < share
    }

    /// A time span below `end`.
    pub fn span(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }
}
