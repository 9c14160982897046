//! The relay: packets between devices of one tenant that have no direct path, and to the hub where no UDP goes. Looks at none of them.

mod hub_leg;
mod switchboard;

pub use switchboard::{Counters, Dropped, Line, Switchboard};
