//! Magic DNS: answers questions about each tenant's zone, by who asks.
//!
//! The core ([`Names`]) knows no socket, file or clock: bytes and a source address in, bytes out. The feature
//! `serve` adds the shell that puts it on UDP and TCP. What is of no zone that the asker sees is refused, or with the
//! feature `forward` asked of others.
//!
//! ```text
//!            Sight: which zones the asker sees        View: one zone, compiled
//!  query ──▶ hot: ready-made records over the query ──▶ reply, to the last bit as
//!              └─ not certain ──▶ answer: hickory-proto ──▶ reply
//! ```

mod ahead;
mod answer;
mod arpa;
mod authority;
mod away;
mod explain;
#[cfg(feature = "forward")]
pub mod forward;
mod hash;
mod hot;
pub mod limits;
mod lookup;
mod names;
mod node;
mod opt;
mod rcode;
mod record;
mod rule;
#[cfg(feature = "serve")]
pub mod serve;
mod table;
mod tenants;
pub mod text;
mod view;
mod wire;
mod written;

pub use answer::{Answer, Transport};
pub use away::Away;
pub use explain::Explanation;
pub use hot::Hot;
pub use limits::HOT_BUFFER_BYTES;
pub use names::{Names, NamesError};
pub use rcode::Rcode;
pub use rule::Rule;
