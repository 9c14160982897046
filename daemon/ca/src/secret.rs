//! The private key of an authority. Zeroized when dropped, shown by nothing; knows not how it is kept.

use std::fmt;

use model::CaKey;
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use zeroize::Zeroizing;

/// The private key of an authority: an Ed25519 seed (RFC 8032, section 5.1.5).
#[derive(Clone)]
pub struct CaSecret(Zeroizing<[u8; 32]>);

impl CaSecret {
    /// Takes 32 random bytes as the key.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The 32 bytes, to be sealed.
    pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public key.
    pub fn public(&self) -> CaKey {
        CaKey::from_bytes(Ed25519Keypair::from_seed(&self.0).public.0)
    }

    pub(crate) fn signing(&self) -> PrivateKey {
        Ed25519Keypair::from_seed(&self.0).into()
    }
}

impl fmt::Debug for CaSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaSecret(..)")
    }
}
