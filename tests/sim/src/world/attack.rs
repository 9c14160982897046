//! Somebody hostile: pretends to be a server, replays what was recorded, says what no node says.

use std::collections::VecDeque;

use control::{LinkId, Origin};
use model::key::{AnchorSecret, Signature, TokenSecret};
use model::wire::frame::{
    Attached, Enrol, EnrolClaim, Enrolled, Heartbeat, Hello, Holding, Refused, Retry, Welcome, Whole,
};
use model::wire::{Channel, Frame, Remark, Transcript, VERSION};
use model::{
    Abilities, Code, DeviceId, Digest, Held, IdentitySecret, NodeId, Nonce, PrivateKey, Refusal, Stamp,
    Standing, TenantId, Timestamp, TokenId, Version,
};

use super::World;
use super::carrier::read;
use crate::link::{Client, Item, Server, Way};

/// Somebody with a link to a server.
pub(super) struct Stranger {
    /// Sent one by one, each when something came back.
    says: VecDeque<Vec<u8>>,
    /// What it introduced itself with, if it means to forge an enrolment.
    hello: Option<Hello>,
}

impl World {
    /// One stranger calls every server.
    pub(super) fn strangers_call(&mut self) {
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].control.is_some() {
                self.stranger_calls(replica);
            }
        }
    }

    fn stranger_calls(&mut self, replica: usize) {
        let stranger = self.make_stranger();
        let number = self.strangers.len();
        let channel = Channel::Exporter(self.dice.attack.bytes());
        let server = Server::Replica(replica, self.replicas[replica].life);
        let link = self.open(Client::Stranger(number), server, channel, false);
        self.trace.tell(self.at, || format!("stranger {number} calls with {} frames", stranger.says.len()));
        self.strangers.push(stranger);
        let from = Origin::Network([198, 51, 100, 66].into());
        self.drive_replica(replica, Some(control::Input::Opened { link, channel, from }));
        self.stranger_speaks(link, number);
    }

    fn make_stranger(&mut self) -> Stranger {
        let dice = &mut self.dice.attack;
        let anchors: Vec<_> = self.store.tenants().map(|(_, s)| s.rows.tenant.anchor.fingerprint()).collect();
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            nonce: Nonce::from_bytes(dice.bytes()),
            anchor: dice.pick(&anchors).copied(),
            software: Remark::new("stranger"),
        };
        let first = model::wire::encode(&hello.clone().into());
        let tenant = TenantId::from_bytes(dice.bytes());
        let held = Held { version: Version::default(), digest: Digest::from_bytes(dice.bytes()) };
        let holding = Holding { tenant, held, settled: true };
        let beat = Heartbeat {
            sequence: 1,
            holding: vec![holding.clone()],
            drift_total: u64::MAX,
            problems: vec![Remark::new("x"); 100],
            wall: Timestamp::from_unix_micros(i64::MIN),
            engine: None,
            facts: None,
        };
        let recorded = dice.pick(&self.records).cloned();
        let says = match (dice.below(5), recorded) {
            (0 | 1, Some(record)) => record,
            (2, Some(mut record)) => {
                let last = dice.below(record.len());
                let place = dice.below(record[last].len());
                record[last][place] ^= 1 << dice.below(8);
                record
            }
            (3, _) => vec![first, model::wire::encode(&holding.into()), model::wire::encode(&beat.into())],
            (4, _) => vec![dice.bytes::<64>().to_vec()],
            _ => return Stranger { says: VecDeque::from([first]), hello: Some(hello) },
        };
        Stranger { says: says.into(), hello: None }
    }

    fn stranger_speaks(&mut self, link: LinkId, number: usize) {
        if let Some(bytes) = self.strangers[number].says.pop_front() {
            self.send(link, Way::Up, Item::Frame(bytes));
        }
    }

    /// A stranger gets a welcome, a refusal, or nothing: whatever else it gets is not for it.
    pub(super) fn stranger_gets(&mut self, link: LinkId, number: usize, item: Item) {
        let frame = match item {
            Item::Frame(bytes) => read(&bytes),
            Item::End => return self.let_go(link),
        };
        match frame {
            Some(Frame::Welcome(welcome)) => {
                if let Some(hello) = self.strangers[number].hello.take() {
                    let enrol = self.forge_enrolment(link, &hello, &welcome);
                    return self.send(link, Way::Up, Item::Frame(model::wire::encode(&enrol)));
                }
                self.stranger_speaks(link, number);
            }
            Some(Frame::Refused(_) | Frame::Retry(_) | Frame::Heard(_)) | None => {
                self.stranger_speaks(link, number);
            }
            Some(other) => {
                let detail = format!("stranger {number} got {}", other.name());
                self.judge.accuse(self.at, "strangers-get-nothing", detail);
            }
        }
    }

    /// An enrolment with the key of somebody else, and a token that never was.
    fn forge_enrolment(&mut self, link: LinkId, hello: &Hello, welcome: &Welcome) -> Frame {
        let channel = self.links.get(&link).map_or(Channel::Proxied, |link| link.channel);
        let transcript = Transcript::new(hello, welcome, &channel);
        let dice = &mut self.dice.attack;
        let identity = IdentitySecret::from_seed(dice.bytes());
        let tokens = self.store.tenants().flat_map(|(_, stored)| stored.rows.tokens.iter().map(|t| t.id));
        let tokens: Vec<TokenId> = tokens.collect();
        let claim = EnrolClaim {
            token: dice.pick(&tokens).copied().unwrap_or(TokenId::from_bytes([0; 16])),
            identity: identity.public(),
            wireguard: *dice.pick(&self.seen_keys).expect("every machine's key is seen"),
            hostname: Remark::new("laptop"),
            os: Remark::new("linux"),
        };
        let own = PrivateKey::from_bytes(dice.bytes());
        let proof = transcript.prove_enrol(&claim, &own, &welcome.ephemeral);
        Enrol {
            token_signature: transcript.sign_enrol_token(&claim, &TokenSecret::from_seed(dice.bytes())),
            identity_signature: transcript.sign_enrol_identity(&claim, &identity),
            wireguard_proof: proof.expect("a server's ephemeral key is of high order"),
            abilities: Abilities::KNOWN,
            claim,
        }
        .into()
    }

    /// A node speaks to somebody who pretends to be a server.
    pub(super) fn forger_gets(&mut self, link: LinkId, item: Item) {
        let hello = match item {
            Item::Frame(bytes) => match read(&bytes) {
                Some(Frame::Hello(hello)) => Some(hello),
                _ => None,
            },
            Item::End => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.server = None;
                }
                return;
            }
        };
        let channel = self.links.get(&link).map_or(Channel::Proxied, |link| link.channel);
        for bytes in self.forgery(hello.as_ref(), &channel) {
            self.send(link, Way::Down, Item::Frame(bytes));
        }
    }

    fn forgery(&mut self, hello: Option<&Hello>, channel: &Channel) -> Vec<Vec<u8>> {
        let anchors: Vec<_> = self.store.tenants().map(|(_, stored)| stored.rows.tenant.anchor).collect();
        let dice = &mut self.dice.attack;
        let own = AnchorSecret::from_seed(dice.bytes());
        let shown = match dice.pick(&anchors) {
            Some(anchor) if dice.chance(500) => *anchor,
            _ => own.public(),
        };
        let unsigned = Signature::from_bytes([0; 64]);
        let mut welcome = Welcome {
            version: VERSION,
            nonce: Nonce::from_bytes(dice.bytes()),
            ephemeral: PrivateKey::from_bytes(dice.bytes()).public(),
            anchor: Some((shown, unsigned)),
        };
        if let Some(hello) = hello {
            let signature = Transcript::new(hello, &welcome, channel).sign_welcome(&own);
            welcome.anchor = Some((shown, signature));
        }
        let (device, tenant) = (DeviceId::from_bytes(dice.bytes()), TenantId::from_bytes(dice.bytes()));
        let stamp = Stamp {
            tenant,
            node: NodeId::Device(device),
            version: Version::default(),
            digest: Digest::from_bytes(dice.bytes()),
            confirms_removals: true,
            issued_at: Timestamp::default(),
        };
        let codes = [Code::DeviceRevoked, Code::TokenRevoked, Code::Internal, Code::DeviceUnknown];
        let code = codes[dice.below(codes.len())];
        let frames: Vec<Frame> = match dice.below(7) {
            0 => vec![welcome.into()],
            1 => vec![
                welcome.into(),
                Enrolled { device, standing: Standing::Active, heartbeat_seconds: 1 }.into(),
            ],
            2 => {
                vec![welcome.into(), Attached { heartbeat_seconds: 1, tenants: Vec::new(), key: None }.into()]
            }
            3 => vec![Whole { stamp: stamp.sign(&own), tenant, bytes_total: u32::MAX }.into()],
            4 => vec![Refused { refusal: Refusal::new(code, "so says the forger") }.into()],
            5 => vec![Retry { after_millis: 5_000 }.into()],
            _ => return vec![dice.bytes::<48>().to_vec()],
        };
        frames.iter().map(model::wire::encode).collect()
    }
}
