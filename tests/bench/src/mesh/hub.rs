//! A hub that holds as many peers as one likes, with a server made of the model alone: nothing but the node's own work
//! is between a patch and what the node wants done.

use std::time::Duration;

use engine::{Change, Guard, Input, Ledger, Node, NodeConfig, Observed, Output, Role, Seat};
use model::key::Digest;
use model::limits::PART_BYTES_MAX;
use model::patch::ZonePatch;
use model::snapshot::{Own, Stamp};
use model::wire::{Attached, Channel, Frame, Heard, Part, Patched, Remark, Welcome, Whole};
use model::zone::RecordSet;
use model::{
    AnchorSecret, Block, DeviceId, Generation, Label, Mono, NodeId, Nonce, Now, Patch, Peer, PrivateKey,
    PublicKey, Snapshot, Standing, TenantId, Timestamp, Version, Zone,
};

/// Virtual time that passes with each input: enough for any pause of the node to be over soon.
const STEP: Duration = Duration::from_micros(10);
/// The first device; the hub is number 1.
const FIRST_NUMBER: u32 = 2;

/// A node, the host that it keeps, and the directory that it hears of.
pub struct Hub {
    node: Node,
    own: PublicKey,
    now: Now,
    host: Observed,
    directory: Directory,
}

/// What a node wanted when it was told something.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Changes of the host, in order.
    pub changes: Vec<Change>,
    others: Vec<Output>,
}

impl Hub {
    /// A hub that has settled with so many peers.
    pub fn with_peers(count: u32) -> Self {
        let key = PrivateKey::from_bytes([77; 32]);
        let own = key.public();
        let guard = Guard {
            blocks: ["100.64.0.0/10", "fd00::/8"].map(|net| net.parse().expect("a network")).into(),
            suffixes: vec!["internal".parse().expect("a name")],
        };
        let role = Role::Hub { listen_port: 51820, guard };
        let config = NodeConfig { role, wireguard: key, software: Remark::new("bench") };
        let mut directory = Directory::new();
        (0..count).for_each(|_| drop(directory.add_device()));
        let now = Now { mono: Mono::from_micros(1), wall: Timestamp::from_unix_micros(1) };
        let node = Node::new(config, Ledger::new(), [1; 32]);
        let mut hub = Self { node, own, now, host: Observed::default(), directory };
        hub.node.handle_timeout(now);
        while !hub.node.status().settled || hub.host.interface.is_none() {
            let wanted = hub.wanted();
            hub.satisfy(wanted);
            hub.now.mono = hub.node.poll_timeout().map_or(hub.now.mono, |due| due.at.max(hub.now.mono));
            hub.node.handle_timeout(hub.now);
        }
        let wanted = hub.wanted();
        hub.satisfy(wanted);
        hub
    }

    /// Peers of the interface as it is.
    pub fn peers(&self) -> usize {
        self.host.interface.as_ref().map_or(0, |interface| interface.peers.len())
    }

    /// What the host says, to be told to the node.
    pub fn observed(&self) -> Observed {
        self.host.clone()
    }

    /// One device more in the directory: the frame that tells the node, as bytes.
    pub fn enrol_elsewhere(&mut self) -> Vec<u8> {
        let from = self.directory.stamp().held();
        let patch = self.directory.add_device();
        self.directory.version.generation = self.directory.version.generation.next();
        let stamp = self.directory.stamp().sign(&self.directory.anchor);
        model::wire::encode(&Patched { stamp, tenant: self.directory.id, from, patch }.into())
    }

    /// Tells the node something, and collects what it wants.
    pub fn tell(&mut self, input: Input) -> Wanted {
        self.now.mono = self.now.mono + STEP;
        self.node.handle(input, self.now);
        self.wanted()
    }

    /// Lets the node begin a look at its host, so that it takes the next observation.
    pub fn begin_look(&mut self) {
        self.node.handle(Input::HostChanged, self.now);
        while !self.wanted().others.contains(&Output::Observe(Seat::Shared)) {
            self.now.mono = self.node.poll_timeout().expect("a look is due").at;
            self.node.handle_timeout(self.now);
        }
    }

    fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Apply(_, change) => wanted.changes.push(change),
                other => wanted.others.push(other),
            }
        }
        wanted
    }

    /// Does what a node wanted, and what it wants then, until it wants nothing.
    pub fn satisfy(&mut self, wanted: Wanted) {
        let mut todo = wanted;
        while !todo.changes.is_empty() || !todo.others.is_empty() {
            for output in todo.others {
                self.answer(output);
            }
            for change in todo.changes {
                self.host.apply(&change, &self.own);
                self.node.handle(Input::Applied { seat: Seat::Shared, change, result: Ok(()) }, self.now);
            }
            todo = self.wanted();
        }
    }

    fn answer(&mut self, output: Output) {
        let inputs = match output {
            Output::Dial => vec![Input::LinkUp { channel: Channel::Local }],
            Output::Send(frame) => self.directory.answer(&frame).into_iter().map(Input::Received).collect(),
            Output::Persist(_) => vec![Input::Persisted(Ok(()))],
            Output::Observe(seat) => vec![Input::Observed(seat, Ok(self.host.clone()))],
            Output::Hangup => panic!("the node distrusts its server: {:?}", self.node.status().link_error),
            Output::Resolve(endpoint) => vec![Input::Resolved { endpoint, address: None }],
            Output::Apply(..)
            | Output::Names(_)
            | Output::Path(_)
            | Output::Ssh(_)
            | Output::Seal { .. }
            | Output::Event(_) => Vec::new(),
        };
        for input in inputs {
            self.now.mono = self.now.mono + STEP;
            self.node.handle(input, self.now);
        }
    }
}

/// The server's end: one tenant and its hub's snapshot.
struct Directory {
    id: TenantId,
    anchor: AnchorSecret,
    version: Version,
    snapshot: Snapshot,
    devices: u32,
}

impl Directory {
    fn new() -> Self {
        let id = TenantId::from_bytes([1; 16]);
        let block = Block::new("100.64.0.0/16".parse().expect("a network"), id).expect("a block");
        let label = |text: &str| text.parse::<Label>().expect("a label");
        let own = Own {
            node: NodeId::Hub,
            tenant: id,
            tenant_name: label("home"),
            standing: Standing::Active,
            name: label("hub"),
            addresses: Some(block.hub()),
            block,
            mtu: 1420,
            hub_keys: None,
            relays: None,
            hub_port: None,
            ssh: None,
        };
        let zone = Zone::new("home.internal".parse().expect("a name"), block);
        let version = Version { generation: Generation(1), ..Version::default() };
        let anchor = AnchorSecret::from_seed([1; 32]);
        Self { id, anchor, version, snapshot: Snapshot::empty(own, zone), devices: 0 }
    }

    /// One more device, with its name; what changed.
    fn add_device(&mut self) -> Patch {
        let number = self.devices;
        self.devices += 1;
        let (key, peer) = peer(number, &self.snapshot.own.block);
        let addresses = self.snapshot.own.block.host(number + FIRST_NUMBER).expect("inside the block");
        let name = self.snapshot.zone.origin.child(&peer.name).expect("a name");
        let records = RecordSet::of_node(addresses);
        let zone = ZonePatch { head: None, set: vec![(name, records)], gone: Vec::new() };
        let patch = Patch { peers_set: vec![(key, peer)], zone, ..Patch::default() };
        patch.clone().apply(&mut self.snapshot);
        patch
    }

    fn stamp(&mut self) -> Stamp {
        Stamp {
            tenant: self.id,
            node: NodeId::Hub,
            version: self.version,
            digest: self.snapshot.digest(),
            confirms_removals: false,
            issued_at: Timestamp::default(),
        }
    }

    fn answer(&mut self, frame: &Frame) -> Vec<Frame> {
        match frame {
            Frame::Hello(_) => {
                let ephemeral = PrivateKey::from_bytes([9; 32]).public();
                vec![
                    Welcome { version: 1, nonce: Nonce::from_bytes([8; 32]), ephemeral, anchor: None }.into(),
                ]
            }
            Frame::AttachHub(_) => {
                let tenants = vec![(self.id, self.anchor.public())];
                let attached = Attached { heartbeat_seconds: 30, tenants, key: None }.into();
                std::iter::once(attached).chain(self.whole()).collect()
            }
            Frame::Heartbeat(beat) => vec![Heard { sequence: beat.sequence, lease: None }.into()],
            _ => Vec::new(),
        }
    }

    fn whole(&mut self) -> Vec<Frame> {
        let bytes = minicbor::to_vec(&self.snapshot).expect("writing to memory cannot fail");
        let bytes_total = u32::try_from(bytes.len()).expect("a few megabytes");
        let stamp = self.stamp().sign(&self.anchor);
        let whole = Whole { stamp, tenant: self.id, bytes_total }.into();
        let parts = bytes.chunks(PART_BYTES_MAX).map(|bytes| Part { bytes: bytes.into() }.into());
        std::iter::once(whole).chain(parts).collect()
    }
}

/// A device as a hub's snapshot has it.
fn peer(number: u32, block: &Block) -> (PublicKey, Peer) {
    let bytes = |what: &str| *Digest::of(what, &[&number.to_be_bytes()]).as_bytes();
    let id = *bytes("bench device").first_chunk().expect("32 bytes hold 16");
    let peer = Peer {
        node: NodeId::Device(DeviceId::from_bytes(id)),
        name: format!("device-{number}").parse().expect("a label"),
        allowed: block.host(number + FIRST_NUMBER).expect("inside the block").host_nets().into(),
        endpoint: None,
        keepalive_seconds: 0,
    };
    (PrivateKey::from_bytes(bytes("bench peer")).public(), peer)
}
