//! The WireGuard protocol: handshake, cookies, replay window and load. Sans-IO.
//!
//! Knows no socket, clock or random source: time and fresh random bytes are arguments. Names and sections are those
//! of the WireGuard paper (J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel").

mod hash;
pub mod limits;
mod pair;
mod parties;
mod peer;
mod tai64n;
mod time;

pub mod cookie;
pub mod load;
pub mod message;
pub mod noise;
pub mod replay;

pub use message::Message;
pub use pair::KeyPair;
pub use peer::{Accepted, Finished, Lease, Locked, Peer, Tick, Wants};
pub use tai64n::Tai64n;
pub use time::Time;
