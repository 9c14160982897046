//! What a node may do to its host and may hold, by what the store has said so far.

use std::collections::BTreeMap;

use engine::status::TenantStatus;
use engine::{Change, Observed, Seat, Status};
use ipnet::IpNet;
use model::{MeshAddresses, Mono, PublicKey, Standing, TenantId, Version, Zone};

use super::Judge;
use crate::host::Host;
use crate::store::Store;

/// A node that is about to change its host.
pub struct Applying<'a> {
    /// For people.
    pub who: &'a str,
    /// Whether it is the hub.
    pub is_hub: bool,
    /// What it accepted.
    pub accepted: &'a BTreeMap<TenantId, (Version, Standing)>,
    /// The addresses that the store has for a device.
    pub own: Option<MeshAddresses>,
    /// It is a device, and has lost what it held.
    pub remembers_nothing: bool,
}

/// A node that is about to take something down.
pub struct Removing<'a> {
    /// For people.
    pub who: &'a str,
    /// Whether it is the hub.
    pub is_hub: bool,
    /// What it says of itself.
    pub status: &'a Status,
    /// Of which interface.
    pub seat: Seat,
    /// What that is like.
    pub host: &'a Observed,
}

impl Judge {
    /// A node accepted a snapshot; `before` is what it held of the tenant.
    pub fn accepted(
        &mut self,
        at: Mono,
        who: &str,
        tenant: TenantId,
        before: Option<Version>,
        version: Version,
    ) {
        let grows = before.is_none_or(|before| before < version);
        let detail = || format!("{who} went from {before:?} to {version} of {tenant}");
        self.expect(grows, at, "generations-only-grow", detail);
        let known = self.anchors.contains_key(&tenant);
        self.expect(known, at, "only-own-data", || {
            format!("{who} accepted {tenant}, which the store never had")
        });
    }

    /// A node is about to make or change something.
    pub fn apply(&mut self, at: Mono, node: &Applying<'_>, change: &Change, store: &Store) {
        match change {
            Change::CreateInterface
            | Change::AddAddress(_)
            | Change::AddRoute(_)
            | Change::SetPeer(_)
            | Change::SetResolver(_)
                if !node.is_hub =>
            {
                self.device_applies(at, node, change, store);
            }
            Change::SetPeer(peer) => self.hub_sets_peer(at, node, &peer.key, peer.allowed.iter(), store),
            Change::SetFirewall(_) | Change::SetForwarding(_) => {
                let detail = || format!("{}: {change}", node.who);
                self.expect(node.is_hub, at, "only-hubs-forward", detail);
            }
            _ => {}
        }
    }

    fn device_applies(&mut self, at: Mono, node: &Applying<'_>, change: &Change, store: &Store) {
        let who = node.who;
        let active = node.accepted.iter().find(|(_, (_, standing))| *standing == Standing::Active);
        let Some((tenant, (held, _))) = active else {
            let detail = format!("{who} is not active: {change}");
            return self.accuse(at, "pending-and-revoked-have-nothing", detail);
        };
        let Some(stored) = store.tenant(*tenant) else { return };
        let block = stored.rows.tenant.block.nets();
        let inside = |net: &IpNet| block.iter().any(|block| block.contains(net));
        let good = match change {
            Change::AddAddress(net) => node.own.is_none_or(|own| own.host_nets().contains(net)),
            Change::AddRoute(net) => block.contains(net),
            Change::SetPeer(peer) => peer.allowed.iter().all(inside),
            _ => true,
        };
        self.expect(good, at, "only-own-data", || format!("{who}: {change}"));
        if let Change::SetPeer(peer) = change {
            let is_hub = self.hub_keys.get(tenant).is_some_and(|keys| keys.contains(&peer.key));
            let since = self.active.get(&(*tenant, peer.key));
            let is_device = since.is_some_and(|version| version <= held);
            self.expect(is_hub || is_device, at, "peers-are-the-hub-and-active-devices", || {
                format!("{who}: {change}")
            });
            let is_one = peer.allowed.iter().all(|net| net.prefix_len() == net.max_prefix_len());
            self.expect(is_hub || is_one, at, "only-own-data", || format!("{who}: {change}"));
        }
    }

