//! The engine between its port and its interface: datagrams of anybody, and data of a peer.

use std::cell::RefCell;

use tunnel::fuzzed::Engine;

/// What the peer may send from.
const ALLOWED: [&str; 2] = ["10.0.0.0/8", "fd00::/16"];
/// After three minutes the session would take nothing.
const AGE_SECONDS_MAX: u64 = 100;

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// Nothing unauthentic reaches the interface, nothing authentic does twice, and only from where it may come.
pub(crate) fn check(bytes: &[u8]) {
    let Some((how, datagram)) = bytes.split_first() else { return };
    ENGINE.with_borrow_mut(|kept| {
        let engine = match kept {
            Some(engine) if engine.age_seconds() < AGE_SECONDS_MAX => engine,
            old => old.insert(Engine::new(&ALLOWED.map(|net| net.parse().expect("a network")))),
        };
        let ecn = how & 3;
        let (written, _) = engine.receive(&mut datagram.to_vec(), ecn);
        assert!(written.is_empty(), "nobody sealed it");
        let message = engine.seal(datagram);
        let (written, _) = engine.receive(&mut message.clone(), ecn);
        assert!(written.len() <= 1);
        for packet in &written {
            check_written(packet, datagram);
        }
        let mut forged = message.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1 << (how >> 5);
        for mut again in [message, forged] {
            assert_eq!(engine.receive(&mut again, ecn), (Vec::new(), Vec::new()), "a replay, or forged");
        }
    });
}

fn check_written(packet: &[u8], datagram: &[u8]) {
    assert!(packet.len() <= datagram.len());
    let is_allowed = match packet[0] >> 4 {
        4 => packet[12] == 10,
        6 => packet[8..10] == [0xfd, 0],
        other => panic!("version {other} is no IP"),
    };
    assert!(is_allowed, "{packet:?}");
    // Congestion may be told in the first two words; the rest is the peer's.
    let same = if packet[0] >> 4 == 4 { 12 } else { 2 };
    assert_eq!(packet[same..], datagram[same..packet.len()]);
}
