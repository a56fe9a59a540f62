//! Those whom mainstay has to withstand, as programs: `hostile NAME WORDS…`.
//! Owns the entry. The tests beside it run each against a real mainstay.
//! Never goes on for ever or beyond this machine: each ends by itself after the time it was given.
#![cfg_attr(
    target_os = "linux",
    expect(
        clippy::disallowed_methods,
        reason = "an attacker starts programs and looks at the clock itself"
    )
)]

#[cfg(target_os = "linux")]
mod programs;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    programs::run(std::env::args().skip(1))
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the attackers are written for Linux alone");
}
