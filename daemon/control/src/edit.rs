//! What can be wished of a directory, and what is answered when the wish is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use ca::{Ground, Step};
use ipnet::Ipv4Net;
use model::token::OnboardingToken;
use model::{
    Abilities, CaKind, CertificateId, DeviceId, Endpoint, HostKey, Label, Name, PublicKey, RecordData,
    Revoked, Standing, Timestamp, TokenId,
};

use crate::enrolment::{ProvenKey, VerifiedEnrol};
use crate::rows::{Device, DnsEntry, Stay, Tenant, Token};
use crate::ssh::{Authority, SshRole, Withdrawn};

/// On which of the hub's interfaces a tenant is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HubInterface {
    /// The one that tenants share.
    #[default]
    Shared,
    /// One of its own, on this UDP port; without one, on the port that it has or the next that is free.
    Own(Option<u16>),
}

/// As the audit log shows it.
impl fmt::Display for HubInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::Own(None) => f.write_str("own"),
            Self::Own(Some(port)) => write!(f, "own {port}"),
        }
    }
}

/// A wish to change one directory.
#[derive(Debug, Clone)]
pub enum Edit {
    /// A new tenant; without a block, the first free /16 of 100.64.0.0/10.
    CreateTenant {
        /// Of its zone.
        name: Label,
        /// Its IPv4 block.
        block: Option<Ipv4Net>,
        /// Where it is on the hub.
        interface: HubInterface,
    },
    /// The tenant goes. Refused while it has a device that is not revoked.
    DeleteTenant,
    /// How many devices the tenant may have.
    SetQuota(Option<u32>),
    /// The tenant is on this interface of the hub.
    SetInterface(HubInterface),
    /// The tenant is to go: nothing of it takes part in anything from now on, and it is erased after the grace.
    CloseTenant {
        /// Up to [`crate::limits::GRACE_MAX`].
        grace: Duration,
    },
    /// A closed tenant is as it was.
    RestoreTenant,
    /// A closed tenant whose grace is over goes with all that it has.
    EraseTenant,
    /// A new onboarding token.
    CreateToken {
        /// How long it lets devices in; a second to [`model::limits::TOKEN_TTL_MAX`].
        ttl: Duration,
        /// How many it lets in; 1 to [`model::limits::TOKEN_USES_MAX`].
        uses: u32,
        /// What they are tagged with.
        tags: BTreeSet<Label>,
        /// Whether an administrator must approve them.
        needs_approval: bool,
        /// How long they stay.
        stay: Stay,
    },
    /// The token lets nobody in any more.
    RevokeToken(TokenId),
    /// A device enrols.
    Enrol(VerifiedEnrol),
    /// A plain peer comes: active at once, as an administrator wants it.
    AddPlain {
        /// Its name.
        name: Label,
        /// Its public key; nobody but its owner has the other half.
        wireguard: PublicKey,
        /// What it is tagged with.
        tags: BTreeSet<Label>,
    },
    /// A pending device becomes active.
    ApproveDevice(DeviceId),
    /// The device gets another name.
    RenameDevice {
        /// Which.
        device: DeviceId,
        /// The new name.
        name: Label,
    },
    /// The device gets these tags instead of those it had.
    TagDevice {
        /// Which.
        device: DeviceId,
        /// All of its tags.
        tags: BTreeSet<Label>,
    },
    /// The device gets these labels instead of those it had.
    LabelDevice {
        /// Which.
        device: DeviceId,
        /// All of its labels.
        labels: BTreeMap<Label, Label>,
    },
    /// The device expires so long from now, or never. One that has expired is as it was before.
    SetExpiry {
        /// Which.
        device: DeviceId,
        /// Up to [`crate::limits::DEVICE_LIFE_MAX`].
        after: Option<Duration>,
    },
    /// The device's time is over.
    ExpireDevice(DeviceId),
    /// The ephemeral device was not heard for as long as it may be silent: it is removed for good, and its name is free.
    RemoveIdle(DeviceId),
    /// The device runs a program that knows more, or less.
    SetAbilities {
        /// Which.
        device: DeviceId,
        /// All of them.
        abilities: Abilities,
    },
    /// The device has another WireGuard key.
    SetKey {
        /// Which.
        device: DeviceId,
        /// The key, which it proved.
        key: ProvenKey,
    },
    /// The device is removed for good.
    RevokeDevice(DeviceId),
    /// A custom record.
    AddRecord {
        /// Whole if it is within the tenant's zone, otherwise relative to it.
        name: Name,
        /// Type and value.
        data: RecordData,
        /// Seconds; [`model::limits::NAME_TTL_SECONDS`] when nobody says.
        ttl: Option<u32>,
    },
    /// The custom record goes.
    RemoveRecord {
        /// As in [`Edit::AddRecord`].
        name: Name,
        /// Type and value.
        data: RecordData,
    },
    /// The hub has this key and answers here.
    SetHub {
        /// The WireGuard key that it proved.
        key: PublicKey,
        /// Where it answers.
        endpoint: Endpoint,
    },
    /// The tenant gets its two SSH authorities, unless it has them.
    FoundAuthorities,
    /// An SSH authority gets its next key, which is trusted and does not sign yet.
    RotateAuthority(CaKind),
    /// A rotation goes on. Refused while somebody would be locked out.
    AdvanceAuthority {
        /// Of which authority.
        kind: CaKind,
        /// Devices that nobody waits for in this rotation.
        except: BTreeSet<DeviceId>,
        /// The step that the ground was looked at for. In another one it says nothing.
        judged: Step,
        /// What is installed where, and until when certificates live.
        ground: Ground,
    },
    /// The former key signs again.
    RollBackAuthority(CaKind),
    /// A new key at once, and nothing else is trusted: a former one is in the wrong hands.
    ReplaceAuthority(CaKind),
    /// Certificates are taken back.
    RevokeCertificates {
        /// Of which authority.
        kind: CaKind,
        /// Which.
        what: BTreeSet<Revoked>,
        /// When the last of them ends.
        until: Timestamp,
    },
    /// Certificates are taken back because a device or a person is gone. Never refused for their number.
    WithdrawCertificates {
        /// Of which authority.
        kind: CaKind,
        /// Which, by what they are called.
        of: BTreeMap<CertificateId, Withdrawn>,
        /// When the last of them ends.
        until: Timestamp,
    },
    /// What an administrator took back is good again, as far as it lives; and people whom the server revoked by id.
    GiveBackCertificates {
        /// Which.
        what: BTreeSet<Revoked>,
        /// People of these who are there, however they came to be revoked.
        there: BTreeSet<CertificateId>,
    },
    /// A person is gone: no role means whoever has the name next.
    ForgetPerson(Label),
    /// A role says who may be whom on which hosts.
    SetSshRole(SshRole),
    /// The role goes.
    DeleteSshRole(Label),
    /// These people administer the tenant now.
    SetAdministrators(BTreeSet<Label>),
    /// A host told its plain key.
    SetHostKey {
        /// Which host.
        device: DeviceId,
        /// The key.
        key: HostKey,
    },
    /// Revocations of certificates that ended a day ago are no longer listed.
    PruneRevocations,
    /// A new generation of the same rows, so that a changed plan reaches nodes that hold the current version.
    Renew,
}

