//! The way of an edit: decided, committed, applied, published, answered. What it makes true, the directory says.

use model::{Code, Now, Refusal, TenantId, Version};

use super::Control;
use crate::directory::{Affected, Decision, Grounds, Ports, create_tenant};
use crate::edit::{Answer, Edit, HubInterface};
use crate::event::Event;
use crate::io::{Output, RequestId};
use crate::lanes::{Asker, Flight, Lane, Wish};
use crate::limits::ATTEMPTS_MAX;
use crate::rows::{Actor, AuditEntry, By, Commit, CommitError, CommitId, Fact, Hub, Tenant, TenantRows};
use crate::ssh::SshRows;

impl Control {
    pub(super) fn on_edit(
        &mut self,
        request: RequestId,
        tenant: Option<TenantId>,
        edit: Edit,
        by: By,
        now: Now,
    ) {
        let asker = Asker::Request(request);
        let wish = Wish { edit, by, asker, conflicts: 0 };
        let lane = match (&wish.edit, tenant) {
            (Edit::CreateTenant { .. }, None) => Lane::Founding,
            (Edit::CreateTenant { .. }, Some(_)) => {
                let refusal = Refusal::new(Code::BadRequest, "a tenant is not created within another");
                return self.refuse_wish(Lane::Founding, &wish, refusal, now);
            }
            (_, Some(tenant)) => Lane::Of(tenant),
            (_, None) => {
                let refusal = Refusal::new(Code::BadRequest, "no tenant is named");
                return self.refuse_wish(Lane::Founding, &wish, refusal, now);
            }
        };
        self.submit(lane, wish, now);
    }

    /// Puts a wish in line and moves the line.
    pub(super) fn submit(&mut self, lane: Lane, wish: Wish, now: Now) {
        if let Some(refusal) = self.not_now(lane) {
            return self.refuse_wish(lane, &wish, refusal, now);
        }
        if self.lanes.is_full(lane) {
            let refusal = Refusal::new(Code::RateLimited, "too many edits of the tenant wait");
            return self.refuse_wish(lane, &wish, refusal, now);
        }
        self.lanes.enqueue(lane, wish);
        self.pump(lane, now);
    }

    fn not_now(&self, lane: Lane) -> Option<Refusal> {
        if self.draining {
            return Some(Refusal::new(Code::Draining, "the server is about to restart"));
        }
        if !self.loaded {
            return Some(Refusal::new(Code::StoreUnavailable, "the database is not read yet"));
        }
        let tenant = lane.tenant()?;
        if !self.directories.contains(tenant) {
            return Some(Refusal::new(Code::TenantNotFound, format!("there is no tenant {tenant}")));
        }
        None
    }

    /// Decides edits of a line until one is under way or none waits.
    pub(super) fn pump(&mut self, lane: Lane, now: Now) {
        while let Some(wish) = self.lanes.next(lane) {
            match self.decide(lane, &wish, now) {
                Err(refusal) => self.refuse_wish(lane, &wish, refusal, now),
                Ok(decided) if decided.decision.facts.is_empty() => {
                    let audit = entry(lane.tenant(), &wish, None, "it was so already", now);
                    self.out.push(Output::Audit(audit));
                    self.grant(wish.asker, decided.decision.answer, now);
                }
                Ok(decided) => self.commit(lane, wish, decided, now),
            }
        }
    }

    fn decide(&mut self, lane: Lane, wish: &Wish, now: Now) -> Result<Decided, Refusal> {
        let hub = self.known_hub(now);
        if matches!(wish.edit, Edit::SetHub { .. }) && self.leads(now).is_err() {
            return Err(Refusal::new(Code::Conflict, "another replica is the hub's server"));
        }
        let ports = self.ports(&wish.edit, now)?;
        let mut grounds = Grounds { now: now.wall, actor: &wish.by.actor, dice: &mut self.dice, ports };
        match (lane, &wish.edit) {
            (Lane::Founding, Edit::CreateTenant { name, block, interface }) => {
                let suffix = &self.config.zone_suffix;
                let others = self.directories.tenants();
                let (tenant, decision, anchor) =
                    create_tenant(name, *block, *interface, suffix, hub, others, &mut grounds)?;
                let epoch = self.store.epoch;
                let expect = Version { epoch, ..Version::default() };
                let founded = Some((tenant.clone(), anchor));
                Ok(Decided { tenant: tenant.id, expect, devices_count: 0, decision, founded })
            }
            (Lane::Founding, _) => Err(Refusal::new(Code::BadRequest, "no tenant is named")),
            (Lane::Of(tenant), edit) => {
                let Some(directory) = self.directories.whole(tenant) else {
                    return Err(self.directories.why_withheld(tenant));
                };
                let decision = directory.decide(edit, &mut grounds)?;
                let devices_count = directory.count_after(&decision.facts);
                let expect = directory.version();
                Ok(Decided { tenant, expect, devices_count, decision, founded: None })
            }
        }
    }

