//! All tenants' snapshots as one wish for one host, kept edit by edit. Knows neither the host nor the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use model::limits::MTU_DEFAULT;
use model::{Endpoint, MeshAddresses, Name, NodeId, Peer, PublicKey, Snapshot, Standing, TenantId};

use crate::change::{Firewall, PeerSetting, ResolverSetting};
use crate::config::{NodeConfig, Role};
use crate::desired::{Desired, DesiredInterface};
use crate::endpoints::Endpoints;
use crate::event::Event;
use crate::ledger::Ledger;

#[derive(Debug)]
pub(crate) struct Merge {
    own: PublicKey,
    is_hub: bool,
    /// `None`: any.
    listen_port: Option<u16>,
    /// Searched besides the zone.
    search: Vec<Name>,
    /// What each tenant gives to the interface besides peers, while the node is active in it.
    shares: BTreeMap<TenantId, Share>,
    /// Whose peer a key is.
    owners: BTreeMap<PublicKey, TenantId>,
    /// Who else names the key of another tenant's peer.
    rivals: BTreeMap<PublicKey, BTreeSet<TenantId>>,
    /// Peers whose packets the hub carries: what they have is the hub's meanwhile, as it has the block.
    left_to_hub: BTreeSet<PublicKey>,
    /// Between keepalives, where they are wished, as was learnt here.
    keepalive_seconds: Option<u16>,
    /// Peers whose endpoint has to be resolved.
    named: BTreeMap<PublicKey, Endpoint>,
    up: bool,
    /// While up.
    desired: Desired,
    /// While down.
    nothing: Desired,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    addresses: MeshAddresses,
    block: model::Block,
    mtu: u16,
    origin: Name,
}

/// What became of a peer.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) key: PublicKey,
    /// Its endpoint was edited.
    pub(crate) repoint: bool,
    pub(crate) event: Option<Event>,
}

impl Touched {
    const fn plainly(key: &PublicKey) -> Self {
        Self { key: *key, repoint: false, event: None }
    }
}

impl Merge {
    pub(crate) fn new(config: &NodeConfig, up: bool) -> Self {
        let (is_hub, listen_port, search) = match &config.role {
            Role::Hub { listen_port, .. } => (true, Some(*listen_port), Vec::new()),
            Role::Device { listen_port, search, .. } => (false, *listen_port, search.clone()),
        };
        let mut merge = Self {
            own: config.wireguard.public(),
            is_hub,
            listen_port,
            search,
            shares: BTreeMap::new(),
            owners: BTreeMap::new(),
            rivals: BTreeMap::new(),
            left_to_hub: BTreeSet::new(),
            keepalive_seconds: None,
            named: BTreeMap::new(),
            up,
            desired: Desired::default(),
            nothing: Desired::default(),
        };
        merge.compose();
        merge
    }

    /// What the host should be.
    pub(crate) const fn desired(&self) -> &Desired {
        if self.up { &self.desired } else { &self.nothing }
    }

    /// Whether the node takes part.
    pub(crate) const fn is_up(&self) -> bool {
        self.up
    }

    pub(crate) const fn set_up(&mut self, up: bool) {
        self.up = up;
    }

    /// Takes what snapshots speak of, and says whether that is news.
    pub(crate) fn set_spoken_for(&mut self, spoken_for: Option<BTreeSet<IpNet>>) -> bool {
        let before = std::mem::replace(&mut self.desired.spoken_for, spoken_for);
        before != self.desired.spoken_for
    }

    /// The endpoints that have to be resolved, while the node takes part.
    pub(crate) fn named(&self) -> BTreeSet<Endpoint> {
        if self.up { self.named.values().cloned().collect() } else { BTreeSet::new() }
    }

    /// The peers behind an endpoint that has to be resolved.
    pub(crate) fn peers_at(&self, endpoint: &Endpoint) -> Vec<PublicKey> {
        self.named.iter().filter(|(_, e)| *e == endpoint).map(|(key, _)| *key).collect()
    }

    /// The endpoint of a peer that has to be resolved.
    pub(crate) fn endpoint_of(&self, key: &PublicKey) -> Option<&Endpoint> {
        self.named.get(key)
    }

    /// Whose peer a key is.
    pub(crate) fn owner(&self, key: &PublicKey) -> Option<TenantId> {
        self.owners.get(key).copied()
    }

