//! What a node remembers: whom it trusts, who it is, what it accepted last. Knows no file and no link.

mod rejection;

pub use rejection::Rejection;

/// What a node remembers.
#[derive(Debug, Clone, Default)]
pub struct Ledger {}

/// Why bytes are no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Written by a newer program.
    #[error("the ledger has format {0}, newer than this program knows")]
    Newer(u16),
    /// Not a ledger, or damaged.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

impl Ledger {
    /// A ledger of a node that remembers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what [`crate::Output::Persist`] wrote, and verifies it.
    pub fn load(bytes: &[u8]) -> Result<Self, LedgerError> {
        Err(LedgerError::Damaged(format!("{} bytes", bytes.len())))
    }
}
