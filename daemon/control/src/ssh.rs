//! The rows of a tenant's SSH authorities: their rotations, their public keys, what is revoked. Knows no private key
//! beyond the moment in which it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ca::limits::ROLE_LIFE_DEFAULT;
use ca::{CaSecret, KeyGeneration, Permit, Rotation};
use model::{
    CaKey, CaKind, DeviceId, HostKey, Label, Login, Revoked, SshIdentity, SshSerial, TenantId, Timestamp,
};

use crate::actor::Actor;

/// One of the two authorities of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Whose certificates, and how far a rotation is.
    pub rotation: Rotation,
    /// How many keys it ever had: the next has one more.
    pub keys_made: u32,
}

/// A key of an authority, its public half. An erased one stays as a row: its number is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityKey {
    /// Whose certificates it signs.
    pub kind: CaKind,
    /// Which of the authority's keys.
    pub generation: KeyGeneration,
    /// What is trusted.
    pub public: CaKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its private half was erased, if it was.
    pub erased_at: Option<Timestamp>,
}

/// The private half of a key that a commit makes: sealed and stored with it.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose certificates it signs.
    pub kind: CaKind,
    /// Which of the authority's keys.
    pub generation: KeyGeneration,
    /// To be sealed.
    pub secret: CaSecret,
}

/// Certificates that are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Of which authority.
    pub kind: CaKind,
    /// Which.
    pub what: Revoked,
    /// Since when.
    pub revoked_at: Timestamp,
    /// From then on no certificate of before lives that it names: the list of hosts is the shorter for it, soon after.
    pub until: Timestamp,
    /// Who did it: [`Actor::Server`] where it follows from a device or a person that is gone. `None`: a program of before, which
    /// did not say.
    pub by: Option<Actor>,
}

impl Revocation {
    /// It stays listed for so long after the last certificate that it names: clocks of hosts differ.
    pub const LISTED_AFTER: Duration = Duration::from_secs(24 * 3600);

    /// Until when hosts refuse what it names, but for the minutes until the list is looked through.
    pub fn listed_until(&self) -> Timestamp {
        self.until + Self::LISTED_AFTER
    }
}

/// Certificates of one person or host that are taken back because a device or a person is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Which.
    pub serials: BTreeSet<SshSerial>,
    /// Whoever they name is gone: nobody minds if all with that name are refused.
    pub holder_gone: bool,
}

/// Who may be whom on which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshRole {
    /// Unique in the tenant.
    pub name: Label,
    /// Whether whoever administers the tenant has it.
    pub administrators: bool,
    /// Who else has it.
    pub identities: BTreeSet<SshIdentity>,
    /// Whether each may be the login of its own name.
    pub own_login: bool,
    /// Which logins each may be besides.
    pub logins: BTreeSet<Login>,
    /// On hosts with all of these tags; on every host if there are none.
    pub tags: BTreeSet<Label>,
    /// And with all of these labels.
    pub labels: BTreeMap<Label, Label>,
    /// How long a certificate of theirs lives at most.
    pub session_max: Duration,
    /// What their certificates permit besides a terminal.
    pub permits: BTreeSet<Permit>,
}

impl SshRole {
    /// The name of the role that every tenant begins with, and keeps.
    pub fn default_name() -> Label {
        "administrators".parse().expect("a label")
    }

    /// Whoever administers the tenant may be root and of the own name on each of its hosts.
    pub fn default_role() -> Self {
        Self {
            name: Self::default_name(),
            administrators: true,
            identities: BTreeSet::new(),
            own_login: true,
            logins: ["root".parse().expect("a login")].into(),
            tags: BTreeSet::new(),
            labels: BTreeMap::new(),
            session_max: ROLE_LIFE_DEFAULT,
            permits: BTreeSet::new(),
        }
    }

    /// What it may add to a host: each identity as each login, and whoever administers counted as one.
    pub fn grants(&self) -> usize {
        (self.identities.len() + 1) * (self.logins.len() + 1) + self.tags.len() + self.labels.len()
    }

