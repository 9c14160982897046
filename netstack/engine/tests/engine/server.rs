//! A server by hand, from the model alone: enrols, attaches, signs and sends. Refuses nothing by itself.

use std::collections::BTreeMap;

use model::hub::HubKeys;
use model::limits::PART_BYTES_MAX;
use model::snapshot::{Own, Stamp};
use model::token::OnboardingToken;
use model::wire::{
    Attached, Channel, Enrolled, Frame, Hello, Holding, Part, Patched, Refused, Retry, Transcript, Welcome,
    Whole,
};
use model::zone::RecordSet;
use model::{
    AnchorSecret, Block, DeviceId, Generation, Held, IdentityKey, Label, NodeId, Nonce, Patch, Peer,
    PrivateKey, PublicKey, Refusal, Signed, Snapshot, Standing, TenantId, Timestamp, TokenId, Version, Zone,
};

/// One tenant as the server has it, and what it says to one node.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) anchor: AnchorSecret,
    pub(crate) block: Block,
    pub(crate) token: OnboardingToken,
    pub(crate) version: Version,
    pub(crate) snapshot: Snapshot,
}

impl Tenant {
    pub(crate) fn new(number: u8, node: NodeId) -> Self {
        let id = TenantId::from_bytes([number; 16]);
        let anchor = AnchorSecret::from_seed([number; 32]);
        let block =
            Block::new(format!("100.{}.0.0/16", 64 + number).parse().expect("a net"), id).expect("a block");
        let token = OnboardingToken {
            id: TokenId::from_bytes([number; 16]),
            secret: model::key::TokenSecret::from_seed([number + 100; 32]),
            anchor: anchor.public().fingerprint(),
        };
        let label = |text: &str| text.parse::<Label>().expect("a label");
        let own = Own {
            node,
            tenant: id,
            tenant_name: label(&format!("t{number}")),
            standing: Standing::Active,
            name: label(if node == NodeId::Hub { "hub" } else { "laptop" }),
            addresses: block.host(if node == NodeId::Hub { 1 } else { 2 }),
            block,
            mtu: 1420,
            hub_keys: None,
            relays: None,
            hub_port: None,
            ssh: None,
        };
        let zone = Zone::new(format!("t{number}.internal").parse().expect("a name"), block);
        let version = Version { generation: Generation(1), ..Version::default() };
        Self { id, anchor, block, token, version, snapshot: Snapshot::empty(own, zone) }
    }

    /// A device's tenant: one hub, reachable at `endpoint`, and `devices` neighbours.
    pub(crate) fn of_device(device: DeviceId, endpoint: &str, devices: u32) -> Self {
        let mut tenant = Self::new(1, NodeId::Device(device));
        let keys = tenant.hub_keys(1, hub_key());
        tenant.snapshot.own.hub_keys = Some(Signed::new(&keys, &tenant.anchor));
        let hub = Peer {
            node: NodeId::Hub,
            name: "hub".parse().expect("a label"),
            allowed: tenant.block.nets().into(),
            endpoint: Some(endpoint.parse().expect("an endpoint")),
            keepalive_seconds: 25,
        };
        tenant.snapshot.peers.insert(hub_key(), hub);
        for number in 0..devices {
            tenant.add_device(number);
        }
        tenant
    }

    pub(crate) fn hub_keys(&self, serial: u64, active: PublicKey) -> HubKeys {
        HubKeys { tenant: self.id, serial, active, next: None, retiring: None }
    }

    /// Adds a neighbour to the snapshot.
    pub(crate) fn add_device(&mut self, number: u32) {
        let addresses = self.block.host(number + 10).expect("in the block");
        let label: Label = format!("d{number}").parse().expect("a label");
        let peer = Peer {
            node: NodeId::Device(device(number)),
            name: label.clone(),
            allowed: addresses.host_nets().into(),
            endpoint: None,
            keepalive_seconds: 0,
        };
        self.snapshot.peers.insert(self.key_of(number), peer);
        let name = self.snapshot.zone.origin.child(&label).expect("a name");
        self.snapshot.zone.names.insert(name, RecordSet::of_node(addresses));
    }

    pub(crate) fn remove_device(&mut self, number: u32) {
        self.snapshot.peers.remove(&self.key_of(number));
        let label = format!("d{number}").parse().expect("a label");
        let name = self.snapshot.zone.origin.child(&label).expect("a name");
        self.snapshot.zone.names.remove(&name);
    }

    pub(crate) fn key_of(&self, number: u32) -> PublicKey {
        let mut key = [0; 32];
        key[0] = self.id.as_bytes()[0];
        key[1..5].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(key)
    }

