//! The host crate against a real kernel: each test runs again as a process of its own in fresh network and mount
//! namespaces, so that nothing outlives it and nothing of the machine is touched. Needs root and `/dev/net/tun`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test's helpers may panic and print"
)]

mod alone;
mod bus;
mod capabilities;
mod changes;
mod drive;
mod endpoints;
mod firewall;
mod guests;
mod peers;
mod resolver;
mod server;
