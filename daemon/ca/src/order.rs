//! What a signer is asked to sign. Its types have no room for an empty principal, a pattern or an option of a stranger's.

use std::collections::BTreeSet;
use std::fmt;

use model::address::MeshAddresses;
pub use model::ssh::{BadPermit, Permit};
use model::{CaKind, CertificateId, DeviceId, Label, Name, SshIdentity, SshSerial, TenantId, Timestamp};

use crate::rotation::KeyGeneration;
use crate::subject::Subject;

/// Which key of which authority of which tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName {
    /// Whose.
    pub tenant: TenantId,
    /// Which of its authorities.
    pub kind: CaKind,
    /// Which of its keys.
    pub generation: KeyGeneration,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.kind, self.generation.0)
    }
}

/// Who the certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A person or a program: hosts look up what the identity may be there.
    User {
        /// The one principal.
        identity: SshIdentity,
        /// From where it may be used: the mesh addresses of the device that asked.
        source: MeshAddresses,
        /// What it permits.
        permits: BTreeSet<Permit>,
    },
    /// A host.
    Host {
        /// Which.
        device: DeviceId,
        /// Every name that people type; never a wildcard.
        names: BTreeSet<Name>,
        /// Its mesh addresses.
        addresses: MeshAddresses,
    },
}

impl Holder {
    /// Whose authority signs for it.
    pub const fn kind(&self) -> CaKind {
        match self {
            Self::User { .. } => CaKind::User,
            Self::Host { .. } => CaKind::Host,
        }
    }

    /// The principals, as they stand in the certificate.
    pub fn principals(&self) -> Vec<String> {
        match self {
            Self::User { identity, .. } => vec![identity.to_string()],
            Self::Host { names, addresses, .. } => {
                let names = names.iter().map(ToString::to_string);
                names.chain(addresses.both().map(|address| address.to_string())).collect()
            }
        }
    }
}

/// A certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The key that is to sign.
    pub key: KeyName,
    /// The tenant's name, which is in the certificate's id.
    pub tenant: Label,
    /// Unique within the authority.
    pub serial: SshSerial,
    /// The key that is certified.
    pub subject: Subject,
    /// Whose.
    pub holder: Holder,
    /// From when it is valid, to the second.
    pub valid_from: Timestamp,
    /// Until when it is valid, to the second.
    pub valid_until: Timestamp,
}

impl Order {
    /// What the certificate is called.
    pub fn id(&self) -> CertificateId {
        let tenant = self.tenant.clone();
        match &self.holder {
            Holder::User { identity, .. } => CertificateId::Identity(identity.clone(), tenant),
            Holder::Host { device, .. } => CertificateId::Device(*device, tenant),
        }
    }
}