    /// The stamp of the snapshot as it is.
    pub(crate) fn stamp(&mut self) -> Stamp {
        Stamp {
            tenant: self.id,
            node: self.snapshot.own.node,
            version: self.version,
            digest: self.snapshot.digest(),
            confirms_removals: false,
            issued_at: Timestamp::default(),
        }
    }

    pub(crate) fn held(&mut self) -> Held {
        self.stamp().held()
    }

    /// The whole as frames.
    pub(crate) fn whole(&mut self) -> Vec<Frame> {
        let stamp = self.stamp();
        self.whole_with(&stamp)
    }

    pub(crate) fn whole_with(&self, stamp: &Stamp) -> Vec<Frame> {
        let bytes = minicbor::to_vec(&self.snapshot).expect("encodes");
        let bytes_total = u32::try_from(bytes.len()).expect("small");
        let whole = Whole { stamp: stamp.sign(&self.anchor), tenant: self.id, bytes_total };
        let parts = bytes.chunks(PART_BYTES_MAX).map(|bytes| Part { bytes: bytes.into() }.into());
        std::iter::once(whole.into()).chain(parts).collect()
    }

    /// Edits the snapshot and says so as a patch of what it was.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Self)) -> Frame {
        self.edit_with(edit, |_| {})
    }

    pub(crate) fn edit_with(
        &mut self,
        edit: impl FnOnce(&mut Self),
        alter: impl FnOnce(&mut Stamp),
    ) -> Frame {
        let (before, from) = (self.snapshot.clone(), self.held());
        edit(self);
        self.version.generation = self.version.generation.next();
        let mut stamp = self.stamp();
        alter(&mut stamp);
        let patch = Patch::diff(&before, &self.snapshot);
        Patched { stamp: stamp.sign(&self.anchor), tenant: self.id, from, patch }.into()
    }
}

pub(crate) fn device(number: u32) -> DeviceId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    DeviceId::from_bytes(bytes)
}

pub(crate) fn hub_key() -> PublicKey {
    PrivateKey::from_bytes([77; 32]).public()
}

/// The server's end of one node's link, and what it keeps of the node.
pub(crate) struct Server {
    pub(crate) tenants: Vec<Tenant>,
    /// Signs welcomes instead of the anchor.
    pub(crate) impostor: Option<AnchorSecret>,
    /// The answer to the next claims; an impostor's to the hello.
    pub(crate) refusal: Option<Refusal>,
    /// Who enrolled, and how often a token was consumed.
    pub(crate) devices: BTreeMap<IdentityKey, DeviceId>,
    pub(crate) token_uses: u32,
    pub(crate) enrols: u32,
    /// What the node said on all links.
    pub(crate) received: Vec<Frame>,
    /// The answer to a hello, in milliseconds: come back later.
    pub(crate) retry: Option<u32>,
    /// Does not answer anything.
    pub(crate) mute: bool,
    /// What a hub is told of the lease.
    pub(crate) lease: Option<model::wire::HubLease>,
    /// The WireGuard keys that the node claimed, and the one that the directory has, if a claim ever came.
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) directory_key: Option<PublicKey>,
    /// Whether the directory takes claimed keys.
    pub(crate) takes_keys: bool,
    hello: Option<Hello>,
    transcript: Option<Transcript>,
}

/// The id that the server gives to whoever enrols.
pub(crate) fn enrolled_id() -> DeviceId {
    device(0xffff_0000)
}

impl Server {
    pub(crate) fn new(tenants: Vec<Tenant>) -> Self {
        Self {
            tenants,
            impostor: None,
            refusal: None,
            devices: BTreeMap::new(),
            token_uses: 0,
            enrols: 0,
            received: Vec::new(),
            retry: None,
            mute: false,
            lease: None,
            keys: Vec::new(),
            directory_key: None,
            takes_keys: true,
            hello: None,
            transcript: None,
        }
    }

    /// The tenant of a device.
    pub(crate) fn tenant(&mut self) -> &mut Tenant {
        &mut self.tenants[0]
    }

    pub(crate) fn holdings(&self) -> Vec<Holding> {
        let of = |frame: &Frame| match frame {
            Frame::Holding(holding) => Some(holding.clone()),
            _ => None,
        };
        self.received.iter().filter_map(of).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.received.iter().filter(|frame| frame.name() == name).count()
    }

