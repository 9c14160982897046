//! What every node of a tenant should be: whole, as a patch, and by digest. Parts that nodes share are kept once.

use std::collections::{BTreeMap, BTreeSet};

use model::address::{Block, MeshAddresses};
use model::hub::HubKeys;
use model::limits::MTU_DEFAULT;
use model::patch::ZonePatch;
use model::snapshot::{digest_of_parts, head_bytes, tail_bytes};
use model::{
    Abilities, AnchorSecret, Buckets, DeviceId, Digest, Endpoint, Epoch, Held, Label, Name, NodeId, Own,
    Patch, Peer, PublicKey, Record, RecordSet, Signed, Snapshot, SshTrust, Standing, TenantId, Version, Zone,
};

use super::{Directory, Touched, naming};
use crate::rows::{Device, Hub};

/// Seconds between a device's keepalives to the hub: below the 30 s that careless NATs forget UDP after.
const KEEPALIVE_SECONDS: u16 = 25;

/// Which shared part a node's snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// All active devices as peers, and the zone.
    Hub,
    /// The zone, and as peers what a device with these abilities can read: those who know paths have the hub and each other,
    /// the others the hub alone. Each finds itself among its peers and passes itself over: what is the same for all is
    /// kept, signed for and sent once.
    Active(Abilities),
    /// No peer and no name: a device that takes no part.
    Nothing,
}

impl Share {
    pub(super) const fn reads_ssh(self) -> bool {
        match self {
            Self::Active(abilities) => abilities.has(Abilities::SSH),
            Self::Hub | Self::Nothing => false,
        }
    }
}

/// The shared parts, each with the digest of its contents.
pub(super) struct Plans {
    zone: Zone,
    hub_peers: Buckets<PublicKey, Peer>,
    device_peers: Buckets<PublicKey, Peer>,
    only_hub: Buckets<PublicKey, Peer>,
    hub_keys: Option<Signed<HubKeys>>,
    /// For active devices that can read it.
    pub(super) ssh: SshTrust,
    empty: (Buckets<PublicKey, Peer>, Zone),
    digests: Digests,
}

/// Of every part that a share may have.
struct Digests {
    zone: Digest,
    hub_peers: Digest,
    device_peers: Digest,
    only_hub: Digest,
    ssh: Digest,
    empty: (Digest, Digest),
}

impl Plans {
    pub(super) fn new(origin: Name, block: Block) -> Self {
        let zone = Zone::new(origin, block);
        let mut empty = (Buckets::new(), zone.clone());
        let (no_peers, no_names) = (empty.0.digest(), empty.1.digest());
        let mut ssh = SshTrust::default();
        let no_ssh = ssh.digest();
        Self {
            zone,
            hub_peers: Buckets::new(),
            device_peers: Buckets::new(),
            only_hub: Buckets::new(),
            hub_keys: None,
            ssh,
            empty,
            digests: Digests {
                zone: no_names,
                hub_peers: no_peers,
                device_peers: no_peers,
                only_hub: no_peers,
                ssh: no_ssh,
                empty: (no_peers, no_names),
            },
        }
    }

    /// Costs what changed since the last time.
    pub(super) fn refresh_digests(&mut self) {
        self.digests.zone = self.zone.digest();
        self.digests.hub_peers = self.hub_peers.digest();
        self.digests.device_peers = self.device_peers.digest();
        self.digests.only_hub = self.only_hub.digest();
        self.digests.ssh = self.ssh.digest();
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.zone.names.keys()
    }

    /// A restore takes the row's serial back to where it was; nodes refuse what is older than what they saw, so the
    /// epoch stands before it.
    pub(super) fn set_hub_keys(&mut self, hub: &Hub, tenant: TenantId, epoch: Epoch, anchor: &AnchorSecret) {
        let serial = u64::from(epoch.0) << 32 | hub.serial;
        let keys = HubKeys { tenant, serial, active: hub.key, next: hub.next, retiring: hub.retiring };
        self.hub_keys = Some(Signed::new(&keys, anchor));
    }

    fn parts(&self, share: Share) -> (&Buckets<PublicKey, Peer>, &Zone) {
        match share {
            Share::Hub => (&self.hub_peers, &self.zone),
            Share::Active(abilities) if abilities.has(Abilities::PATHS) => (&self.device_peers, &self.zone),
            Share::Active(_) => (&self.only_hub, &self.zone),
            Share::Nothing => (&self.empty.0, &self.empty.1),
        }
    }

