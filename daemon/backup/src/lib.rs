//! The file of a backup: who can open it, what is in it, in which order. Knows no database, no socket and no state
//! directory.
//!
//! ```text
//! a passphrase, or nobody's ─▶ age (scrypt): one line with a key made for this file ─┐
//! a recipient ──────────────────────────────────────────────────────────────────────▶ age (X25519)
//!                                                                                        │
//!                          tar: manifest.json, state/…, hub/…, database/…, sums.json ◀───┘
//! ```
//!
//! age (<https://age-encryption.org/v1>) seals in chunks of 64 KiB, each authenticated with its place, the last one marked
//! as the last: a changed byte, a missing end and bytes after the end all show.

mod envelope;
mod error;
mod manifest;
mod parts;

pub use envelope::{
    BadKey, BadRecipient, Key, Opened, Opener, Recipient, Sealing, lock, open, open_bytes, seal, seal_bytes,
};
pub use error::BackupError;
pub use manifest::{Anchor, Content, DatabaseFacts, FORMAT, Manifest, SealedBy, Sums};
pub use parts::{Part, Writer, read};

/// The hub's WireGuard key, sealed by `warren-netd` to the file's recipient before anybody else saw it.
pub const HUB_KEY: &str = "hub/wg.key.age";
/// Files of the state directory are under this name.
pub const STATE: &str = "state/";
/// Rows of the database are under this name.
pub const DATABASE: &str = "database/";