    /// Answers a frame.
    pub(crate) fn take(&mut self, frame: Frame, channel: &Channel) -> Vec<Frame> {
        self.received.push(frame.clone());
        if self.mute {
            return Vec::new();
        }
        match frame {
            Frame::Hello(_) if self.impostor.is_some() && self.refusal.is_some() => {
                let refusal = self.refusal.clone().expect("checked");
                vec![Refused { refusal }.into()]
            }
            Frame::Hello(_) if self.retry.is_some() => {
                vec![Retry { after_millis: self.retry.expect("checked") }.into()]
            }
            Frame::Hello(hello) => vec![self.welcome(hello, channel).into()],
            Frame::Heartbeat(beat) => {
                vec![model::wire::Heard { sequence: beat.sequence, lease: self.lease }.into()]
            }
            Frame::Resync(resync) => {
                self.tenants.iter_mut().filter(|t| t.id == resync.tenant).flat_map(Tenant::whole).collect()
            }
            Frame::Enrol(_) | Frame::Attach(_) | Frame::AttachHub(_) if self.refusal.is_some() => {
                let refusal = self.refusal.clone().expect("checked");
                vec![Refused { refusal }.into()]
            }
            Frame::Enrol(enrol) => self.enrol(&enrol),
            Frame::Attach(attach) => self.attach(&attach),
            Frame::AttachHub(attach) => {
                let mut frames = vec![self.attached(true)];
                for tenant in &mut self.tenants {
                    let held =
                        attach.claim.held.iter().find(|(id, _)| *id == tenant.id).map(|(_, held)| *held);
                    if held != Some(tenant.held()) {
                        frames.extend(tenant.whole());
                    }
                }
                frames
            }
            _ => Vec::new(),
        }
    }

    fn welcome(&mut self, hello: Hello, channel: &Channel) -> Welcome {
        let signer = self.impostor.as_ref().unwrap_or(&self.tenants[0].anchor);
        let ephemeral = PrivateKey::from_bytes([9; 32]).public();
        let unsigned = |anchor| Welcome { version: 1, nonce: Nonce::from_bytes([8; 32]), ephemeral, anchor };
        // The transcript does not cover the signature.
        let placeholder = model::Signature::from_bytes([0; 64]);
        let anchored = hello.anchor.is_some();
        let bare = unsigned(anchored.then(|| (signer.public(), placeholder)));
        let transcript = Transcript::new(&hello, &bare, channel);
        let signature = transcript.sign_welcome(signer);
        let welcome = unsigned(anchored.then(|| (signer.public(), signature)));
        (self.hello, self.transcript) = (Some(hello), Some(transcript));
        welcome
    }

    fn enrol(&mut self, enrol: &model::wire::Enrol) -> Vec<Frame> {
        let transcript = self.transcript.expect("a welcome came before");
        let tenant = &mut self.tenants[0];
        let claim = &enrol.claim;
        transcript.verify_enrol_token(claim, &tenant.token.key(), &enrol.token_signature).expect("the token");
        transcript.verify_enrol_identity(claim, &enrol.identity_signature).expect("the identity");
        let proof = transcript.prove_enrol(claim, &PrivateKey::from_bytes([9; 32]), &claim.wireguard);
        assert_eq!(proof, Some(enrol.wireguard_proof), "possession of the WireGuard key");
        self.enrols += 1;
        if self.devices.insert(claim.identity, enrolled_id()).is_none() {
            self.token_uses += 1;
        }
        let enrolled = Enrolled { device: enrolled_id(), standing: Standing::Active, heartbeat_seconds: 20 };
        std::iter::once(enrolled.into()).chain(tenant.whole()).collect()
    }

    fn attach(&mut self, attach: &model::wire::Attach) -> Vec<Frame> {
        let transcript = self.transcript.expect("a welcome came before");
        transcript.verify_attach(&attach.claim, &attach.signature).expect("the identity");
        if let Some(claim) = &attach.key {
            let identity = &attach.claim.identity;
            transcript.verify_key(identity, &claim.wireguard, &claim.signature).expect("the identity's word");
            let own = PrivateKey::from_bytes([9; 32]);
            let proof = transcript.prove_key(identity, &claim.wireguard, &own, &claim.wireguard);
            assert_eq!(proof.as_ref(), Some(&claim.proof), "possession of the WireGuard key");
            self.keys.push(claim.wireguard);
            if self.takes_keys {
                self.directory_key = Some(claim.wireguard);
            }
        }
        let mut frames = vec![self.attached(false)];
        let tenant = &mut self.tenants[0];
        if attach.claim.held != Some(tenant.held()) {
            frames.extend(tenant.whole());
        }
        frames
    }

    fn attached(&self, hub: bool) -> Frame {
        let tenants =
            if hub { self.tenants.iter().map(|t| (t.id, t.anchor.public())).collect() } else { vec![] };
        Attached {
            heartbeat_seconds: if self.lease.is_some() { 2 } else { 20 },
            tenants,
            key: self.directory_key,
        }
        .into()
    }
}
