//! What every node of a tenant should be: whole, as a patch, and by digest. Parts that nodes share are kept once.

use std::collections::BTreeSet;

use model::address::{Block, MeshAddresses};
use model::hub::HubKeys;
use model::limits::MTU_DEFAULT;
use model::patch::ZonePatch;
use model::snapshot::{digest_of_parts, head_bytes, tail_bytes};
use model::{
    AnchorSecret, Buckets, DeviceId, Digest, Epoch, Held, Label, Name, NodeId, Own, Patch, Peer, PublicKey,
    Record, RecordSet, Signed, Snapshot, Standing, TenantId, Version, Zone,
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
    /// The hub and all active devices as peers, and the zone. Each finds itself among them and passes itself over: what is
    /// the same for all is kept, signed for and sent once.
    Active,
    /// No peer and no name: a device that is pending or revoked.
    Nothing,
}

/// The shared parts, each with the digest of its contents.
pub(super) struct Plans {
    zone: Zone,
    hub_peers: Buckets<PublicKey, Peer>,
    device_peers: Buckets<PublicKey, Peer>,
    hub_keys: Option<Signed<HubKeys>>,
    empty: (Buckets<PublicKey, Peer>, Zone),
    digests: [(Digest, Digest); 3],
}

impl Plans {
    pub(super) fn new(origin: Name, block: Block) -> Self {
        let zone = Zone::new(origin, block);
        let nothing = Digest::from_bytes([0; 32]);
        let mut plans = Self {
            zone: zone.clone(),
            hub_peers: Buckets::new(),
            device_peers: Buckets::new(),
            hub_keys: None,
            empty: (Buckets::new(), zone),
            digests: [(nothing, nothing); 3],
        };
        plans.refresh_digests();
        plans
    }

    /// Costs what changed since the last time.
    pub(super) fn refresh_digests(&mut self) {
        let zone = self.zone.digest();
        self.digests = [
            (self.hub_peers.digest(), zone),
            (self.device_peers.digest(), zone),
            (self.empty.0.digest(), self.empty.1.digest()),
        ];
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
            Share::Active => (&self.device_peers, &self.zone),
            Share::Nothing => (&self.empty.0, &self.empty.1),
        }
    }

    fn digests(&self, share: Share) -> (Digest, Digest) {
        self.digests[share as usize]
    }
}

impl Directory {
    /// Which shared part a node has; `None` if there is no such node.
    pub fn share(&self, node: NodeId) -> Option<Share> {
        match node {
            NodeId::Hub => Some(Share::Hub),
            NodeId::Device(id) => self.device(id).map(|device| match device.standing {
                Standing::Active => Share::Active,
                Standing::Pending | Standing::Revoked => Share::Nothing,
            }),
        }
    }

