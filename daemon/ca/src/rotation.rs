//! The life of one certificate authority of a tenant: which key signs, which keys are trusted, and when it is safe to go on.
//! Pure: holds no key and asks nobody.
//!
//! ```text
//! standby ──rotate──▶ init ──advance──▶ update_clients ──advance──▶ update_servers ──advance──▶ standby, next key only
//!    ▲                  └───────────────────┴── rollback ───────────────┘
//!    └───────────── advance ───────────── rollback
//! ```
//! Two rules hold in every phase, whoever is offline:
//! - a key signs only while everybody who checks its certificates trusts it;
//! - a key leaves the trusted ones only when no certificate lives that needs it.
//!
//! A key that somebody stole is the exception: [`Rotation::replace`] trusts nothing but a new one, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

pub use model::CaKind;
use model::{DeviceId, Timestamp};

/// One key of an authority: the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyGeneration(pub u32);

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is one key.
    Standby,
    /// The next key is trusted, and does not sign yet.
    Init,
    /// The next key signs people's certificates.
    UpdateClients,
    /// The next key signs hosts' certificates too.
    UpdateServers,
    /// The former key signs again, both are trusted.
    Rollback,
}

impl Phase {
    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Init => "init",
            Self::UpdateClients => "update_clients",
            Self::UpdateServers => "update_servers",
            Self::Rollback => "rollback",
        }
    }
}

/// The text is no phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a phase is standby, init, update_clients, update_servers or rollback")]
pub struct BadPhase;

impl FromStr for Phase {
    type Err = BadPhase;
    fn from_str(text: &str) -> Result<Self, BadPhase> {
        let all = [Self::Standby, Self::Init, Self::UpdateClients, Self::UpdateServers, Self::Rollback];
        all.into_iter().find(|phase| phase.as_str() == text).ok_or(BadPhase)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step of a rotation: a ground that was looked at for it says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How far.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
}

/// Where the rotation of one authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Whose certificates.
    pub kind: CaKind,
    /// How far.
    pub phase: Phase,
    /// The key that signed before the rotation, and signs in standby.
    pub active: KeyGeneration,
    /// The key that is to sign after it. `None` only in standby.
    pub next: Option<KeyGeneration>,
    /// When the phase began.
    pub since: Timestamp,
    /// Devices that nobody waits for in this rotation, as an administrator said.
    pub exempt: BTreeSet<DeviceId>,
}

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verifier {
    /// The keys that it said are installed and read back. `None`: it never installed any, so it lets nobody in by one.
    pub trusts: Option<BTreeSet<KeyGeneration>>,
    /// The key of the host certificate that it said is installed.
    pub presents: Option<KeyGeneration>,
    /// When it said so.
    pub said_at: Option<Timestamp>,
}

/// What a gate looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ground {
    /// The tenant's active devices.
    pub devices: BTreeMap<DeviceId, Verifier>,
    /// When the last certificate of each key ends that was issued and not revoked.
    pub certificates_until: BTreeMap<KeyGeneration, Timestamp>,
}

/// Why a rotation may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// This device has not said that it trusts the key.
    Trust {
        /// Which.
        device: DeviceId,
        /// The key.
        key: KeyGeneration,
        /// When it said anything last.
        said_at: Option<Timestamp>,
    },
    /// This host still presents a certificate of the other key.
    HostCertificate {
        /// Which.
        device: DeviceId,
        /// The key that is wanted.
        key: KeyGeneration,
        /// When it said anything last.
        said_at: Option<Timestamp>,
    },
    /// Certificates of this key live until then.
    Certificates {
        /// The key.
        key: KeyGeneration,
        /// When the last ends.
        until: Timestamp,
    },
}

/// Why a step was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepRefused {
    /// There is nothing to advance or to roll back.
    #[error("no rotation is under way")]
    Idle,
    /// One is under way already.
    #[error("a rotation is under way")]
    UnderWay,
    /// It would lock somebody out.
    #[error("{} are missing", .0.len())]
    Missing(Vec<Missing>),
}

impl Rotation {
    /// Where it is.
    pub const fn step(&self) -> Step {
        Step { phase: self.phase, since: self.since }
    }

    /// An authority with its first key.
    pub const fn first(kind: CaKind, now: Timestamp) -> Self {
        Self {
            kind,
            phase: Phase::Standby,
            active: KeyGeneration(1),
            next: None,
            since: now,
            exempt: BTreeSet::new(),
        }
    }

    /// The key that signs.
    pub fn signs(&self) -> KeyGeneration {
        let next = self.next.unwrap_or(self.active);
        match (self.phase, self.kind) {
            (Phase::UpdateClients, CaKind::User) | (Phase::UpdateServers, _) => next,
            _ => self.active,
        }
    }

    /// The keys that are trusted.
    pub fn trusted(&self) -> BTreeSet<KeyGeneration> {
        [self.active].into_iter().chain(self.next).collect()
    }

