//! What must hold of every parser that meets the network, for any bytes: the functions that `fuzz/` runs on invented
//! input and `cargo test` on the recorded one. Knows no input.
//!
//! Each takes bytes and panics if a property is broken; refusing the bytes is always right.

mod answers;
mod certificates;
mod datagrams;
mod engine;
mod frames;
mod names;
mod packets;
mod relayed;
mod responses;
mod revocations;
mod stun;
mod tokens;
mod uapi;

/// A parser and its properties.
pub type Fuzzed = fn(&[u8]);

/// Every target by its name, which is also the name of its corpus under `fuzz/corpus`.
pub const TARGETS: &[(&str, Fuzzed)] = &[
    ("answers", answers::check),
    ("certificates", certificates::check),
    ("datagrams", datagrams::check),
    ("engine", engine::check),
    ("frames", frames::check),
    ("names", names::check),
    ("packets", packets::check),
    ("relayed", relayed::check),
    ("stun", stun::check),
    ("responses", responses::check),
    ("revocations", revocations::check),
    ("tokens", tokens::check),
    ("uapi", uapi::check),
];

/// Runs one target.
///
/// # Panics
/// If there is no such target, or a property is broken.
pub fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, check) = found.unwrap_or_else(|| panic!("no fuzz target {target}"));
    check(bytes);
}