    /// The node's own part.
    pub fn own(&self, node: NodeId) -> Option<Own> {
        let tenant = &self.tenant;
        let (standing, name, addresses) = match node {
            NodeId::Hub if tenant.deleted_at.is_some() => (Standing::Revoked, naming::hub_label(), None),
            NodeId::Hub => (Standing::Active, naming::hub_label(), Some(tenant.block.hub())),
            NodeId::Device(id) => {
                let device = self.device(id)?;
                let active = device.standing == Standing::Active;
                let addresses = active.then(|| self.addresses(device)).flatten();
                (device.standing, device.name.clone(), addresses)
            }
        };
        let share = self.share(node);
        let hub_keys = (share == Some(Share::Active)).then(|| self.plans.hub_keys.clone()).flatten();
        let relays = (share == Some(Share::Active) && !self.relays.is_empty()).then(|| self.relays.clone());
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
        })
    }

    /// Everything that the node should be. Copies the shared parts.
    pub fn plan(&self, node: NodeId) -> Option<Snapshot> {
        let (peers, zone) = self.plans.parts(self.share(node)?);
        Some(Snapshot { own: self.own(node)?, peers: peers.clone(), zone: zone.clone() })
    }

    /// What the node holds once it has its plan. Costs the node's own part.
    pub fn held(&self, node: NodeId) -> Option<Held> {
        let (peers, zone) = self.plans.digests(self.share(node)?);
        Some(Held { version: self.version, digest: digest_of_parts(&self.own(node)?, peers, zone) })
    }

    /// The bytes of the plan that only this node has; those of its share follow.
    pub fn head_bytes(&self, node: NodeId) -> Option<Vec<u8>> {
        self.own(node).map(|own| head_bytes(&own))
    }

    /// The bytes of a shared part.
    pub fn tail_bytes(&self, share: Share) -> Vec<u8> {
        let (peers, zone) = self.plans.parts(share);
        tail_bytes(peers, zone)
    }

    /// The shared half of every patch since that version; `None` if the journal does not know it, or another epoch
    /// counted it.
    pub fn delta(&self, since: Version) -> Option<Delta> {
        if since.epoch != self.version.epoch {
            return None;
        }
        let touched = self.journal.since(since.generation)?;
        let (names_set, names_gone) = split(&touched.names, |name| self.plans.zone.names.get(name));
        let zone = ZonePatch { head: None, set: names_set, gone: names_gone };
        let patch = |keys: &BTreeSet<PublicKey>, peers: &Buckets<PublicKey, Peer>| {
            let (peers_set, peers_gone) = split(keys, |key| peers.get(key));
            let patch = Patch { own: None, peers_set, peers_gone, zone: zone.clone() };
            HalfPatch { bytes: patch.bytes(), patch }
        };
        let hub = patch(&touched.hub_peers, &self.plans.hub_peers);
        let active = patch(&touched.device_peers, &self.plans.device_peers);
        Some(Delta { since, until: self.version, touched, hub, active })
    }

    /// The node's own patch since the delta began. `None` where only the whole leads: a new or changed standing.
    pub fn patch(&self, node: NodeId, delta: &Delta) -> Option<Patch> {
        let own_changed = match node {
            NodeId::Hub => delta.touched.hub,
            NodeId::Device(id) if delta.touched.standings.contains(&id) => return None,
            NodeId::Device(id) => delta.touched.devices.contains(&id),
        };
        let (mut patch, keys_changed) = match self.share(node)? {
            Share::Hub => (delta.hub.patch.clone(), false),
            Share::Active => (delta.active.patch.clone(), delta.touched.hub_keys),
            Share::Nothing => (Patch::default(), false),
        };
        patch.own = if own_changed || keys_changed { self.own(node).map(Box::new) } else { None };
        Some(patch)
    }

    /// Who has this key, as the hub and as devices see it.
    pub(super) fn sync_peer(&mut self, key: PublicKey, touched: &mut Touched) {
        let device = self.by_wireguard.get(&key).and_then(|id| self.devices.get(id));
        let wanted = device.filter(|d| d.standing == Standing::Active).and_then(|d| self.device_as_peer(d));
        let hub = self.hub.as_ref().filter(|hub| hub.key == key);
        let wanted_by_devices =
            hub.map(|hub| hub_as_peer(hub, &self.tenant.block)).or_else(|| wanted.clone());
        if self.plans.hub_peers.make(key, wanted) {
            touched.hub_peers.insert(key);
        }
        if self.plans.device_peers.make(key, wanted_by_devices) {
            touched.device_peers.insert(key);
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
        if self.tenant.deleted_at.is_some() {
            return None;
        }
        if let Some(label) = naming::label_in(name, &self.origin) {
            if label == naming::hub_label() {
                return Some(RecordSet::of_node(self.tenant.block.hub()));
            }
            let device = self.device_named(&label).filter(|d| d.standing == Standing::Active);
            if let Some(addresses) = device.and_then(|d| self.addresses(d)) {
                return Some(RecordSet::of_node(addresses));
            }
        }
        let custom = self.records.get(name)?;
        let records = custom.iter().map(|(data, ttl)| Record { data: data.clone(), ttl: *ttl }).collect();
        Some(RecordSet { records, reverse: false })
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

/// The hub as its devices see it: the way to the whole block.
fn hub_as_peer(hub: &Hub, block: &Block) -> Peer {
    Peer {
        node: NodeId::Hub,
        name: naming::hub_label(),
        allowed: block.nets().into(),
        endpoint: Some(hub.endpoint.clone()),
        keepalive_seconds: KEEPALIVE_SECONDS,
    }
}

/// What touched keys are now: those that have a value, with it, and those that have none.
fn split<'a, K: Ord + Clone, V: Clone + 'a>(
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
struct HalfPatch {
    patch: Patch,
    bytes: usize,
}

/// The shared halves of all patches from one version to the directory's: made once, used for every node.
pub struct Delta {
    /// Patches begin there.
    pub since: Version,
    /// Patches end there.
    pub until: Version,
    touched: Touched,
    hub: HalfPatch,
    active: HalfPatch,
}

impl Delta {
    /// Bytes of the shared half on the wire.
    pub const fn bytes(&self, share: Share) -> usize {
        match share {
            Share::Hub => self.hub.bytes,
            Share::Active => self.active.bytes,
            Share::Nothing => 0,
        }
    }
}

/// Whose plan an edit changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// The hub's.
    pub hub: bool,
    /// Every active device's.
    pub active: bool,
    /// These devices', whatever their standing.
    pub devices: BTreeSet<DeviceId>,
}

impl From<&Touched> for Affected {
    fn from(touched: &Touched) -> Self {
        let names = !touched.names.is_empty();
        Self {
            hub: touched.hub || names || !touched.hub_peers.is_empty(),
            active: touched.hub_keys || names || !touched.device_peers.is_empty(),
            devices: touched.devices.union(&touched.standings).copied().collect(),
        }
    }
}

impl Affected {
    /// Whether nobody's is.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a node's is.
    pub fn contains(&self, node: NodeId, share: Share) -> bool {
        match node {
            NodeId::Hub => self.hub,
            NodeId::Device(id) => (self.active && share == Share::Active) || self.devices.contains(&id),
        }
    }
}
