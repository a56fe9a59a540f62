//! Without an attacker: what the other tests assert holds of a system that is left alone.
//! Owns the measure of the measure. Never an attack.

use crate::setup::{BOTH, Setup};
use crate::system::withstand;

#[test]
fn a_system_that_nobody_attacks_is_not_late() {
    for trees in BOTH {
        withstand(|| Setup::new(trees), |_| Vec::new());
    }
}
