//! A node against a hand-written server, a model of a host and a disk, in virtual time.
//!
//! ```text
//!   Server (signs with an anchor) ◀── frames ──▶ Node ◀── changes, observations ──▶ Host (strict as a kernel)
//!                                                  │
//!                                                Disk (what was persisted last)
//! ```

mod commands;
mod detour;
mod enrolment;
mod host;
mod hub;
mod incremental;
mod lease;
mod paths;
mod reconcile;
mod seats;
mod server;
mod session;
mod settle;
mod snapshots;
mod ssh;
mod world;
