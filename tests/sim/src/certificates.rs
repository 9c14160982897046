//! What the database has of SSH beside directories: certificates that were recorded, and what devices said they installed.

use std::collections::BTreeMap;

use ca::KeyGeneration;
use control::{Commit, Fact, InstalledRow, SshFact};
use model::{CaKind, CertificateId, DeviceId, Epoch, Mono, Revoked, SshSerial, TenantId};

/// A certificate that was recorded.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Whose authority.
    pub tenant: TenantId,
    /// Which.
    pub kind: CaKind,
    /// Which of its keys signed.
    pub generation: KeyGeneration,
    /// Its number.
    pub serial: SshSerial,
    /// What it is called.
    pub id: CertificateId,
    /// The device that asked.
    pub device: DeviceId,
    /// When it ends, by walls that are right.
    pub until: Mono,
    /// When it was recorded.
    pub recorded_at: Mono,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Mono>,
}

impl Certificate {
    /// Whether somebody may still use it; `now` by walls that are right.
    pub fn lives(&self, now: Mono) -> bool {
        self.until > now && self.revoked_at.is_none()
    }
}

/// What a device said, and when that was kept.
#[derive(Debug, Clone)]
pub struct Said {
    /// When.
    pub at: Mono,
    /// What.
    pub row: InstalledRow,
}

/// The tables.
#[derive(Default)]
pub struct Certificates {
    all: Vec<Certificate>,
    said: Vec<Said>,
    counted: u64,
}

impl Certificates {
    /// The next number.
    pub fn serial(&mut self, epoch: Epoch) -> SshSerial {
        self.counted += 1;
        SshSerial::new(epoch, self.counted).expect("few are counted in a run")
    }

    /// Keeps a certificate.
    pub fn record(&mut self, certificate: Certificate) {
        self.all.push(certificate);
    }

    /// All of an authority.
    pub fn of(&self, tenant: TenantId, kind: CaKind) -> impl Iterator<Item = &Certificate> {
        self.all.iter().filter(move |one| one.tenant == tenant && one.kind == kind)
    }

    /// Keeps what devices said.
    pub fn save(&mut self, at: Mono, rows: Vec<InstalledRow>) {
        self.said.extend(rows.into_iter().map(|row| Said { at, row }));
    }

    /// What each device of a tenant said last.
    pub fn installed(&self, tenant: TenantId) -> BTreeMap<DeviceId, &Said> {
        let said = self.said.iter().filter(|said| said.row.tenant == tenant);
        said.map(|said| (said.row.device, said)).collect()
    }

    /// A commit was taken: what it revokes counts no longer.
    pub fn follow(&mut self, commit: &Commit, at: Mono) {
        let revoked = commit.facts.iter().filter_map(|fact| match fact {
            Fact::Ssh(SshFact::Revocation(row)) => Some((row.kind, &row.what)),
            _ => None,
        });
        for (kind, what) in revoked {
            let is = |one: &Certificate| match what {
                Revoked::Serial(serial) => one.serial == *serial,
                Revoked::Id(id) => one.id == *id,
            };
            let mine = self.all.iter_mut().filter(|one| one.tenant == commit.tenant && one.kind == kind);
            mine.filter(|one| is(one)).for_each(|one| one.revoked_at = one.revoked_at.or(Some(at)));
        }
    }

    /// Everything since is forgotten.
    pub fn restore(&mut self, moment: Mono) {
        self.said.retain(|said| said.at <= moment);
        self.all.retain(|one| one.recorded_at <= moment);
        for one in &mut self.all {
            one.revoked_at = one.revoked_at.filter(|at| *at <= moment);
        }
    }
}
