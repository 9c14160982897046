//! The one door for snapshots: what a stamp and its contents must be before a node acts on them.
//!
//! Knows nothing of links and hosts. On a refusal nothing changes: a patch is applied in place, so that it costs
//! what it touches, and is undone.

use std::collections::BTreeSet;

use model::patch::ZonePatch;
use model::snapshot::Stamp;
use model::{Held, Patch, Peer, PublicKey, Signed, Snapshot, Standing, TenantId, Trusted};

use super::contents::{Contents, Scope};
use super::kept::Kept;
use super::{Ledger, Pin, Rejection, Rules};

/// What a server offers.
#[derive(Debug, Clone)]
pub enum Offer {
    /// A whole snapshot, in CBOR.
    Whole {
        /// Whose directory it is said to be of.
        tenant: TenantId,
        /// Version, digest and signature.
        stamp: Signed<Stamp>,
        /// The contents.
        bytes: Vec<u8>,
    },
    /// A patch of what is held.
    Patch {
        /// Whose directory it is said to be of.
        tenant: TenantId,
        /// Version, digest of the result, and signature.
        stamp: Signed<Stamp>,
        /// What it is a patch of.
        from: Held,
        /// What changed.
        patch: Patch,
    },
}

/// A snapshot that passed every check and is held now. Only [`Ledger::accept`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Whose directory.
    tenant: TenantId,
    /// Which snapshot.
    held: Held,
    /// What is different.
    delta: Delta,
}

/// What an accepted snapshot changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Nothing: it was held already.
    Nothing,
    /// Anything.
    Whole,
    /// What the patch named.
    Patch {
        /// The node's own part or the head of the zone.
        own: bool,
        /// Peers that are new, different or gone.
        peers: BTreeSet<PublicKey>,
        /// Names.
        zone: ZonePatch,
        /// What is trusted of SSH.
        ssh: bool,
    },
}

/// How a stamp that may be trusted compares with what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is held: success without work.
    Held,
    /// It is newer.
    Newer,
}

impl Offer {
    /// Whose directory it is said to be of.
    pub const fn tenant(&self) -> TenantId {
        match self {
            Self::Whole { tenant, .. } | Self::Patch { tenant, .. } => *tenant,
        }
    }
}

impl Accepted {
    /// Whose directory.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which snapshot.
    pub const fn held(&self) -> Held {
        self.held
    }

    /// Whether it was not held before.
    pub fn is_news(&self) -> bool {
        self.delta != Delta::Nothing
    }

    /// What is different.
    pub fn into_delta(self) -> Delta {
        self.delta
    }
}

impl Ledger {
    /// Checks an offer and holds it.
    ///
    /// # Errors
    /// Says which rule it breaks; nothing changed.
    pub fn accept(&mut self, offer: Offer, rules: &Rules<'_>) -> Result<Accepted, Rejection> {
        let tenant = offer.tenant();
        let (Offer::Whole { stamp: signed, .. } | Offer::Patch { stamp: signed, .. }) = &offer;
        let (stamp, freshness) = self.check_stamp(tenant, signed, rules)?;
        let held = stamp.held();
        let delta = match (freshness, offer) {
            (Freshness::Held, _) => Delta::Nothing,
            (Freshness::Newer, Offer::Whole { stamp: signed, bytes, .. }) => {
                self.accept_whole(&stamp, signed, bytes, rules)?
            }
            (Freshness::Newer, Offer::Patch { stamp: signed, from, patch, .. }) => {
                self.accept_patch(&stamp, signed, from, patch, rules)?
            }
        };
        Ok(Accepted { tenant, held, delta })
    }

