//! What the signatures of a link's first frames are over. Both sides build the same transcript; neither decides here.
//!
//! ```text
//! node                                        server
//!  │ Hello {nonce, anchor fingerprint}          │
//!  ├───────────────────────────────────────────▶│
//!  │    Welcome {nonce, ephemeral, anchor, sig} │  sig: anchor over Hello, Welcome, channel
//!  │◀───────────────────────────────────────────┤
//!  │ Enrol or Attach {claim, proofs}            │  proofs: over Hello, Welcome, channel, claim
//!  ├───────────────────────────────────────────▶│
//! ```
//!
//! The channel is the TLS exporter (RFC 5705, RFC 9266) where node and server share one TLS connection. Behind a proxy that ends
//! TLS they do not; both then say `Proxied`, and the node accepts that only over a certificate that the public or a
//! configured authority vouches for.

use minicbor::Encode;

use crate::key::{
    AnchorKey, AnchorSecret, BadSignature, Digest, Hasher, IdentityKey, IdentitySecret, PrivateKey, Proof,
    PublicKey, Signature, TokenKey, TokenSecret,
};
use crate::wire::frame::{AttachClaim, EnrolClaim, Hello, HubClaim, Welcome};

/// The label of the TLS exporter.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-warren-link-1";

/// What ties the frames to the connection below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// 32 bytes of the TLS exporter.
    Exporter([u8; 32]),
    /// TLS ends at a proxy.
    Proxied,
    /// A unix socket, whose peer the kernel names.
    Local,
}

impl Channel {
    fn feed(&self, hasher: &mut Hasher) {
        match self {
            Self::Exporter(bytes) => {
                hasher.update(b"exporter");
                hasher.update(bytes);
            }
            Self::Proxied => hasher.update(b"proxied"),
            Self::Local => hasher.update(b"local"),
        }
    }
}

/// The digest of Hello, Welcome and channel: fresh by both nonces, bound to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript(Digest);

impl Transcript {
    /// The transcript of a link. The anchor's signature in the welcome is left out, as it is made over this.
    pub fn new(hello: &Hello, welcome: &Welcome, channel: &Channel) -> Self {
        let unsigned =
            (welcome.version, welcome.nonce, welcome.ephemeral, welcome.anchor.map(|(key, _)| key));
        let mut hasher = Hasher::new("warren link 1");
        feed(&mut hasher, hello);
        feed(&mut hasher, &unsigned);
        channel.feed(&mut hasher);
        Self(hasher.finish())
    }

    /// The server's proof that it holds the anchor.
    pub fn sign_welcome(&self, anchor: &AnchorSecret) -> Signature {
        anchor.sign("warren welcome 1", self.0.as_bytes())
    }

    /// Checks the server's proof.
    pub fn verify_welcome(&self, anchor: &AnchorKey, signature: &Signature) -> Result<(), BadSignature> {
        anchor.verify("warren welcome 1", self.0.as_bytes(), signature)
    }

    /// The device's proof that it holds its identity, for an attach.
    pub fn sign_attach(&self, claim: &AttachClaim, identity: &IdentitySecret) -> Signature {
        identity.sign("warren attach 1", self.with(claim).as_bytes())
    }

    /// Checks an attach against the identity that it claims.
    pub fn verify_attach(&self, claim: &AttachClaim, signature: &Signature) -> Result<(), BadSignature> {
        claim.identity.verify("warren attach 1", self.with(claim).as_bytes(), signature)
    }

    /// The token's part of an enrolment.
    pub fn sign_enrol_token(&self, claim: &EnrolClaim, token: &TokenSecret) -> Signature {
        token.sign("warren enrol token 1", self.with(claim).as_bytes())
    }

    /// Checks the token's part of an enrolment.
    pub fn verify_enrol_token(
        &self,
        claim: &EnrolClaim,
        token: &TokenKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        token.verify("warren enrol token 1", self.with(claim).as_bytes(), signature)
    }

    /// The identity's part of an enrolment.
    pub fn sign_enrol_identity(&self, claim: &EnrolClaim, identity: &IdentitySecret) -> Signature {
        identity.sign("warren enrol identity 1", self.with(claim).as_bytes())
    }

    /// Checks the identity's part of an enrolment.
    pub fn verify_enrol_identity(
        &self,
        claim: &EnrolClaim,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let identity: &IdentityKey = &claim.identity;
        identity.verify("warren enrol identity 1", self.with(claim).as_bytes(), signature)
    }

    /// Proof of possession of a WireGuard key: made with the private key and the server's ephemeral, checked with the
    /// ephemeral's private key and the claimed key. `None` if the other key is of low order.
    pub fn prove_enrol(&self, claim: &EnrolClaim, own: &PrivateKey, other: &PublicKey) -> Option<Proof> {
        own.prove(other, &self.with(claim))
    }

    /// As [`Self::prove_enrol`], for a hub.
    pub fn prove_hub(&self, claim: &HubClaim, own: &PrivateKey, other: &PublicKey) -> Option<Proof> {
        own.prove(other, &self.with(claim))
    }

    /// As [`Self::prove_enrol`], for the WireGuard key of a device that attaches.
    pub fn prove_key(
        &self,
        identity: &IdentityKey,
        wireguard: &PublicKey,
        own: &PrivateKey,
        other: &PublicKey,
    ) -> Option<Proof> {
        own.prove(other, &self.with(&(identity, wireguard)))
    }

    /// The identity's word for the WireGuard key of a device that attaches.
    pub fn sign_key(&self, wireguard: &PublicKey, identity: &IdentitySecret) -> Signature {
        identity.sign("warren key 1", self.with(&(identity.public(), wireguard)).as_bytes())
    }

    /// Checks the identity's word for a WireGuard key.
    pub fn verify_key(
        &self,
        identity: &IdentityKey,
        wireguard: &PublicKey,
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        identity.verify("warren key 1", self.with(&(identity, wireguard)).as_bytes(), signature)
    }

    fn with<T: Encode<()>>(&self, claim: &T) -> Digest {
        let mut hasher = Hasher::new("warren claim 1");
        hasher.update(self.0.as_bytes());
        feed(&mut hasher, claim);
        hasher.finish()
    }
}

fn feed<T: Encode<()>>(hasher: &mut Hasher, value: &T) {
    let bytes = minicbor::to_vec(value).expect("writing to memory cannot fail");
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(&bytes);
}
