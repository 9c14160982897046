//! The SSH authorities of a tenant: founding and rotating. When a step is safe, `ca::rotation` says.

use std::collections::{BTreeMap, BTreeSet};

use ca::{CaSecret, Ground, KeyGeneration, Missing, Phase, Rotation, Step, StepRefused};
use model::{CaKey, CaKind, Code, DeviceId, HostKey, Label, Refusal, Revoked, Timestamp};

use super::{Decision, Directory, Grounds, refuse};
use crate::edit::Answer;
use crate::rows::Fact;
use crate::ssh::{Authority, AuthorityKey, NewKey, Revocation, SshFact, SshRole};

/// A refusal names so many of those who are missing, and counts the others: `warren ca status` has them all.
const MISSING_NAMED_MAX: usize = 5;

/// The authorities, with indices.
#[derive(Default)]
pub(super) struct Authorities {
    rows: BTreeMap<CaKind, Authority>,
    pub(super) keys: BTreeMap<(CaKind, KeyGeneration), AuthorityKey>,
    pub(super) revocations: BTreeMap<(CaKind, Revoked), Revocation>,
    pub(super) roles: BTreeMap<Label, SshRole>,
    /// Who administers the tenant: a role may mean them.
    pub(super) administrators: BTreeSet<Label>,
    pub(super) host_keys: BTreeMap<DeviceId, HostKey>,
}

impl Authorities {
    pub(super) fn take(&mut self, fact: SshFact) {
        match fact {
            SshFact::Authority(row) => {
                self.rows.insert(row.rotation.kind, row);
            }
            SshFact::Key(row) => {
                self.keys.insert((row.kind, row.generation), row);
            }
            SshFact::Revocation(row) => {
                self.revocations.insert((row.kind, row.what.clone()), row);
            }
            SshFact::RevocationGone { kind, what } => {
                self.revocations.remove(&(kind, what));
            }
            // Taken where plans are made of them.
            SshFact::Role(_)
            | SshFact::RoleGone { .. }
            | SshFact::Administrators(_)
            | SshFact::HostKey { .. } => {}
        }
    }
}

impl Directory {
    /// One of the authorities, once they were founded.
    pub fn authority(&self, kind: CaKind) -> Option<&Authority> {
        self.authorities.rows.get(&kind)
    }

    /// The keys of an authority that are trusted now, oldest first.
    pub fn trusted_keys(&self, kind: CaKind) -> impl Iterator<Item = &AuthorityKey> {
        let trusted = self.authority(kind).map(|a| a.rotation.trusted()).unwrap_or_default();
        trusted.into_iter().filter_map(move |generation| self.authorities.keys.get(&(kind, generation)))
    }

    /// Which of an authority's keys this is, whatever became of it.
    pub fn key_generation(&self, kind: CaKind, key: &CaKey) -> Option<KeyGeneration> {
        let mut of_kind = self.authorities.keys.values().filter(|row| row.kind == kind);
        of_kind.find(|row| row.public == *key).map(|row| row.generation)
    }

    /// The key that signs for an authority now.
    pub fn signing_key(&self, kind: CaKind) -> Option<&AuthorityKey> {
        let generation = self.authority(kind)?.rotation.signs();
        self.authorities.keys.get(&(kind, generation))
    }

    pub(super) fn found_authorities(&self, grounds: &mut Grounds<'_>) -> Decision {
        let missing = CaKind::ALL.into_iter().filter(|kind| self.authority(*kind).is_none());
        let (mut facts, new_keys) = found(missing, grounds);
        if self.authorities.roles.is_empty() {
            facts.push(ssh(SshFact::Role(SshRole::default_role())));
        }
        Decision { new_keys, ..Decision::new(facts, Answer::AuthoritiesFounded) }
    }

    pub(super) fn rotate_authority(
        &self,
        kind: CaKind,
        grounds: &mut Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        self.with_next_key(kind, grounds, |rotation, generation, now| {
            rotation.rotate(generation, now).map_err(|e| self.step_refused(kind, &e))?;
            Ok([])
        })
    }

    pub(super) fn advance_authority(
        &self,
        kind: CaKind,
        except: &BTreeSet<DeviceId>,
        (judged, ground): (Step, &Ground),
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let mut authority = self.founded(kind)?.clone();
        if authority.rotation.step() != judged {
            let phase = authority.rotation.phase;
            let detail = format!("the {kind} authority is in {phase} meanwhile: somebody else took a step");
            return refuse(Code::Conflict, detail);
        }
        authority.rotation.exempt.extend(except);
        let forgotten = authority.rotation.advance(ground, now).map_err(|e| self.step_refused(kind, &e))?;
        let erased = self.erased(kind, forgotten, now);
        let facts = erased.chain([SshFact::Authority(authority.clone())]).map(ssh).collect();
        Ok(Decision::new(facts, Answer::Authority(authority)))
    }

    pub(super) fn roll_back_authority(&self, kind: CaKind, now: Timestamp) -> Result<Decision, Refusal> {
        let mut authority = self.founded(kind)?.clone();
        authority.rotation.rollback(now).map_err(|e| self.step_refused(kind, &e))?;
        let facts = vec![ssh(SshFact::Authority(authority.clone()))];
        Ok(Decision::new(facts, Answer::Authority(authority)))
    }

