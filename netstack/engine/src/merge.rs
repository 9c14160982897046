//! All tenants' snapshots as one wish for each interface of one host, kept edit by edit. Knows neither the host nor the time.

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
use crate::greeting::Greeting;
use crate::ledger::Ledger;
use crate::seat::Seat;

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
    /// The hub is reached over the link, and not where it answers.
    hub_over_link: bool,
    /// Whether it is to hear from us at once.
    greeting: Option<(PublicKey, Greeting)>,
    /// Peers whose packets the hub carries: what they have is the hub's meanwhile, as it has the block.
    left_to_hub: BTreeSet<PublicKey>,
    /// Between keepalives, where they are wished, as was learnt here.
    keepalive_seconds: Option<u16>,
    /// Peers whose endpoint has to be resolved.
    named: BTreeMap<PublicKey, Endpoint>,
    up: bool,
    /// What snapshots speak of, see [`Desired::spoken_for`].
    spoken_for: Option<BTreeSet<IpNet>>,
    /// While up; of the shared interface always.
    desired: BTreeMap<Seat, Desired>,
    /// While up, of any other interface.
    absent: Desired,
    /// While down.
    nothing: Desired,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    seat: Seat,
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
            hub_over_link: false,
            greeting: None,
            left_to_hub: BTreeSet::new(),
            keepalive_seconds: None,
            named: BTreeMap::new(),
            up,
            spoken_for: None,
            desired: BTreeMap::new(),
            absent: Desired::default(),
            nothing: Desired::default(),
        };
        merge.compose();
        merge
    }

    /// What the host should be about an interface.
    pub(crate) fn desired(&self, seat: Seat) -> &Desired {
        if self.up { self.desired.get(&seat).unwrap_or(&self.absent) } else { &self.nothing }
    }

    /// The interfaces that are wanted, and the shared one.
    pub(crate) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.desired.keys().copied().filter(|seat| self.up || *seat == Seat::Shared)
    }

    /// On which interface a peer is.
    pub(crate) fn seat_of(&self, key: &PublicKey) -> Seat {
        self.owner(key).map_or(Seat::Shared, |tenant| self.seat(tenant))
    }

    /// On which interface a tenant is.
    pub(crate) fn seat(&self, tenant: TenantId) -> Seat {
        self.shares.get(&tenant).map_or(Seat::Shared, |share| share.seat)
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
        let is_news = self.spoken_for != spoken_for;
        let all = self.desired.values_mut().chain([&mut self.absent]);
        all.for_each(|desired| desired.spoken_for.clone_from(&spoken_for));
        self.spoken_for = spoken_for;
        is_news
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

    /// A peer as its tenant's snapshot has it.
    pub(crate) fn peer<'l>(&self, key: &PublicKey, ledger: &'l Ledger) -> Option<&'l Peer> {
        ledger.snapshot(self.owner(key)?)?.peers.get(key)
    }

    /// All peers.
    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.owners.keys().copied().collect()
    }

    /// Leaves a peer's packets to the hub, or takes them back. Says whether that is news.
    pub(crate) fn leave_to_hub(&mut self, key: &PublicKey, leave: bool, ledger: &Ledger) -> bool {
        let is_news = if leave { self.left_to_hub.insert(*key) } else { self.left_to_hub.remove(key) };
        let peer = self.peer(key, ledger);
        let allowed = peer.filter(|_| !leave).map(|peer| peer.allowed.iter().copied().collect());
        if is_news && let Some(setting) = self.setting_mut(key) {
            setting.allowed = allowed.unwrap_or_default();
        }
        is_news
    }

    /// Takes over which way the hub is reached, and says which peers of whom are to be taken anew for it.
    pub(crate) fn set_hub_over_link(
        &mut self,
        over_link: bool,
        ledger: &Ledger,
    ) -> Vec<(TenantId, PublicKey)> {
        if std::mem::replace(&mut self.hub_over_link, over_link) == over_link {
            return Vec::new();
        }
        let is_hub = |(key, _): &(&PublicKey, &TenantId)| {
            self.peer(key, ledger).is_some_and(|peer| peer.node == NodeId::Hub)
        };
        self.owners.iter().filter(is_hub).map(|(key, tenant)| (*tenant, *key)).collect()
    }

    /// Whether a peer is reached over the link.
    pub(crate) fn is_over_link(&self, peer: &Peer) -> bool {
        self.hub_over_link && peer.node == NodeId::Hub
    }

    /// Takes what was learnt of keepalives, and says whose changed.
    pub(crate) fn set_keepalive(&mut self, learnt: Option<u16>, ledger: &Ledger) -> Vec<PublicKey> {
        if std::mem::replace(&mut self.keepalive_seconds, learnt) == learnt {
            return Vec::new();
        }
        let peer = |(key, tenant): (&PublicKey, &TenantId)| {
            let peer = ledger.snapshot(*tenant)?.peers.get(key).filter(|peer| peer.keepalive_seconds > 0)?;
            Some((*key, self.keepalive_of(key, peer)))
        };
        let wished: Vec<(PublicKey, u16)> = self.owners.iter().filter_map(peer).collect();
        for (key, seconds) in &wished {
            if let Some(setting) = self.setting_mut(key) {
                setting.keepalive_seconds = *seconds;
            }
        }
        wished.into_iter().map(|(key, _)| key).collect()
    }

    fn keepalive_of(&self, key: &PublicKey, peer: &Peer) -> u16 {
        let wished = self.wished_keepalive(peer);
        let greeting = self.greeting.filter(|(hub, _)| hub == key);
        greeting.map_or(wished, |(_, step)| step.keepalive())
    }

    /// What was learnt is for NATs on the way of UDP. Over the link the keepalive keeps the server's socket.
    fn wished_keepalive(&self, peer: &Peer) -> u16 {
        let learnt = self.keepalive_seconds.filter(|_| !self.is_over_link(peer));
        learnt.filter(|_| peer.keepalive_seconds > 0).unwrap_or(peer.keepalive_seconds)
    }

    /// Has the hub hear from us at once. Take it anew, and again as [`Self::go_on_greeting`] says.
    pub(crate) fn greet(&mut self, hub: &PublicKey, ledger: &Ledger) {
        let set = self.setting_mut(hub).map(|setting| setting.keepalive_seconds);
        let wished = self.peer(hub, ledger).map(|peer| self.wished_keepalive(peer));
        self.greeting =
            set.zip(wished).and_then(|(set, wished)| Greeting::begin(set, wished)).map(|first| (*hub, first));
    }

    /// The hub that is being greeted.
    pub(crate) fn greeted(&self) -> Option<PublicKey> {
        self.greeting.map(|(hub, _)| hub)
    }

    /// The host is as the greeting wants it: the next step. Says which peer of whom is to be taken anew for it.
    pub(crate) fn go_on_greeting(&mut self, ledger: &Ledger) -> Option<(TenantId, PublicKey)> {
        let (hub, greeting) = self.greeting.take()?;
        let wished = self.wished_keepalive(self.peer(&hub, ledger)?);
        self.greeting = greeting.next(wished).map(|next| (hub, next));
        Some((self.owner(&hub)?, hub))
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
        let before = self.seat(tenant);
        match snapshot.and_then(|snapshot| self.share_of(snapshot)) {
            Some(share) => self.shares.insert(tenant, share),
            None => self.shares.remove(&tenant),
        };
        if self.seat(tenant) != before {
            // They are taken anew where the tenant is now.
            let owned = self.owners.iter().filter(|(_, owner)| **owner == tenant).map(|(key, _)| key);
            let left = self.desired.get_mut(&before).and_then(|desired| desired.interface.as_mut());
            left.into_iter().for_each(|i| owned.clone().for_each(|key| drop(i.peers.remove(key))));
        }
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
        // A host that answers on another port from now on is where it was.
        let moved = |e: &Endpoint| {
            let (_, was) = ledger.addresses.iter().find(|(known, _)| known.host == e.host)?;
            Some(SocketAddr::new(was.ip(), e.port))
        };
        let known = |e: &Endpoint| ledger.addresses.get(e).copied().or_else(|| moved(e));
        let find = |e: &Endpoint| endpoints.address(e).or_else(|| known(e));
        match (self.owners.get(key).copied(), peer) {
            (Some(owner), Some(_)) if owner != tenant => {
                let is_new = self.rivals.entry(*key).or_default().insert(tenant);
                let event = Event::PeerTwice { key: *key, kept: owner, refused: tenant };
                Touched { key: *key, repoint: false, event: is_new.then_some(event) }
            }
            (_, Some(peer)) => {
                self.owners.insert(*key, tenant);
                let endpoint = peer.endpoint.as_ref().filter(|_| !self.is_over_link(peer));
                self.set_peer(key, peer, endpoint.and_then(find))
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

    /// Points a peer to where its endpoint is now, unless it is reached otherwise.
    pub(crate) fn point(&mut self, key: &PublicKey, address: SocketAddr, ledger: &Ledger) {
        let over_link = self.peer(key, ledger).is_some_and(|peer| self.is_over_link(peer));
        if let Some(setting) = self.setting_mut(key).filter(|_| !over_link) {
            setting.endpoint = Some(address);
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
            keepalive_seconds: self.keepalive_of(key, peer),
        };
        let Some(interface) = self.interface_mut(self.seat_of(key)) else { return Touched::plainly(key) };
        let before = interface.peers.insert(*key, setting);
        let repoint = address.is_some() && before.is_some_and(|b| b.endpoint != address);
        Touched { key: *key, repoint, event: None }
    }

    fn remove_peer(&mut self, key: &PublicKey) {
        let seat = self.seat_of(key);
        self.owners.remove(key);
        self.named.remove(key);
        self.left_to_hub.remove(key);
        if let Some(interface) = self.interface_mut(seat) {
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

    fn interface_mut(&mut self, seat: Seat) -> Option<&mut DesiredInterface> {
        self.desired.get_mut(&seat)?.interface.as_mut()
    }

    fn setting_mut(&mut self, key: &PublicKey) -> Option<&mut PeerSetting> {
        self.interface_mut(self.seat_of(key))?.peers.get_mut(key)
    }

    fn share_of(&self, snapshot: &Snapshot) -> Option<Share> {
        let own = &snapshot.own;
        let addresses = own.addresses.filter(|_| own.standing == Standing::Active)?;
        // The hub's own port is that of the interface that all share.
        let port = own.hub_port.filter(|port| self.is_hub && self.listen_port != Some(*port));
        let seat = port.map_or(Seat::Shared, Seat::Own);
        let origin = snapshot.zone.origin.clone();
        Some(Share { seat, addresses, block: own.block, mtu: own.mtu, origin })
    }

    /// Everything but the peers, from the shares. A hub has its shared interface before it has tenants.
    fn compose(&mut self) {
        let mut before = std::mem::take(&mut self.desired);
        let mut peers =
            |seat| before.get_mut(&seat).and_then(|desired| desired.interface.take()).map(|i| i.peers);
        let seats: BTreeSet<Seat> =
            self.shares.values().map(|share| share.seat).chain([Seat::Shared]).collect();
        let of = |seat| (seat, self.composed(seat, peers(seat).unwrap_or_default()));
        self.desired = seats.into_iter().map(of).collect();
    }

    fn composed(&self, seat: Seat, peers: BTreeMap<PublicKey, PeerSetting>) -> Desired {
        let is_hub = self.is_hub;
        let shares = || self.shares.values().filter(|share| share.seat == seat);
        let is_used = shares().next().is_some();
        let listen_port = match seat {
            Seat::Shared => self.listen_port,
            Seat::Own(port) => Some(port),
        };
        Desired {
            interface: (is_hub || is_used).then(|| DesiredInterface {
                public_key: self.own,
                listen_port,
                mtu: shares().map(|s| s.mtu).min().unwrap_or(MTU_DEFAULT),
                addresses: shares().flat_map(|s| s.addresses.host_nets()).collect(),
                routes: shares().flat_map(|s| s.block.nets()).collect(),
                peers,
            }),
            firewall: is_hub.then(|| Firewall { blocks: shares().map(|s| s.block.nets()).collect() }),
            forwarding: is_hub && is_used,
            resolver: if is_hub { None } else { shares().next().map(|share| share.resolver(&self.search)) },
            spoken_for: self.spoken_for.clone(),
        }
    }
}

impl Share {
    fn resolver(&self, search: &[Name]) -> ResolverSetting {
        ResolverSetting {
            servers: self.addresses.both().into(),
            domain: self.origin.clone(),
            search: search.iter().filter(|name| **name != self.origin).cloned().collect(),
            reverse: self.block.nets().into(),
        }
    }
}
