//! Why a file is not a backup that can be used, with the code and the next step of each reason.

use std::io;

use model::{Code, Refusal};

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file or the disk.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
    /// Something else.
    #[error("it is no backup")]
    NotOne,
    /// Made for another key or passphrase. A damaged head looks the same.
    #[error("it was made for another key or passphrase, or its head is damaged")]
    KeyWrong,
    /// Not as it was written.
    #[error("it is not as it was written: {0}")]
    Damaged(String),
    /// Of a Warren that this one does not know.
    #[error("it has format {found}, this program knows {known}")]
    Newer {
        /// Of the file.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
}

impl BackupError {
    /// What kind.
    pub const fn code(&self) -> Code {
        match self {
            Self::Io(_) => Code::BackupUnreadable,
            Self::NotOne => Code::BackupNotOne,
            Self::KeyWrong => Code::BackupKeyWrong,
            Self::Damaged(_) => Code::BackupDamaged,
            Self::Newer { .. } => Code::BackupNewer,
        }
    }

    /// What reading said: a reader of ours says `InvalidData` and `UnexpectedEof` of bytes that are not as they were
    /// written.
    pub(crate) fn reading(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<BackupError> for Refusal {
    fn from(error: BackupError) -> Self {
        let detail = match &error {
            BackupError::Io(source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(error.code(), detail)
    }
}
