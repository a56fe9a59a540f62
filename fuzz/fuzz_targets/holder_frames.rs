//! Frames between holder and runtime. Owns nothing. Never ends by itself.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::holder_frames(bytes));
