//! Who may be whom on which host, as roles say; and what snapshots say of SSH. Signs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ca::Permit;
use ca::profile::Host;
use model::{
    Abilities, CaKind, Code, DeviceId, Grant, HostKey, Label, Login, LoginGrants, NodeId, OwnSsh, Refusal,
    Revoked, SshIdentity, SshPatch, Standing, TrustedKey,
};

use super::plan::split;
use super::{Decision, Directory, Touched, refuse};
use crate::edit::Answer;
use crate::limits::{SSH_GRANTS_MAX, SSH_ROLES_MAX};
use crate::rows::{Device, Fact};
use crate::ssh::{SshFact, SshRole};

impl Directory {
    /// Takes a fact of SSH, and finds whose plans it changes.
    pub(super) fn take_ssh(&mut self, fact: SshFact, touched: &mut Touched) {
        match &fact {
            SshFact::Revocation(row) => self.note_revoked(row.kind, &row.what, true, touched),
            SshFact::RevocationGone { kind, what } => self.note_revoked(*kind, what, false, touched),
            SshFact::HostKey { device, key } => {
                self.authorities.host_keys.insert(*device, key.clone());
                self.sync_host_key(*device, touched);
            }
            SshFact::Role(role) => {
                let before = self.authorities.roles.insert(role.name.clone(), role.clone());
                self.note_hosts(
                    |device| means(role, device) || before.as_ref().is_some_and(|b| means(b, device)),
                    touched,
                );
            }
            SshFact::RoleGone { name } => {
                let before = self.authorities.roles.remove(name);
                self.note_hosts(|device| before.as_ref().is_some_and(|b| means(b, device)), touched);
            }
            SshFact::Administrators(names) => {
                self.authorities.administrators.clone_from(names);
                let roles: Vec<_> = self.ssh_roles().filter(|role| role.administrators).cloned().collect();
                self.note_hosts(|device| roles.iter().any(|role| means(role, device)), touched);
            }
            SshFact::Authority(_) | SshFact::Key(_) => {}
        }
        let of_keys = matches!(fact, SshFact::Authority(_) | SshFact::Key(_));
        self.authorities.take(fact);
        let keys = if of_keys { self.all_trusted() } else { return };
        if keys != self.plans.ssh.keys {
            self.plans.ssh.keys = keys;
            touched.ssh_keys = true;
        }
    }

    fn all_trusted(&self) -> Vec<TrustedKey> {
        let of = |kind: CaKind| {
            let signs = self.signing_key(kind).map(|key| key.generation);
            let trusted = self.trusted_keys(kind);
            trusted.map(move |key| TrustedKey { kind, key: key.public, signs: Some(key.generation) == signs })
        };
        CaKind::ALL.into_iter().flat_map(of).collect()
    }

    fn note_revoked(&mut self, kind: CaKind, what: &Revoked, listed: bool, touched: &mut Touched) {
        let entry = (kind, what.clone());
        if self.plans.ssh.revoked.make(entry.clone(), listed.then_some(())) {
            touched.revoked.insert(entry);
        }
    }

    /// Whether other roles mean a host now than meant it before.
    pub(super) fn has_other_logins(&self, before: &Device, now: &Device) -> bool {
        self.share_of(now).reads_ssh() && self.ssh_roles().any(|role| means(role, before) != means(role, now))
    }

    fn note_hosts(&self, concerns: impl Fn(&Device) -> bool, touched: &mut Touched) {
        let hosts =
            self.devices.values().filter(|device| self.share_of(device).reads_ssh() && concerns(device));
        touched.devices.extend(hosts.map(|device| device.id));
    }

    /// The plain key of a host is known of active devices alone.
    pub(super) fn sync_host_key(&mut self, id: DeviceId, touched: &mut Touched) {
        let active = self.device(id).is_some_and(|device| self.standing(device) == Standing::Active);
        let wanted = self.authorities.host_keys.get(&id).filter(|_| active).cloned();
        if self.plans.ssh.hosts.make(id, wanted) {
            touched.hosts.insert(id);
        }
    }

    /// What a patch says of SSH.
    pub(super) fn ssh_patch(&self, touched: &Touched) -> Option<Box<SshPatch>> {
        let ssh = &self.plans.ssh;
        let (revoked_set, revoked_gone) = split(&touched.revoked, |entry| ssh.revoked.get(entry));
        let (hosts_set, hosts_gone) = split(&touched.hosts, |device| ssh.hosts.get(device));
        let keys = touched.ssh_keys.then(|| ssh.keys.clone());
        let patch = SshPatch { keys, revoked_set, revoked_gone, hosts_set, hosts_gone };
        (!patch.is_empty()).then(|| Box::new(patch))
    }

    /// Every role of hosts, by name.
    pub fn ssh_roles(&self) -> impl Iterator<Item = &SshRole> {
        self.authorities.roles.values()
    }

    /// Who administers the tenant, as it was said last.
    pub const fn administrators(&self) -> &BTreeSet<Label> {
        &self.authorities.administrators
    }

    /// The key that a host told.
    pub fn host_key(&self, device: DeviceId) -> Option<&HostKey> {
        self.authorities.host_keys.get(&device)
    }

    /// What a person's roles say of certificates: the shortest life that one allows, as a certificate opens what all of them
    /// do, and what any permits. `None`: the person has no role.
    pub fn ssh_roles_of(&self, identity: &SshIdentity) -> Option<(Duration, BTreeSet<Permit>)> {
        let roles = self.ssh_roles().filter(|role| role.names(identity, self.administrators()));
        roles.fold(None, |all: Option<(Duration, BTreeSet<Permit>)>, role| {
            let (life, mut permits) = all.unwrap_or((role.session_max, BTreeSet::new()));
            permits.extend(&role.permits);
            Some((life.min(role.session_max), permits))
        })
    }

