//! What is revoked of SSH certificates: by whom, until when, and what is good again. Knows no certificate.

use std::collections::{BTreeMap, BTreeSet};

use ca::{OfAuthority, RevocationList};
use model::{CaKind, CertificateId, Code, Refusal, Revoked, Timestamp};

use super::{Decision, Directory, Grounds, refuse};
use crate::edit::Answer;
use crate::limits::{REVOCATIONS_MAX, REVOKED_IDS_MAX, SERIALS_OF_ONE_MAX};
use crate::rows::{Actor, Fact};
use crate::ssh::{Revocation, SshFact, Withdrawn};

impl Directory {
    /// What is revoked, in a fixed order.
    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.authorities.revocations.values()
    }

    /// What hosts refuse of a person or a host altogether.
    pub fn revocation_of(&self, kind: CaKind, id: &CertificateId) -> Option<&Revocation> {
        self.authorities.revocations.get(&(kind, Revoked::Id(id.clone())))
    }

    /// What is revoked of one authority, as hosts read it.
    pub fn revocation_list(&self, kind: CaKind) -> RevocationList {
        let of = OfAuthority::of(self.revocations().filter(|row| row.kind == kind).map(|row| &row.what));
        // Whichever of its keys signed: serials are unique among all, and ids are meant of all.
        let keys = self.trusted_keys(kind).map(|key| (key.public.wire(), of.clone()));
        let version = RevocationList::version_of(self.version);
        RevocationList { version, authorities: keys.collect(), keys: BTreeSet::new() }
    }

    /// Whether [`crate::Edit::PruneRevocations`] has something to do.
    pub fn has_prunable(&self, now: Timestamp) -> bool {
        self.revocations().any(|row| row.listed_until() < now)
    }

    pub(super) fn revoke_certificates(
        &self,
        kind: CaKind,
        what: &BTreeSet<Revoked>,
        until: Timestamp,
        grounds: &Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        let fresh: Vec<&Revoked> = what.iter().filter(|what| !self.stays(kind, what, until)).collect();
        let is_id = |what: &Revoked| matches!(what, Revoked::Id(_));
        let (ids, serials): (Vec<&Revoked>, Vec<&Revoked>) = fresh.iter().partition(|what| is_id(what));
        let listed = self.revocations().filter(|row| is_id(&row.what)).count();
        if !serials.is_empty() && self.serials_listed() + serials.len() > REVOCATIONS_MAX {
            let detail = format!("{REVOCATIONS_MAX} certificates are revoked: revoke by id:u:NAME@TENANT");
            return refuse(Code::QuotaReached, detail);
        }
        if !ids.is_empty() && listed + ids.len() > REVOKED_IDS_MAX {
            return refuse(Code::QuotaReached, format!("{REVOKED_IDS_MAX} people and hosts are revoked"));
        }
        // What went with a device or a person stays the server's, however long an administrator wants it listed.
        let (servers, others): (Vec<&Revoked>, Vec<&Revoked>) =
            fresh.into_iter().partition(|what| self.is_servers(kind, what));
        let rows = |what: Vec<&Revoked>, by: &Actor| {
            what.into_iter().map(|what| row(kind, what.clone(), until, grounds.now, by)).collect::<Vec<_>>()
        };
        let rows = [rows(servers, &Actor::Server), rows(others, grounds.actor)].concat();
        Ok(revoked(rows.into_iter()))
    }

    /// What follows from a device or a person that is gone: in few lines where they are many, and never refused.
    pub(super) fn withdraw_certificates(
        &self,
        kind: CaKind,
        of: &BTreeMap<CertificateId, Withdrawn>,
        until: Timestamp,
        now: Timestamp,
    ) -> Decision {
        let serials: usize = of.values().map(|withdrawn| withdrawn.serials.len()).sum();
        // Nobody is let in for want of room: a person who is there waits until the list is shorter.
        let is_full = self.serials_listed() + serials > REVOCATIONS_MAX;
        let what = of.iter().flat_map(|(id, Withdrawn { serials, holder_gone })| {
            if is_full || (*holder_gone && serials.len() > SERIALS_OF_ONE_MAX) {
                vec![Revoked::Id(id.clone())]
            } else {
                serials.iter().copied().map(Revoked::Serial).collect()
            }
        });
        let fresh = what.filter(|what| !self.stays(kind, what, until) || !self.is_servers(kind, what));
        revoked(fresh.map(|what| {
            let known = self.authorities.revocations.get(&(kind, what.clone()));
            let until = known.map_or(until, |known| known.until.max(until));
            row(kind, what, until, now, &Actor::Server)
        }))
    }

    fn serials_listed(&self) -> usize {
        self.revocations().filter(|row| matches!(row.what, Revoked::Serial(_))).count()
    }

    /// Whether it went with a device or a person.
    fn is_servers(&self, kind: CaKind, what: &Revoked) -> bool {
        let known = self.authorities.revocations.get(&(kind, what.clone()));
        known.is_some_and(|known| known.by == Some(Actor::Server))
    }

    /// Whether it is revoked for as long already.
    fn stays(&self, kind: CaKind, what: &Revoked, until: Timestamp) -> bool {
        let known = self.authorities.revocations.get(&(kind, what.clone()));
        known.is_some_and(|known| known.until >= until)
    }

    /// `there` are people whom the server revoked by id and who are there again, or still.
    pub(super) fn give_back_certificates(
        &self,
        what: &BTreeSet<Revoked>,
        there: &BTreeSet<CertificateId>,
    ) -> Result<Decision, Refusal> {
        let mut facts = Vec::new();
        for what in what {
            let rows: Vec<_> = self.revocations().filter(|row| row.what == *what).collect();
            if rows.is_empty() {
                return refuse(Code::RevocationNotFound, format!("{what} is not revoked"));
            }
            let is_there = matches!(what, Revoked::Id(id) if there.contains(id));
            if !is_there && rows.iter().any(|row| row.by == Some(Actor::Server)) {
                let detail = format!("{what} went with a device or a person: it stays revoked");
                return refuse(Code::RevocationKept, detail);
            }
            let gone = rows.iter().map(|row| (row.kind, row.what.clone()));
            facts.extend(gone.map(|(kind, what)| Fact::Ssh(SshFact::RevocationGone { kind, what })));
        }
        let count = facts.len();
        Ok(Decision::new(facts, Answer::CertificatesGivenBack(count)))
    }

    pub(super) fn prune_revocations(&self, now: Timestamp) -> Decision {
        let over = self.revocations().filter(|row| row.listed_until() < now);
        let gone = over.map(|row| SshFact::RevocationGone { kind: row.kind, what: row.what.clone() });
        let facts: Vec<Fact> = gone.map(Fact::Ssh).collect();
        let count = facts.len();
        Decision::new(facts, Answer::RevocationsPruned(count))
    }
}

fn row(kind: CaKind, what: Revoked, until: Timestamp, now: Timestamp, by: &Actor) -> Revocation {
    Revocation { kind, what, revoked_at: now, until, by: Some(by.clone()) }
}

fn revoked(rows: impl Iterator<Item = Revocation>) -> Decision {
    let facts: Vec<Fact> = rows.map(|row| Fact::Ssh(SshFact::Revocation(row))).collect();
    let count = facts.len();
    Decision::new(facts, Answer::CertificatesRevoked(count))
}
