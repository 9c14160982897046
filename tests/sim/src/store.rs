//! The database that the servers share: compare-and-set, conditional use of tokens, uniqueness, a change log, and its
//! faults. Keeps promises as the real one does, but for the faults for which a run must fail.

use std::collections::BTreeMap;

use control::{
    Commit, CommitError, Device, DnsEntry, Fact, Loaded, Refresh, Since, SshFact, SshRole, Standings, Tenant,
    TenantRows, Token,
};
use model::{AnchorSecret, Epoch, Generation, Mono, TenantId, Version};

use crate::certificates::Certificates;

/// One tenant as it is stored: rows as of the beginning of the log, and the log.
pub struct Stored {
    /// As they are now.
    pub rows: TenantRows,
    /// Its anchor, which the real store keeps sealed.
    pub anchor: AnchorSecret,
    base: TenantRows,
    log: Vec<Entry>,
    /// When.
    pub founded_at: Mono,
}

/// One generation.
struct Entry {
    at: Mono,
    generation: Generation,
    devices_count: u32,
    facts: Vec<Fact>,
}

/// What is wrong with the store now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ailment {
    /// Nothing is answered.
    pub away: bool,
    /// Commits are refused.
    pub read_only: bool,
    /// Reads are so many generations old.
    pub behind: u64,
    /// Answers take so many times longer.
    pub slow: bool,
    /// A commit is done, and its answer is lost, in so many thousandths.
    pub answers_lost_per_mille: usize,
}

/// A store that does not keep its promises: a fault for which a run must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Betrayal {
    /// Takes every commit, whatever the version is.
    Forks,
    /// Forgets that a token was used: the next server that reads it lets the next device in.
    TokensForever,
    /// Says yes to every tenth commit and forgets it.
    Forgets,
}

/// The database.
#[derive(Default)]
pub struct Store {
    epoch: Epoch,
    tenants: BTreeMap<TenantId, Stored>,
    /// What is wrong with it now.
    pub ailment: Ailment,
    /// What is wrong with it for good.
    pub betrayal: Option<Betrayal>,
    /// Commits that were taken.
    pub commits: u64,
    /// Certificates, and what devices installed.
    pub ssh: Certificates,
}

impl Store {
    /// Everything, as a server reads it at start.
    pub fn load(&self) -> Result<(Loaded, BTreeMap<TenantId, AnchorSecret>), String> {
        self.reachable()?;
        let tenants = self.tenants.values().map(|stored| self.read(stored)).collect();
        let anchors = self.tenants.iter().map(|(id, stored)| (*id, stored.anchor.clone())).collect();
        Ok((Loaded { epoch: self.epoch, tenants, presence: Vec::new() }, anchors))
    }

    /// One transaction.
    pub fn commit(&mut self, commit: &Commit, at: Mono) -> Result<(), CommitError> {
        let unavailable = CommitError::Unavailable;
        self.reachable().map_err(unavailable)?;
        if self.ailment.read_only {
            return Err(unavailable("attempt to write a read-only database".into()));
        }
        match &commit.new_anchor {
            Some(anchor) => self.found(commit, anchor, at)?,
            None => self.check(commit)?,
        }
        self.commits += 1;
        if self.betrayal == Some(Betrayal::Forgets) && self.commits.is_multiple_of(10) {
            return Ok(());
        }
        let stored = self.tenants.get_mut(&commit.tenant).ok_or(CommitError::Conflict)?;
        let forgets_use = self.betrayal == Some(Betrayal::TokensForever) && commit.redeems.is_some();
        let kept = |fact: &&Fact| !(forgets_use && matches!(fact, Fact::Token(_)));
        let facts: Vec<Fact> = commit.facts.iter().filter(kept).cloned().collect();
        facts.iter().for_each(|fact| upsert(&mut stored.rows, fact.clone()));
        let (generation, devices_count) = (commit.result().generation, commit.devices_count);
        stored.log.push(Entry { at, generation, devices_count, facts });
        stored.rows.version = commit.result();
        stored.rows.devices_count = commit.devices_count;
        Ok(())
    }

    fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let stored = self.tenants.get(&commit.tenant).ok_or(CommitError::Conflict)?;
        if stored.rows.version != commit.expect && self.betrayal != Some(Betrayal::Forks) {
            return Err(CommitError::Conflict);
        }
        if self.has_port(commit) {
            return Err(CommitError::Conflict);
        }
        let Some(id) = commit.redeems else { return Ok(()) };
        let usable = |t: &&Token| t.id == id && t.revoked_at.is_none() && t.uses < t.uses_max;
        stored.rows.tokens.iter().find(usable).map(|_| ()).ok_or(CommitError::TokenUsed)
    }

    /// Whether another tenant has the port that one is about to have.
    fn has_port(&self, commit: &Commit) -> bool {
        let wanted = commit.facts.iter().find_map(|fact| match fact {
            Fact::Tenant(tenant) => tenant.hub_port,
            _ => None,
        });
        let others = self.tenants.iter().filter(|(id, _)| **id != commit.tenant);
        wanted.is_some_and(|_| others.into_iter().any(|(_, stored)| stored.rows.tenant.hub_port == wanted))
    }

    fn found(&mut self, commit: &Commit, anchor: &AnchorSecret, at: Mono) -> Result<(), CommitError> {
        let Some(Fact::Tenant(tenant)) = commit.facts.first() else {
            return Err(CommitError::Unavailable("a tenant begins with its row".into()));
        };
        let clash = |stored: &Stored| {
            let other = &stored.rows.tenant;
            other.deleted_at.is_none() && (other.name == tenant.name || other.block.overlaps(&tenant.block))
        };
        if commit.expect.epoch != self.epoch || self.tenants.values().any(clash) || self.has_port(commit) {
            return Err(CommitError::Conflict);
        }
        let rows = TenantRows {
            tenant: tenant.clone(),
            version: commit.expect,
            devices_count: 0,
            sealed_anchor: Vec::new(),
            devices: Vec::new(),
            tokens: Vec::new(),
            records: Vec::new(),
            hub: None,
            ssh: control::SshRows::default(),
        };
        let (base, anchor, log) = (rows.clone(), anchor.clone(), Vec::new());
        self.tenants.insert(tenant.id, Stored { rows, anchor, base, log, founded_at: at });
        Ok(())
    }

    /// What others wrote to one tenant.
    pub fn refresh(&self, tenant: TenantId, since: Since) -> Result<(Refresh, Option<AnchorSecret>), String> {
        self.reachable()?;
        let stored = self.tenants.get(&tenant).ok_or("no such tenant")?;
        let rows = self.read(stored);
        let whole = |rows| Ok((Refresh::Whole(Box::new(rows)), Some(stored.anchor.clone())));
        let Since::Generation(since) = since else { return whole(rows) };
        let until = rows.version.generation;
        if since < stored.base.version.generation || since > until {
            return whole(rows);
        }
        let missed = stored.log.iter().filter(|e| e.generation > since && e.generation <= until);
        let facts = missed.flat_map(|entry| entry.facts.clone()).collect();
        let (version, devices_count) = (rows.version, rows.devices_count);
        Ok((Refresh::Facts { version, devices_count, facts }, None))
    }

    /// Where every tenant stands.
    pub fn standings(&self) -> Result<Standings, String> {
        self.reachable()?;
        let read = |(id, stored): (&TenantId, &Stored)| (*id, self.read(stored).version);
        Ok(Standings { epoch: self.epoch, versions: self.tenants.iter().map(read).collect() })
    }

    /// A copy of `moment` takes the place of all, and the epoch grows: uses and revocations of tokens since are
    /// forgotten, so every token is revoked. Says how many generations are lost.
    pub fn restore(&mut self, moment: Mono) -> u64 {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.ssh.restore(moment);
        let mut lost = 0;
        self.tenants.retain(|_, stored| stored.founded_at <= moment);
        for stored in self.tenants.values_mut() {
            let last = stored.log.iter().rev().find(|entry| entry.at <= moment).map(|e| e.generation);
            let last = last.unwrap_or(stored.base.version.generation);
            lost += stored.rows.version.generation.0 - last.0;
            let mut rows = stored.as_of(last);
            rows.version.epoch = self.epoch;
            let revoked_at = rows.tenant.created_at;
            for token in &mut rows.tokens {
                token.revoked_at = token.revoked_at.or(Some(revoked_at));
            }
            (stored.base, stored.rows, stored.log) = (rows.clone(), rows, Vec::new());
        }
        lost
    }

    /// Every tenant, as it is stored.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantId, &Stored)> {
        self.tenants.iter()
    }

    /// One tenant, as it is stored.
    pub fn tenant(&self, id: TenantId) -> Option<&Stored> {
        self.tenants.get(&id)
    }

    /// The epoch of all versions.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn reachable(&self) -> Result<(), String> {
        if self.ailment.away { Err("connection refused".into()) } else { Ok(()) }
    }

    /// As it is, or as it was a few generations ago.
    fn read(&self, stored: &Stored) -> TenantRows {
        if self.ailment.behind == 0 {
            return stored.rows.clone();
        }
        let now = stored.rows.version.generation.0;
        let floor = stored.base.version.generation.0.max(1).min(now);
        stored.as_of(Generation(now.saturating_sub(self.ailment.behind).max(floor)))
    }
}