    /// What is said of SSH, to whom it is said.
    fn ssh(&self, share: Share) -> Option<(&SshTrust, Digest)> {
        share.reads_ssh().then_some((&self.ssh, self.digests.ssh))
    }

    fn digests(&self, share: Share) -> (Digest, Digest) {
        let digests = &self.digests;
        match share {
            Share::Hub => (digests.hub_peers, digests.zone),
            Share::Active(abilities) if abilities.has(Abilities::PATHS) => {
                (digests.device_peers, digests.zone)
            }
            Share::Active(_) => (digests.only_hub, digests.zone),
            Share::Nothing => digests.empty,
        }
    }
}

impl Directory {
    /// Which shared part a node has; `None` if there is no such node.
    pub fn share(&self, node: NodeId) -> Option<Share> {
        match node {
            NodeId::Hub => Some(Share::Hub),
            NodeId::Device(id) => self.device(id).map(|device| self.share_of(device)),
        }
    }

    /// A device's.
    pub(super) const fn share_of(&self, device: &Device) -> Share {
        match self.standing(device) {
            Standing::Active => Share::Active(device.abilities),
            Standing::Pending | Standing::Revoked | Standing::Expired | Standing::Closed => Share::Nothing,
        }
    }

    /// Whether the node is a device that takes part.
    pub fn is_active(&self, node: NodeId) -> bool {
        matches!(self.share(node), Some(Share::Active(_)))
    }

    /// The node's own part.
    pub fn own(&self, node: NodeId) -> Option<Own> {
        let tenant = &self.tenant;
        let (standing, name, addresses) = match node {
            NodeId::Hub if tenant.deleted_at.is_some() => (Standing::Revoked, naming::hub_label(), None),
            NodeId::Hub => (Standing::Active, naming::hub_label(), Some(tenant.block.hub())),
            NodeId::Device(id) => {
                let device = self.device(id)?;
                let standing = self.standing(device);
                let addresses = (standing == Standing::Active).then(|| self.addresses(device)).flatten();
                (standing.told_to(device.abilities), device.name.clone(), addresses)
            }
        };
        let (hub_keys, relays) = match self.share(node) {
            Some(Share::Active(abilities)) => {
                let relays = abilities.has(Abilities::PATHS) && !self.relays.is_empty();
                (self.plans.hub_keys.clone(), relays.then(|| self.relays.clone()))
            }
            _ => (None, None),
        };
        Some(Own {
            node,
            tenant: tenant.id,
            tenant_name: tenant.name.clone(),
            standing,
            name,
            addresses,
            block: tenant.block,
            mtu: MTU_DEFAULT,
            hub_keys,
            relays,
            ssh: self.own_ssh(node),
            hub_port: self.hub_port().filter(|_| node == NodeId::Hub),
        })
    }

    /// Everything that the node should be. Copies the shared parts.
    pub fn plan(&self, node: NodeId) -> Option<Snapshot> {
        let share = self.share(node)?;
        let (peers, zone) = self.plans.parts(share);
        let ssh = self.plans.ssh(share).map(|(ssh, _)| ssh.clone());
        Some(Snapshot { own: self.own(node)?, peers: peers.clone(), zone: zone.clone(), ssh })
    }

    /// What the node holds once it has its plan. Costs the node's own part.
    pub fn held(&self, node: NodeId) -> Option<Held> {
        let share = self.share(node)?;
        let (peers, zone) = self.plans.digests(share);
        let ssh = self.plans.ssh(share).map(|(_, digest)| digest);
        let digest = digest_of_parts(&self.own(node)?, peers, zone, ssh);
        Some(Held { version: self.version, digest })
    }

    /// The bytes of the plan that only this node has; those of its share follow.
    pub fn head_bytes(&self, node: NodeId) -> Option<Vec<u8>> {
        let with_ssh = self.share(node)?.reads_ssh();
        self.own(node).map(|own| head_bytes(&own, with_ssh))
    }

    /// The bytes of a shared part.
    pub fn tail_bytes(&self, share: Share) -> Vec<u8> {
        let (peers, zone) = self.plans.parts(share);
        tail_bytes(peers, zone, self.plans.ssh(share).map(|(ssh, _)| ssh))
    }

