//! A WireGuard device in user space: a TUN interface, UDP sockets and the protocol's sessions.
//!
//! It knows nothing of tenants, snapshots, routes or addresses of the interface: whoever holds a [`Device`]
//! tells it an [`Update`] and reads a [`DeviceState`]. The same two types are what the text protocol of `wg`
//! is translated to (<https://www.wireguard.com/xplatform/>), so a device obeys its owner and Debian's `wg` alike.
//!
//! Three threads, and one for `wg`: packets out, packets in, and everything that is not a packet of data. An idle
//! peer costs a few hundred bytes and no timer. `outbound` and `inbound` are the way of a packet; start there.

mod clock;
mod codel;
mod crypto;
mod deliver;
mod device;
#[doc(hidden)]
pub mod fuzzed;
mod gate;
mod inbound;
mod io;
mod ip;
mod offload;
mod outbound;
mod path;
mod peer;
mod priority;
mod random;
mod routes;
mod shared;
mod slab;
mod state;
mod table;
mod task;
pub mod uapi;
mod update;
mod wheel;
mod work;

pub use crypto::{BadCrypto, Crypto};
pub use device::{Config, Device, DeviceError};
pub use path::{Carrier, Probe, Way};
pub use state::{DeviceState, PeerState};
pub use update::{ApplyError, PeerUpdate, PresharedKey, Update};

/// Where `wg` of Debian and of every other distribution looks for sockets.
pub const UAPI_DIRECTORY: &str = "/var/run/wireguard";
