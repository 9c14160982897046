//! Keys, signatures and digests. Secrets zeroize, print nothing and compare in constant time.
//!
//! WireGuard keys are Curve25519 (RFC 7748) in the base64 that `wg` prints. Everything else that signs is
//! Ed25519 (RFC 8032); a signature covers a domain string first, so none can be replayed as another.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::{BASE32_NOPAD_NOCASE, HEXLOWER};
use ed25519_dalek::Signer as _;
use hmac::Mac as _;
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

use crate::text::{cbor_as_bytes, serde_as_text};

/// The text is no key of the named kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed")]
pub struct BadKey {
    what: &'static str,
}

/// SHA-256 (FIPS 180-4) of what the named place defines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `domain`, a zero byte, and the parts one after the other.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new(domain);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// Takes the bytes as a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A digest in the making.
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Starts with the domain and a zero byte.
    pub fn new(domain: &str) -> Self {
        let mut inner = sha2::Sha256::new();
        inner.update(domain.as_bytes());
        inner.update([0]);
        Self(inner)
    }

    /// Takes more bytes. Callers frame variable-length parts themselves.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// 32 bytes used once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Takes 32 fresh random bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A WireGuard public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the bytes as a key; every 32 bytes are one (RFC 7748, section 5).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        thirty_two("WireGuard key", BASE64.decode(text)).map(Self)
    }
}

/// A WireGuard private key. Leaves the machine that made it never.
#[derive(Clone)]
pub struct PrivateKey(x25519_dalek::StaticSecret);

impl PrivateKey {
    /// Clamps 32 random bytes into a key (RFC 7748, section 5).
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let secret = Self(x25519_dalek::StaticSecret::from(bytes));
        bytes.zeroize();
        secret
    }

    /// The 32 bytes, for the file or the kernel that must hold them.
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// 32 bytes that only the two holders of a pair of keys can make, for one purpose: HMAC-SHA256 (RFC 2104) over the
    /// purpose, keyed with their X25519 secret. `None` if the other key is of low order.
    pub fn agree(&self, other: &PublicKey, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(other.0));
        if !shared.was_contributory() {
            return None;
        }
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(shared.as_bytes()).ok()?;
        mac.update(b"warren agree 1\0");
        mac.update(purpose.as_bytes());
        Some(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    /// Proves possession to whoever holds the other half: HMAC-SHA256 (RFC 2104) over the digest, keyed with
    /// the X25519 secret that both sides share. `None` if the other key is of low order.
    pub fn prove(&self, other: &PublicKey, over: &Digest) -> Option<Proof> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(other.0));
        if !shared.was_contributory() {
            return None;
        }
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(shared.as_bytes()).ok()?;
        mac.update(b"warren possession 1\0");
        mac.update(over.as_bytes());
        Some(Proof(mac.finalize().into_bytes().into()))
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for PrivateKey {}

/// Proof of possession of a WireGuard key, see [`PrivateKey::prove`]. Compares in constant time.
#[derive(Clone, Copy)]
pub struct Proof([u8; 32]);

impl Proof {
    /// Takes the bytes as a proof.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Proof {}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the bytes as a signature; only verification says whether it is one.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// The signature does not fit the key, the domain or the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

macro_rules! signing_pair {
    ($public:ident, $secret:ident, $what:literal) => {
        #[doc = concat!("The public half of ", $what, " (Ed25519).")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $public([u8; 32]);

        impl $public {
            /// Takes the bytes as a key; a point that is none verifies nothing.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Verifies strictly (no malleability, no small-order keys).
            pub fn verify(
                &self,
                domain: &str,
                message: &[u8],
                signature: &Signature,
            ) -> Result<(), BadSignature> {
                let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
                let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
                key.verify_strict(&framed(domain, message), &signature).map_err(|_| BadSignature)
            }
        }

        impl fmt::Display for $public {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64.encode(self.0))
            }
        }

        impl FromStr for $public {
            type Err = BadKey;
            fn from_str(text: &str) -> Result<Self, BadKey> {
                thirty_two(concat!("key of ", $what), BASE64.decode(text)).map(Self)
            }
        }

        cbor_as_bytes!($public, 32);
        serde_as_text!($public);
        debug_as_display!($public);

        #[doc = concat!("The secret half of ", $what, "; zeroized when dropped.")]
        #[derive(Clone)]
        pub struct $secret(ed25519_dalek::SigningKey);

