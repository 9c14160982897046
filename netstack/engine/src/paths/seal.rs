//! What two devices seal their hints and probes with: keys that come from the WireGuard keys of both. Knows no address
//! and no time.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use hkdf::Hkdf;
use model::{PrivateKey, PublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes that sealing adds (RFC 8439, section 2.8).
pub(super) const TAG_BYTES: usize = 16;
/// Random, so long that chance never repeats one (draft-irtf-cfrg-xchacha, section 3.1).
pub(super) const HINT_NONCE_BYTES: usize = 24;

/// One life of one device towards one peer: 16 random bytes. Both epochs make a session's keys, so that nothing of a
/// former life can be played again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Epoch(pub(super) [u8; 16]);

/// What two devices share for good.
pub(super) struct Pair {
    secret: Zeroizing<[u8; 32]>,
    own: PublicKey,
    peer: PublicKey,
}

impl Pair {
    /// `None` if the peer's key is of low order.
    pub(super) fn new(private: &PrivateKey, own: PublicKey, peer: PublicKey) -> Option<Self> {
        let secret = private.agree(&peer, "paths 1")?;
        Some(Self { secret, own, peer })
    }

    /// Seals a hint from us.
    pub(super) fn seal_hint(&self, nonce: [u8; HINT_NONCE_BYTES], plain: &[u8], header: &[u8]) -> Vec<u8> {
        let key = self.key("hint", &self.own, &[]);
        let payload = Payload { msg: plain, aad: header };
        let sealed = XChaCha20Poly1305::new(key.as_ref().into()).encrypt(&nonce.into(), payload);
        sealed.expect("a hint is not too long to be sealed")
    }

    /// Opens a hint of the peer. `None`: it is not the peer's, or was changed on the way.
    pub(super) fn open_hint(
        &self,
        nonce: [u8; HINT_NONCE_BYTES],
        sealed: &[u8],
        header: &[u8],
    ) -> Option<Vec<u8>> {
        let key = self.key("hint", &self.peer, &[]);
        let payload = Payload { msg: sealed, aad: header };
        XChaCha20Poly1305::new(key.as_ref().into()).decrypt(&nonce.into(), payload).ok()
    }

    /// The keys of the session of two lives.
    pub(super) fn keys(&self, own: &Epoch, peer: &Epoch) -> Keys {
        let by = |sender: &PublicKey, first: &Epoch, second: &Epoch| {
            let key = self.key("probe", sender, &[&first.0, &second.0]);
            ChaCha20Poly1305::new(key.as_ref().into())
        };
        Keys { sends: by(&self.own, own, peer), receives: by(&self.peer, peer, own) }
    }

    /// HKDF (RFC 5869) from the shared secret: one key for each purpose and direction.
    fn key(&self, purpose: &str, sender: &PublicKey, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let mut info = [b"warren ", purpose.as_bytes(), b" 1", sender.as_bytes().as_slice()].concat();
        parts.iter().for_each(|part| info.extend_from_slice(part));
        let expanded = Hkdf::<Sha256>::new(None, self.secret.as_ref()).expand(&info, key.as_mut());
        expanded.expect("32 bytes are less than 255 blocks");
        key
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// The keys of one session, a direction each.
pub(super) struct Keys {
    sends: ChaCha20Poly1305,
    receives: ChaCha20Poly1305,
}

impl Keys {
    /// Seals under the number of the packet, which is used once.
    pub(super) fn seal(&self, counter: u64, plain: &[u8], header: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: header };
        self.sends.encrypt(&nonce(counter).into(), payload).expect("a probe is not too long to be sealed")
    }

    /// Opens what the peer sealed. `None`: it did not.
    pub(super) fn open(&self, counter: u64, sealed: &[u8], header: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: sealed, aad: header };
        self.receives.decrypt(&nonce(counter).into(), payload).ok()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// As WireGuard's: four zero bytes and the counter, little-endian (WireGuard paper, section 5.4.6).
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> (Pair, Pair) {
        let (a, b) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let pair = |own: &PrivateKey, peer: &PrivateKey| Pair::new(own, own.public(), peer.public());
        (pair(&a, &b).expect("a key"), pair(&b, &a).expect("a key"))
    }

    #[test]
    fn a_hint_is_read_by_the_other_and_by_nobody_else() {
        let (a, b) = pairs();
        let sealed = a.seal_hint([7; 24], b"where I am", b"head");
        assert_eq!(b.open_hint([7; 24], &sealed, b"head").as_deref(), Some(b"where I am".as_slice()));
        assert_eq!(a.open_hint([7; 24], &sealed, b"head"), None, "sent back to its sender");
        assert_eq!(b.open_hint([7; 24], &sealed, b"tail"), None, "under another header");
        let stranger = PrivateKey::from_bytes([3; 32]);
        let other = Pair::new(&stranger, stranger.public(), a.own).expect("a key");
        assert_eq!(other.open_hint([7; 24], &sealed, b"head"), None);
    }

    #[test]
    fn a_session_is_of_two_lives_and_each_way_has_its_key() {
        let (a, b) = pairs();
        let (one, two, three) = (Epoch([1; 16]), Epoch([2; 16]), Epoch([3; 16]));
        let sealed = a.keys(&one, &two).seal(5, b"ping", b"");
        assert_eq!(b.keys(&two, &one).open(5, &sealed, b"").as_deref(), Some(b"ping".as_slice()));
        assert_eq!(b.keys(&two, &one).open(6, &sealed, b""), None, "under another number");
        assert_eq!(a.keys(&one, &two).open(5, &sealed, b""), None, "sent back to its sender");
        assert_eq!(b.keys(&three, &one).open(5, &sealed, b""), None, "in another life");
    }
}
