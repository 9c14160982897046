//! Datagrams: what anybody may send to a WireGuard port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use model::PrivateKey;
use wireguard::cookie::{Baker, mac1_is_valid, open_reply, stamp};
use wireguard::message::{DATA_BYTES_MIN, DATA_HEADER_BYTES};
use wireguard::noise::{Claimed, Initiator, Local, Remote, initiate};
use wireguard::{Message, Tai64n, Time};

/// Both ends of the handshake that the recorded inputs were taken from.
static ENDS: LazyLock<Ends> = LazyLock::new(Ends::new);
const PRESHARED: [u8; 32] = [3; 32];

struct Ends {
    caller: Local,
    callee: Local,
    to_callee: Remote,
    to_caller: Remote,
    begun: Initiator,
    mac1: [u8; 16],
}

impl Ends {
    fn new() -> Self {
        let [caller, callee] = [1, 2].map(|byte| Local::new(&PrivateKey::from_bytes([byte; 32])));
        let to_callee = Remote::new(&caller, callee.public()).expect("a made key is not of low order");
        let to_caller = Remote::new(&callee, caller.public()).expect("a made key is not of low order");
        let time = Tai64n::from_wall(Duration::new(1_700_000_000, 123_456_789));
        let (begun, mut message) = initiate(&caller, &to_callee, 0x0102_0304, time, &[4; 32]);
        let mac1 = stamp(&mut message, &to_callee, None);
        Self { caller, callee, to_callee, to_caller, begun, mac1 }
    }
}

/// What is no message has no valid MAC; what is one is read to its end even by who can make the first MAC; and its cookie
/// proves its address.
pub(crate) fn check(bytes: &[u8]) {
    let ends = &*ENDS;
    match Message::parse(bytes) {
        None => assert!(!mac1_is_valid(&ends.callee, bytes)),
        Some(Message::Initiation(message)) => {
            let mut message = *message;
            prove(&ends.callee, &ends.to_callee, &mut message);
            let verified =
                Claimed::open(&ends.callee, &message).and_then(|claimed| claimed.verify(&ends.to_caller));
            if let Some(verified) = verified {
                let (mut response, _) = verified.respond(&ends.to_caller, &PRESHARED, 7, &[5; 32]);
                stamp(&mut response, &ends.to_caller, None);
                assert!(matches!(Message::parse(&response), Some(Message::Response(_))));
            }
        }
        Some(Message::Response(message)) => {
            let mut message = *message;
            prove(&ends.caller, &ends.to_caller, &mut message);
            if let Some(keys) = ends.begun.finish(&ends.caller, &PRESHARED, &message) {
                assert_eq!(keys.remote_index.to_le_bytes(), message[4..8]);
            }
        }
        Some(Message::CookieReply(message)) => {
            let other = [ends.mac1[0] ^ 1; 16];
            assert!(open_reply(&ends.to_callee, message, &other).is_none());
            open_reply(&ends.to_callee, message, &ends.mac1);
        }
        Some(Message::Data { receiver, counter }) => {
            assert!(bytes.len() >= DATA_BYTES_MIN);
            let header = [&receiver.to_le_bytes()[..], &counter.to_le_bytes()].concat();
            assert_eq!(header, bytes[4..DATA_HEADER_BYTES]);
        }
    }
}

/// The message with both MACs made right.
fn prove(ours: &Local, us: &Remote, message: &mut [u8]) {
    let (baker, now) = (Baker::new([6; 32]), Time::from_nanos(0));
    let from = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 51820));
    let mac1 = stamp(message, us, None);
    assert!(mac1_is_valid(ours, message) && !baker.mac2_is_valid(message, from, now));
    let reply = baker.reply(ours, message, from, now, [7; 24]);
    let cookie = open_reply(us, &reply, &mac1).expect("a reply to this message");
    stamp(message, us, Some(&cookie));
    assert!(mac1_is_valid(ours, message) && baker.mac2_is_valid(message, from, now));
}
