//! The server's side of one link: from the first frame to an attached node. Knows no snapshot.
//!
//! ```text
//! Opened ──Hello──▶ Greeted ──Attach, AttachHub──▶ Attached
//!                      └──Enrol──▶ Enrolling ──────────┘
//! ```
//! A link must be attached in [`HANDSHAKE_TIME_MAX`], and then say something every [`LINK_SILENCE_MAX`].

use std::collections::BTreeMap;

use model::id::CommandId;
use model::limits::{HANDSHAKE_TIME_MAX, HEARTBEAT_INTERVAL, LINK_SILENCE_MAX};
use model::wire::frame::{Attach, AttachHub, Hello, HubClaim, Welcome};
use model::wire::{Channel, Remark, Transcript, VERSION};
use model::{
    Abilities, Code, DeviceId, Mono, NodeId, Nonce, PrivateKey, PublicKey, Refusal, Signature, TenantId,
};

use crate::dice::Dice;
use crate::directories::Directories;
use crate::enrolment::ProvenKey;
use crate::hints::HintBudget;
use crate::limits::HINTS_PER_SECOND;
use crate::link::Origin;

/// What a node signs over, and what its proof of possession is checked with.
pub(crate) struct Greeted {
    /// `None` for a hub.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) transcript: Transcript,
    pub(crate) ephemeral: PrivateKey,
}

pub(crate) enum Stage {
    Opened,
    Greeted(Box<Greeted>),
    Enrolling {
        tenant: TenantId,
    },
    /// The tenant is `None` for a hub, which carries all.
    Attached {
        tenant: Option<TenantId>,
        node: NodeId,
    },
}

pub(crate) struct Session {
    pub(crate) from: Origin,
    pub(crate) stage: Stage,
    pub(crate) software: Remark,
    /// What the device said that it knows, as far as the server knows it too.
    pub(crate) abilities: Abilities,
    /// The key that the device says it uses, if it says so.
    pub(crate) key: Option<PublicKey>,
    /// When the directory is told of them again, if it has others then.
    pub(crate) abilities_due: Mono,
    /// Frames since the shell's queue was empty.
    pub(crate) unwritten: u32,
    /// The device may send hints, and packets over the relay.
    pub(crate) admitted: bool,
    pub(crate) hints: HintBudget,
    /// Device commands that were sent over the link and are not answered, each with whether it excuses a resync.
    pub(crate) commands: BTreeMap<CommandId, bool>,
    /// A certificate for the host is being signed.
    pub(crate) certifying: bool,
    /// Logins of its sshd are being noted.
    pub(crate) noting: bool,
    /// When the device is given another pass to relays, if it has one.
    pub(crate) pass_until: Option<Mono>,
    /// When the machine looks at the link again.
    pub(crate) wake_at: Mono,
    channel: Channel,
    opened_at: Mono,
    heard_at: Mono,
}

impl Session {
    pub(crate) fn new(channel: Channel, from: Origin, now: Mono) -> Self {
        Self {
            from,
            stage: Stage::Opened,
            software: Remark::default(),
            abilities: Abilities::NONE,
            key: None,
            abilities_due: now,
            unwritten: 0,
            admitted: false,
            hints: HintBudget::new(HINTS_PER_SECOND, now),
            commands: BTreeMap::new(),
            certifying: false,
            noting: false,
            pass_until: None,
            wake_at: now + HANDSHAKE_TIME_MAX,
            channel,
            opened_at: now,
            heard_at: now,
        }
    }

    /// Whether the node was told to ask for its whole snapshot, and has not yet.
    pub(crate) fn take_excuse(&mut self) -> bool {
        let excuse = self.commands.values_mut().find(|excuses| **excuses);
        excuse.is_some_and(std::mem::take)
    }

    /// When the link is given up, if nothing comes.
    pub(crate) fn deadline(&self) -> Mono {
        match self.stage {
            Stage::Attached { .. } => self.heard_at + LINK_SILENCE_MAX,
            _ => self.opened_at + HANDSHAKE_TIME_MAX,
        }
    }

