//! misbehave: a module that fails on request, so that tests can see what mainstay does about it.
//! Owns the entry and the order of things at start.
//! Never leaves anything behind: every process it lets go of has a bounded life.

// The standard entry ignores SIGPIPE and installs a SIGSEGV handler; a module written in C has
// neither, and `--print-signals` is there to show what the supervisor handed down.
// Unit tests have an entry of their own.
#![cfg_attr(all(unix, not(test)), no_main)]

#[cfg(unix)]
mod agenda;
#[cfg(unix)]
mod fate;
#[cfg(unix)]
mod grpc;
#[cfg(unix)]
mod offspring;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod ready;
#[cfg(unix)]
#[cfg_attr(test, expect(dead_code, reason = "the tests' entry does not run it"))]
mod run;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod show;
#[cfg(unix)]
mod stamp;
#[cfg(windows)]
mod windows;

#[cfg(all(unix, not(test)))]
#[expect(
    unsafe_code,
    reason = "an entry of our own leaves the inherited signal dispositions as they are"
)]
// SAFETY: this is the only definition of `main` in the program, and the arguments are not used:
// the standard library reads them by itself on the platforms this is built for.
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    // The same code that Rust's own entry gives a panic.
    std::panic::catch_unwind(run::run).unwrap_or(101)
}

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    windows::run()
}