    /// What all patches since that version are made of; `None` if the journal does not know it, or another epoch counted it.
    pub fn delta(&self, since: Version) -> Option<Delta> {
        if since.epoch != self.version.epoch {
            return None;
        }
        let touched = self.journal.since(since.generation)?;
        Some(Delta { since, until: self.version, touched, halves: BTreeMap::new() })
    }

    /// The node's own patch since the delta began. `None` where only the whole leads: it has another share than then.
    pub fn patch(&self, node: NodeId, delta: &mut Delta) -> Option<Patch> {
        let own_changed = match node {
            NodeId::Hub => delta.touched.hub,
            NodeId::Device(id) if delta.touched.shares.contains(&id) => return None,
            NodeId::Device(id) => delta.touched.devices.contains(&id),
        };
        let share = self.share(node)?;
        let keys_changed = matches!(share, Share::Active(_)) && delta.touched.hub_keys;
        let mut patch = self.half(share, delta).patch.clone();
        patch.own = if own_changed || keys_changed { self.own(node).map(Box::new) } else { None };
        Some(patch)
    }

    /// How many bytes the shared half of a patch has on the wire.
    pub fn half_bytes(&self, share: Share, delta: &mut Delta) -> usize {
        self.half(share, delta).bytes
    }

    fn half<'a>(&self, share: Share, delta: &'a mut Delta) -> &'a HalfPatch {
        let Delta { touched, halves, .. } = delta;
        halves.entry(share).or_insert_with(|| {
            let keys = match share {
                Share::Hub => &touched.hub_peers,
                Share::Active(abilities) if abilities.has(Abilities::PATHS) => &touched.device_peers,
                Share::Active(_) => &touched.only_hub,
                Share::Nothing => return HalfPatch::default(),
            };
            let (peers, zone) = self.plans.parts(share);
            let (peers_set, peers_gone) = split(keys, |key| peers.get(key));
            let (set, gone) = split(&touched.names, |name| zone.names.get(name));
            let ssh = share.reads_ssh().then(|| self.ssh_patch(touched)).flatten();
            let zone = ZonePatch { head: None, set, gone };
            let patch = Patch { own: None, peers_set, peers_gone, zone, ssh };
            HalfPatch { bytes: patch.bytes(), patch }
        })
    }

    /// Who has this key, as the hub and as devices see it.
    pub(super) fn sync_peer(&mut self, key: PublicKey, touched: &mut Touched) {
        let device = self.by_wireguard.get(&key).and_then(|id| self.devices.get(id));
        let wanted =
            device.filter(|d| self.standing(d) == Standing::Active).and_then(|d| self.device_as_peer(d));
        let reachable = device.is_some_and(|device| device.abilities.has(Abilities::PATHS));
        let hub = self.hub.as_ref().filter(|hub| hub.key == key);
        let hub = hub.map(|hub| self.hub_as_peer(hub));
        // Who knows no paths would not answer: it is reached as the rest of the block is, through the hub.
        let wanted_by_devices = hub.clone().or_else(|| wanted.clone().filter(|_| reachable));
        if self.plans.hub_peers.make(key, wanted) {
            touched.hub_peers.insert(key);
        }
        if self.plans.device_peers.make(key, wanted_by_devices) {
            touched.device_peers.insert(key);
        }
        if self.plans.only_hub.make(key, hub) {
            touched.only_hub.insert(key);
        }
    }

    pub(super) fn sync_device_name(&mut self, label: &Label, touched: &mut Touched) {
        if let Ok(name) = self.origin.child(label) {
            self.sync_name(name, touched);
        }
    }

    pub(super) fn sync_name(&mut self, name: Name, touched: &mut Touched) {
        let wanted = self.wanted_records(&name);
        if self.plans.zone.names.make(name.clone(), wanted) {
            touched.names.insert(name);
        }
    }

    fn wanted_records(&self, name: &Name) -> Option<RecordSet> {
        if self.is_closed() {
            return None;
        }
        if let Some(label) = naming::label_in(name, &self.origin) {
            if label == naming::hub_label() {
                return Some(RecordSet::of_node(self.tenant.block.hub()));
            }
            let device = self.device_named(&label).filter(|d| self.standing(d) == Standing::Active);
            if let Some(addresses) = device.and_then(|d| self.addresses(d)) {
                return Some(RecordSet::of_node(addresses));
            }
        }
        let custom = self.records.get(name)?;
        let records = custom.iter().map(|(data, ttl)| Record { data: data.clone(), ttl: *ttl }).collect();
        Some(RecordSet { records, reverse: false })
    }

    /// The hub as devices see it, and its key; what a plain peer's configuration says.
    pub fn hub_peer(&self) -> Option<(PublicKey, Peer)> {
        self.hub.as_ref().map(|hub| (hub.key, self.hub_as_peer(hub)))
    }

    /// The hub as its devices see it: the way to the whole block, by the tenant's own port if it has one.
    fn hub_as_peer(&self, hub: &Hub) -> Peer {
        let port = self.hub_port().unwrap_or(hub.endpoint.port);
        Peer {
            node: NodeId::Hub,
            name: naming::hub_label(),
            allowed: self.tenant.block.nets().into(),
            endpoint: Some(Endpoint { port, ..hub.endpoint.clone() }),
            keepalive_seconds: KEEPALIVE_SECONDS,
        }
    }

    /// Where a device that takes part finds the hub: on its tenant's own port, or 0 for the interface that tenants share.
    pub fn door(&self, node: NodeId) -> Option<u16> {
        self.is_active(node).then(|| self.hub_port().unwrap_or_default())
    }

    fn device_as_peer(&self, device: &Device) -> Option<Peer> {
        let addresses: MeshAddresses = self.addresses(device)?;
        Some(Peer {
            node: NodeId::Device(device.id),
            name: device.name.clone(),
            allowed: addresses.host_nets().into(),
            endpoint: None,
            keepalive_seconds: 0,
        })
    }
}