    pub(crate) const fn is_attached(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. })
    }

    /// The device that is attached, and whose it is.
    pub(crate) const fn device(&self) -> Option<(TenantId, DeviceId)> {
        match self.stage {
            Stage::Attached { tenant: Some(tenant), node: NodeId::Device(device) } => Some((tenant, device)),
            _ => None,
        }
    }

    pub(crate) const fn heard(&mut self, now: Mono) {
        self.heard_at = now;
    }

    /// Answers a hello with the proof of the anchor that it names.
    pub(crate) fn greet(
        &mut self,
        hello: &Hello,
        directories: &Directories,
        dice: &mut Dice,
    ) -> Result<Welcome, Refusal> {
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            let spoken = format!("{} to {}", hello.version_min, hello.version_max);
            return Err(Refusal::new(
                Code::VersionUnsupported,
                format!("the node speaks versions {spoken}, the server {VERSION}"),
            ));
        }
        let tenant = match (self.from, &hello.anchor) {
            (Origin::Hub, None) => None,
            (Origin::Network(_), Some(anchor)) => Some(directories.by_anchor(anchor).ok_or_else(|| {
                Refusal::new(Code::AnchorUnknown, format!("no tenant has the anchor {anchor}"))
            })?),
            (Origin::Hub, Some(_)) => return Err(out_of_place("an anchor on the hub's socket")),
            (Origin::Network(_), None) => return Err(out_of_place("a hello without an anchor")),
        };
        let secret = tenant.and_then(|id| directories.whole(id)).map(crate::Directory::anchor);
        if tenant.is_some() && secret.is_none() {
            return Err(Refusal::new(Code::StoreUnavailable, "the tenant's directory is withheld"));
        }
        let ephemeral = PrivateKey::from_bytes(dice.bytes());
        let unsigned = Signature::from_bytes([0; 64]);
        let mut welcome = Welcome {
            version: VERSION,
            nonce: Nonce::from_bytes(dice.bytes()),
            ephemeral: ephemeral.public(),
            anchor: secret.map(|secret| (secret.public(), unsigned)),
        };
        let transcript = Transcript::new(hello, &welcome, &self.channel);
        welcome.anchor = secret.map(|secret| (secret.public(), transcript.sign_welcome(secret)));
        self.software = hello.software.clone();
        self.stage = Stage::Greeted(Box::new(Greeted { tenant, transcript, ephemeral }));
        Ok(welcome)
    }
}

impl Greeted {
    /// The tenant that the device's hello named and the server proved.
    pub(crate) fn device_tenant(&self) -> Result<TenantId, Refusal> {
        self.tenant.ok_or_else(|| out_of_place("a device on the hub's socket"))
    }

    /// Whether the device has the identity that it claims.
    pub(crate) fn verify_attach(&self, attach: &Attach) -> Result<(), Refusal> {
        self.transcript
            .verify_attach(&attach.claim, &attach.signature)
            .map_err(|_| Refusal::new(Code::ProofInvalid, "the identity key is not proven"))
    }

    /// The WireGuard key that the device claims and has, if it is another than the one that is known.
    pub(crate) fn verify_key(&self, attach: &Attach, known: PublicKey) -> Result<Option<ProvenKey>, Refusal> {
        let other = attach.key.as_ref().filter(|claim| claim.wireguard != known);
        other
            .map(|key| ProvenKey::verify(key, &attach.claim.identity, &self.transcript, &self.ephemeral))
            .transpose()
    }

    /// Whether the hub has the WireGuard key that it claims.
    pub(crate) fn verify_hub(&self, attach: AttachHub) -> Result<HubClaim, Refusal> {
        if self.tenant.is_some() {
            return Err(out_of_place("a hub from the network"));
        }
        let claim = attach.claim;
        let expected = self.transcript.prove_hub(&claim, &self.ephemeral, &claim.wireguard);
        if expected.is_some_and(|proof| proof == attach.wireguard_proof) {
            return Ok(claim);
        }
        Err(Refusal::new(Code::ProofInvalid, "the WireGuard key is not proven"))
    }
}

/// What a frame says that does not belong there.
pub(crate) fn out_of_place(what: &str) -> Refusal {
    Refusal::new(Code::FrameInvalid, format!("{what} is out of place"))
}

/// Seconds between heartbeats, as the server asks for them.
pub(crate) fn heartbeat_seconds() -> u16 {
    u16::try_from(HEARTBEAT_INTERVAL.as_secs()).expect("a heartbeat interval is seconds, not hours")
}
