//! The two MACs at the end of a handshake message, and the cookie that the second proves (section 5.4.4 and 5.4.7).
//!
//! The first shows that the sender knows who it speaks to, the second that it receives what is sent to its address.
//! Knows neither handshakes nor when a cookie is asked for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use subtle::ConstantTimeEq as _;

use crate::hash::{Secret, mac, subkey};
use crate::message::{COOKIE_REPLY, COOKIE_REPLY_BYTES, Message, array};
use crate::parties::{Local, Remote};
use crate::time::Time;

/// Length of a MAC and of a cookie.
pub const MAC_BYTES: usize = 16;
/// How often the secret behind the cookies changes (section 5.4.7). The one before still counts: a cookie is good for
/// 120 to 240 seconds, and who got one just before the change need not ask again.
pub const SECRET_LIFE: Duration = Duration::from_secs(120);
/// How long who received a cookie uses it: a little less than it is good for at least, as in the kernel.
pub const COOKIE_LIFE: Duration = Duration::from_secs(115);

type Mac = [u8; MAC_BYTES];

/// Writes both MACs at the end of a handshake message to `remote`: the second from the cookie, or zero without one.
/// Returns the first, which a cookie reply will be bound to.
///
/// # Panics
/// If the message has no room for both.
pub fn stamp(message: &mut [u8], remote: &Remote, cookie: Option<&Mac>) -> Mac {
    let (body, first, _) = parts(message);
    let (before, end) = (body.len(), body.len() + first.len());
    let mac1 = mac(&remote.mac_keys.mac1, &[body]);
    message[before..end].copy_from_slice(&mac1);
    let mac2 = cookie.map_or([0; MAC_BYTES], |cookie| mac(cookie, &[&message[..end]]));
    message[end..].copy_from_slice(&mac2);
    mac1
}

/// Whether this is an initiation or a response by type and length, and its first MAC is made for us.
pub fn mac1_is_valid(local: &Local, message: &[u8]) -> bool {
    if !matches!(Message::parse(message), Some(Message::Initiation(_) | Message::Response(_))) {
        return false;
    }
    let (body, mac1, _) = parts(message);
    mac(&local.mac_keys.mac1, &[body]).ct_eq(mac1).into()
}

/// Makes cookies and knows its own again, without keeping any.
pub struct Baker {
    seed: Secret,
}

impl Baker {
    /// One that follows from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed: Secret::new(seed) }
    }

    /// Whether the second MAC shows that the sender received a cookie at this address and port not long ago, see
    /// [`SECRET_LIFE`]. The message is one whose first MAC is valid; false if it is too short.
    pub fn mac2_is_valid(&self, message: &[u8], from: SocketAddr, now: Time) -> bool {
        if message.len() < 2 * MAC_BYTES {
            return false;
        }
        let (body, mac1, mac2) = parts(message);
        // Who has no cookie says so, and costs no hash in a flood.
        if *mac2 == [0; MAC_BYTES] {
            return false;
        }
        let age = age(now);
        let holds = |age| mac(&self.cookie(age, from), &[body, mac1]).ct_eq(mac2).into();
        holds(age) || age.checked_sub(1).is_some_and(holds)
    }

    /// Answers a message whose first MAC is valid with the cookie of the address and port that it came from
    /// (section 5.4.7). `nonce` is 24 random bytes that are used for nothing else.
    ///
    /// # Panics
    /// If the message is shorter than a handshake's, for which [`mac1_is_valid`] is false.
    pub fn reply(
        &self,
        local: &Local,
        message: &[u8],
        from: SocketAddr,
        now: Time,
        nonce: [u8; 24],
    ) -> [u8; COOKIE_REPLY_BYTES] {
        let mut cookie = self.cookie(age(now), from);
        let (_, mac1, _) = parts(message);
        let tag = XChaCha20Poly1305::new(&local.mac_keys.cookie.into())
            .encrypt_in_place_detached(&nonce.into(), mac1, &mut cookie)
            .expect("a cookie is shorter than 256 GiB");
        let mut reply = [0; COOKIE_REPLY_BYTES];
        reply[..4].copy_from_slice(&COOKIE_REPLY.to_le_bytes());
        reply[4..8].copy_from_slice(&array::<4>(message, 4));
        reply[8..32].copy_from_slice(&nonce);
        reply[32..48].copy_from_slice(&cookie);
        reply[48..].copy_from_slice(&tag);
        reply
    }

    /// The MAC of the address and port under the secret of this age.
    fn cookie(&self, age: u64, from: SocketAddr) -> Mac {
        let secret = subkey(&self.seed, &age.to_le_bytes());
        let port = from.port().to_be_bytes();
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => mac(&*secret, &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(&*secret, &[&ip.octets(), &port]),
        }
    }
}

/// Opens the cookie of a reply to the message that was stamped with `mac1`. `None` if the reply answers another message
/// or is not from `remote`. Whether its index is ours, who looked `mac1` up by it knows.
pub fn open_reply(remote: &Remote, reply: &[u8; COOKIE_REPLY_BYTES], mac1: &Mac) -> Option<Mac> {
    if array(reply, 0) != COOKIE_REPLY.to_le_bytes() {
        return None;
    }
    let (nonce, mut cookie, tag) = (array::<24>(reply, 8), array(reply, 32), array::<16>(reply, 48));
    XChaCha20Poly1305::new(&remote.mac_keys.cookie.into())
        .decrypt_in_place_detached(&XNonce::from(nonce), mac1, &mut cookie, &Tag::from(tag))
        .ok()
        .map(|()| cookie)
}

/// How many secrets were in force before the one of now.
fn age(now: Time) -> u64 {
    now.since(Time::default()).as_secs() / SECRET_LIFE.as_secs()
}

/// What both MACs stand behind, and they.
fn parts(message: &[u8]) -> (&[u8], &Mac, &Mac) {
    let split = |bytes| <[u8]>::split_last_chunk(bytes).expect("a handshake message ends with two MACs");
    let (rest, mac2) = split(message);
    let (body, mac1) = split(rest);
    (body, mac1, mac2)
}