    /// Begins a rotation to a new key.
    ///
    /// # Errors
    /// One is under way.
    pub fn rotate(&mut self, next: KeyGeneration, now: Timestamp) -> Result<(), StepRefused> {
        if self.phase != Phase::Standby {
            return Err(StepRefused::UnderWay);
        }
        self.enter(Phase::Init, now);
        self.next = Some(next);
        Ok(())
    }

    /// What keeps the rotation from going on. Empty: [`Self::advance`] will do it.
    pub fn missing(&self, ground: &Ground, now: Timestamp) -> Vec<Missing> {
        let Some(next) = self.next else { return Vec::new() };
        match (self.phase, self.kind) {
            (Phase::Standby, _) | (Phase::UpdateClients, CaKind::Host) => Vec::new(),
            (Phase::Init, _) => self.untrusting(ground, next),
            (Phase::UpdateClients, CaKind::User) => living(ground, self.active, now),
            (Phase::UpdateServers, CaKind::User) => living(ground, self.active, now),
            (Phase::UpdateServers, CaKind::Host) => {
                let mut missing = self.presenting_other(ground, next);
                missing.extend(living(ground, self.active, now));
                missing
            }
            (Phase::Rollback, CaKind::User) => living(ground, next, now),
            (Phase::Rollback, CaKind::Host) => {
                let mut missing = self.presenting_other(ground, self.active);
                missing.extend(living(ground, next, now));
                missing
            }
        }
    }

    /// Goes on to the next phase. The last step, and the end of a rollback, are final: a key is forgotten, which is
    /// returned.
    ///
    /// # Errors
    /// No rotation is under way, or somebody would be locked out.
    pub fn advance(&mut self, ground: &Ground, now: Timestamp) -> Result<Option<KeyGeneration>, StepRefused> {
        let Some(next) = self.next else { return Err(StepRefused::Idle) };
        let missing = self.missing(ground, now);
        if !missing.is_empty() {
            return Err(StepRefused::Missing(missing));
        }
        let (phase, active) = match self.phase {
            Phase::Standby => return Err(StepRefused::Idle),
            Phase::Init => (Phase::UpdateClients, self.active),
            Phase::UpdateClients => (Phase::UpdateServers, self.active),
            Phase::UpdateServers => (Phase::Standby, next),
            Phase::Rollback => (Phase::Standby, self.active),
        };
        self.enter(phase, now);
        if phase != Phase::Standby {
            return Ok(None);
        }
        let forgotten = if active == next { self.active } else { next };
        (self.active, self.next) = (active, None);
        self.exempt.clear();
        Ok(Some(forgotten))
    }

    /// Lets the former key sign again. It is trusted by everybody: it never ceased to be.
    ///
    /// # Errors
    /// No rotation is under way.
    pub fn rollback(&mut self, now: Timestamp) -> Result<(), StepRefused> {
        match self.phase {
            Phase::Standby | Phase::Rollback => Err(StepRefused::Idle),
            Phase::Init | Phase::UpdateClients | Phase::UpdateServers => {
                self.enter(Phase::Rollback, now);
                Ok(())
            }
        }
    }

    /// Trusts a new key and nothing else, whoever has not heard of it: a former one is in the wrong hands. Returns those that
    /// are forgotten.
    pub fn replace(&mut self, next: KeyGeneration, now: Timestamp) -> BTreeSet<KeyGeneration> {
        let forgotten = self.trusted();
        self.enter(Phase::Standby, now);
        (self.active, self.next) = (next, None);
        self.exempt.clear();
        forgotten
    }

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        (self.phase, self.since) = (phase, now);
    }

    fn awaited<'g>(&'g self, ground: &'g Ground) -> impl Iterator<Item = (DeviceId, &'g Verifier)> {
        let devices = ground.devices.iter().filter(|(device, _)| !self.exempt.contains(*device));
        devices.map(|(device, verifier)| (*device, verifier))
    }

    /// Who has installed keys, and not this one.
    fn untrusting(&self, ground: &Ground, key: KeyGeneration) -> Vec<Missing> {
        let lacks = |verifier: &Verifier| verifier.trusts.as_ref().is_some_and(|keys| !keys.contains(&key));
        let missing = self.awaited(ground).filter(|(_, verifier)| lacks(verifier));
        missing.map(|(device, v)| Missing::Trust { device, key, said_at: v.said_at }).collect()
    }

    /// Hosts that present a certificate, and not one of this key.
    fn presenting_other(&self, ground: &Ground, key: KeyGeneration) -> Vec<Missing> {
        let other = |verifier: &Verifier| verifier.presents.is_some_and(|presented| presented != key);
        let missing = self.awaited(ground).filter(|(_, verifier)| other(verifier));
        missing.map(|(device, v)| Missing::HostCertificate { device, key, said_at: v.said_at }).collect()
    }
}

fn living(ground: &Ground, key: KeyGeneration, now: Timestamp) -> Vec<Missing> {
    let until = ground.certificates_until.get(&key).copied().filter(|until| *until > now);
    until.map(|until| Missing::Certificates { key, until }).into_iter().collect()
}

#[cfg(test)]
mod tests;
