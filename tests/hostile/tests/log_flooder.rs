//! A module that writes without end costs nobody else a line, and no memory.
//! Owns the test. Never reads what was written so.

use crate::setup::{LASTS, Setup, Trees};

#[test]
fn a_module_that_writes_without_end_costs_nobody_else_a_line() {
    let setup = Setup::new(Trees::Grouped).insider(&["log-flooder", LASTS], "");
    setup.start().withstand(|system| {
        system.let_insiders_loose();
        Vec::new()
    });
}
