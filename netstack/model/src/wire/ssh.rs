//! The frames about a device's sshd.

use minicbor::{Decode, Encode};

use crate::host_key::HostKey;
use crate::refusal::Refusal;
use crate::ssh::{CaKey, SshSerial};
use crate::wire::remark::Remark;

/// Device to server: its host key is to be certified. What is in the certificate, the server knows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CertifyHost {
    /// The key that sshd serves.
    #[n(0)]
    pub key: HostKey,
}

/// Server to device: the certificate, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HostCertified {
    /// One line of OpenSSH.
    #[n(0)]
    pub certificate: Option<String>,
    /// Why there is none.
    #[n(1)]
    pub refusal: Option<Refusal>,
}

/// Device to server, when it changed and once attached: what is installed and was read back, not what was received.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct SshInstalled {
    /// Whose certificates its sshd takes. `None`: sshd there is not ours to keep, or fails; it lets nobody in by ours.
    #[n(0)]
    pub people: Option<Vec<CaKey>>,
    /// Whose hosts its own people trust.
    #[n(1)]
    pub hosts: Vec<CaKey>,
    /// The key that signed the host certificate that it shows.
    #[n(2)]
    pub presents: Option<CaKey>,
}

/// Device to server: whom its sshd let in by certificates of the mesh. Said again on the next link until they are noted, a
/// few at a time.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SshLogins {
    /// The oldest first.
    #[n(0)]
    pub logins: Vec<SshLogin>,
}

/// A login that sshd took.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SshLogin {
    /// Counts the logins of one run of the agent.
    #[n(0)]
    pub number: u64,
    /// Of the certificate.
    #[n(1)]
    pub serial: SshSerial,
    /// What the certificate is called, as sshd printed it.
    #[n(2)]
    pub id: Remark,
    /// As whom.
    #[n(3)]
    pub login: Remark,
    /// From which address, as sshd printed it.
    #[n(4)]
    pub from: Remark,
}

/// Server to device: logins up to this number are in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SshLoginsNoted {
    /// The last one's.
    #[n(0)]
    pub through: u64,
}
