//! Links between two ends in one process, over the loopback of the machine.
#![allow(clippy::unwrap_used, missing_docs)]

mod carriers;
mod closing;
mod datagrams;
mod dialing;
mod hostile;
mod https;
mod serving;
mod support;
