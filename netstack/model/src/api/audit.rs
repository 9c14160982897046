//! Forms of the audit log.

use std::net::IpAddr;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::AuditId;
use crate::key::{CheckpointKey, CheckpointSecret, Digest, Signature};
use crate::name::Label;
use crate::time::Timestamp;

/// One entry: what somebody did, or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// Its place in the chain; absent for a moment after it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The chain's digest there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Digest>,
    /// When it was decided.
    pub at: Timestamp,
    /// Whose, where it is one tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// Who wanted it, such as `user:ada`.
    pub actor: String,
    /// A dotted name, such as `device.revoke`.
    pub action: String,
    /// What it was about: a name or an id.
    pub target: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened.
    pub detail: String,
    /// The address that it came from, if it came over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub source: Option<IpAddr>,
    /// The id of the request, as its answer and the server's log show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Where the audit log ended, as the server signs it for whoever keeps it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    /// Number of the newest entry.
    pub sequence: u64,
    /// The chain's digest there.
    pub hash: Digest,
    /// When it was signed.
    pub at: Timestamp,
    /// What it is signed with.
    pub key: CheckpointKey,
    /// Ed25519, in base64.
    pub signature: String,
}

impl AuditCheckpoint {
    const DOMAIN: &'static str = "warren audit checkpoint 1";

    /// Signs an end.
    pub fn sign(sequence: u64, hash: Digest, at: Timestamp, secret: &CheckpointSecret) -> Self {
        let signature = secret.sign(Self::DOMAIN, &said(sequence, &hash, at));
        Self { sequence, hash, at, key: secret.public(), signature: BASE64.encode(signature.as_bytes()) }
    }

    /// Whether this key signed it.
    pub fn is_of(&self, key: &CheckpointKey) -> bool {
        let bytes = BASE64.decode(self.signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let signature = bytes.map(Signature::from_bytes);
        let said = said(self.sequence, &self.hash, self.at);
        signature.is_some_and(|signature| key.verify(Self::DOMAIN, &said, &signature).is_ok())
    }
}

fn said(sequence: u64, hash: &Digest, at: Timestamp) -> Vec<u8> {
    // A time is written in whole seconds.
    let seconds = at.unix_micros().div_euclid(1_000_000);
    [&sequence.to_be_bytes()[..], hash.as_bytes(), &seconds.to_be_bytes()].concat()
}

/// Whether the audit log is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether all holds.
    pub holds: bool,
    /// Entries that were looked at.
    pub entries: u64,
    /// Entries between them that were forgotten for their class and age, of which the chain's digests are left.
    #[serde(default)]
    pub forgotten: u64,
    /// The newest that was forgotten for its age.
    pub forgotten_to: u64,
    /// The newest.
    pub newest: u64,
    /// The chain's digest there, to be compared with what a sink was told.
    pub hash: Digest,
    /// The chain's digest at the number that was asked for; absent where that is forgotten or not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<Digest>,
    /// What checkpoints are signed with; absent from a server whose keys nothing opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CheckpointKey>,
    /// Where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_of_the_key_that_signed_exactly_that() {
        let secret = CheckpointSecret::from_seed([7; 32]);
        let (hash, at) = (Digest::from_bytes([3; 32]), Timestamp::from_unix_micros(5_300_000));
        let signed = AuditCheckpoint::sign(9, hash, at, &secret);
        assert!(signed.is_of(&secret.public()));
        assert!(!signed.is_of(&CheckpointSecret::from_seed([8; 32]).public()));
        let other = Digest::from_bytes([4; 32]);
        for forged in [
            AuditCheckpoint { sequence: 8, ..signed.clone() },
            AuditCheckpoint { hash: other, ..signed.clone() },
            AuditCheckpoint { at: Timestamp::from_unix_micros(6_300_000), ..signed.clone() },
            AuditCheckpoint { signature: String::new(), ..signed },
        ] {
            assert!(!forged.is_of(&secret.public()), "{forged:?}");
        }
        let text = serde_json::to_string(&signed).expect("JSON");
        let read: AuditCheckpoint = serde_json::from_str(&text).expect("reads back");
        assert!(read.is_of(&secret.public()), "{read:?}");
    }
}