    /// The ports that are taken, for an edit that asks for one.
    fn ports(&self, edit: &Edit, now: Now) -> Result<Ports, Refusal> {
        let (Edit::SetInterface(interface) | Edit::CreateTenant { interface, .. }) = edit else {
            return Ok(Ports::default());
        };
        if *interface == HubInterface::Shared {
            return Ok(Ports::default());
        }
        if self.hub.as_ref().is_some_and(|hub| !hub.own_interfaces) {
            return Err(Refusal::new(Code::HubTooOld, "the hub knows no interface but its own"));
        }
        let here = self.hub.as_ref().map(|hub| hub.listen_port);
        let as_told = self.known_hub(now).into_iter().map(|hub| hub.endpoint.port);
        let stun = self.config.stun.iter().map(|endpoint| endpoint.port);
        Ok(Ports::new(here, as_told.chain(stun).collect(), self.directories.tenants()))
    }

    /// The hub for a new tenant: the one that is attached here, or the one that other tenants know.
    fn known_hub(&self, now: Now) -> Option<Hub> {
        let hub = self.hub.as_ref().filter(|_| self.leads(now).is_ok());
        let attached = hub.map(|hub| (hub.key, self.hub_endpoint(hub.listen_port)));
        let known = || self.directories.all().find_map(|d| d.hub().map(|h| (h.key, h.endpoint.clone())));
        let (key, endpoint) = attached.or_else(known)?;
        Some(Hub { key, serial: 1, endpoint, next: None, retiring: None })
    }

    fn commit(&mut self, lane: Lane, wish: Wish, decided: Decided, now: Now) {
        let Decided { tenant, expect, devices_count, decision, founded } = decided;
        let audit = entry(Some(tenant), &wish, None, "", now);
        let is_hubs = matches!(wish.edit, Edit::SetHub { .. });
        let term = self.leads(now).ok().flatten().filter(|_| is_hubs);
        let mut commit = Commit {
            id: CommitId(0),
            tenant,
            expect,
            facts: decision.facts.clone(),
            term,
            redeems: decision.redeems,
            devices_count,
            audit,
            new_anchor: founded.as_ref().map(|(_, anchor)| anchor.clone()),
            new_keys: decision.new_keys,
        };
        let result = commit.result();
        let (facts, answer) = (decision.facts, decision.answer);
        let flight = Flight { lane, wish, tenant, result, devices_count, facts, answer, founded };
        commit.id = self.lanes.take_off(flight);
        self.out.push(Output::Commit(Box::new(commit)));
    }

    pub(super) fn on_committed(&mut self, id: CommitId, result: Result<(), CommitError>, now: Now) {
        let Some(flight) = self.lanes.land(id) else { return };
        let lane = flight.lane;
        match result {
            Ok(()) => self.committed(flight, now),
            Err(CommitError::Conflict) => self.lost(flight, now),
            Err(CommitError::TokenUsed) => {
                let refusal = Refusal::new(Code::TokenUsed, "another device was faster");
                self.refuse_wish(lane, &flight.wish, refusal, now);
                self.refresh(flight.tenant);
            }
            Err(CommitError::Unavailable(reason)) => {
                let what = format!("the edit was not taken: {}", what_of(&reason));
                self.store_failed(Some(flight.tenant), reason, now);
                let refusal = Refusal::new(Code::StoreUnavailable, what);
                self.refuse_wish(lane, &flight.wish, refusal, now);
            }
        }
        self.pump(lane, now);
    }

    fn committed(&mut self, flight: Flight, now: Now) {
        let Flight { wish, tenant, result, devices_count, facts, answer, founded, .. } = flight;
        self.out.counters.edits_done += 1;
        self.out.event(Event::EditDone { tenant, action: wish.edit.action(), version: result });
        match founded {
            Some((row, anchor)) => {
                self.take_rows(new_rows(row, facts, result), Some(anchor), now);
            }
            None => self.apply(tenant, result, devices_count, facts, now),
        }
        if matches!(wish.edit, Edit::Renew) {
            self.publish_to_all(tenant, now);
        }
        self.grant(wish.asker, answer, now);
    }

    /// Takes facts that are in the store, and tells whom they affect.
    pub(super) fn apply(
        &mut self,
        tenant: TenantId,
        version: Version,
        devices_count: u32,
        facts: Vec<Fact>,
        now: Now,
    ) {
        let Some(directory) = self.directories.whole_mut(tenant) else { return };
        match directory.apply(version, devices_count, facts) {
            Ok(touched) => {
                self.out.counters.entries_touched += touched.len() as u64;
                let links = self.publisher.publish(directory, &Affected::from(&touched));
                for link in links {
                    self.admit(link, now);
                    self.flush(link, now);
                }
                self.point_hub(tenant, now);
            }
            Err(reason) => {
                self.directories.withhold(tenant);
                self.withheld_because(tenant, reason, now);
            }
        }
    }

    pub(super) fn publish_to_all(&mut self, tenant: TenantId, now: Now) {
        for link in self.publisher.publish_to_all(tenant) {
            self.admit(link, now);
            self.flush(link, now);
        }
    }

