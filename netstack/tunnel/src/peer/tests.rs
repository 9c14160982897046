//! Two sessions face to face, without sockets.

use std::net::IpAddr;

use model::PrivateKey;

use super::machine::{REKEY_JITTER_MS_MAX, REKEY_TIMEOUT};
use super::*;
use crate::initiation::INITIATION_BYTES;

/// One end: what the device would hold of it.
struct End {
    identity: Identity,
    indices: Arc<Indices<Arc<Peer>>>,
    peer: Arc<Peer>,
    at: Endpoint,
}

impl End {
    fn new(own: u8, other: u8) -> Self {
        let peer = Peer::new(PrivateKey::from_bytes([other; 32]).public(), 1);
        let local: Option<IpAddr> = None;
        let at = Endpoint { remote: SocketAddr::from(([192, 0, 2, own], 1)), local };
        Self {
            identity: Identity::new(PrivateKey::from_bytes([own; 32])),
            indices: Arc::new(Indices::new()),
            peer,
            at,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.peer.lock();
        assert!(session.wake(&self.peer, Some(&self.identity), &self.indices, Instant::now()));
        act(&mut session)
    }

    /// What is sent for a packet.
    fn seal(&self, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; 256];
        let bytes = self.with(|session| session.seal(packet, Instant::now(), &mut out));
        out[..bytes].to_vec()
    }

    fn accepts(&self, initiation: &[u8], now: Instant) -> bool {
        let message: &[u8; INITIATION_BYTES] = initiation.try_into().expect("an initiation");
        let claimed =
            Claimed::open(message, &self.identity.secret, &self.identity.public).expect("for this end");
        self.peer.lock().accept(&self.peer, &self.identity, &claimed, now)
    }

    fn respond(&self, initiation: &[u8], from: &End) -> Vec<u8> {
        let mut out: ControlBuffer = [0; 160];
        assert!(self.accepts(initiation, Instant::now()));
        let bytes = self.with(|session| session.respond(initiation, from.at, Instant::now(), &mut out));
        out[..bytes].to_vec()
    }

    fn finish(&self, response: &[u8], from: &End) -> Vec<u8> {
        let mut out: ControlBuffer = [0; 160];
        let (index, _) =
            self.indices.find(response[8..12].try_into().expect("four")).expect("an index in use");
        let bytes = self.with(|session| session.finish(index, response, from.at, Instant::now(), &mut out));
        out[..bytes].to_vec()
    }

    fn open(&self, message: &[u8], from: Endpoint) -> Option<(Vec<u8>, bool)> {
        let mut out = [0; 256];
        let (index, _) = self.indices.find(message[4..8].try_into().expect("four"))?;
        let opened = self.with(|session| session.open(index, message, from, Instant::now(), &mut out))?;
        Some((out[..opened.bytes].to_vec(), opened.confirms))
    }
}

/// An IPv4 packet without content.
fn packet() -> [u8; 20] {
    let mut packet = [0; 20];
    (packet[0], packet[3]) = (0x45, 20);
    packet
}

fn joined() -> (End, End) {
    let (a, b) = (End::new(1, 2), End::new(2, 1));
    let initiation = a.seal(&packet());
    let confirmation = a.finish(&b.respond(&initiation, &a), &b);
    assert_eq!(b.open(&confirmation, a.at), Some((vec![], true)));
    (a, b)
}

#[test]
fn a_packet_that_waited_for_the_handshake_goes_after_it() {
    let (a, b) = joined();
    let mut out = [0; 256];
    let bytes = a.with(|session| session.seal_waiting(Instant::now(), &mut out));
    assert_eq!(b.open(&out[..bytes], a.at), Some((packet().to_vec(), false)));
    assert_eq!(a.with(|session| session.seal_waiting(Instant::now(), &mut out)), 0);
    assert!([&a, &b].iter().all(|end| end.with(|session| session.last_handshake.is_some())));
}

#[test]
fn an_initiation_is_taken_once_even_after_the_session_is_gone() {
    let (a, b) = (End::new(1, 2), End::new(2, 1));
    let initiation = a.seal(&packet());
    let now = Instant::now();
    let later = |n: u32| now + INITIATION_INTERVAL * n;
    assert!(b.accepts(&initiation, later(0)));
    assert!(!b.accepts(&initiation, later(1)));
    b.peer.lock().forget_keys();
    assert!(!b.accepts(&initiation, later(2)));
    a.peer.lock().forget_keys();
    let next = a.seal(&packet());
    assert!(b.accepts(&next, later(3)));
}

#[test]
fn initiations_of_one_peer_are_bounded_in_time() {
    let (a, b) = (End::new(1, 2), End::new(2, 1));
    let first = a.seal(&packet());
    a.peer.lock().forget_keys();
    let second = a.seal(&packet());
    let now = Instant::now();
    assert!(b.accepts(&first, now));
    assert!(!b.accepts(&second, now + INITIATION_INTERVAL / 2));
    assert!(b.accepts(&second, now + INITIATION_INTERVAL));
}