    pub(super) fn replace_authority(
        &self,
        kind: CaKind,
        grounds: &mut Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        self.with_next_key(kind, grounds, |rotation, generation, now| Ok(rotation.replace(generation, now)))
    }

    /// The authority after a step that takes up a new key. The step says which keys it forgets.
    fn with_next_key<Forgotten: IntoIterator<Item = KeyGeneration>>(
        &self,
        kind: CaKind,
        grounds: &mut Grounds<'_>,
        step: impl FnOnce(&mut Rotation, KeyGeneration, Timestamp) -> Result<Forgotten, Refusal>,
    ) -> Result<Decision, Refusal> {
        let mut authority = self.founded(kind)?.clone();
        let generation = KeyGeneration(authority.keys_made + 1);
        let forgotten = step(&mut authority.rotation, generation, grounds.now)?;
        authority.keys_made = generation.0;
        let (key, secret) = new_key(kind, generation, grounds);
        let keys = self.erased(kind, forgotten, grounds.now).chain([SshFact::Key(key)]);
        let facts = keys.chain([SshFact::Authority(authority.clone())]).map(ssh).collect();
        Ok(Decision { new_keys: vec![secret], ..Decision::new(facts, Answer::Authority(authority)) })
    }

    /// Keys that sign no more and whose secrets go.
    fn erased(
        &self,
        kind: CaKind,
        forgotten: impl IntoIterator<Item = KeyGeneration>,
        now: Timestamp,
    ) -> impl Iterator<Item = SshFact> {
        let key = move |generation| self.authorities.keys.get(&(kind, generation));
        let erased = move |key: &AuthorityKey| AuthorityKey { erased_at: Some(now), ..key.clone() };
        forgotten.into_iter().filter_map(key).map(erased).map(SshFact::Key)
    }

    fn founded(&self, kind: CaKind) -> Result<&Authority, Refusal> {
        let absent =
            || Refusal::new(Code::StoreUnavailable, format!("the {kind} authority is not founded yet"));
        self.authority(kind).ok_or_else(absent)
    }

    fn step_refused(&self, kind: CaKind, why: &StepRefused) -> Refusal {
        match why {
            StepRefused::Idle
                if self.authority(kind).is_some_and(|a| a.rotation.phase == Phase::Rollback) =>
            {
                let detail = format!(
                    "the {kind} authority is in rollback already: `warren ca advance --type {kind}` ends it"
                );
                Refusal::new(Code::RotationUnderWay, detail)
            }
            StepRefused::Idle => {
                Refusal::new(Code::RotationIdle, format!("the {kind} authority is in standby"))
            }
            StepRefused::UnderWay => {
                Refusal::new(Code::RotationUnderWay, format!("the {kind} authority rotates already"))
            }
            StepRefused::Missing(missing) => {
                let named = missing.iter().take(MISSING_NAMED_MAX).map(|m| self.missing_text(m));
                let named = named.collect::<Vec<_>>().join(", ");
                let more = missing.len().saturating_sub(MISSING_NAMED_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                Refusal::new(Code::RotationBlocked, format!("{named}{more}"))
            }
        }
    }

    /// Who or what a rotation waits for, for people.
    pub fn missing_text(&self, missing: &Missing) -> String {
        let name = |id: &DeviceId| self.device(*id).map_or_else(|| id.to_string(), |d| d.name.to_string());
        match missing {
            Missing::Trust { device, said_at, .. } => {
                format!("{} does not trust the next key yet, {}", name(device), said(*said_at))
            }
            Missing::HostCertificate { device, said_at, .. } => {
                format!("{} still shows a certificate of the other key, {}", name(device), said(*said_at))
            }
            Missing::Certificates { until, .. } => {
                format!("certificates of the other key live until {until}")
            }
        }
    }
}

/// How old what is known of a device is.
fn said(at: Option<Timestamp>) -> String {
    at.map_or("and never said what it has".into(), |at| format!("as it said at {at}"))
}

/// Authorities of these kinds, each with its first key.
pub(super) fn found(
    kinds: impl Iterator<Item = CaKind>,
    grounds: &mut Grounds<'_>,
) -> (Vec<Fact>, Vec<NewKey>) {
    let (mut facts, mut new_keys) = (Vec::new(), Vec::new());
    for kind in kinds {
        let rotation = Rotation::first(kind, grounds.now);
        let (key, secret) = new_key(kind, rotation.active, grounds);
        facts.push(ssh(SshFact::Key(key)));
        facts.push(ssh(SshFact::Authority(Authority { keys_made: rotation.active.0, rotation })));
        new_keys.push(secret);
    }
    (facts, new_keys)
}

fn new_key(kind: CaKind, generation: KeyGeneration, grounds: &mut Grounds<'_>) -> (AuthorityKey, NewKey) {
    let secret = CaSecret::from_seed(grounds.dice.bytes());
    let public: CaKey = secret.public();
    let key = AuthorityKey { kind, generation, public, created_at: grounds.now, erased_at: None };
    (key, NewKey { kind, generation, secret })
}

const fn ssh(fact: SshFact) -> Fact {
    Fact::Ssh(fact)
}
