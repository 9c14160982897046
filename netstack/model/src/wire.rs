//! The wire: what node and server say to each other over a link. The only place that frames bytes.
//!
//! A frame is a length of 4 bytes, a kind of 2 bytes (both big-endian) and a CBOR map by field number (RFC 8949).
//! Unknown fields are skipped and unknown kinds ignored, so that an older agent works with a newer server.

pub mod codec;
pub mod command;
pub mod facts;
pub mod frame;
pub mod handshake;
pub mod hub_key;
pub mod remark;
pub mod ssh;

pub use codec::{Decoder, FrameError, encode};
pub use command::{Command, CommandDone};
pub use facts::Facts;
pub use frame::*;
pub use handshake::{Channel, Transcript};
pub use remark::Remark;
pub use ssh::*;

/// The only version so far. A hello offers a range; the server picks the highest that both speak.
pub const VERSION: u16 = 1;
