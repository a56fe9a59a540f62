//! Frames between holder and runtime. Owns nothing. Never ends by itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstay_fuzz::holder_frames(bytes));
