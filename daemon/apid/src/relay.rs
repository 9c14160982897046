//! The relay: packets between devices of one tenant that have no direct path. Looks at none of them.

mod switchboard;

pub use switchboard::{Counters, Dropped, Line, Switchboard};