        impl $secret {
            /// Derives the pair from 32 random bytes (RFC 8032, section 5.1.5).
            pub fn from_seed(mut seed: [u8; 32]) -> Self {
                let secret = Self(ed25519_dalek::SigningKey::from_bytes(&seed));
                seed.zeroize();
                secret
            }

            /// The seed, for the file, the sealed row or the token that must hold it.
            pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public half.
            pub fn public(&self) -> $public {
                $public(self.0.verifying_key().to_bytes())
            }

            /// Signs the domain, a zero byte and the message.
            pub fn sign(&self, domain: &str, message: &[u8]) -> Signature {
                Signature(self.0.sign(&framed(domain, message)).to_bytes())
            }
        }

        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($secret), "(..)"))
            }
        }
    };
}

macro_rules! debug_as_display {
    ($type:ident) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

fn framed(domain: &str, message: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), &[0], message].concat()
}

signing_pair!(IdentityKey, IdentitySecret, "a device's identity");
signing_pair!(AnchorKey, AnchorSecret, "a tenant's anchor");
signing_pair!(CheckpointKey, CheckpointSecret, "the audit log's checkpoints");
signing_pair!(TokenKey, TokenSecret, "an onboarding token");

impl AnchorKey {
    /// What tokens carry and agents compare at first contact.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Digest::of("warren anchor 1", &[&self.0]).0)
    }
}

/// SHA-256 of an anchor's public key, or of a TLS public key where that is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes the bytes as a fingerprint.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What was decoded, if it could be and is a key's length.
fn thirty_two<E>(what: &'static str, decoded: Result<Vec<u8>, E>) -> Result<[u8; 32], BadKey> {
    decoded.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(BadKey { what })
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD_NOCASE.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for Fingerprint {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        thirty_two("fingerprint", BASE32_NOPAD_NOCASE.decode(text.as_bytes())).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        thirty_two("digest", HEXLOWER.decode(text.as_bytes())).map(Self)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..4]))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..8]))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

debug_as_display!(Digest);
debug_as_display!(PublicKey);
debug_as_display!(Fingerprint);
cbor_as_bytes!(Digest, 32);
cbor_as_bytes!(Nonce, 32);
cbor_as_bytes!(PublicKey, 32);
cbor_as_bytes!(Fingerprint, 32);
cbor_as_bytes!(Signature, 64);
cbor_as_bytes!(Proof, 32);
serde_as_text!(Digest);
serde_as_text!(PublicKey);
serde_as_text!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_do_not_cross_domains() {
        let secret = IdentitySecret::from_seed([7; 32]);
        let signature = secret.sign("attach", b"m");
        assert_eq!(secret.public().verify("attach", b"m", &signature), Ok(()));
        assert_eq!(secret.public().verify("enrol", b"m", &signature), Err(BadSignature));
        assert_eq!(secret.public().verify("attach", b"n", &signature), Err(BadSignature));
    }

    #[test]
    fn both_halves_make_the_same_proof_and_a_neighbour_does_not() {
        let (a, b, c) = (
            PrivateKey::from_bytes([1; 32]),
            PrivateKey::from_bytes([2; 32]),
            PrivateKey::from_bytes([3; 32]),
        );
        let over = Digest::of("test", &[b"transcript"]);
        assert_eq!(a.prove(&b.public(), &over), b.prove(&a.public(), &over));
        assert_ne!(c.prove(&b.public(), &over), b.prove(&a.public(), &over));
        assert_eq!(a.prove(&PublicKey::from_bytes([0; 32]), &over), None, "low order");
    }

    #[test]
    fn wireguard_keys_read_as_wg_prints_them() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(text.parse::<PublicKey>().map(|k| k.to_string()), Ok(text.into()));
        assert!("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D".parse::<PublicKey>().is_err());
    }

    #[test]
    fn digests_read_back_from_text() {
        let digest = Digest::of("test", &[b"anything"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string()[1..].parse::<Digest>().is_err());
        assert!("".parse::<Digest>().is_err());
    }

    #[test]
    fn secrets_print_nothing() {
        assert_eq!(
            format!("{:?} {:?}", PrivateKey::from_bytes([9; 32]), AnchorSecret::from_seed([9; 32])),
            "PrivateKey(..) AnchorSecret(..)"
        );
    }
}
