//! The rows of a tenant's SSH authorities: their rotations, their public keys, what is revoked. Knows no private key
//! beyond the moment in which it is made.

use ca::{CaSecret, KeyGeneration, Rotation};
use model::{CaKey, CaKind, Revoked, Timestamp};

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
    /// From then on no certificate lives that it names: the list of hosts is the shorter for it.
    pub until: Timestamp,
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
}

impl SshRows {
    /// The rows as facts.
    pub fn into_facts(self) -> impl Iterator<Item = SshFact> {
        let authorities = self.authorities.into_iter().map(SshFact::Authority);
        let keys = self.keys.into_iter().map(SshFact::Key);
        authorities.chain(keys).chain(self.revocations.into_iter().map(SshFact::Revocation))
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
