//! Magic DNS: answers questions about each tenant's zone, by who asks.
//!
//! The core ([`Names`]) knows no socket, file or clock: bytes and a source address in, bytes out. The feature
//! `serve` adds the shell that puts it on UDP and TCP. Neither forwards nor recurses: what is not of the
//! asker's own tenant is refused.

mod answer;
mod arpa;
mod key;
pub mod limits;
mod lookup;
mod names;
mod rcode;
mod record;
#[cfg(feature = "serve")]
pub mod serve;
mod shards;
mod view;

pub use answer::{Answer, Transport};
pub use names::{Names, NamesError};
pub use rcode::Rcode;
