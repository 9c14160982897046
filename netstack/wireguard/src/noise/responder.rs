//! The end that answers a handshake.

use model::PublicKey;

use super::transcript::Transcript;
use super::{Keys, Local, Remote};
use crate::cookie::mac1_is_valid;
use crate::message::{INITIATION, INITIATION_BYTES, RESPONSE, RESPONSE_BYTES, array};
use crate::parties::Ephemeral;
use crate::tai64n::Tai64n;
use chacha::Key;

/// An initiation whose sender is known by name; only [`Self::verify`] proves it. Wiped when dropped.
pub struct Claimed {
    transcript: Transcript,
    key: PublicKey,
    caller: Caller,
    sealed_timestamp: [u8; 28],
}

/// An initiation that the holder of the remote key made, now or once: an old one can be replayed, so that
/// [`Self::timestamp`] has to be later than that of the last one answered. Wiped when dropped.
pub struct Verified {
    /// When it was made, on the sender's clock.
    pub timestamp: Tai64n,
    transcript: Transcript,
    caller: Caller,
}

/// What the answer needs of who called.
struct Caller {
    index: u32,
    ephemeral: [u8; 32],
}

impl Claimed {
    /// Opens the sender's static key (section 5.4.2). `None` if the first MAC is not valid or the message was not made
    /// for our key. Costs one X25519.
    pub fn open(local: &Local, message: &[u8; INITIATION_BYTES]) -> Option<Self> {
        if array(message, 0) != INITIATION.to_le_bytes() || !mac1_is_valid(local, message) {
            return None;
        }
        let caller = Caller { index: u32::from_le_bytes(array(message, 4)), ephemeral: array(message, 8) };
        let shared = local.agree(&caller.ephemeral)?;
        let mut transcript = Transcript::new(local.public(), &caller.ephemeral);
        let key = transcript.mix_for_key(&shared);
        let (transcript, key) = transcript.open(&key, &array::<48>(message, 40))?;
        let key = PublicKey::from_bytes(key);
        Some(Self { transcript, key, caller, sealed_timestamp: array(message, 88) })
    }

    /// Who the sender says they are.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The index under which the sender will keep the session.
    pub const fn sender_index(&self) -> u32 {
        self.caller.index
    }

    /// Opens the timestamp. `None` if the sender does not hold the key of `remote`.
    pub fn verify(mut self, remote: &Remote) -> Option<Verified> {
        let key = self.transcript.mix_for_key(&remote.shared);
        let (transcript, timestamp) = self.transcript.open(&key, &self.sealed_timestamp)?;
        Some(Verified { timestamp: Tai64n::from_bytes(timestamp), transcript, caller: self.caller })
    }
}

impl Verified {
    /// Answers: the message (section 5.4.3), its MACs still zero, and the session's keys. `remote` is the one that
    /// verified it.
    ///
    /// `preshared` is 32 zero bytes if there is none, `index` where we keep the session, `ephemeral` 32 random bytes
    /// that are used for nothing else. Costs two X25519 and the making of a key.
    pub fn respond(
        self,
        remote: &Remote,
        preshared: &[u8; 32],
        index: u32,
        ephemeral: [u8; 32],
    ) -> ([u8; RESPONSE_BYTES], Keys) {
        let Self { mut transcript, caller, .. } = self;
        let ephemeral = Ephemeral::new(ephemeral);
        let mut message = [0; RESPONSE_BYTES];
        message[..4].copy_from_slice(&RESPONSE.to_le_bytes());
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..12].copy_from_slice(&caller.index.to_le_bytes());
        message[12..44].copy_from_slice(&ephemeral.public);

        let agree = |key| ephemeral.agree(key).expect("neither key is of low order: both agreed with ours");
        transcript.mix_ephemeral(&ephemeral.public);
        transcript.mix_secret(&agree(&caller.ephemeral));
        transcript.mix_secret(&agree(remote.public().as_bytes()));
        let key = transcript.mix_preshared(preshared);
        transcript.seal(&key, &mut message[44..60]);
        let [receive, send] = transcript.split();
        (message, Keys { send: Key::new(&send), receive: Key::new(&receive), remote_index: caller.index })
    }
}
