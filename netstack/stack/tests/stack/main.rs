//! Two stacks on one wire, with and without losses in between; and a stack that carries connections to this machine.

mod questions;
mod streams;
mod wires;
