//! The device's key, and what is derived from it once. Knows no peer and no session.

use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use model::{PrivateKey, PublicKey};

/// The device's key and what follows from it.
pub(crate) struct Identity {
    pub(crate) private: PrivateKey,
    pub(crate) key: PublicKey,
    pub(crate) secret: x25519::StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// Checks the first MAC.
    pub(crate) unlimited: Arc<RateLimiter>,
    /// Checks both, and answers with a cookie when the second is missing.
    pub(crate) challenging: RateLimiter,
}

impl Identity {
    pub(crate) fn new(private: PrivateKey) -> Self {
        let secret = x25519::StaticSecret::from(*private.expose());
        let public = x25519::PublicKey::from(&secret);
        Self {
            key: private.public(),
            secret,
            public,
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            challenging: RateLimiter::new(&public, 0),
            private,
        }
    }
}