impl Edit {
    /// The dotted name in the audit log and in metrics.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::CreateTenant { .. } => "tenant.create",
            Self::DeleteTenant => "tenant.delete",
            Self::SetQuota(_) => "tenant.quota",
            Self::SetInterface(_) => "tenant.interface",
            Self::CloseTenant { .. } => "tenant.close",
            Self::RestoreTenant => "tenant.restore",
            Self::EraseTenant => "tenant.erase",
            Self::CreateToken { .. } => "token.create",
            Self::RevokeToken(_) => "token.revoke",
            Self::Enrol(_) => "device.enrol",
            Self::AddPlain { .. } => "device.add-plain",
            Self::ApproveDevice(_) => "device.approve",
            Self::RenameDevice { .. } => "device.rename",
            Self::TagDevice { .. } => "device.tag",
            Self::LabelDevice { .. } => "device.label",
            Self::SetExpiry { .. } => "device.expiry",
            Self::ExpireDevice(_) => "device.expire",
            Self::RemoveIdle(_) => "device.idle",
            Self::SetAbilities { .. } => "device.abilities",
            Self::SetKey { .. } => "device.rekey",
            Self::RevokeDevice(_) => "device.revoke",
            Self::AddRecord { .. } => "record.add",
            Self::RemoveRecord { .. } => "record.remove",
            Self::SetHub { .. } => "hub.set",
            Self::FoundAuthorities => "ca.found",
            Self::RotateAuthority(_) => "ca.rotate",
            Self::AdvanceAuthority { .. } => "ca.advance",
            Self::RollBackAuthority(_) => "ca.rollback",
            Self::ReplaceAuthority(_) => "ca.replace",
            Self::RevokeCertificates { .. } | Self::WithdrawCertificates { .. } => "certificate.revoke",
            Self::GiveBackCertificates { .. } => "certificate.give-back",
            Self::ForgetPerson(_) => "role.forget-person",
            Self::SetSshRole(_) => "role.set",
            Self::DeleteSshRole(_) => "role.delete",
            Self::SetAdministrators(_) => "role.administrators",
            Self::SetHostKey { .. } => "device.host-key",
            Self::PruneRevocations => "certificate.prune",
            Self::Renew => "directory.renew",
        }
    }

    /// Whether it may be done in a closed tenant: what takes away, what keeps the plans true, and what opens it again.
    pub const fn fits_closed(&self) -> bool {
        matches!(
            self,
            Self::SetQuota(_)
                | Self::SetInterface(_)
                | Self::CloseTenant { .. }
                | Self::RestoreTenant
                | Self::EraseTenant
                | Self::RevokeToken(_)
                | Self::RevokeDevice(_)
                | Self::ExpireDevice(_)
                | Self::RemoveIdle(_)
                | Self::SetAbilities { .. }
                | Self::SetKey { .. }
                | Self::SetHub { .. }
                | Self::FoundAuthorities
                | Self::RevokeCertificates { .. }
                | Self::WithdrawCertificates { .. }
                | Self::ForgetPerson(_)
                | Self::PruneRevocations
                | Self::SetAdministrators(_)
                | Self::Renew
        )
    }

    /// What it is about, as the audit log shows it.
    pub fn target(&self) -> String {
        match self {
            Self::CreateTenant { name, .. } | Self::AddPlain { name, .. } => name.to_string(),
            Self::RevokeToken(id) => id.to_string(),
            Self::Enrol(enrol) => enrol.claim().identity.to_string(),
            Self::ApproveDevice(id)
            | Self::RevokeDevice(id)
            | Self::ExpireDevice(id)
            | Self::RemoveIdle(id)
            | Self::LabelDevice { device: id, .. }
            | Self::SetExpiry { device: id, .. }
            | Self::RenameDevice { device: id, .. }
            | Self::TagDevice { device: id, .. }
            | Self::SetKey { device: id, .. }
            | Self::SetAbilities { device: id, .. } => id.to_string(),
            Self::AddRecord { name, data, .. } | Self::RemoveRecord { name, data } => {
                format!("{name} {} {data}", data.kind())
            }
            Self::SetQuota(quota) => quota.map_or_else(|| "none".into(), |quota| quota.to_string()),
            Self::SetInterface(interface) => interface.to_string(),
            Self::SetHub { key, .. } => key.to_string(),
            Self::SetSshRole(role) => role.name.to_string(),
            Self::DeleteSshRole(name) => name.to_string(),
            Self::SetHostKey { device, .. } => device.to_string(),
            Self::SetAdministrators(names) => names.iter().map(Label::as_str).collect::<Vec<_>>().join(","),
            Self::RotateAuthority(kind) | Self::RollBackAuthority(kind) | Self::ReplaceAuthority(kind) => {
                kind.to_string()
            }
            Self::AdvanceAuthority { kind, except, .. } if except.is_empty() => kind.to_string(),
            Self::AdvanceAuthority { kind, except, .. } => format!("{kind} without {}", first_of(except)),
            Self::RevokeCertificates { kind, what, .. } => first_text(*kind, what),
            Self::WithdrawCertificates { kind, of, .. } => {
                first_text(*kind, &of.keys().map(|id| Revoked::Id(id.clone())).collect())
            }
            Self::GiveBackCertificates { what, .. } => first_of(what),
            Self::ForgetPerson(name) => name.to_string(),
            Self::FoundAuthorities
            | Self::PruneRevocations
            | Self::DeleteTenant
            | Self::CloseTenant { .. }
            | Self::RestoreTenant
            | Self::EraseTenant
            | Self::CreateToken { .. }
            | Self::Renew => String::new(),
        }
    }
}

