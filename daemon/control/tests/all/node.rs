//! A node as the server sees it: hand-made frames, strict about what it accepts, without a host below it.

use std::collections::BTreeMap;

use control::{LinkId, Origin};
use model::key::{IdentitySecret, TokenSecret};
use model::relay::RelayPass;
use model::token::OnboardingToken;
use model::wire::frame::{
    Attach, AttachClaim, AttachHub, Attached, Enrol, EnrolClaim, Enrolled, Heartbeat, Hello, Hinted, Holding,
    HubClaim, KeyClaim, KeySealed, Refused, Resync, Retry, Services, Welcome, Whole,
};
use model::wire::{Channel, Frame, HubLease, Remark, Transcript};
use model::{
    Abilities, AnchorKey, DeviceId, Fingerprint, Held, NodeId, Nonce, PrivateKey, PublicKey, Refusal, Signed,
    Snapshot, Stamp, TenantId, Timestamp,
};

/// What the node wants of the link.
#[derive(Clone)]
pub enum Wish {
    Enrol { token: Box<OnboardingToken>, hostname: String },
    Attach,
    AttachHub { port: u16 },
}

pub struct Node {
    pub facts: model::wire::Facts,
    pub commands: Vec<model::id::CommandId>,
    pub link: LinkId,
    pub origin: Origin,
    pub channel: Channel,
    pub identity: IdentitySecret,
    pub wireguard: PrivateKey,
    /// Whether it says which WireGuard key it has, and with which other it pretends to prove that.
    pub claims_key: bool,
    pub proves_key: Option<PrivateKey>,
    /// What the server said of it.
    pub told_keys: Vec<PublicKey>,
    pub instance: Nonce,
    /// Of a hub: whether it seals its key for backups.
    pub seals: bool,
    /// Whether it keeps interfaces of tenants' own.
    pub own_interfaces: bool,
    /// What it says that it knows, and is strict about.
    pub abilities: Abilities,
    pub wish: Wish,
    /// The anchor that a device pins, and those that a hub was told.
    pub pins: BTreeMap<TenantId, AnchorKey>,
    pub anchor: Option<Fingerprint>,
    pin: Option<AnchorKey>,
    pub device: Option<DeviceId>,
    pub snapshots: BTreeMap<TenantId, (Held, Snapshot)>,
    pub settled: bool,
    /// Whether it acknowledges what it accepted.
    pub acknowledges: bool,
    /// Whether it applies patches; a node that does not asks for the whole.
    pub patches: bool,
    pub refused: Option<Refusal>,
    pub retry: Option<u32>,
    pub closed: bool,
    pub wholes: usize,
    pub patched: usize,
    pub frames: usize,
    pub largest_whole: usize,
    pub hints: Vec<(DeviceId, Vec<u8>)>,
    pub passes: Vec<Signed<RelayPass>>,
    /// What a hub was told of the lease last.
    pub lease: Option<HubLease>,
    whole: Option<(Whole, Vec<u8>)>,
    hello: Option<Hello>,
}

impl Node {
    pub fn device(link: u64, seed: u8, wish: Wish, anchor: Fingerprint) -> Self {
        let mut node = Self::new(link, seed, wish);
        node.anchor = Some(anchor);
        node
    }

    pub fn hub(link: u64, seed: u8, port: u16) -> Self {
        let mut node = Self::new(link, seed, Wish::AttachHub { port });
        node.origin = Origin::Hub;
        node.channel = Channel::Local;
        node
    }

    fn new(link: u64, seed: u8, wish: Wish) -> Self {
        Self {
            link: LinkId(link),
            origin: Origin::Network([192, 0, 2, seed].into()),
            channel: Channel::Exporter([seed; 32]),
            identity: IdentitySecret::from_seed([seed; 32]),
            wireguard: PrivateKey::from_bytes([seed.wrapping_add(100); 32]),
            claims_key: false,
            proves_key: None,
            told_keys: Vec::new(),
            instance: Nonce::from_bytes([seed; 32]),
            seals: true,
            own_interfaces: true,
            abilities: Abilities::KNOWN,
            commands: Vec::new(),
            facts: model::wire::Facts { uptime_seconds: 77, ..model::wire::Facts::default() },
            wish,
            pins: BTreeMap::new(),
            anchor: None,
            pin: None,
            device: None,
            snapshots: BTreeMap::new(),
            settled: true,
            acknowledges: true,
            patches: true,
            refused: None,
            retry: None,
            closed: false,
            wholes: 0,
            patched: 0,
            frames: 0,
            largest_whole: 0,
            hints: Vec::new(),
            passes: Vec::new(),
            lease: None,
            whole: None,
            hello: None,
        }
    }

