//! The end that begins a handshake.

use super::transcript::Transcript;
use super::{Keys, Local, Remote};
use crate::cookie::mac1_is_valid;
use crate::message::{INITIATION, INITIATION_BYTES, RESPONSE_BYTES, array};
use crate::parties::Ephemeral;
use crate::tai64n::Tai64n;
use chacha::Key;

/// A handshake that was begun and is not answered yet. Wiped when dropped.
pub struct Initiator {
    transcript: Transcript,
    ephemeral: Ephemeral,
    index: u32,
}

/// Begins a handshake: the message (section 5.4.2), its MACs still zero, and what its answer is read with.
///
/// `index` is where we will keep the session, `ephemeral` 32 random bytes that are used for nothing else, and wiped.
/// The peer refuses a timestamp that is not later than that of every initiation before.
pub fn initiate(
    local: &Local,
    remote: &Remote,
    index: u32,
    timestamp: Tai64n,
    ephemeral: &[u8; 32],
) -> (Initiator, [u8; INITIATION_BYTES]) {
    let ephemeral = Ephemeral::new(ephemeral);
    let mut transcript = Transcript::new(remote.public(), &ephemeral.public);
    let mut message = [0; INITIATION_BYTES];
    message[..4].copy_from_slice(&INITIATION.to_le_bytes());
    message[4..8].copy_from_slice(&index.to_le_bytes());
    message[8..40].copy_from_slice(&ephemeral.public);

    let shared = ephemeral.agree(remote.public().as_bytes()).expect("a remote's key is not of low order");
    let key = transcript.mix_for_key(&shared);
    message[40..72].copy_from_slice(local.public().as_bytes());
    transcript.seal(&key, &mut message[40..88]);

    let key = transcript.mix_for_key(&remote.shared);
    message[88..100].copy_from_slice(timestamp.as_bytes());
    transcript.seal(&key, &mut message[88..116]);
    (Initiator { transcript, ephemeral, index }, message)
}

impl Initiator {
    /// The index under which we will keep the session; the answer names it.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads the answer (section 5.4.3). `None` if its first MAC is not valid, it does not answer this initiation, or
    /// its sender holds not the remote key or another preshared key (32 zero bytes if there is none); the right answer
    /// may still come.
    pub fn finish(
        &self,
        local: &Local,
        preshared: &[u8; 32],
        response: &[u8; RESPONSE_BYTES],
    ) -> Option<Keys> {
        let field = |at| u32::from_le_bytes(array(response, at));
        if field(8) != self.index || !mac1_is_valid(local, response) {
            return None;
        }
        let ephemeral = array(response, 12);
        let mut transcript = self.transcript.clone();
        transcript.mix_ephemeral(&ephemeral);
        transcript.mix_secret(&*self.ephemeral.agree(&ephemeral)?);
        transcript.mix_secret(&*local.agree(&ephemeral)?);
        let key = transcript.mix_preshared(preshared);
        let (transcript, []) = transcript.open(&key, &array::<16>(response, 44))?;
        let [send, receive] = transcript.split();
        Some(Keys { send: Key::new(&send), receive: Key::new(&receive), remote_index: field(4) })
    }
}
