//! What a snapshot says of SSH: whose certificates are trusted, what is revoked, who may be whom on a host.

use minicbor::{Decode, Encode};

use crate::buckets::Buckets;
use crate::host_key::HostKey;
use crate::id::DeviceId;
use crate::key::Digest;
use crate::ssh::{CaKey, CaKind, Login, Permit, Revoked, SshIdentity};
use crate::time::Timestamp;

/// A key of an authority that is trusted now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TrustedKey {
    /// Whose certificates it signs.
    #[n(0)]
    pub kind: CaKind,
    /// Which.
    #[n(1)]
    pub key: CaKey,
    /// It signs now; the others of its kind only did, or will.
    #[n(2)]
    pub signs: bool,
}

/// What every active device of a tenant knows of SSH. The same for all, so it is kept and sent once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct SshTrust {
    /// The trusted keys of both authorities, oldest first.
    #[n(0)]
    pub keys: Vec<TrustedKey>,
    /// What is revoked.
    #[n(1)]
    pub revoked: Buckets<(CaKind, Revoked), ()>,
    /// The plain keys of hosts that told them: they let in who trusts no certificate of a host any more.
    #[n(2)]
    pub hosts: Buckets<DeviceId, HostKey>,
}

/// Who may be somebody on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// Who.
    #[n(0)]
    pub identity: SshIdentity,
    /// Until when; `None` is without end. sshd itself keeps to it.
    #[n(1)]
    pub until: Option<Timestamp>,
    /// What of that which the certificate permits holds here besides a terminal, sorted; `None` is all of it. Told to devices with
    /// [`crate::Abilities::SSH_PERMITS`].
    #[n(2)]
    pub permits: Option<Vec<Permit>>,
}

/// Who may be one login of a host. One line for each identity: sshd takes the first that fits.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LoginGrants {
    /// The login.
    #[n(0)]
    pub login: Login,
    /// Sorted; each identity once.
    #[n(1)]
    pub grants: Vec<Grant>,
}

/// What one host alone is told of SSH.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct OwnSsh {
    /// Who may be whom there, sorted by login.
    #[n(0)]
    pub logins: Vec<LoginGrants>,
}

/// What changed of [`SshTrust`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct SshPatch {
    /// All trusted keys, if they are others.
    #[n(0)]
    pub keys: Option<Vec<TrustedKey>>,
    /// What is revoked since.
    #[n(1)]
    pub revoked_set: Vec<((CaKind, Revoked), ())>,
    /// What is no longer listed.
    #[n(2)]
    pub revoked_gone: Vec<(CaKind, Revoked)>,
    /// Keys of hosts that are new or different.
    #[n(3)]
    pub hosts_set: Vec<(DeviceId, HostKey)>,
    /// Hosts whose keys are gone.
    #[n(4)]
    pub hosts_gone: Vec<DeviceId>,
}

impl SshTrust {
    /// The keys of one authority that are trusted.
    pub fn trusted(&self, kind: CaKind) -> impl Iterator<Item = &TrustedKey> {
        self.keys.iter().filter(move |key| key.kind == kind)
    }

    /// The digest of all of it. Costs what changed since it was computed last.
    pub fn digest(&mut self) -> Digest {
        let keys = minicbor::to_vec(&self.keys).expect("writing to memory cannot fail");
        let (revoked, hosts) = (self.revoked.digest(), self.hosts.digest());
        Digest::of("warren ssh 1", &[&keys, revoked.as_bytes(), hosts.as_bytes()])
    }
}

impl SshPatch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
