//! A simulator: the cores of nodes and servers under one queue of events, with virtual time and everything that can go
//! wrong. One seed is one run with one digest. Knows no socket, file, thread or clock.

mod certificates;
mod clock;
mod dice;
mod disk;
mod host;
mod judge;
mod link;
mod machine;
pub mod mesh;
mod paths;
mod queue;
mod replica;
mod scenario;
mod sshd;
mod store;
mod trace;
mod world;

pub use judge::Violation;
pub use scenario::{Sabotage, Scenario};
pub use store::Betrayal;
pub use trace::{Verbosity, clock};
pub use world::Outcome;

/// Runs a scenario to its end, or to the first invariant that does not hold.
pub fn run(scenario: Scenario, verbosity: Verbosity) -> Outcome {
    world::World::new(scenario, verbosity).run()
}
