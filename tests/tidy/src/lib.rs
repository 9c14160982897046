//! Guards as tests: what the tree looks like to a reader. Knows text, syntax and `cargo metadata`; runs nothing of ours.
//!
//! Each guard is a test under `tests/`; its message says what to do. Where a rule has exceptions, they stand
//! beside it with their reason, and an exception that is no longer needed fails too.

pub mod circles;
pub mod complaints;
pub mod graph;
pub mod rust;
pub mod tree;

pub use complaints::Complaints;