/// What touched keys are now: those that have a value, with it, and those that have none.
pub(super) fn split<'a, K: Ord + Clone, V: Clone + 'a>(
    keys: &BTreeSet<K>,
    value: impl Fn(&K) -> Option<&'a V>,
) -> (Vec<(K, V)>, Vec<K>) {
    let mut halves = (Vec::new(), Vec::new());
    for key in keys {
        match value(key) {
            Some(value) => halves.0.push((key.clone(), value.clone())),
            None => halves.1.push(key.clone()),
        }
    }
    halves
}

/// What a patch has for every node of one share: all but the node's own part.
#[derive(Default)]
struct HalfPatch {
    patch: Patch,
    bytes: usize,
}

/// The shared halves of all patches from one version to the directory's, each made when the first node of its share needs it.
pub struct Delta {
    /// Patches begin there.
    pub since: Version,
    /// Patches end there.
    pub until: Version,
    touched: Touched,
    halves: BTreeMap<Share, HalfPatch>,
}

/// Whose plan an edit changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// The hub's.
    pub hub: bool,
    /// Every active device's.
    pub active: bool,
    /// Those of active devices with one of these abilities.
    pub able: Abilities,
    /// These devices', whatever their standing.
    pub devices: BTreeSet<DeviceId>,
}

impl From<&Touched> for Affected {
    fn from(touched: &Touched) -> Self {
        let names = !touched.names.is_empty();
        Self {
            hub: touched.hub || names || !touched.hub_peers.is_empty(),
            active: touched.hub_keys || names || !touched.only_hub.is_empty(),
            able: able(touched),
            devices: touched.devices.union(&touched.shares).copied().collect(),
        }
    }
}

/// Whose plans an edit changed, of those that not all devices have.
fn able(touched: &Touched) -> Abilities {
    let of = |changed: bool, able: Abilities| if changed { able } else { Abilities::NONE };
    let ssh = touched.ssh_keys || !touched.revoked.is_empty() || !touched.hosts.is_empty();
    of(!touched.device_peers.is_empty(), Abilities::PATHS).and(of(ssh, Abilities::SSH))
}

impl Affected {
    /// Whether nobody's is.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Whether those of all devices of a share are.
    pub const fn contains_share(&self, share: Share) -> bool {
        match share {
            Share::Active(abilities) => self.active || abilities.has_any(self.able),
            Share::Hub | Share::Nothing => false,
        }
    }

    /// Whether a node's is.
    pub fn contains(&self, node: NodeId, share: Share) -> bool {
        match node {
            NodeId::Hub => self.hub,
            NodeId::Device(id) => self.contains_share(share) || self.devices.contains(&id),
        }
    }
}
