//! Who sends a handshake initiation, and when it was made: the first message of Noise_IKpsk2, opened.
//!
//! The session's own machine opens it again. This is done before, so that a forged or replayed message neither
//! makes a machine nor touches one (WireGuard paper, section 5.4.2; names as there).

use blake2::{Blake2s256, Digest as _};
use boringtun::x25519;
use hmac::{Mac as _, SimpleHmac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of the message (section 5.4.2).
pub(crate) const INITIATION_BYTES: usize = 148;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

type Key = Zeroizing<[u8; 32]>;

/// A TAI64N timestamp; orders as time does.
pub(crate) type Tai64n = [u8; 12];

/// An initiation whose sender is known by name; only [`Self::timestamp`] proves it.
pub(crate) struct Claimed<'a> {
    message: &'a [u8; INITIATION_BYTES],
    pub(crate) key: [u8; 32],
    hash: [u8; 32],
    chaining: Key,
}

impl<'a> Claimed<'a> {
    /// Opens the sender's static key. `None` if the message was not made for our key.
    pub(crate) fn open(
        message: &'a [u8; INITIATION_BYTES],
        secret: &x25519::StaticSecret,
        public: &x25519::PublicKey,
    ) -> Option<Self> {
        let ephemeral: [u8; 32] = message[8..40].try_into().ok()?;
        let construction: [u8; 32] = Blake2s256::digest(CONSTRUCTION).into();
        let hash = mix(&mix(&mix(&construction, IDENTIFIER), public.as_bytes()), &ephemeral);
        let chaining = derive(&construction, &ephemeral).0;
        let shared = secret.diffie_hellman(&x25519::PublicKey::from(ephemeral));
        if !shared.was_contributory() {
            return None;
        }
        let (chaining, sealing) = derive(&chaining, shared.as_bytes());
        let mut sealed: [u8; 48] = message[40..88].try_into().ok()?;
        let key: [u8; 32] = unseal(&sealing, &mut sealed, &hash)?.try_into().ok()?;
        Some(Self { message, key, hash: mix(&hash, &message[40..88]), chaining })
    }

    /// The time of the message, if its sender holds the static key. `shared` is the secret of both static keys.
    pub(crate) fn timestamp(&self, shared: &[u8; 32]) -> Option<Tai64n> {
        let (_, sealing) = derive(&self.chaining, shared);
        let mut sealed: [u8; 28] = self.message[88..116].try_into().ok()?;
        unseal(&sealing, &mut sealed, &self.hash)?.try_into().ok()
    }
}

fn mix(hash: &[u8; 32], with: &[u8]) -> [u8; 32] {
    Blake2s256::new().chain_update(hash).chain_update(with).finalize().into()
}

/// The paper's KDF2; the first output alone is its KDF1.
fn derive(chaining: &[u8; 32], input: &[u8]) -> (Key, Key) {
    let extracted = hmac(chaining, &[input]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[&*first, &[2]]);
    (first, second)
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Key {
    let mac = SimpleHmac::<Blake2s256>::new_from_slice(key).expect("HMAC takes keys of any length");
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn unseal<'a>(key: &Key, sealed: &'a mut [u8], hash: &[u8; 32]) -> Option<&'a [u8]> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &**key).ok()?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.open_in_place(nonce, Aad::from(hash), sealed).ok().map(|plain| &*plain)
}

#[cfg(test)]
mod tests {
    use boringtun::noise::{Tunn, TunnResult};

    use super::*;

    fn pair(byte: u8) -> (x25519::StaticSecret, x25519::PublicKey) {
        let secret = x25519::StaticSecret::from([byte; 32]);
        let public = x25519::PublicKey::from(&secret);
        (secret, public)
    }

    fn initiation(from: &x25519::StaticSecret, to: x25519::PublicKey) -> [u8; INITIATION_BYTES] {
        let mut tunn = Tunn::new(from.clone(), to, None, None, 1, None);
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut buffer, false) else {
            panic!("a fresh tunnel initiates")
        };
        (&*message).try_into().expect("148 bytes")
    }

    #[test]
    fn the_sender_and_the_time_of_a_message_are_read() {
        let ((a, a_public), (b, b_public)) = (pair(1), pair(2));
        let shared = a.diffie_hellman(&b_public).to_bytes();
        let (first, second) = (initiation(&a, b_public), initiation(&a, b_public));
        let open = |message| {
            let claimed = Claimed::open(message, &b, &b_public).expect("for us");
            assert_eq!(claimed.key, *a_public.as_bytes());
            claimed.timestamp(&shared).expect("from the holder of the key")
        };
        assert!(open(&first) < open(&second));
    }

    #[test]
    fn a_message_for_another_or_from_another_is_refused() {
        let ((a, _), (b, b_public), (c, c_public)) = (pair(1), pair(2), pair(3));
        let mut message = initiation(&a, b_public);
        assert!(Claimed::open(&message, &c, &c_public).is_none());
        let wrong = c.diffie_hellman(&b_public).to_bytes();
        assert!(Claimed::open(&message, &b, &b_public).expect("for us").timestamp(&wrong).is_none());
        message[50] ^= 1;
        assert!(Claimed::open(&message, &b, &b_public).is_none());
    }
}