    pub(super) fn own_ssh(&self, node: NodeId) -> Option<OwnSsh> {
        let NodeId::Device(id) = node else { return None };
        let device = self.device(id).filter(|device| self.share_of(device).reads_ssh())?;
        Some(OwnSsh { logins: self.logins_of(device) })
    }

    /// All grants of all roles, merged: sshd takes the first line that names an identity. What a role permits holds where it lets
    /// somebody in, and nowhere else.
    fn logins_of(&self, device: &Device) -> Vec<LoginGrants> {
        let mut logins: BTreeMap<Login, BTreeMap<SshIdentity, BTreeSet<Permit>>> = BTreeMap::new();
        for role in self.ssh_roles().filter(|role| means(role, device)) {
            for identity in role.members(self.administrators()) {
                for login in role.logins_of(&identity) {
                    let permits = logins.entry(login).or_default().entry(identity.clone()).or_default();
                    permits.extend(&role.permits);
                }
            }
        }
        let reads_permits = device.abilities.has(Abilities::SSH_PERMITS);
        let grant = |(identity, permits): (SshIdentity, BTreeSet<Permit>)| {
            let permits = reads_permits.then(|| permits.into_iter().collect());
            Grant { identity, until: None, permits }
        };
        let of_login = |(login, who): (Login, BTreeMap<_, _>)| LoginGrants {
            login,
            grants: who.into_iter().map(grant).collect(),
        };
        logins.into_iter().map(of_login).collect()
    }

    /// What a host's certificate rests on, while it is active.
    pub fn host_profile(&self, id: DeviceId) -> Option<Host> {
        let device = self.device(id).filter(|device| self.standing(device) == Standing::Active)?;
        let fqdn = self.origin.child(&device.name).ok()?;
        Some(Host {
            device: id,
            aliases: self.aliases_of(&fqdn),
            fqdn,
            name: device.name.clone(),
            addresses: self.addresses(device)?,
        })
    }

    pub(super) fn set_ssh_role(&self, role: &SshRole) -> Result<Decision, Refusal> {
        if self.authorities.roles.get(&role.name) == Some(role) {
            return Ok(Decision::new(Vec::new(), Answer::SshRole(role.clone())));
        }
        if self.authorities.roles.len() >= SSH_ROLES_MAX && !self.authorities.roles.contains_key(&role.name) {
            return refuse(Code::QuotaReached, format!("there are {SSH_ROLES_MAX} roles"));
        }
        let others = self.authorities.roles.values().filter(|other| other.name != role.name);
        let grants: usize = others.chain([role]).map(SshRole::grants).sum();
        if grants > SSH_GRANTS_MAX {
            let detail = format!("the roles name {grants} identities and logins of at most {SSH_GRANTS_MAX}");
            return refuse(Code::QuotaReached, detail);
        }
        let fact = Fact::Ssh(SshFact::Role(role.clone()));
        Ok(Decision::new(vec![fact], Answer::SshRole(role.clone())))
    }

    pub(super) fn delete_ssh_role(&self, name: &Label) -> Result<Decision, Refusal> {
        if !self.authorities.roles.contains_key(name) {
            return refuse(Code::RoleNotFound, format!("there is no role {name}"));
        }
        if *name == SshRole::default_name() {
            return refuse(Code::RoleKept, format!("{name} is where roles begin: give it no logins instead"));
        }
        let fact = Fact::Ssh(SshFact::RoleGone { name: name.clone() });
        Ok(Decision::new(vec![fact], Answer::SshRoleGone))
    }

    /// Every role without a person who is gone.
    pub(super) fn forget_person(&self, name: &Label) -> Decision {
        let person = SshIdentity::Person(name.clone());
        let named = self.ssh_roles().filter(|role| role.identities.contains(&person)).cloned();
        let without = named.map(|mut role| {
            role.identities.remove(&person);
            Fact::Ssh(SshFact::Role(role))
        });
        let facts: Vec<Fact> = without.collect();
        let count = facts.len();
        Decision::new(facts, Answer::PersonForgotten(count))
    }

    /// People whom roles name.
    pub fn people_of_roles(&self) -> BTreeSet<&Label> {
        let people =
            self.ssh_roles().flat_map(|role| &role.identities).filter_map(|identity| match identity {
                SshIdentity::Person(name) => Some(name),
                SshIdentity::Service(_) => None,
            });
        people.collect()
    }

    pub(super) fn set_administrators(&self, names: &BTreeSet<Label>) -> Decision {
        let facts = match self.administrators() == names {
            true => Vec::new(),
            false => vec![Fact::Ssh(SshFact::Administrators(names.clone()))],
        };
        Decision::new(facts, Answer::AdministratorsSet)
    }

    pub(super) fn set_host_key(&self, device: DeviceId, key: &HostKey) -> Decision {
        let known =
            self.host_key(device) == Some(key) || self.device(device).is_none_or(|row| !row.is_live());
        let facts = match known {
            true => Vec::new(),
            false => vec![Fact::Ssh(SshFact::HostKey { device, key: key.clone() })],
        };
        Decision::new(facts, Answer::HostKeySet)
    }
}

/// Whether a role means a host.
fn means(role: &SshRole, host: &Device) -> bool {
    role.fits(&host.tags, &host.labels)
}
