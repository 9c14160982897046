//! The two ends of a handshake, and what follows from their keys once. Knows no message.

use std::fmt;

use model::{PrivateKey, PublicKey};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::hash::{Secret, hash};

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// Our end: the static key. Wiped when dropped.
pub struct Local {
    secret: StaticSecret,
    public: PublicKey,
    pub(crate) mac_keys: MacKeys,
}

/// Their end: the static key, and the secret that both static keys share. Wiped when dropped.
pub struct Remote {
    public: PublicKey,
    pub(crate) shared: Secret,
    pub(crate) mac_keys: MacKeys,
}

/// What messages to the holder of a static key are stamped with (section 5.4.4) and its cookies sealed with (5.4.7).
/// No secret: who knows the public key knows both.
pub(crate) struct MacKeys {
    pub(crate) mac1: [u8; 32],
    pub(crate) cookie: [u8; 32],
}

impl Local {
    /// The end that holds this key.
    pub fn new(private: &PrivateKey) -> Self {
        let secret = StaticSecret::from(*private.expose());
        let public = private.public();
        Self { secret, public, mac_keys: MacKeys::of(&public) }
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret shared with the holder of `public`. `None` if that is of low order.
    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Secret> {
        agree(&self.secret, public)
    }
}

impl Remote {
    /// The end that holds the other half of this key. `None` if the key is of low order: such a key shares the same
    /// secret with everybody. Costs one X25519.
    pub fn new(local: &Local, public: &PublicKey) -> Option<Self> {
        let shared = local.agree(public.as_bytes())?;
        Some(Self { public: *public, shared, mac_keys: MacKeys::of(public) })
    }

    /// Their static key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl MacKeys {
    fn of(public: &PublicKey) -> Self {
        Self {
            mac1: hash(&[LABEL_MAC1, public.as_bytes()]),
            cookie: hash(&[LABEL_COOKIE, public.as_bytes()]),
        }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({})", self.public)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.public)
    }
}

/// A key of one handshake. Wiped when dropped.
pub(crate) struct Ephemeral {
    secret: StaticSecret,
    pub(crate) public: [u8; 32],
}

impl Ephemeral {
    /// Clamps 32 fresh random bytes into a key. Whoever made them wipes them.
    pub(crate) fn new(random: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*random);
        let public = x25519_dalek::PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// The secret shared with the holder of `public`. `None` if that is of low order.
    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Secret> {
        agree(&self.secret, public)
    }
}

fn agree(secret: &StaticSecret, public: &[u8; 32]) -> Option<Secret> {
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
}
