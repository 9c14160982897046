//! The two rules of a rotation, which `ca::rotation` keeps by what it is told, judged by what machines really have; and
//! that connected hosts hear of everything in time.
//!
//! - A key signs only while everybody who said what it trusts, and is waited for, trusts it.
//! - A key goes only when nothing lives that needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ca::{KeyGeneration, Phase, Rotation};
use control::{Commit, Fact, LinkId, SshFact, TenantRows};
use model::{CaKey, CaKind, DeviceId, Mono, Revoked, Standing, TenantId, Version};

use super::{Happening, World};
use crate::link::Server;
use crate::machine::Wish;

/// What is revoked or trusted no more is so on connected hosts within this time.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);

/// What is known of the rotation under way of each authority.
#[derive(Default)]
pub(super) struct Rotations {
    /// When it began.
    began: BTreeMap<(TenantId, CaKind), Mono>,
    /// Whom somebody asked to leave out since its last step. Who is left out in the last one is nowhere in the rows.
    left_out: BTreeMap<(TenantId, CaKind), BTreeSet<DeviceId>>,
}

impl Rotations {
    /// A step without these is asked for.
    pub(super) fn asked(&mut self, tenant: TenantId, kind: CaKind, except: &BTreeSet<DeviceId>) {
        self.left_out.entry((tenant, kind)).or_default().extend(except);
    }
}

/// Hosts that were connected and up to date when a commit was taken.
pub(super) struct Watch {
    version: Version,
    what: String,
    trusted: BTreeSet<CaKey>,
    revoked: BTreeSet<Revoked>,
    hosts: Vec<(usize, u64, LinkId)>,
}

impl World {
    /// The store took a commit: whether its steps of rotations were safe, by what machines have.
    pub(super) fn judge_ssh(&mut self, commit: &Commit, before: &TenantRows) {
        let concerns =
            |fact: &Fact| matches!(fact, Fact::Ssh(SshFact::Authority(_) | SshFact::Revocation(_)));
        if !commit.facts.iter().any(concerns) {
            return;
        }
        let Some(after) = self.store.tenant(commit.tenant).map(|stored| stored.rows.clone()) else { return };
        for kind in CaKind::ALL {
            let (Some(was), Some(is)) = (rotation(before, kind), rotation(&after, kind)) else { continue };
            if was == is || commit.audit.action == "ca.replace" {
                continue;
            }
            if is.phase == Phase::Init {
                self.rotations.began.insert((commit.tenant, kind), self.at);
            }
            if was.signs() != is.signs() {
                self.judge_signer(&after, is);
            }
            for generation in was.trusted().difference(&is.trusted()) {
                self.judge_going(&after, was, *generation);
            }
            self.rotations.left_out.remove(&(commit.tenant, kind));
        }
        if !self.is_wild() {
            self.watch(commit, before, &after);
        }
    }

    /// Another key signs from now on.
    fn judge_signer(&mut self, rows: &TenantRows, rotation: &Rotation) {
        let (tenant, kind) = (rows.tenant.id, rotation.kind);
        let Some(key) = public(rows, kind, rotation.signs()) else { return };
        let began = self.rotations.began.get(&(tenant, kind)).copied();
        // Back to the former key there is no gate: nobody ceased to trust it.
        let gated = rotation.phase != Phase::Rollback;
        let mut found = None;
        for (device, said) in self.store.ssh.installed(tenant) {
            let keys = match kind {
                CaKind::User => said.row.people.as_ref(),
                CaKind::Host => Some(&said.row.hosts),
            };
            let (Some(keys), Some(index)) = (keys, self.awaited(rows, rotation, device)) else { continue };
            let machine = &self.machines[index];
            let says = keys.contains(&key);
            if gated && !says && machine.link.is_none() && began.is_some_and(|began| said.at < began) {
                let detail = format!("{} does not trust {kind} key {}", machine.name, rotation.signs().0);
                found = Some(("a-key-signs-if-all-trust-it", detail));
            }
            if says && self.trusted_by(index, kind).is_some_and(|trusted| !trusted.contains(&key)) {
                let detail = format!(
                    "{} said that it trusts {kind} key {}, and does not",
                    machine.name,
                    rotation.signs().0
                );
                found = Some(("a-key-signs-if-all-trust-it", detail));
            }
        }
        if let Some((invariant, detail)) = found {
            self.judge.accuse(self.at, invariant, detail);
        }
    }

    /// A key is trusted no more, and erased.
    fn judge_going(&mut self, rows: &TenantRows, rotation: &Rotation, generation: KeyGeneration) {
        let (tenant, kind) = (rows.tenant.id, rotation.kind);
        let left_out = self.rotations.left_out.get(&(tenant, kind));
        let mut living = self.store.ssh.of(tenant, kind).filter(|one| one.lives(self.wall()));
        let needed = living.find(|one| {
            let shown = || {
                let index = self.awaited(rows, rotation, one.device)?;
                if left_out.is_some_and(|devices| devices.contains(&one.device)) {
                    return None;
                }
                self.machines[index].sshd.shows
            };
            one.generation == generation
                && (kind == CaKind::User || shown().is_some_and(|shown| shown.serial == one.serial))
        });
        if let Some(one) = needed {
            let detail =
                format!("certificate {} of {} lives, by {kind} key {}", one.serial, one.id, generation.0);
            self.judge.accuse(self.at, "a-key-goes-if-nothing-needs-it", detail);
        }
    }

