//! A module that writes without end costs nobody else a line, and no memory.
//! Owns the test. Never reads what was written so.

use crate::setup::{LASTS, Setup, Trees};
use crate::system::withstand;

#[test]
fn a_module_that_writes_without_end_costs_nobody_else_a_line() {
    let setup = || Setup::new(Trees::Grouped).insider(&["log-flooder", LASTS], "");
    withstand(setup, |_| Vec::new());
}
