//! Invents input for the target `certificates` of `tests/fuzzed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("certificates", bytes));
