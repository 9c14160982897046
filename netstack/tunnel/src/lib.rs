//! A WireGuard device in user space: a TUN interface, UDP sockets and the Noise sessions of boringtun.
//!
//! It knows nothing of tenants, snapshots, routes or addresses of the interface: whoever holds a [`Device`]
//! tells it an [`Update`] and reads a [`DeviceState`]. The same two types are what the text protocol of `wg`
//! is translated to (<https://www.wireguard.com/xplatform/>), so a device obeys its owner and Debian's `wg` alike.
//!
//! Four threads: packets out, packets in, timers, and the socket of `wg`. An idle peer costs a few hundred
//! bytes and no timer; the state of a session (about 18 KB in boringtun) exists from the first handshake until
//! its keys expire.

mod allowed;
mod device;
mod identity;
mod inbound;
mod indices;
mod initiation;
#[cfg_attr(not(test), expect(dead_code, reason = "the engine moves over to it"))]
mod io;
mod load;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the threads of a device do not use it yet")
)]
mod offload;
mod outbound;
mod peer;
#[cfg_attr(not(test), expect(dead_code, reason = "the engine moves over to it"))]
mod routes;
mod shared;
#[cfg_attr(not(test), expect(dead_code, reason = "the engine moves over to it"))]
mod slab;
mod sockets;
mod state;
mod table;
mod timers;
mod tun;
pub mod uapi;
mod update;

pub use device::{Config, Device, DeviceError};
pub use state::{DeviceState, PeerState};
pub use update::{ApplyError, PeerUpdate, PresharedKey, Update};

/// Where `wg` of Debian and of every other distribution looks for sockets.
pub const UAPI_DIRECTORY: &str = "/var/run/wireguard";