    /// Somebody else was faster: the wish is decided again on what they wrote.
    fn lost(&mut self, flight: Flight, now: Now) {
        let Flight { lane, mut wish, .. } = flight;
        wish.conflicts += 1;
        self.out.counters.conflicts += 1;
        self.out.event(Event::CommitConflict { tenant: lane.tenant(), attempts: wish.conflicts });
        // What was in the way may be another tenant's: a port of the hub, or their number.
        let excludes_others = matches!(wish.edit, Edit::SetInterface(HubInterface::Own(_)));
        if wish.conflicts >= ATTEMPTS_MAX {
            let refusal = Refusal::new(Code::Conflict, "others changed the directory again and again");
            self.refuse_wish(lane, &wish, refusal, now);
        } else {
            self.lanes.put_back(lane, wish);
        }
        match lane {
            Lane::Of(tenant) if !excludes_others => self.refresh(tenant),
            Lane::Of(_) | Lane::Founding => self.await_others(lane),
        }
    }

    fn grant(&mut self, asker: Asker, answer: Answer, now: Now) {
        match (asker, answer) {
            (Asker::Request(request), answer) => {
                self.out.push(Output::Answer { request, result: Ok(answer) });
            }
            (Asker::Link(link), Answer::Enrolled { device, standing }) => {
                self.enrolled(link, device, standing, now);
            }
            (Asker::Key(link), Answer::Device(device)) => self.keyed(link, device.wireguard),
            (Asker::Link(_) | Asker::Key(_) | Asker::Nobody, _) => {}
        }
    }

    pub(super) fn refuse_wish(&mut self, lane: Lane, wish: &Wish, refusal: Refusal, now: Now) {
        let action = wish.edit.action();
        self.out.counters.edits_refused += 1;
        self.out.event(Event::EditRefused { tenant: lane.tenant(), action, code: refusal.code });
        let audit = refused(lane.tenant(), &wish.by, action, wish.edit.target(), &refusal, now);
        self.out.push(Output::Audit(audit));
        match wish.asker {
            Asker::Request(request) => self.out.push(Output::Answer { request, result: Err(refusal) }),
            Asker::Link(link) => self.refuse_link(link, refusal),
            // It keeps both keys, and offers the other again.
            Asker::Key(_) => {}
            Asker::Nobody => {
                self.store.owes |= matches!(wish.edit, Edit::SetHub { .. } | Edit::FoundAuthorities);
            }
        }
    }

    /// Edits that are not under way are refused: the server is about to end.
    pub(super) fn refuse_waiting(&mut self, now: Now) {
        for (lane, wish) in self.lanes.take_waiting() {
            let refusal = Refusal::new(Code::Draining, "the server is about to restart");
            self.refuse_wish(lane, &wish, refusal, now);
        }
    }

    /// A node holds the current version with other contents: another program made it. Everybody gets a new generation,
    /// once for each tenant and process, so that a node that lies costs no more.
    pub(super) fn renew_forked(&mut self, now: Now) {
        for tenant in self.publisher.take_forked() {
            if self.store.renewed.insert(tenant) {
                let edit = Edit::Renew;
                let wish = Wish { edit, by: Actor::Server.into(), asker: Asker::Nobody, conflicts: 0 };
                self.submit(Lane::Of(tenant), wish, now);
            }
        }
    }
}

struct Decided {
    tenant: TenantId,
    expect: Version,
    devices_count: u32,
    decision: Decision,
    founded: Option<(Tenant, model::AnchorSecret)>,
}

/// What is wrong with the database, without what its driver says: that is for the log.
fn what_of(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(what, _)| what)
}

/// The rows of a tenant that was just made: it has no device, token or record.
fn new_rows(tenant: Tenant, facts: Vec<Fact>, version: Version) -> TenantRows {
    let mut rows = TenantRows {
        tenant,
        version,
        devices_count: 0,
        sealed_anchor: Vec::new(),
        devices: Vec::new(),
        tokens: Vec::new(),
        records: Vec::new(),
        hub: None,
        ssh: SshRows::default(),
    };
    for fact in facts {
        match fact {
            Fact::Hub(hub) => rows.hub = Some(hub),
            Fact::Ssh(fact) => rows.ssh.take(fact),
            Fact::Tenant(_)
            | Fact::Device(_)
            | Fact::Token(_)
            | Fact::Record(_)
            | Fact::RecordGone { .. } => {}
        }
    }
    rows
}

fn entry(tenant: Option<TenantId>, wish: &Wish, refused: Option<Code>, detail: &str, now: Now) -> AuditEntry {
    AuditEntry {
        at: now.wall,
        tenant,
        actor: wish.by.actor.clone(),
        action: wish.edit.action().into(),
        target: wish.edit.target(),
        refused,
        detail: detail.into(),
        trace: wish.by.trace.clone(),
    }
}

/// The audit line of a refusal.
pub(super) fn refused(
    tenant: Option<TenantId>,
    by: &By,
    action: &str,
    target: String,
    refusal: &Refusal,
    now: Now,
) -> AuditEntry {
    AuditEntry {
        at: now.wall,
        tenant,
        actor: by.actor.clone(),
        action: action.into(),
        target,
        refused: Some(refusal.code),
        detail: refusal.detail.clone(),
        trace: by.trace.clone(),
    }
}