    /// Whether it means a host with these tags and labels.
    pub fn fits(&self, tags: &BTreeSet<Label>, labels: &BTreeMap<Label, Label>) -> bool {
        self.tags.is_subset(tags) && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it means somebody.
    pub fn names(&self, identity: &SshIdentity, administrators: &BTreeSet<Label>) -> bool {
        let administers = |identity: &SshIdentity| match identity {
            SshIdentity::Person(name) => administrators.contains(name),
            SshIdentity::Service(_) => false,
        };
        self.identities.contains(identity) || (self.administrators && administers(identity))
    }

    /// Everybody whom it means.
    pub fn members(&self, administrators: &BTreeSet<Label>) -> BTreeSet<SshIdentity> {
        let administrators = administrators.iter().filter(|_| self.administrators);
        administrators.cloned().map(SshIdentity::Person).chain(self.identities.iter().cloned()).collect()
    }

    /// Whom somebody may be by it.
    pub fn logins_of(&self, identity: &SshIdentity) -> BTreeSet<Login> {
        let (SshIdentity::Person(name) | SshIdentity::Service(name)) = identity;
        // A name that no login can have is no login.
        let own: Option<Login> = name.as_str().parse().ok().filter(|_| self.own_login);
        own.into_iter().chain(self.logins.iter().cloned()).collect()
    }
}

/// What a device said that it has installed and read back. No fact: a gate of a rotation looks at it, no plan does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRow {
    /// Whose device.
    pub tenant: TenantId,
    /// Which.
    pub device: DeviceId,
    /// Whose certificates its sshd takes; `None` where it lets nobody in by them.
    pub people: Option<Vec<CaKey>>,
    /// Whose hosts its people trust.
    pub hosts: Vec<CaKey>,
    /// Who signed the host certificate that it shows.
    pub presents: Option<CaKey>,
    /// When it said so.
    pub said_at: Timestamp,
}

/// What became true of the authorities: a full row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshFact {
    /// The authority of this kind is this.
    Authority(Authority),
    /// The key of this kind and generation is this.
    Key(AuthorityKey),
    /// These certificates are revoked.
    Revocation(Revocation),
    /// The role of this name is this.
    Role(SshRole),
    /// The role is gone.
    RoleGone {
        /// Which.
        name: Label,
    },
    /// These people administer the tenant.
    Administrators(BTreeSet<Label>),
    /// The plain key of a host is this.
    HostKey {
        /// Which host.
        device: DeviceId,
        /// The key.
        key: HostKey,
    },
    /// They are no longer listed.
    RevocationGone {
        /// Of which authority.
        kind: CaKind,
        /// Which.
        what: Revoked,
    },
}

/// All rows of one tenant's authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshRows {
    /// None, or one of each kind.
    pub authorities: Vec<Authority>,
    /// Every key, erased ones too.
    pub keys: Vec<AuthorityKey>,
    /// What is revoked.
    pub revocations: Vec<Revocation>,
    /// Who may be whom where.
    pub roles: Vec<SshRole>,
    /// Who administers the tenant.
    pub administrators: BTreeSet<Label>,
    /// The plain keys of hosts.
    pub host_keys: Vec<(DeviceId, HostKey)>,
}

impl SshRows {
    /// The rows as facts.
    pub fn into_facts(self) -> impl Iterator<Item = SshFact> {
        let authorities = self.authorities.into_iter().map(SshFact::Authority);
        let keys = self.keys.into_iter().map(SshFact::Key);
        let revocations = self.revocations.into_iter().map(SshFact::Revocation);
        let administrators = (!self.administrators.is_empty()).then_some(self.administrators);
        let people = administrators.map(SshFact::Administrators).into_iter();
        let people = people.chain(self.roles.into_iter().map(SshFact::Role));
        let hosts = self.host_keys.into_iter().map(|(device, key)| SshFact::HostKey { device, key });
        authorities.chain(keys).chain(revocations).chain(people).chain(hosts)
    }

    /// Takes a fact as a database does: by primary key.
    pub fn take(&mut self, fact: SshFact) {
        match fact {
            SshFact::Authority(row) => {
                put(&mut self.authorities, row, |a, b| a.rotation.kind == b.rotation.kind);
            }
            SshFact::Key(row) => {
                put(&mut self.keys, row, |a, b| (a.kind, a.generation) == (b.kind, b.generation));
            }
            SshFact::Revocation(row) => {
                put(&mut self.revocations, row, |a, b| a.kind == b.kind && a.what == b.what);
            }
            SshFact::Role(row) => put(&mut self.roles, row, |a, b| a.name == b.name),
            SshFact::RoleGone { name } => self.roles.retain(|row| row.name != name),
            SshFact::Administrators(names) => self.administrators = names,
            SshFact::HostKey { device, key } => put(&mut self.host_keys, (device, key), |a, b| a.0 == b.0),
            SshFact::RevocationGone { kind, what } => {
                self.revocations.retain(|row| row.kind != kind || row.what != what);
            }
        }
    }
}

fn put<T>(rows: &mut Vec<T>, row: T, same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|there| same(there, &row)) {
        Some(there) => *there = row,
        None => rows.push(row),
    }
}
