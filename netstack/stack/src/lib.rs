//! TCP, UDP and echoes in user space, over a descriptor that carries bare IP packets: what a device without any
//! privilege has instead of a network interface.
//!
//! It knows nothing of WireGuard, names or tenants. Whoever holds a [`Stack`] attaches one end of a [`pair`] and gives
//! the other to whatever carries packets. One task moves all packets; streams copy straight to and from its buffers,
//! so that a slow reader closes the window of its sender (RFC 9293) and nothing piles up in between.

mod core;
mod driver;
mod echo;
mod forward;
mod incoming;
mod limits;
mod packet;
mod stack;
mod stream;
mod udp;
mod wire;

pub use forward::{Inbound, forward};
pub use incoming::{Incoming, Knock};
pub use limits::FLOWS_MAX;
pub use stack::Stack;
pub use stream::TcpStream;
pub use udp::UdpSocket;
pub use wire::pair;
