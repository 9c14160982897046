//! Invents input for the target `answers` of `tests/fuzzed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("answers", bytes));
