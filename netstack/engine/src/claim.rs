//! The frames with which a node proves who it is, made for one link and worth nothing on another. Sends nothing.

use model::wire::{Attach, AttachClaim, AttachHub, Enrol, EnrolClaim, Frame, HubClaim, KeyClaim, Transcript};
use model::{Abilities, Held, IdentitySecret, Nonce, PrivateKey, PublicKey, TenantId};

use crate::ledger::Joining;

/// What the proofs are over.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) transcript: Transcript,
    /// The server's, for the proof of possession of the WireGuard key.
    pub(crate) ephemeral: PublicKey,
    pub(crate) wireguard: &'a PrivateKey,
}

impl Ground<'_> {
    /// The wish to become a device. `None`: the server's ephemeral key is of low order, which no server makes.
    pub(crate) fn enrol(&self, joining: &Joining, identity: &IdentitySecret) -> Option<Frame> {
        let claim = EnrolClaim {
            token: joining.token.id,
            identity: identity.public(),
            wireguard: self.wireguard.public(),
            hostname: joining.hostname.clone(),
            os: joining.os.clone(),
        };
        let wireguard_proof = self.transcript.prove_enrol(&claim, self.wireguard, &self.ephemeral)?;
        Some(Frame::Enrol(Enrol {
            token_signature: self.transcript.sign_enrol_token(&claim, &joining.token.secret),
            identity_signature: self.transcript.sign_enrol_identity(&claim, identity),
            wireguard_proof,
            abilities: Abilities::KNOWN,
            claim,
        }))
    }

    /// A device is back. `None` as in [`Self::enrol`].
    pub(crate) fn attach(
        &self,
        identity: &IdentitySecret,
        instance: Nonce,
        held: Option<Held>,
    ) -> Option<Frame> {
        let claim = AttachClaim { identity: identity.public(), held, instance };
        let signature = self.transcript.sign_attach(&claim, identity);
        let wireguard = self.wireguard.public();
        let proof =
            self.transcript.prove_key(&claim.identity, &wireguard, self.wireguard, &self.ephemeral)?;
        let key = KeyClaim { wireguard, proof, signature: self.transcript.sign_key(&wireguard, identity) };
        Some(Frame::Attach(Attach { claim, signature, abilities: Abilities::KNOWN, key: Some(key) }))
    }

    /// The hub is back. `None` as in [`Self::enrol`].
    pub(crate) fn attach_hub(&self, listen_port: u16, held: Vec<(TenantId, Held)>) -> Option<Frame> {
        let claim = HubClaim { wireguard: self.wireguard.public(), listen_port, held };
        let wireguard_proof = self.transcript.prove_hub(&claim, self.wireguard, &self.ephemeral)?;
        Some(Frame::AttachHub(AttachHub { claim, wireguard_proof, seals: true, own_interfaces: true }))
    }
}
