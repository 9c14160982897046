//! The forwarder among servers of this process, that answer, lie, wait, cut, die, and send questions back.
//!
//! ```text
//!  test ─▶ Forwarder ─UDP, TCP─▶ Fake   what it does is a function of the test
//!             ▲  └────TLS, HTTPS─▶ Safe   with an authority of its own
//!             └───── a Fake that loops
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "servers need sockets and clocks")]

mod ask;
mod bounds;
mod crowds;
mod encrypted;
mod failing;
mod fake;
#[allow(dead_code, reason = "shared with tests that use all of it")]
#[path = "../support/home.rs"]
mod home;
mod loops;
mod origins;
mod plain;
mod policy;
mod safe;
mod sharing;
mod wait;
