//! A server by hand on a unix socket: takes whoever comes, signs and sends one tenant. Checks no signature; that
//! is not what is tested here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use link::unix::{Visitor, listen, sort};
use model::hub::HubKeys;
use model::limits::PART_BYTES_MAX;
use model::snapshot::{Own, Stamp};
use model::token::OnboardingToken;
use model::wire::{Attached, Channel, Enrolled, Frame, Hello, Part, Transcript, Welcome, Whole};
use model::zone::RecordSet;
use model::{
    AnchorSecret, Block, DeviceId, Generation, Label, NodeId, Nonce, Peer, PrivateKey, PublicKey, Signature,
    Signed, Snapshot, Standing, TenantId, Timestamp, TokenId, Version, Zone,
};
use tokio::task::JoinHandle;

/// One tenant as one node sees it.
pub struct Tenant {
    anchor: AnchorSecret,
    pub token: OnboardingToken,
    pub version: Version,
    pub snapshot: Snapshot,
}

pub fn device_id() -> DeviceId {
    DeviceId::from_bytes([5; 16])
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

impl Tenant {
    /// `home.internal` in 100.64.0.0/16, seen by the hub (.1) or by a device (.2), with no peer.
    pub fn new(node: NodeId) -> Self {
        let tenant = TenantId::from_bytes([1; 16]);
        let anchor = AnchorSecret::from_seed([1; 32]);
        let block = Block::new("100.64.0.0/16".parse().unwrap(), tenant).unwrap();
        let own = Own {
            node,
            tenant,
            tenant_name: label("home"),
            standing: Standing::Active,
            name: label(if node == NodeId::Hub { "hub" } else { "laptop" }),
            addresses: block.host(if node == NodeId::Hub { 1 } else { 2 }),
            block,
            mtu: 1400,
            hub_keys: None,
            relays: None,
            hub_port: None,
            ssh: None,
        };
        let mut zone = Zone::new("home.internal".parse().unwrap(), block);
        zone.names
            .insert("laptop.home.internal".parse().unwrap(), RecordSet::of_node(block.host(2).unwrap()));
        let token = OnboardingToken {
            id: TokenId::from_bytes([1; 16]),
            secret: model::key::TokenSecret::from_seed([3; 32]),
            anchor: anchor.public().fingerprint(),
        };
        let version = Version { generation: Generation(1), ..Version::default() };
        Self { anchor, token, version, snapshot: Snapshot::empty(own, zone) }
    }

    /// Adds device `number` as a peer of the hub.
    pub fn add_device(&mut self, number: u32) -> PublicKey {
        let addresses = self.snapshot.own.block.host(number).unwrap();
        let mut key = [9; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let peer = Peer {
            node: NodeId::Device(DeviceId::from_bytes(id)),
            name: label(&format!("d{number}")),
            allowed: addresses.host_nets().into(),
            endpoint: None,
            keepalive_seconds: 0,
        };
        self.snapshot.peers.insert(PublicKey::from_bytes(key), peer);
        self.version.generation = self.version.generation.next();
        PublicKey::from_bytes(key)
    }

    /// Gives a device its hub.
    pub fn add_hub(&mut self, endpoint: &str) {
        let key = PrivateKey::from_bytes([77; 32]).public();
        let keys =
            HubKeys { tenant: self.snapshot.own.tenant, serial: 1, active: key, next: None, retiring: None };
        self.snapshot.own.hub_keys = Some(Signed::new(&keys, &self.anchor));
        let peer = Peer {
            node: NodeId::Hub,
            name: label("hub"),
            allowed: self.snapshot.own.block.nets().into(),
            endpoint: Some(endpoint.parse().unwrap()),
            keepalive_seconds: 25,
        };
        self.snapshot.peers.insert(key, peer);
    }

    fn whole(&mut self) -> Vec<Frame> {
        let stamp = Stamp {
            tenant: self.snapshot.own.tenant,
            node: self.snapshot.own.node,
            version: self.version,
            digest: self.snapshot.digest(),
            confirms_removals: false,
            issued_at: Timestamp::default(),
        };
        let bytes = minicbor::to_vec(&self.snapshot).unwrap();
        let bytes_total = u32::try_from(bytes.len()).unwrap();
        let whole = Whole { stamp: stamp.sign(&self.anchor), tenant: self.snapshot.own.tenant, bytes_total };
        let parts = bytes.chunks(PART_BYTES_MAX).map(|bytes| Part { bytes: bytes.into() }.into());
        std::iter::once(whole.into()).chain(parts).collect()
    }

    fn welcome(&self, hello: &Hello) -> Welcome {
        let ephemeral = PrivateKey::from_bytes([9; 32]).public();
        let nonce = Nonce::from_bytes([8; 32]);
        let signed = |signature| hello.anchor.map(|_| (self.anchor.public(), signature));
        let bare = Welcome { version: 1, nonce, ephemeral, anchor: signed(Signature::from_bytes([0; 64])) };
        let signature = Transcript::new(hello, &bare, &Channel::Local).sign_welcome(&self.anchor);
        Welcome { anchor: signed(signature), ..bare }
    }

    fn answer(&mut self, frame: &Frame) -> Vec<Frame> {
        let attached = |tenants| Frame::from(Attached { heartbeat_seconds: 20, tenants, key: None });
        let own = (self.snapshot.own.tenant, self.anchor.public());
        let first = match frame {
            Frame::Hello(hello) => return vec![self.welcome(hello).into()],
            Frame::Enrol(_) => {
                Enrolled { device: device_id(), standing: Standing::Active, heartbeat_seconds: 20 }.into()
            }
            Frame::Attach(_) => attached(Vec::new()),
            Frame::AttachHub(_) => attached(vec![own]),
            _ => return Vec::new(),
        };
        std::iter::once(first).chain(self.whole()).collect()
    }
}

/// The running server.
pub struct Server {
    pub path: PathBuf,
    pub tenant: Arc<Mutex<Tenant>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(directory: &Path, tenant: Tenant) -> Self {
        let path = directory.join("server.sock");
        let tenant = Arc::new(Mutex::new(tenant));
        let task = tokio::spawn(serve(listen(&path, 0o600).await.unwrap(), Arc::clone(&tenant)));
        Self { path, tenant, task }
    }

    /// Ends every link and listens no more.
    pub async fn stop(self) -> Tenant {
        self.task.abort();
        let _ = self.task.await;
        std::fs::remove_file(&self.path).unwrap();
        let Ok(tenant) = Arc::try_unwrap(self.tenant) else { panic!("the links ended with the task") };
        tenant.into_inner().unwrap()
    }
}

async fn serve(listener: tokio::net::UnixListener, tenant: Arc<Mutex<Tenant>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // One link at a time: a node has no more.
        let Ok(Visitor::Link(connection)) = sort(stream).await else { continue };
        let (sender, mut receiver) = connection.split();
        while let Ok(frame) = receiver.recv().await {
            let answers = tenant.lock().unwrap().answer(&frame);
            for answer in answers {
                if sender.send(&answer).await.is_err() {
                    break;
                }
            }
        }
    }
}
