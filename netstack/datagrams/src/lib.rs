//! Many datagrams with one system call, and how a UDP socket ends without losing one. Knows not what is in them.
//!
//! For servers that answer each datagram where it lies: [`Batch`] receives into slots, and what is written over a slot
//! goes back to whom it came from. No offload, no control message: the socket is bound to the one address that it
//! answers from.

mod address;
mod batch;
mod closing;
mod system;

pub use address::{ADDRESS_BYTES, Address};
pub use batch::{Batch, Datagram, Wait};
pub use closing::{settle, turn_away, wake};
pub use system::{BATCH_MAX, overflowed};
