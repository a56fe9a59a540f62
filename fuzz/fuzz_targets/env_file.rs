//! Text of an env file. Owns a folder of the temporary directory. Never ends by itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("mainstay-fuzz-env-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    mainstay_fuzz::env_file(&folder, bytes);
});