    /// The machine of a device that takes part and is waited for. `None`, too, where nobody can say which machine speaks for
    /// it.
    fn awaited(&self, rows: &TenantRows, rotation: &Rotation, device: DeviceId) -> Option<usize> {
        let row = rows.devices.iter().find(|row| row.id == device)?;
        let takes_part = row.standing == Standing::Active && !rotation.exempt.contains(&device);
        let identity = row.identity().filter(|_| takes_part)?;
        let is = |machine: &crate::machine::Machine| {
            machine.wish == Wish::Joined(device) && machine.identity.public() == *identity && !machine.copied
        };
        self.machines.iter().position(is)
    }

    /// What a machine really trusts; nothing is known of one that has nothing, or what a restored server forgot.
    fn trusted_by(&self, index: usize, kind: CaKind) -> Option<BTreeSet<CaKey>> {
        let machine = &self.machines[index];
        let (version, keys) = match kind {
            CaKind::User => {
                let installed = machine.sshd.installed.as_ref()?;
                (installed.version, installed.people.clone())
            }
            CaKind::Host => {
                let (version, trust) = machine.node.as_ref()?.ssh_trust()?;
                (version, trust.trusted(kind).map(|key| key.key).collect())
            }
        };
        (version.epoch == self.store.epoch()).then_some(keys)
    }

    /// Whoever is connected and up to date has to follow.
    fn watch(&mut self, commit: &Commit, before: &TenantRows, after: &TenantRows) {
        let revoked = commit.facts.iter().filter_map(|fact| match fact {
            Fact::Ssh(SshFact::Revocation(row)) if row.kind == CaKind::User => Some(row.what.clone()),
            _ => None,
        });
        let revoked: BTreeSet<Revoked> = revoked.collect();
        let (were, are) = (trusted(before, CaKind::User), trusted(after, CaKind::User));
        if revoked.is_empty() && were == are {
            return;
        }
        let active = after.devices.iter().filter(|row| row.standing == Standing::Active);
        let hosts = active.filter_map(|row| {
            let index = self.machines.iter().position(|machine| machine.wish == Wish::Joined(row.id))?;
            let machine = &self.machines[index];
            let installed = machine.sshd.installed.as_ref()?;
            let current = installed.people == were && installed.version.epoch == self.store.epoch();
            let link = machine.link.filter(|link| current && !machine.copied && self.is_served(*link))?;
            let status = machine.node.as_ref()?.status();
            let attached = status.link == engine::status::LinkState::Attached;
            attached.then_some((index, machine.life, link))
        });
        let what = format!("{} {}", commit.audit.action, commit.audit.target);
        let (version, hosts) = (commit.result(), hosts.collect());
        let watch = Watch { version, what, trusted: are, revoked, hosts };
        self.soon(IN_FORCE_WITHIN, Happening::InForce(Box::new(watch)));
    }

    /// Whether there is a server at the other end: one that died may not have been missed yet.
    fn is_served(&self, link: LinkId) -> bool {
        let server = self.links.get(&link).and_then(|link| link.server);
        let Some(Server::Replica(index, life)) = server else { return false };
        self.replicas[index].life == life && self.replicas[index].control.is_some()
    }

    /// Whoever was connected all the time has followed by now.
    pub(super) fn is_in_force(&mut self, watch: &Watch) {
        for (index, life, link) in &watch.hosts {
            let machine = &self.machines[*index];
            let stayed = machine.life == *life && machine.link == Some(*link) && self.is_served(*link);
            let Some(installed) = machine.sshd.installed.as_ref().filter(|_| stayed) else { continue };
            let follows = installed.people == watch.trusted && installed.revoked.is_superset(&watch.revoked);
            if !follows && installed.version < watch.version {
                let detail = format!("{} does not go by {} yet: {}", machine.name, watch.version, watch.what);
                return self.judge.accuse(self.at, "connected-hosts-follow-in-time", detail);
            }
        }
    }
}

fn rotation(rows: &TenantRows, kind: CaKind) -> Option<&Rotation> {
    rows.ssh.authorities.iter().map(|authority| &authority.rotation).find(|rotation| rotation.kind == kind)
}

fn public(rows: &TenantRows, kind: CaKind, generation: KeyGeneration) -> Option<CaKey> {
    let mut keys = rows.ssh.keys.iter();
    keys.find(|key| key.kind == kind && key.generation == generation).map(|key| key.public)
}

fn trusted(rows: &TenantRows, kind: CaKind) -> BTreeSet<CaKey> {
    let generations = rotation(rows, kind).map(Rotation::trusted).unwrap_or_default();
    generations.into_iter().filter_map(|generation| public(rows, kind, generation)).collect()
}