    /// All peers.
    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.owners.keys().copied().collect()
    }

    /// Leaves a peer's packets to the hub, or takes them back. Says whether that is news.
    pub(crate) fn leave_to_hub(&mut self, key: &PublicKey, leave: bool, ledger: &Ledger) -> bool {
        let is_news = if leave { self.left_to_hub.insert(*key) } else { self.left_to_hub.remove(key) };
        let owner = self.owner(key).and_then(|tenant| ledger.snapshot(tenant));
        let peer = owner.and_then(|snapshot| snapshot.peers.get(key));
        let allowed = peer.filter(|_| !leave).map(|peer| peer.allowed.iter().copied().collect());
        if is_news && let Some(setting) = self.interface_mut().and_then(|i| i.peers.get_mut(key)) {
            setting.allowed = allowed.unwrap_or_default();
        }
        is_news
    }

    /// Takes what was learnt of keepalives, and says whose changed.
    pub(crate) fn set_keepalive(&mut self, learnt: Option<u16>, ledger: &Ledger) -> Vec<PublicKey> {
        if std::mem::replace(&mut self.keepalive_seconds, learnt) == learnt {
            return Vec::new();
        }
        let peer = |(key, tenant): (&PublicKey, &TenantId)| {
            let peer = ledger.snapshot(*tenant)?.peers.get(key).filter(|peer| peer.keepalive_seconds > 0)?;
            Some((*key, self.keepalive_of(peer)))
        };
        let wished: Vec<(PublicKey, u16)> = self.owners.iter().filter_map(peer).collect();
        for (key, seconds) in &wished {
            if let Some(setting) = self.interface_mut().and_then(|i| i.peers.get_mut(key)) {
                setting.keepalive_seconds = *seconds;
            }
        }
        wished.into_iter().map(|(key, _)| key).collect()
    }

    fn keepalive_of(&self, peer: &Peer) -> u16 {
        self.keepalive_seconds.filter(|_| peer.keepalive_seconds > 0).unwrap_or(peer.keepalive_seconds)
    }

    /// Takes all of a tenant anew, or lets go of it if the ledger holds nothing of it.
    pub(crate) fn take_tenant(
        &mut self,
        tenant: TenantId,
        ledger: &Ledger,
        endpoints: &Endpoints,
    ) -> Vec<Touched> {
        self.take_own(tenant, ledger.snapshot(tenant));
        let snapshot = ledger.snapshot(tenant);
        let is_gone = |key: &PublicKey| !snapshot.is_some_and(|s| s.peers.contains_key(key));
        let owned = self.owners.iter().filter(|(_, owner)| **owner == tenant).map(|(key, _)| key);
        let rival = self.rivals.iter().filter(|(_, tenants)| tenants.contains(&tenant)).map(|(key, _)| key);
        let gone: Vec<_> = owned.chain(rival).filter(|key| is_gone(key)).copied().collect();
        let present = snapshot.into_iter().flat_map(|s| s.peers.keys()).copied();
        gone.into_iter().chain(present).map(|key| self.take_peer(tenant, &key, ledger, endpoints)).collect()
    }

    /// Takes the node's own part in a tenant anew.
    pub(crate) fn take_own(&mut self, tenant: TenantId, snapshot: Option<&Snapshot>) {
        match snapshot.and_then(Share::of) {
            Some(share) => self.shares.insert(tenant, share),
            None => self.shares.remove(&tenant),
        };
        self.compose();
    }

    /// Takes one peer of a tenant anew.
    pub(crate) fn take_peer(
        &mut self,
        tenant: TenantId,
        key: &PublicKey,
        ledger: &Ledger,
        endpoints: &Endpoints,
    ) -> Touched {
        // Devices share one list of peers, so each finds itself in it: with the key that it has, had or is about to have.
        let itself = ledger.device().map(NodeId::Device);
        let is_other = |peer: &&Peer| *key != self.own && Some(peer.node) != itself;
        let peer = ledger.snapshot(tenant).and_then(|s| s.peers.get(key)).filter(is_other);
        let find = |e: &Endpoint| endpoints.address(e).or_else(|| ledger.addresses.get(e).copied());
        match (self.owners.get(key).copied(), peer) {
            (Some(owner), Some(_)) if owner != tenant => {
                let is_new = self.rivals.entry(*key).or_default().insert(tenant);
                let event = Event::PeerTwice { key: *key, kept: owner, refused: tenant };
                Touched { key: *key, repoint: false, event: is_new.then_some(event) }
            }
            (_, Some(peer)) => {
                self.owners.insert(*key, tenant);
                self.set_peer(key, peer, peer.endpoint.as_ref().and_then(find))
            }
            (Some(owner), None) if owner == tenant => {
                self.remove_peer(key);
                match self.next_rival(key) {
                    Some(rival) => self.take_peer(rival, key, ledger, endpoints),
                    None => Touched::plainly(key),
                }
            }
            (_, None) => {
                self.drop_rival(key, tenant);
                Touched::plainly(key)
            }
        }
    }

    /// Points a peer to where its endpoint is now.
    pub(crate) fn point(&mut self, key: &PublicKey, address: SocketAddr) {
        if let Some(peer) = self.interface_mut().and_then(|i| i.peers.get_mut(key)) {
            peer.endpoint = Some(address);
        }
    }

    fn set_peer(&mut self, key: &PublicKey, peer: &Peer, address: Option<SocketAddr>) -> Touched {
        match &peer.endpoint {
            Some(endpoint) if endpoint.socket_address().is_none() => {
                self.named.insert(*key, endpoint.clone());
            }
            Some(_) | None => {
                self.named.remove(key);
            }
        }
        let is_left = self.left_to_hub.contains(key);
        let setting = PeerSetting {
            key: *key,
            allowed: peer.allowed.iter().copied().filter(|_| !is_left).collect(),
            endpoint: address,
            keepalive_seconds: self.keepalive_of(peer),
        };
        let Some(interface) = self.interface_mut() else { return Touched::plainly(key) };
        let before = interface.peers.insert(*key, setting);
        let repoint = address.is_some() && before.is_some_and(|b| b.endpoint != address);
        Touched { key: *key, repoint, event: None }
    }

    fn remove_peer(&mut self, key: &PublicKey) {
        self.owners.remove(key);
        self.named.remove(key);
        self.left_to_hub.remove(key);
        if let Some(interface) = self.interface_mut() {
            interface.peers.remove(key);
        }
    }

    fn next_rival(&mut self, key: &PublicKey) -> Option<TenantId> {
        let rival = self.rivals.get(key)?.first().copied()?;
        self.drop_rival(key, rival);
        Some(rival)
    }

    fn drop_rival(&mut self, key: &PublicKey, tenant: TenantId) {
        if let Some(tenants) = self.rivals.get_mut(key) {
            tenants.remove(&tenant);
            if tenants.is_empty() {
                self.rivals.remove(key);
            }
        }
    }

    const fn interface_mut(&mut self) -> Option<&mut DesiredInterface> {
        self.desired.interface.as_mut()
    }

    /// Everything but the peers, from the shares. A hub has its interface before it has tenants.
    fn compose(&mut self) {
        let peers = self.desired.interface.take().map(|i| i.peers).unwrap_or_default();
        let is_hub = self.is_hub;
        let shares = || self.shares.values();
        self.desired = Desired {
            interface: (is_hub || !self.shares.is_empty()).then(|| DesiredInterface {
                public_key: self.own,
                listen_port: self.listen_port,
                mtu: shares().map(|s| s.mtu).min().unwrap_or(MTU_DEFAULT),
                addresses: shares().flat_map(|s| s.addresses.host_nets()).collect(),
                routes: shares().flat_map(|s| s.block.nets()).collect(),
                peers,
            }),
            firewall: is_hub.then(|| Firewall { blocks: shares().map(|s| s.block.nets()).collect() }),
            forwarding: is_hub && !self.shares.is_empty(),
            resolver: if is_hub { None } else { shares().next().map(|share| share.resolver(&self.search)) },
            spoken_for: self.desired.spoken_for.take(),
        };
    }
}

impl Share {
    fn of(snapshot: &Snapshot) -> Option<Self> {
        let own = &snapshot.own;
        let addresses = own.addresses.filter(|_| own.standing == Standing::Active)?;
        Some(Self { addresses, block: own.block, mtu: own.mtu, origin: snapshot.zone.origin.clone() })
    }

    fn resolver(&self, search: &[Name]) -> ResolverSetting {
        ResolverSetting {
            servers: self.addresses.both().into(),
            domain: self.origin.clone(),
            search: search.iter().filter(|name| **name != self.origin).cloned().collect(),
            reverse: self.block.nets().into(),
        }
    }
}