    /// Checks a stamp before its contents are there: signature, tenant, node, and that it is not older than what is
    /// held.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check_stamp(
        &self,
        tenant: TenantId,
        signed: &Signed<Stamp>,
        rules: &Rules<'_>,
    ) -> Result<(Trusted<Stamp>, Freshness), Rejection> {
        let is_device = self.enrolment.is_some();
        if is_device && self.pins.keys().any(|own| *own != tenant) {
            return Err(Rejection::ForeignTenant(tenant));
        }
        let anchor = self.anchor(tenant).ok_or(Rejection::TenantUnknown(tenant))?;
        let stamp = signed.verify(&anchor).map_err(Rejection::Untrusted)?;
        if stamp.tenant != tenant {
            return Err(Rejection::ForeignTenant(stamp.tenant));
        }
        if stamp.node != rules.node {
            return Err(Rejection::ForeignNode(stamp.node));
        }
        let freshness = match self.held(tenant) {
            Some(held) if stamp.version < held.version => {
                return Err(Rejection::Stale { held: held.version, offered: stamp.version });
            }
            Some(held) if stamp.held() == held => Freshness::Held,
            Some(held) if stamp.version == held.version => return Err(Rejection::Forked(held.version)),
            Some(_) | None => Freshness::Newer,
        };
        Ok((stamp, freshness))
    }

    fn accept_whole(
        &mut self,
        stamp: &Trusted<Stamp>,
        signed: Signed<Stamp>,
        bytes: Vec<u8>,
        rules: &Rules<'_>,
    ) -> Result<Delta, Rejection> {
        let mut snapshot: Snapshot =
            minicbor::decode(&bytes).map_err(|e| Rejection::Unreadable(e.to_string()))?;
        check_digest(&mut snapshot, stamp)?;
        let contents = self.contents(stamp, rules)?;
        let hub_serial = contents.check(&snapshot, &Scope::All)?;
        if let Some(before) = self.snapshot(stamp.tenant) {
            check_removals(stamp, &snapshot, before.peers.len(), gone_between(before, &snapshot))?;
        }
        let kept = Some(Kept::new(signed, stamp.held(), snapshot, bytes));
        self.pins.insert(
            stamp.tenant,
            Pin { anchor: contents.anchor, hub_serial, kept, ruled_out: false, unlisted: false },
        );
        Ok(Delta::Whole)
    }

    fn accept_patch(
        &mut self,
        stamp: &Trusted<Stamp>,
        signed: Signed<Stamp>,
        from: Held,
        patch: Patch,
        rules: &Rules<'_>,
    ) -> Result<Delta, Rejection> {
        let contents = self.contents(stamp, rules)?;
        let base = Rejection::Base(from.version);
        let pin = self.pins.get_mut(&stamp.tenant).ok_or(base.clone())?;
        let kept = pin.kept.as_mut().filter(|kept| kept.held == from).ok_or(base)?;

        let bytes = minicbor::to_vec(&patch).expect("writing to memory cannot fail");
        let undo = patch.inverse(&kept.snapshot);
        let (before, touched, delta) = (kept.snapshot.peers.len(), Scope::of(&patch), delta_of(&patch));
        patch.apply(&mut kept.snapshot);

        let checked = check_digest(&mut kept.snapshot, stamp)
            .and_then(|()| contents.check(&kept.snapshot, &touched))
            .and_then(|serial| {
                let gone = gone_by(&undo, &kept.snapshot, &delta);
                check_removals(stamp, &kept.snapshot, before, gone).map(|()| serial)
            });
        match checked {
            Ok(serial) => {
                pin.hub_serial = serial;
                kept.patched(signed, stamp.held(), bytes);
                Ok(delta)
            }
            Err(rejection) => {
                undo.apply(&mut kept.snapshot);
                Err(rejection)
            }
        }
    }

    /// What the contents of a snapshot with this stamp are checked against.
    pub(super) fn contents<'a>(
        &self,
        stamp: &'a Stamp,
        rules: &'a Rules<'a>,
    ) -> Result<Contents<'a>, Rejection> {
        let anchor = self.anchor(stamp.tenant).ok_or(Rejection::TenantUnknown(stamp.tenant))?;
        let hub_serial = self.pins.get(&stamp.tenant).map_or(0, |pin| pin.hub_serial);
        let others = self.holdings().filter(|(tenant, ..)| *tenant != stamp.tenant);
        let others = others.map(|(tenant, _, snapshot)| (tenant, snapshot.own.block)).collect();
        Ok(Contents { tenant: stamp.tenant, anchor, hub_serial, rules, others })
    }
}

fn check_digest(snapshot: &mut Snapshot, stamp: &Stamp) -> Result<(), Rejection> {
    let digest = snapshot.digest();
    if digest == stamp.digest { Ok(()) } else { Err(Rejection::Digest(digest)) }
}

fn delta_of(patch: &Patch) -> Delta {
    let set = patch.peers_set.iter().map(|(key, _)| *key);
    Delta::Patch {
        own: patch.own.is_some() || patch.zone.head.is_some(),
        peers: set.chain(patch.peers_gone.iter().copied()).collect(),
        zone: patch.zone.clone(),
        ssh: patch.ssh.is_some(),
    }
}

/// An empty snapshot by mistake must never take a network down. A revocation is no mistake: it says what it is.
fn check_removals(stamp: &Stamp, after: &Snapshot, of: usize, gone: usize) -> Result<(), Rejection> {
    let explicit = stamp.confirms_removals || after.own.standing == Standing::Revoked;
    if gone * 2 > of && !explicit { Err(Rejection::MassRemoval { gone, of }) } else { Ok(()) }
}

/// How many nodes were peers before and are none after; one with another key is still one.
fn gone_between(before: &Snapshot, after: &Snapshot) -> usize {
    let still: BTreeSet<_> = after.peers.values().map(|peer| peer.node).collect();
    before.peers.values().filter(|peer| !still.contains(&peer.node)).count()
}

/// As [`gone_between`], from what undoes a patch and what the patch touched.
fn gone_by(undo: &Patch, after: &Snapshot, delta: &Delta) -> usize {
    let Delta::Patch { peers, .. } = delta else { return 0 };
    let still: BTreeSet<_> = peers.iter().filter_map(|key| after.peers.get(key)).map(|p| p.node).collect();
    undo.peers_set.iter().filter(|(_, peer): &&(PublicKey, Peer)| !still.contains(&peer.node)).count()
}
