//! The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (section 5.4): two messages, and both ends hold two keys.
//!
//! Knows no peer and no session: who may shake hands, when, and what becomes of the keys is their owner's.
//!
//! ```text
//!  initiator                          responder
//!  initiate ──────── 148 bytes ─────▶ Claimed::open    who they say they are
//!                                     Claimed::verify  they are, and when they said it
//!  Initiator::finish ◀── 92 bytes ─── Verified::respond
//! ```
//!
//! Messages leave with both MACs zero, see [`crate::cookie::stamp`]. A message that comes is looked at only if its first
//! MAC is valid: nothing is computed for who does not know our public key.

mod initiator;
mod responder;
mod transcript;

pub use crate::parties::{Local, Remote};
pub use initiator::{Initiator, initiate};
pub use responder::{Claimed, Verified};

/// What a handshake leaves: one session's keys. Wiped when dropped.
pub struct Keys {
    /// Seals what we send.
    pub send: chacha::Key,
    /// Opens what they send.
    pub receive: chacha::Key,
    /// The index under which they keep the session.
    pub remote_index: u32,
}
