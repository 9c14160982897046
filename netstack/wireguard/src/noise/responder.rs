//! The end that answers a handshake.

use model::PublicKey;

use super::transcript::Transcript;
use super::{Keys, Local, Remote};
use crate::cookie::mac1_is_valid;
use crate::message::{INITIATION_BYTES, RESPONSE, RESPONSE_BYTES, array};
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
        if !mac1_is_valid(local, message) {
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
    /// that are used for nothing else, and wiped. Costs two X25519 and the making of a key.
    pub fn respond(
        self,
        remote: &Remote,
        preshared: &[u8; 32],
        index: u32,
        ephemeral: &[u8; 32],
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

#[cfg(test)]
mod tests {
    use model::PrivateKey;

    use super::*;
    use crate::cookie::stamp;
    use crate::noise::initiate;

    fn ends() -> (Local, Local) {
        (Local::new(&PrivateKey::from_bytes([1; 32])), Local::new(&PrivateKey::from_bytes([2; 32])))
    }

    /// With an ephemeral key of low order all secrets of it are zero, so that anybody can seal the message.
    #[test]
    fn an_initiation_with_an_ephemeral_key_of_low_order_is_refused() {
        let (a, b) = ends();
        let sealed_with = |ephemeral: [u8; 32], shared: &[u8; 32]| {
            let mut message = [0; INITIATION_BYTES];
            message[0] = 1;
            message[8..40].copy_from_slice(&ephemeral);
            let mut transcript = Transcript::new(b.public(), &ephemeral);
            let key = transcript.mix_for_key(shared);
            transcript.seal(&key, &mut message[40..88]);
            stamp(&mut message, &Remote::new(&a, b.public()).expect("not of low order"), None);
            Claimed::open(&b, &message)
        };
        assert!(sealed_with([0; 32], &[0; 32]).is_none());
        let honest = Ephemeral::new(&[4; 32]);
        let shared = honest.agree(b.public().as_bytes()).expect("not of low order");
        assert!(sealed_with(honest.public, &shared).is_some());
    }

    /// The same in the answer, by a peer that holds its key and wants a session that others can read.
    #[test]
    fn a_response_with_an_ephemeral_key_of_low_order_is_refused() {
        let (a, b) = ends();
        let to_b = Remote::new(&a, b.public()).expect("not of low order");
        let to_a = Remote::new(&b, a.public()).expect("not of low order");
        let (initiator, mut message) = initiate(&a, &to_b, 7, Tai64n::from_bytes([0; 12]), &[4; 32]);
        stamp(&mut message, &to_b, None);
        let answered_with = |ephemeral: [u8; 32], secrets: [&[u8; 32]; 2]| {
            let claimed = Claimed::open(&b, &message).expect("for b");
            let mut transcript = claimed.verify(&to_a).expect("from a").transcript;
            transcript.mix_ephemeral(&ephemeral);
            secrets.iter().for_each(|secret| transcript.mix_secret(secret));
            let key = transcript.mix_preshared(&[0; 32]);
            let mut response = [0; RESPONSE_BYTES];
            response[0] = 2;
            response[8] = 7;
            response[12..44].copy_from_slice(&ephemeral);
            transcript.seal(&key, &mut response[44..60]);
            stamp(&mut response, &to_a, None);
            initiator.finish(&a, &[0; 32], &response)
        };
        assert!(answered_with([0; 32], [&[0; 32]; 2]).is_none());
        let honest = Ephemeral::new(&[5; 32]);
        let callers = array(&message, 8);
        let secrets =
            [&callers, a.public().as_bytes()].map(|key| honest.agree(key).expect("not of low order"));
        assert!(answered_with(honest.public, [&secrets[0], &secrets[1]]).is_some());
    }
}
