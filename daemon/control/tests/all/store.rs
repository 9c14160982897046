//! A store in memory that keeps its promises: compare-and-set, conditional token use, uniqueness, a change log.

use std::collections::BTreeMap;

use control::{AuditEntry, Commit, CommitError, Fact, Loaded, Refresh, Since, Standings, TenantRows, Token};
use model::limits::OWN_INTERFACES_MAX;
use model::{AnchorSecret, Epoch, Generation, TenantId, Version};

/// One tenant as it is stored.
pub struct Stored {
    pub rows: TenantRows,
    pub anchor: AnchorSecret,
    pub log: Vec<(Generation, Vec<Fact>)>,
}

#[derive(Default)]
pub struct Store {
    pub epoch: Epoch,
    pub tenants: BTreeMap<TenantId, Stored>,
    pub audit: Vec<AuditEntry>,
    /// The next calls fail.
    pub down: bool,
}

impl Store {
    pub fn loaded(&self) -> (Loaded, BTreeMap<TenantId, AnchorSecret>) {
        let tenants = self.tenants.values().map(|stored| stored.rows.clone()).collect();
        let anchors = self.tenants.iter().map(|(id, stored)| (*id, stored.anchor.clone())).collect();
        (Loaded { epoch: self.epoch, tenants, presence: Vec::new() }, anchors)
    }

    pub fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        if self.down {
            return Err(CommitError::Unavailable("it is down".into()));
        }
        assert!(!commit.facts.is_empty(), "a commit without facts");
        self.hub_ports(commit)?;
        match &commit.new_anchor {
            Some(anchor) => self.found(commit, anchor)?,
            None => {
                let Some(stored) = self.tenants.get_mut(&commit.tenant) else {
                    return Err(CommitError::Conflict);
                };
                if stored.rows.version != commit.expect {
                    return Err(CommitError::Conflict);
                }
                if let Some(id) = commit.redeems {
                    let usable = |t: &&Token| t.id == id && t.uses < t.uses_max && t.revoked_at.is_none();
                    stored.rows.tokens.iter().find(usable).ok_or(CommitError::TokenUsed)?;
                }
            }
        }
        let stored = self.tenants.get_mut(&commit.tenant).expect("found or founded above");
        for fact in &commit.facts {
            upsert(&mut stored.rows, fact.clone());
        }
        stored.rows.version = commit.result();
        stored.rows.devices_count = commit.devices_count;
        stored.log.push((commit.result().generation, commit.facts.clone()));
        self.audit.push(commit.audit.clone());
        Ok(())
    }

    /// A port is one tenant's, and so many tenants have one and no more.
    fn hub_ports(&self, commit: &Commit) -> Result<(), CommitError> {
        let port = commit.facts.iter().find_map(|fact| match fact {
            Fact::Tenant(tenant) => tenant.hub_port,
            _ => None,
        });
        let Some(port) = port else { return Ok(()) };
        let own = |stored: &Stored| Some((stored.rows.tenant.id, stored.rows.tenant.hub_port?));
        let all: BTreeMap<_, _> = self.tenants.values().filter_map(own).collect();
        let is_one_more = !all.contains_key(&commit.tenant);
        let is_taken = all.iter().any(|(tenant, theirs)| *tenant != commit.tenant && *theirs == port);
        if is_taken || is_one_more && all.len() >= OWN_INTERFACES_MAX {
            return Err(CommitError::Conflict);
        }
        Ok(())
    }

    fn found(&mut self, commit: &Commit, anchor: &AnchorSecret) -> Result<(), CommitError> {
        assert_eq!(commit.expect, Version { epoch: self.epoch, generation: Generation(0) });
        let Some(Fact::Tenant(tenant)) = commit.facts.first() else {
            panic!("a tenant begins with its row");
        };
        let clash = |stored: &Stored| {
            let other = &stored.rows.tenant;
            other.deleted_at.is_none() && (other.name == tenant.name || other.block.overlaps(&tenant.block))
        };
        if self.tenants.values().any(clash) {
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
        self.tenants.insert(tenant.id, Stored { rows, anchor: anchor.clone(), log: Vec::new() });
        Ok(())
    }

    pub fn refresh(&self, tenant: TenantId, since: Since) -> (Result<Refresh, String>, Option<AnchorSecret>) {
        if self.down {
            return (Err("it is down".into()), None);
        }
        let Some(stored) = self.tenants.get(&tenant) else { return (Err("no such tenant".into()), None) };
        match since {
            Since::Nothing => {
                (Ok(Refresh::Whole(Box::new(stored.rows.clone()))), Some(stored.anchor.clone()))
            }
            Since::Generation(since) => {
                let missed = stored.log.iter().filter(|(generation, _)| *generation > since);
                let refresh = Refresh::Facts {
                    version: stored.rows.version,
                    devices_count: stored.rows.devices_count,
                    facts: missed.flat_map(|(_, facts)| facts.clone()).collect(),
                };
                (Ok(refresh), None)
            }
        }
    }

    pub fn standings(&self) -> Result<Standings, String> {
        if self.down {
            return Err("it is down".into());
        }
        let versions = self.tenants.iter().map(|(id, stored)| (*id, stored.rows.version)).collect();
        Ok(Standings { epoch: self.epoch, versions })
    }
}

/// As a database does it: by primary key.
pub fn upsert(rows: &mut TenantRows, fact: Fact) {
    fn put<T>(rows: &mut Vec<T>, row: T, same: impl Fn(&T, &T) -> bool) {
        match rows.iter_mut().find(|there| same(there, &row)) {
            Some(there) => *there = row,
            None => rows.push(row),
        }
    }
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
