//! Two namespaces joined by a veth pair, with a WireGuard engine in each: ours, others', the kernel's. Knows engines by
//! their command lines and by the protocol that all of them speak; judges nothing.
//!
//! ```text
//!   namespace a                                   namespace b
//!   10.9.0.1, fd09::1  veth ───────────── veth   10.9.0.2, fd09::2     MTU 1500
//!   10.77.0.1, fd77::1 tunnel ═══════════ tunnel 10.77.0.2, fd77::2    MTU 1420
//! ```

mod crowd;
mod engine;
mod handshakes;
mod numbered;
mod pace;
mod pair;
mod relay;
mod seeded;
mod transfer;

pub use crowd::Crowd;
pub use engine::Engine;
pub use handshakes::{Answered, Bogus, Flood, Initiator, SOURCES, numbered_private, numbered_public};
pub use numbered::{Arrived, Numbered, Shape};
pub use pace::Pace;
pub use pair::{Pair, PeerLine, Side, public_of, random_key};
pub use relay::{Faults, Relay, Relayed};
pub use seeded::Seeded;
pub use transfer::Transfer;