fn first_text(kind: CaKind, what: &BTreeSet<Revoked>) -> String {
    format!("{kind} {}", first_of(what))
}

/// The first of some, and how many more there are.
fn first_of<T: ToString + Ord>(what: &BTreeSet<T>) -> String {
    let first = what.first().map(ToString::to_string).unwrap_or_default();
    match what.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    }
}

/// What is answered when an edit is granted: after it is in the store.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The new tenant.
    TenantCreated(Tenant),
    /// The tenant as it is now.
    Tenant(Tenant),
    /// The tenant is gone.
    TenantDeleted,
    /// The new token, and the only time that its secret is shown.
    TokenCreated {
        /// Its row.
        token: Token,
        /// To be shown once.
        secret: Box<OnboardingToken>,
    },
    /// The token as it is now.
    TokenRevoked(Token),
    /// The device has enrolled, now or before.
    Enrolled {
        /// Its id.
        device: DeviceId,
        /// Whether it has to be approved.
        standing: Standing,
    },
    /// The device as it is now.
    Device(Device),
    /// The record as it is now.
    RecordAdded(DnsEntry),
    /// The record is gone.
    RecordRemoved(DnsEntry),
    /// The hub's keys are stated.
    HubSet,
    /// The SSH authorities are there.
    AuthoritiesFounded,
    /// The SSH authority as it is now.
    Authority(Authority),
    /// So many revocations are new.
    CertificatesRevoked(usize),
    /// So many revocations are taken back.
    CertificatesGivenBack(usize),
    /// So many roles named the person.
    PersonForgotten(usize),
    /// The role as it is now.
    SshRole(SshRole),
    /// The role is gone.
    SshRoleGone,
    /// It is known who administers the tenant.
    AdministratorsSet,
    /// The host's key is known.
    HostKeySet,
    /// So many revocations are gone.
    RevocationsPruned(usize),
    /// There is a new generation.
    Renewed,
}
