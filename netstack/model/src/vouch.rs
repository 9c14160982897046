//! A device's word that an SSH key is on it: signed with the identity key, so that a certificate can be tied to the device.
//! Judges neither freshness nor who asks.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::{Decode, Encode};

use crate::id::{DeviceId, TenantId};
use crate::key::{BadSignature, Digest, IdentityKey, IdentitySecret, Signature};
use crate::text::serde_as_text;
use crate::time::Timestamp;

const DOMAIN: &str = "warren ssh vouch 1";

/// What the device says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Vouch {
    /// Of which tenant it is.
    #[n(0)]
    pub tenant: TenantId,
    /// Which device it is.
    #[n(1)]
    pub device: DeviceId,
    /// Of the SSH key, see [`key_digest`].
    #[n(2)]
    pub key: Digest,
    /// When it says so, by its own clock.
    #[n(3)]
    pub at: Timestamp,
}

/// Of a public key as one line of OpenSSH: its type and its base64; a comment is nothing that anybody vouches for.
pub fn key_digest(line: &str) -> Digest {
    let mut words = line.split_ascii_whitespace();
    let (kind, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Digest::of("warren ssh key 1", &[kind.as_bytes(), b" ", base64.as_bytes()])
}

/// A [`Vouch`] as it travels, as one word of base64.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignedVouch {
    #[cbor(n(0), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[n(1)]
    signature: Signature,
}

impl Vouch {
    /// Signs it.
    pub fn sign(&self, identity: &IdentitySecret) -> SignedVouch {
        let bytes = minicbor::to_vec(self).expect("writing to memory cannot fail");
        let signature = identity.sign(DOMAIN, &bytes);
        SignedVouch { bytes, signature }
    }
}

impl SignedVouch {
    /// Who it claims to be of, to find the key that must have signed it. Nothing to rely on.
    pub fn claimed(&self) -> Option<(TenantId, DeviceId)> {
        let vouch: Vouch = minicbor::decode(&self.bytes).ok()?;
        Some((vouch.tenant, vouch.device))
    }

    /// What the device said, if this key signed it.
    ///
    /// # Errors
    /// Another key signed it, or nobody, or it cannot be read.
    pub fn verify(&self, identity: &IdentityKey) -> Result<Vouch, BadSignature> {
        identity.verify(DOMAIN, &self.bytes, &self.signature)?;
        minicbor::decode(&self.bytes).map_err(|_| BadSignature)
    }
}

/// The text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device's word is what its agent gave, in base64")]
pub struct BadVouch;

impl fmt::Display for SignedVouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(minicbor::to_vec(self).expect("writing to memory cannot fail")))
    }
}

impl fmt::Debug for SignedVouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedVouch({:?})", self.claimed())
    }
}

impl FromStr for SignedVouch {
    type Err = BadVouch;
    fn from_str(text: &str) -> Result<Self, BadVouch> {
        let bytes = STANDARD.decode(text).map_err(|_| BadVouch)?;
        minicbor::decode(&bytes).map_err(|_| BadVouch)
    }
}

serde_as_text!(SignedVouch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_device_vouches_and_only_for_this_key() {
        let identity = IdentitySecret::from_seed([1; 32]);
        let line = "ssh-ed25519 AAAAC3 ada at home";
        let vouch = Vouch {
            tenant: TenantId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            key: key_digest(line),
            at: Timestamp::from_unix_micros(5),
        };
        let text = vouch.sign(&identity).to_string();
        let read: SignedVouch = text.parse().expect("reads back");
        assert_eq!(read.claimed(), Some((vouch.tenant, vouch.device)));
        assert_eq!(read.verify(&identity.public()), Ok(vouch.clone()));
        assert!(read.verify(&IdentitySecret::from_seed([9; 32]).public()).is_err());
        assert_eq!(vouch.key, key_digest("ssh-ed25519  AAAAC3"));
        for other in ["ssh-ed25519 AAAAC4", "ssh-ed25519 ", "ssh-rsa AAAAC3", ""] {
            assert_ne!(vouch.key, key_digest(other), "{other}");
        }
        for bad in ["", "!", "AAAA", &text[..text.len() - 8]] {
            assert!(bad.parse::<SignedVouch>().is_err(), "{bad}");
        }
        let mut forged = read;
        forged.bytes[20] ^= 1;
        assert!(forged.verify(&identity.public()).is_err());
    }
}
