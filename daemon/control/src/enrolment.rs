//! Proof that an enrolment was checked, or the WireGuard key of a device that is back. Decides nothing about them.

use model::key::{TokenKey, TokenSecret};
use model::wire::Transcript;
use model::wire::frame::{Enrol, EnrolClaim, KeyClaim};
use model::{Abilities, Code, IdentityKey, PrivateKey, PublicKey, Refusal};

/// An enrolment whose three proofs were verified. Only [`VerifiedEnrol::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedEnrol {
    claim: EnrolClaim,
    abilities: Abilities,
}

impl VerifiedEnrol {
    /// Verifies all three proofs, whatever the first says. `token` is the public half that the server has of the
    /// claimed token; an unknown token is checked against a dummy, so that it costs and answers what a wrong one does.
    pub fn verify(
        enrol: Enrol,
        token: Option<&TokenKey>,
        transcript: &Transcript,
        ephemeral: &PrivateKey,
    ) -> Result<Self, Refusal> {
        let claim = &enrol.claim;
        let dummy = TokenSecret::from_seed([0; 32]).public();
        let by_token =
            transcript.verify_enrol_token(claim, token.unwrap_or(&dummy), &enrol.token_signature).is_ok();
        let by_identity = transcript.verify_enrol_identity(claim, &enrol.identity_signature).is_ok();
        let expected = transcript.prove_enrol(claim, ephemeral, &claim.wireguard);
        let by_wireguard = expected.is_some_and(|proof| proof == enrol.wireguard_proof);
        if token.is_none() || !by_token {
            return Err(Refusal::new(Code::TokenUnknown, format!("token {} lets nobody in", claim.token)));
        }
        if !by_identity {
            return Err(Refusal::new(Code::ProofInvalid, "the identity key is not proven"));
        }
        if !by_wireguard {
            return Err(Refusal::new(Code::ProofInvalid, "the WireGuard key is not proven"));
        }
        Ok(Self { claim: enrol.claim, abilities: enrol.abilities.known() })
    }

    /// What was proven.
    pub const fn claim(&self) -> &EnrolClaim {
        &self.claim
    }

    /// What the device knows of what the server knows.
    pub const fn abilities(&self) -> Abilities {
        self.abilities
    }
}

/// The WireGuard key of a device that attached, which it proved that it has. Only [`ProvenKey::verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenKey(PublicKey);

impl ProvenKey {
    /// Verifies the key's proof and the identity's word for it, whatever the first says.
    pub fn verify(
        claim: &KeyClaim,
        identity: &IdentityKey,
        transcript: &Transcript,
        ephemeral: &PrivateKey,
    ) -> Result<Self, Refusal> {
        let by_identity = transcript.verify_key(identity, &claim.wireguard, &claim.signature).is_ok();
        let expected = transcript.prove_key(identity, &claim.wireguard, ephemeral, &claim.wireguard);
        let by_wireguard = expected.is_some_and(|proof| proof == claim.proof);
        if by_identity && by_wireguard {
            return Ok(Self(claim.wireguard));
        }
        Err(Refusal::new(Code::ProofInvalid, "the WireGuard key is not proven"))
    }

    /// The key.
    pub const fn key(&self) -> PublicKey {
        self.0
    }
}
