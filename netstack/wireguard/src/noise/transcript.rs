//! What both ends have agreed on so far: Noise's chaining key and hash. Knows no message's layout.

use model::PublicKey;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::hash::{Secret, derive, hash};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Length of the tag that sealing adds.
const TAG_BYTES: usize = 16;

/// Chaining key and hash. The chaining key is wiped when dropped.
#[derive(Clone)]
pub(super) struct Transcript {
    chaining: Secret,
    hash: [u8; 32],
}

impl Transcript {
    /// The start of a handshake with the holder of this key, up to the ephemeral key of who begins it.
    pub(super) fn new(responder: &PublicKey, ephemeral: &[u8; 32]) -> Self {
        let construction = hash(&[CONSTRUCTION]);
        let start = hash(&[&hash(&[&construction, IDENTIFIER]), responder.as_bytes()]);
        let mut transcript = Self { chaining: Secret::new(construction), hash: start };
        transcript.mix_ephemeral(ephemeral);
        transcript
    }

    /// Takes an ephemeral key into hash and chaining key: with a preshared key both need it (Noise, section 9.2).
    pub(super) fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_secret(public);
    }

    /// Takes a shared secret into the chaining key.
    pub(super) fn mix_secret(&mut self, secret: &[u8; 32]) {
        [self.chaining] = derive(&self.chaining, secret);
    }

    /// Takes a shared secret into the chaining key, and gives a key to seal or open with.
    pub(super) fn mix_for_key(&mut self, secret: &[u8; 32]) -> Secret {
        let key;
        [self.chaining, key] = derive(&self.chaining, secret);
        key
    }

    /// Takes the preshared key into chaining key and hash, and gives a key to seal or open with.
    pub(super) fn mix_preshared(&mut self, preshared: &[u8; 32]) -> Secret {
        let (extra, key);
        [self.chaining, extra, key] = derive(&self.chaining, preshared);
        self.mix_hash(&*extra);
        key
    }

    /// Seals what stands before the tag's place, in place, and takes the result into the hash.
    pub(super) fn seal(&mut self, key: &Secret, bytes: &mut [u8]) {
        let (text, place) = bytes.split_at_mut(bytes.len() - TAG_BYTES);
        let tag = cipher(key)
            .seal_in_place_separate_tag(once(), Aad::from(&self.hash), text)
            .expect("a handshake's texts are shorter than 256 GiB");
        place.copy_from_slice(tag.as_ref());
        self.mix_hash(bytes);
    }

    /// Opens bytes and takes them, as sealed, into the hash. `None` if they were sealed otherwise.
    pub(super) fn open<const N: usize, const M: usize>(
        mut self,
        key: &Secret,
        sealed: &[u8; N],
    ) -> Option<(Self, [u8; M])> {
        let mut bytes = *sealed;
        let text = cipher(key).open_in_place(once(), Aad::from(&self.hash), &mut bytes).ok()?;
        let text = (&*text).try_into().ok()?;
        self.mix_hash(sealed);
        Some((self, text))
    }

    /// The keys of the session: the initiator seals with the first, the responder with the second.
    pub(super) fn split(&self) -> [Secret; 2] {
        derive(&self.chaining, &[])
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = hash(&[&self.hash, bytes]);
    }
}

fn cipher(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &**key).expect("the key has 32 bytes"))
}

/// Each key of a handshake seals one text.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
