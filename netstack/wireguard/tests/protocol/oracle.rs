//! Two ends whose keys are known: ours, and boringtun's as the judge of it.

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use chacha::{Cipher, Job, Key, TAG_BYTES};
use model::PrivateKey;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use wireguard::Tai64n;
use wireguard::cookie::stamp;
use wireguard::message::{DATA, DATA_HEADER_BYTES};
use wireguard::noise::{Claimed, Initiator, Keys, Local, Remote, Verified, initiate};

/// No preshared key.
pub(crate) const NONE: [u8; 32] = [0; 32];

/// The key that is clamped of 32 equal bytes.
pub(crate) fn private(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes([byte; 32])
}

pub(crate) fn local(byte: u8) -> Local {
    Local::new(&private(byte))
}

/// The holder of `theirs`, seen by `local`.
pub(crate) fn remote(local: &Local, theirs: u8) -> Remote {
    Remote::new(local, &private(theirs).public()).expect("the key is not of low order")
}

pub(crate) fn time() -> Tai64n {
    Tai64n::from_wall(Duration::from_secs(1_700_000_000))
}

/// An initiation of `ours`, ready to be sent to `theirs`.
pub(crate) fn initiation(ours: &Local, theirs: &Remote) -> (Initiator, [u8; 148]) {
    let (initiator, mut message) = initiate(ours, theirs, 7, time(), &[40; 32]);
    stamp(&mut message, theirs, None);
    (initiator, message)
}

/// Who sent it, proven.
pub(crate) fn verified(local: &Local, remote: &Remote, message: &[u8; 148]) -> Option<Verified> {
    Claimed::open(local, message)?.verify(remote)
}

/// The answer of `ours`, ready to be sent.
pub(crate) fn respond(
    ours: &Local,
    theirs: &Remote,
    preshared: &[u8; 32],
    message: &[u8; 148],
) -> ([u8; 92], Keys) {
    let verified = verified(ours, theirs, message).expect("an initiation of theirs");
    let (mut response, keys) = verified.respond(theirs, preshared, 9, &[50; 32]);
    stamp(&mut response, theirs, None);
    (response, keys)
}

/// boringtun's end: the holder of `ours` that speaks to `theirs`. Under `load` it asks for cookies.
pub(crate) fn tunn(ours: u8, theirs: u8, preshared: Option<[u8; 32]>, load: bool) -> Tunn {
    let public = |byte| x25519::PublicKey::from(&x25519::StaticSecret::from([byte; 32]));
    let limiter = RateLimiter::new(&public(ours), if load { 0 } else { u64::MAX });
    let secret = x25519::StaticSecret::from([ours; 32]);
    Tunn::new(secret, public(theirs), preshared, None, 3, Some(Arc::new(limiter)))
}

/// An initiation of boringtun's end, even if one is on its way.
pub(crate) fn initiation_of(tunn: &mut Tunn) -> [u8; 148] {
    let mut buffer = [0; 256];
    let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut buffer, true) else {
        panic!("it initiates when told to")
    };
    (&*message).try_into().expect("the length of an initiation")
}

/// What boringtun's end answers to a datagram from 192.0.2.1, if anything.
pub(crate) fn answer_of(tunn: &mut Tunn, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    match tunn.decapsulate(Some(from), datagram, &mut buffer) {
        TunnResult::WriteToNetwork(answer) => Some(answer.to_vec()),
        TunnResult::WriteToTunnelV4(packet, _) => Some(packet.to_vec()),
        _ => None,
    }
}

/// An IPv4 packet of 20 bytes and this much payload.
fn packet(payload: u16) -> Vec<u8> {
    let mut packet = vec![0; 20 + usize::from(payload)];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(20 + payload).to_be_bytes());
    packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
    packet
}

/// The text, sealed: text and tag.
pub(crate) fn seal(key: &Key, counter: u64, text: &[u8]) -> Vec<u8> {
    let mut bytes = [text, &[0; TAG_BYTES]].concat();
    Cipher::Reference.seal([Job { key, counter, bytes: &mut bytes }]);
    bytes
}

/// The text of a data message, if the key fits.
pub(crate) fn open(key: &Key, message: &[u8]) -> Option<Vec<u8>> {
    let counter = u64::from_le_bytes(*message[8..].first_chunk().expect("a header"));
    let mut bytes = message[DATA_HEADER_BYTES..].to_vec();
    let mut opened = false;
    Cipher::Reference.open([Job { key, counter, bytes: &mut bytes }], |_, good| opened = good);
    bytes.truncate(bytes.len() - TAG_BYTES);
    opened.then_some(bytes)
}

/// Packets go both ways between our keys and boringtun's session.
pub(crate) fn assert_talk(keys: &Keys, tunn: &mut Tunn) {
    for (counter, payload) in [(0, 0), (1, 1300)] {
        let packet = packet(payload);
        let mut message = [DATA.to_le_bytes(), keys.remote_index.to_le_bytes()].concat();
        message.extend(u64::to_le_bytes(counter));
        message.extend(seal(&keys.send, counter, &packet));
        assert_eq!(answer_of(tunn, &message), Some(packet.clone()), "it opens what we seal");

        let mut buffer = [0; 2048];
        let TunnResult::WriteToNetwork(message) = tunn.encapsulate(&packet, &mut buffer) else {
            panic!("it has a session")
        };
        assert_eq!(open(&keys.receive, message), Some(packet), "we open what it seals");
    }
}
