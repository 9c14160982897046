//! `warren device`.

use std::path::PathBuf;

use clap::Subcommand;
use model::Label;

/// `warren device`.
#[derive(Debug, Subcommand)]
pub enum Device {
    /// All of them.
    List,
    /// One of them.
    Show {
        /// Its name or id.
        device: String,
    },
    /// Add a WireGuard client without an agent, such as a phone: prints its configuration this once.
    ///
    /// The private key is made here and given to nobody else; the server is told the public one. The client reaches the mesh
    /// through the hub.
    AddPlain {
        /// Its name.
        name: Label,
        /// Show a QR code for WireGuard's own app instead of the text.
        #[arg(long)]
        qr: bool,
        /// Write the configuration to this file, which must not be there yet, for its owner alone.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Tag; may be repeated.
        #[arg(long = "tag")]
        tags: Vec<Label>,
    },
    /// Let one in that waits.
    Approve {
        /// Its name or id.
        device: String,
    },
    /// Give one another name.
    Rename {
        /// Its name or id.
        device: String,
        /// The new name.
        name: Label,
    },
    /// Set the tags of one.
    Tag {
        /// Its name or id.
        device: String,
        /// All its tags; none clears them.
        tags: Vec<Label>,
    },
    /// Remove one for good.
    Revoke {
        /// Its name or id.
        device: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}
