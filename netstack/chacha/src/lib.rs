//! ChaCha20-Poly1305 (RFC 8439) for many packets at once, as WireGuard's transport uses it: no associated data, and a
//! nonce that is a counter.
//!
//! It does not know what is inside a packet, where keys come from, or whether a counter was used before. Every
//! [`Cipher`] writes the same bytes; they differ only in time. No secret decides a branch or an address: lengths,
//! counters and the verdicts of [`Cipher::open`] are public, all else is computed on whole registers.
//!
//! Keys are wiped when dropped, and what derives from a key is wiped from the stack before a call returns. Copies that
//! the compiler keeps in registers and in spill slots of a frame are out of reach of safe means; the next batch
//! overwrites them. ring keeps its own on its own terms.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
mod cipher;
#[cfg(target_arch = "x86_64")]
mod costs;
mod job;
#[cfg(target_arch = "x86_64")]
mod places;
mod reference;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod texts;
#[cfg(target_arch = "x86_64")]
mod wipe;

pub use cipher::{Cipher, UnknownCipher};
pub use job::{Job, Key, TAG_BYTES};