    fn hub_sets_peer<'n>(
        &mut self,
        at: Mono,
        node: &Applying<'_>,
        key: &PublicKey,
        mut allowed: impl Iterator<Item = &'n IpNet>,
        store: &Store,
    ) {
        let since = |tenant: &TenantId| self.active.get(&(*tenant, *key));
        let knows = |(tenant, (held, _)): &(&TenantId, &(Version, Standing))| {
            since(tenant).is_some_and(|version| version <= held)
        };
        let Some((tenant, _)) = node.accepted.iter().find(knows) else {
            let detail = format!("the hub sets peer {key}, no active device of what it holds");
            return self.accuse(at, "peers-are-active-devices", detail);
        };
        let Some(stored) = store.tenant(*tenant) else { return };
        let block = stored.rows.tenant.block.nets();
        let inside = allowed.all(|net| block.iter().any(|block| block.contains(net)));
        self.expect(inside, at, "only-own-data", || format!("the hub sets peer {key} outside its block"));
    }

    /// A node is about to take something down: only a signed snapshot, a person's wish or a stranger justifies that.
    pub fn remove(&mut self, at: Mono, node: &Removing<'_>, change: &Change) {
        let Removing { who, is_hub, status, seat, host } = node;
        let remembers_nothing =
            status.up && status.tenants.is_empty() && (*is_hub || status.device.is_some());
        if remembers_nothing && !is_harmless(change, host) {
            let detail = format!("{who}: {change}, though it holds no snapshot");
            return self.accuse(at, "only-snapshots-remove", detail);
        }
        let here = |tenant: &&TenantStatus| tenant.standing == Standing::Active && tenant.seat == *seat;
        let active = || status.tenants.iter().filter(here);
        let unjust = match change {
            Change::RemovePeer(key) => status.up && active().any(|t| t.peers.iter().any(|p| p.key == *key)),
            Change::RemoveInterface | Change::ClearResolver => status.up && active().next().is_some(),
            _ => false,
        };
        self.expect(!unjust, at, "only-snapshots-remove", || format!("{who}: {change}, though it holds it"));
    }

    /// A host is about to do a change: no hub's interface comes up without our table, but for one that a human took
    /// since the node looked last.
    pub fn brings_up(
        &mut self,
        at: Mono,
        who: &str,
        is_hub: bool,
        (host, seat): (&Host, Seat),
        change: &Change,
    ) {
        let open = is_hub && matches!(change, Change::SetUp) && host.at(seat).firewall.is_none();
        self.expect(!open || host.flushed_unseen.contains(&seat), at, "hubs-are-guarded", || {
            format!("{who}: {change}")
        });
    }

    /// A node is settled: what is revoked by what it holds is gone from its host and its names.
    pub fn settled(
        &mut self,
        at: Mono,
        node: &Applying<'_>,
        host: &Observed,
        zones: &BTreeMap<TenantId, Zone>,
    ) {
        let who = node.who;
        let active = node.accepted.values().any(|(_, standing)| *standing == Standing::Active);
        if !node.is_hub {
            // A device that cannot read its snapshot leaves its host alone, and serves nothing.
            let is_bare = host.interface.is_none() && host.resolver.is_none();
            let clean = active || zones.is_empty() && (is_bare || node.remembers_nothing);
            let detail = || format!("{who} is settled and not active, and has an interface or names");
            self.expect(clean, at, "pending-and-revoked-have-nothing", detail);
            if !active {
                return;
            }
        }
        let Some(interface) = &host.interface else { return };
        let mut found = None;
        for ((tenant, key), retired) in &self.retired {
            let held = node.accepted.get(tenant).map(|(version, _)| *version);
            if held.is_none_or(|held| held < retired.version) || self.lives_elsewhere(tenant, key) {
                continue;
            }
            if interface.peers.contains_key(key) {
                found = Some(format!("{who}: peer {key} of {} is still there", retired.name));
            }
            let zone = zones.get(tenant);
            let name = zone.and_then(|zone| zone.origin.child(&retired.name).ok());
            let records = zone.zip(name).and_then(|(zone, name)| zone.names.get(&name));
            let points = |addresses: MeshAddresses| {
                records.is_some_and(|set| {
                    set.records.iter().any(|r| r.data == model::RecordData::A(addresses.v4))
                })
            };
            if retired.addresses.is_some_and(points) {
                found = Some(format!("{who}: name {} is still there", retired.name));
            }
        }
        if let Some(detail) = found {
            self.accuse(at, "revoked-devices-are-gone", detail);
        }
    }

    /// A key that one tenant retired and another has.
    fn lives_elsewhere(&self, tenant: &TenantId, key: &PublicKey) -> bool {
        let others = self.active.keys().filter(|(other, k)| other != tenant && k == key);
        others.into_iter().any(|place| !self.retired.contains_key(place))
    }
}

/// A peer that may send nothing is nobody's network.
fn is_harmless(change: &Change, host: &Observed) -> bool {
    let Change::RemovePeer(key) = change else { return false };
    let peer = host.interface.as_ref().and_then(|interface| interface.peers.get(key));
    peer.is_none_or(|peer| peer.allowed.is_empty())
}
