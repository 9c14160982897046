//! The relay: packets between devices of one tenant that have no direct path. Looks at none of them.

pub mod alone;
mod switchboard;

pub use switchboard::{Counters, Dropped, Switchboard};
