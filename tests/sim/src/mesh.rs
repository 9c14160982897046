//! A mesh of devices that look for paths to each other through a network of NATs, in virtual time: the engine's `Paths`
//! against what NATs of those kinds must allow. One seed is one run.

mod nat;
mod network;
mod topology;
mod world;

pub use world::{MeshOutcome, MeshSabotage, lost_by_kernel, met_after, run, run_with};