#[test]
fn only_authenticated_data_that_is_new_moves_a_peer() {
    let (a, b) = joined();
    let elsewhere = Endpoint { remote: SocketAddr::from(([198, 51, 100, 1], 9)), local: None };
    let endpoint = || b.with(|session| session.endpoint);
    let good = a.seal(&packet());
    let mut forged = good.clone();
    *forged.last_mut().expect("a tag") ^= 1;
    assert_eq!((b.open(&forged, elsewhere), endpoint()), (None, Some(a.at)));
    let mut late = good.clone();
    late[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
    assert_eq!((b.open(&late, elsewhere), endpoint()), (None, Some(a.at)));
    assert!(b.open(&good, a.at).is_some());
    assert_eq!((b.open(&good, elsewhere), endpoint()), (None, Some(a.at)), "played again");
    assert!(b.open(&a.seal(&packet()), elsewhere).is_some());
    assert_eq!(endpoint(), Some(elsewhere));
}

#[test]
fn a_session_outlives_its_preshared_key_until_the_next_handshake() {
    let (a, b) = joined();
    let key = PresharedKey::from_bytes([9; 32]);
    for end in [&a, &b] {
        end.with(|session| session.set_preshared_key(key.clone()));
        assert!(end.with(|session| session.retired.is_some()));
    }
    assert_eq!(b.open(&a.seal(&packet()), a.at), Some((packet().to_vec(), false)));
    assert_eq!(a.open(&b.seal(&packet()), b.at), Some((packet().to_vec(), false)));
    let mut out: ControlBuffer = [0; 160];
    let bytes = a.with(|session| session.live.as_mut().expect("woken").initiate(Instant::now(), &mut out));
    b.with(|session| session.initiation_at = None);
    let confirmation = a.finish(&b.respond(&out[..bytes], &a), &b);
    assert_eq!(b.open(&confirmation, a.at), Some((vec![], true)));
    let by_new = a.seal(&packet());
    let lease = b.with(|session| session.live.as_ref().map(|machine| machine.lease.index()));
    assert_eq!(b.indices.find(by_new[4..8].try_into().expect("four")).map(|(index, _)| index), lease);
    assert!(b.open(&by_new, a.at).is_some());
}

#[test]
fn a_peer_asleep_has_no_deadline_and_one_with_keepalive_has() {
    let end = End::new(1, 2);
    let now = Instant::now();
    let deadline = || end.peer.lock().deadline(now);
    assert_eq!(deadline(), None);
    end.peer.lock().set_remote(end.at.remote);
    assert_eq!(deadline(), None);
    end.peer.lock().set_keepalive(25);
    assert_eq!(deadline(), Some(now), "the first goes at once");
    end.peer.lock().remove();
    assert_eq!(deadline(), None);
    assert!(!end.peer.lock().wake(&end.peer, Some(&end.identity), &end.indices, now), "removed");
}

#[test]
fn a_handshake_begins_without_a_packet_where_there_is_no_session() {
    let (a, now) = (End::new(1, 2), Instant::now());
    assert!(!a.with(|session| session.begin(now)), "nobody knows where the peer is");
    a.peer.lock().set_remote(a.at.remote);
    let (turn, mut out) = (now + Duration::from_millis(50), [0; 160]);
    assert!(a.peer.lock().begin(turn));
    assert_eq!(a.peer.lock().deadline(now), Some(turn));
    assert!(!a.peer.lock().wants_machine(now) && a.peer.lock().wants_machine(turn));
    let sent = a.with(|session| session.tick(turn, &mut out));
    assert_eq!((sent, out[0]), (INITIATION_BYTES, INITIATION));
    assert_eq!(a.with(|session| session.tick(turn, &mut out)), 0, "the protocol repeats it, not we");

    let (a, _) = joined();
    assert!(!a.with(|session| session.begin(now)), "the session lives");
}

#[test]
fn an_unanswered_initiation_is_repeated_with_jitter() {
    let a = End::new(1, 2);
    let before = Instant::now();
    assert_eq!(a.seal(&packet())[0], INITIATION);
    let retry = a.with(|session| session.deadline(before)).expect("a deadline");
    let wait = retry - before;
    let late = Duration::from_millis(u64::from(REKEY_JITTER_MS_MAX) + 1000);
    assert!(wait >= REKEY_TIMEOUT && wait < REKEY_TIMEOUT + late, "{wait:?}");
    assert_eq!(a.seal(&packet()), [0u8; 0], "the second packet waits too");
}

#[test]
fn a_key_of_low_order_makes_no_session() {
    let end = End::new(1, 2);
    let peer = Peer::new(PublicKey::from_bytes([0; 32]), 1);
    assert!(!peer.lock().wake(&peer, Some(&end.identity), &end.indices, Instant::now()));
}

#[test]
fn an_index_is_free_again_when_its_session_ends() {
    let (a, b) = joined();
    let message = a.seal(&packet());
    b.peer.lock().forget_keys();
    assert!(b.indices.find(message[4..8].try_into().expect("four")).is_none());
}