    /// The same node by another link, with what it holds.
    pub fn again(&mut self, link: u64) {
        self.link = LinkId(link);
        self.closed = false;
        self.refused = None;
        self.retry = None;
        self.whole = None;
        if self.device.is_some() {
            self.wish = Wish::Attach;
        }
    }

    pub fn hello(&mut self) -> Frame {
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            nonce: Nonce::from_bytes([self.link.0.to_le_bytes()[0]; 32]),
            anchor: self.anchor,
            software: Remark::new("test 1"),
        };
        self.hello = Some(hello.clone());
        hello.into()
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshots.values().next().expect("a snapshot").1
    }

    pub fn held(&self) -> Option<Held> {
        self.snapshots.values().next().map(|(held, _)| *held)
    }

    /// What the node says to a frame.
    pub fn receive(&mut self, frame: Frame) -> Vec<Frame> {
        self.frames += 1;
        match frame {
            Frame::Welcome(welcome) => vec![self.prove(&welcome)],
            Frame::Enrolled(Enrolled { device, .. }) => {
                self.device = Some(device);
                Vec::new()
            }
            Frame::Attached(Attached { tenants, key, .. }) => {
                self.told_keys.extend(key);
                self.pins.extend(tenants);
                Vec::new()
            }
            Frame::Whole(whole) => {
                assert!(self.whole.is_none(), "a whole within a whole");
                self.whole = Some((whole, Vec::new()));
                Vec::new()
            }
            Frame::Part(part) => self.part(&part.bytes),
            Frame::Patched(patched) => {
                assert!(self.whole.is_none(), "a patch within a whole");
                self.patched += 1;
                let here = self.snapshots.get(&patched.tenant);
                let (held, mut snapshot) = here.expect("a patch of something").clone();
                assert_eq!(held, patched.from);
                if !self.patches {
                    return vec![self.resync(patched.tenant)];
                }
                patched.patch.apply(&mut snapshot);
                self.accept(patched.tenant, &patched.stamp, snapshot)
            }
            Frame::Refused(Refused { refusal }) => {
                self.refused = Some(refusal);
                Vec::new()
            }
            Frame::Retry(Retry { after_millis }) => {
                self.retry = Some(after_millis);
                Vec::new()
            }
            Frame::Heard(heard) => {
                self.lease = heard.lease;
                Vec::new()
            }
            Frame::HostCertified(_) | Frame::SshLoginsNoted(_) => Vec::new(),
            Frame::Command(command) => {
                self.commands.push(command.id);
                Vec::new()
            }
            // What it seals is whom it was sealed for.
            Frame::SealKey(wish) => vec![KeySealed { sealed: Some(wish.recipient.as_str().into()) }.into()],
            Frame::Hinted(Hinted { from, sealed }) => {
                self.hints.push((from, sealed));
                Vec::new()
            }
            Frame::Services(Services { pass, .. }) => {
                self.passes.extend(pass);
                Vec::new()
            }
            other => panic!("a node never gets {}", other.name()),
        }
    }

    pub fn resync(&self, tenant: TenantId) -> Frame {
        let held = self.snapshots.get(&tenant).map(|(held, _)| *held);
        Resync { tenant, held, reason: Remark::new("it does not fit") }.into()
    }

    pub fn heartbeat(&self, sequence: u64) -> Frame {
        let holding = |(tenant, (held, _)): (&TenantId, &(Held, Snapshot))| Holding {
            tenant: *tenant,
            held: *held,
            settled: self.settled,
        };
        Heartbeat {
            sequence,
            holding: self.snapshots.iter().map(holding).collect(),
            drift_total: 3,
            problems: vec![Remark::new("the disk is full")],
            wall: Timestamp::from_unix_micros(0),
            engine: Some(Remark::new("userspace, avx512")),
            facts: Some(self.facts.clone()),
        }
        .into()
    }

    fn part(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let (whole, mut all) = self.whole.take().expect("a part of something");
        all.extend_from_slice(bytes);
        if all.len() < whole.bytes_total as usize {
            self.whole = Some((whole, all));
            return Vec::new();
        }
        assert_eq!(all.len(), whole.bytes_total as usize);
        self.largest_whole = self.largest_whole.max(all.len());
        self.wholes += 1;
        let snapshot: Snapshot = minicbor::decode(&all).expect("a snapshot");
        self.accept(whole.tenant, &whole.stamp, snapshot)
    }

    fn accept(&mut self, tenant: TenantId, stamp: &Signed<Stamp>, mut snapshot: Snapshot) -> Vec<Frame> {
        let pin = self.pins.get(&tenant).copied().or(self.pin).expect("a pin");
        let stamp = stamp.verify(&pin).expect("the anchor's stamp");
        let node = self.device.map_or(NodeId::Hub, NodeId::Device);
        assert_eq!((stamp.tenant, stamp.node, snapshot.own.node), (tenant, node, node));
        assert_eq!(stamp.digest, snapshot.digest(), "the digest is of the contents");
        assert!(stamp.confirms_removals);
        if !self.can_read(&snapshot) {
            return vec![self.resync(tenant)];
        }
        if let Some((held, _)) = self.snapshots.get(&tenant) {
            assert!(stamp.version > held.version, "{} after {}", stamp.version, held.version);
        }
        self.snapshots.insert(tenant, (stamp.held(), snapshot));
        if !self.acknowledges {
            return Vec::new();
        }
        vec![Holding { tenant, held: stamp.held(), settled: self.settled }.into()]
    }

    /// What was built before paths refuses a directory in which devices are peers.
    fn can_read(&self, snapshot: &Snapshot) -> bool {
        let only_hub = snapshot.peers.values().all(|peer| peer.node == NodeId::Hub);
        self.device.is_none() || self.abilities.has(Abilities::PATHS) || only_hub
    }

    fn prove(&mut self, welcome: &Welcome) -> Frame {
        let hello = self.hello.clone().expect("a hello came first");
        let transcript = Transcript::new(&hello, welcome, &self.channel);
        if let Some((key, signature)) = &welcome.anchor {
            assert_eq!(Some(key.fingerprint()), self.anchor);
            transcript.verify_welcome(key, signature).expect("the anchor's proof");
            self.pin = Some(*key);
        }
        match self.wish.clone() {
            Wish::Enrol { token, hostname } => {
                self.enrol(&transcript, welcome, token.id, &token.secret, &hostname)
            }
            Wish::Attach => {
                let held = self.held();
                let claim = AttachClaim { identity: self.identity.public(), held, instance: self.instance };
                let signature = transcript.sign_attach(&claim, &self.identity);
                let key = self.claims_key.then(|| {
                    let (wireguard, identity) = (self.wireguard.public(), self.identity.public());
                    let own = self.proves_key.as_ref().unwrap_or(&self.wireguard);
                    let proof = transcript.prove_key(&identity, &wireguard, own, &welcome.ephemeral);
                    let signature = transcript.sign_key(&wireguard, &self.identity);
                    KeyClaim { wireguard, proof: proof.expect("a good key"), signature }
                });
                Attach { claim, signature, abilities: self.abilities, key }.into()
            }
            Wish::AttachHub { port } => {
                let held = self.snapshots.iter().map(|(tenant, (held, _))| (*tenant, *held)).collect();
                let claim = HubClaim { wireguard: self.wireguard.public(), listen_port: port, held };
                let proof = transcript.prove_hub(&claim, &self.wireguard, &welcome.ephemeral);
                let Self { seals, own_interfaces, .. } = *self;
                AttachHub { claim, wireguard_proof: proof.expect("a good key"), seals, own_interfaces }.into()
            }
        }
    }

    fn enrol(
        &self,
        transcript: &Transcript,
        welcome: &Welcome,
        token: model::TokenId,
        secret: &TokenSecret,
        hostname: &str,
    ) -> Frame {
        let claim = EnrolClaim {
            token,
            identity: self.identity.public(),
            wireguard: self.wireguard.public(),
            hostname: Remark::new(hostname),
            os: Remark::new("linux"),
        };
        let proof = transcript.prove_enrol(&claim, &self.wireguard, &welcome.ephemeral);
        Enrol {
            token_signature: transcript.sign_enrol_token(&claim, secret),
            identity_signature: transcript.sign_enrol_identity(&claim, &self.identity),
            wireguard_proof: proof.expect("a good key"),
            abilities: self.abilities,
            claim,
        }
        .into()
    }
}
