//! A certificate of a host, read: who signed it, for which key, for whom and until when. Makes none.

use std::collections::BTreeSet;

use model::{CaKey, HostKey, Timestamp};
use ssh_key::certificate::CertType;

/// A host certificate whose signature is good. Whether its signer is trusted, the reader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// Its number among those of its signer.
    pub serial: u64,
    /// Who signed it.
    pub signer: CaKey,
    /// The key that it certifies.
    pub key: HostKey,
    /// The names and addresses that it is for.
    pub names: BTreeSet<String>,
    /// From when it is valid.
    pub valid_from: Timestamp,
    /// Until when it is valid.
    pub valid_until: Timestamp,
}

/// Why a text is no certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// It cannot be read, or its signature is wrong.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is a person's.
    #[error("it is no certificate of a host")]
    Kind,
    /// An authority of another algorithm signed it.
    #[error("no Ed25519 key signed it")]
    Signer,
}

impl HostCertificate {
    /// Reads one line of OpenSSH.
    ///
    /// # Errors
    /// See [`BadCertificate`].
    pub fn read(line: &str) -> Result<Self, BadCertificate> {
        let unreadable = |e: ssh_key::Error| BadCertificate::Unreadable(e.to_string());
        let read = ssh_key::Certificate::from_openssh(line.trim()).map_err(unreadable)?;
        read.verify_signature().map_err(unreadable)?;
        if read.cert_type() != CertType::Host {
            return Err(BadCertificate::Kind);
        }
        let signer = read.signature_key().ed25519().ok_or(BadCertificate::Signer)?;
        let key = ssh_key::PublicKey::new(read.public_key().clone(), "").to_openssh().map_err(unreadable)?;
        let at = |seconds: u64| {
            let micros = seconds.checked_mul(1_000_000).and_then(|micros| i64::try_from(micros).ok());
            Timestamp::from_unix_micros(micros.unwrap_or(i64::MAX))
        };
        Ok(Self {
            serial: read.serial(),
            signer: CaKey::from_bytes(signer.0),
            key: key.trim().parse().map_err(|_| BadCertificate::Kind)?,
            names: read.valid_principals().iter().cloned().collect(),
            valid_from: at(read.valid_after()),
            valid_until: at(read.valid_before()),
        })
    }
}