impl Stored {
    fn as_of(&self, generation: Generation) -> TenantRows {
        let mut rows = self.base.clone();
        for entry in self.log.iter().filter(|entry| entry.generation <= generation) {
            entry.facts.iter().for_each(|fact| upsert(&mut rows, fact.clone()));
            rows.version = Version { generation: entry.generation, ..rows.version };
            rows.devices_count = entry.devices_count;
        }
        rows
    }

    /// Whether a device was ever so since the log began, or is.
    pub fn knows_device(&self, device: &Device) -> bool {
        self.knows(
            |rows| rows.devices.contains(device),
            |fact| matches!(fact, Fact::Device(other) if other == device),
        )
    }

    /// Whether the tenant was ever so since the log began, or is.
    pub fn knows_tenant(&self, tenant: &Tenant) -> bool {
        self.knows(
            |rows| rows.tenant == *tenant,
            |fact| matches!(fact, Fact::Tenant(other) if other == tenant),
        )
    }

    /// Whether a role was ever so since the log began, or is.
    pub fn knows_role(&self, role: &SshRole) -> bool {
        self.knows(
            |rows| rows.ssh.roles.contains(role),
            |fact| matches!(fact, Fact::Ssh(SshFact::Role(other)) if other == role),
        )
    }

    /// Whether a record was ever so since the log began, or is.
    pub fn knows_record(&self, record: &DnsEntry) -> bool {
        self.knows(
            |rows| rows.records.contains(record),
            |fact| matches!(fact, Fact::Record(other) if other == record),
        )
    }

    /// Whether it is so, was when the log began, or was written since.
    fn knows(&self, is: impl Fn(&TenantRows) -> bool, says: impl Fn(&Fact) -> bool) -> bool {
        let was_written = || self.log.iter().flat_map(|entry| &entry.facts).any(says);
        is(&self.rows) || is(&self.base) || was_written()
    }
}

fn upsert(rows: &mut TenantRows, fact: Fact) {
    match fact {
        Fact::Tenant(tenant) => rows.tenant = tenant,
        Fact::Device(device) => put(&mut rows.devices, device, |a, b| a.id == b.id),
        Fact::Token(token) => put(&mut rows.tokens, token, |a, b| a.id == b.id),
        Fact::Record(entry) => put(&mut rows.records, entry, |a, b| a.name == b.name && a.data == b.data),
        Fact::RecordGone { name, data } => rows.records.retain(|r| r.name != name || r.data != data),
        Fact::Hub(hub) => rows.hub = Some(hub),
        Fact::Ssh(fact) => rows.ssh.take(fact),
    }
}

fn put<T>(rows: &mut Vec<T>, row: T, same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|other| same(other, &row)) {
        Some(place) => *place = row,
        None => rows.push(row),
    }
}
