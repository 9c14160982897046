//! Handshakes with boringtun both ways, and everything that must not become one.

use data_encoding::HEXLOWER;
use model::PublicKey;
use proptest::prelude::*;
use wireguard::cookie::stamp;
use wireguard::noise::{Claimed, Local, Remote};

use crate::oracle::{
    NONE, answer_of, assert_talk, initiation, initiation_of, local, open, private, remote, respond, seal,
    time, tunn, verified,
};

#[test]
fn we_begin_and_boringtun_answers() {
    for preshared in [None, Some([77; 32])] {
        let (ours, mut theirs) = (local(1), tunn(2, 1, preshared, false));
        let (initiator, message) = initiation(&ours, &remote(&ours, 2));
        let response = answer_of(&mut theirs, &message).expect("a response");
        let response = response.as_slice().try_into().expect("the length of a response");
        let keys = initiator.finish(&ours, &preshared.unwrap_or(NONE), response).expect("a session");
        assert_talk(&keys, &mut theirs);
    }
}

#[test]
fn boringtun_begins_and_we_answer() {
    for preshared in [None, Some([77; 32])] {
        let (ours, mut theirs) = (local(1), tunn(2, 1, preshared, false));
        let (first, message) = (initiation_of(&mut theirs), initiation_of(&mut theirs));
        let remote = remote(&ours, 2);
        let made = |message| verified(&ours, &remote, message).expect("an initiation of theirs").timestamp;
        assert!(made(&first) < made(&message));

        let (response, keys) = respond(&ours, &remote, &preshared.unwrap_or(NONE), &message);
        let keepalive = answer_of(&mut theirs, &response).expect("it has a session and says so");
        assert_eq!(open(&keys.receive, &keepalive), Some(Vec::new()));
        assert_talk(&keys, &mut theirs);
    }
}

#[test]
fn both_ends_may_be_ours() {
    let (a, b) = (local(1), local(2));
    let (to_b, to_a) = (remote(&a, 2), remote(&b, 1));
    let (initiator, message) = initiation(&a, &to_b);
    let claimed = Claimed::open(&b, &message).expect("for us");
    assert_eq!((claimed.key(), claimed.sender_index()), (a.public(), initiator.index()));
    assert_eq!(claimed.verify(&to_a).expect("of theirs").timestamp, time());

    let (response, of_b) = respond(&b, &to_a, &NONE, &message);
    let of_a = initiator.finish(&a, &NONE, &response).expect("a session");
    assert_eq!((of_a.remote_index, of_b.remote_index), (9, 7));
    assert_eq!(seal(&of_a.send, 5, b"text"), seal(&of_b.receive, 5, b"text"));
    assert_eq!(seal(&of_a.receive, 5, b"text"), seal(&of_b.send, 5, b"text"));
    assert_ne!(seal(&of_a.send, 5, b"text"), seal(&of_a.receive, 5, b"text"));
}

#[test]
fn another_preshared_key_makes_no_session() {
    let (ours, mut theirs) = (local(1), tunn(2, 1, Some([77; 32]), false));
    let (initiator, message) = initiation(&ours, &remote(&ours, 2));
    let response = answer_of(&mut theirs, &message).expect("a response");
    let response = response.as_slice().try_into().expect("the length of a response");
    assert!(initiator.finish(&ours, &NONE, response).is_none());
    assert!(initiator.finish(&ours, &[78; 32], response).is_none());
    assert!(initiator.finish(&ours, &[77; 32], response).is_some(), "a wrong try spoils nothing");

    let message = initiation_of(&mut theirs);
    let (response, _) = respond(&ours, &remote(&ours, 2), &NONE, &message);
    assert_eq!(answer_of(&mut theirs, &response), None);
}

#[test]
fn other_static_keys_make_no_session() {
    let (a, b, c) = (local(1), local(2), local(3));
    let (initiator, message) = initiation(&a, &remote(&a, 2));
    assert!(Claimed::open(&c, &message).is_none(), "made for another");
    let mut passed_on = message;
    stamp(&mut passed_on, &remote(&a, 3), None);
    assert!(Claimed::open(&c, &passed_on).is_none(), "made for another, stamped for us");
    assert!(verified(&b, &remote(&b, 3), &message).is_none(), "made by another");

    let (mut response, _) = respond(&b, &remote(&b, 1), &NONE, &message);
    assert!(initiator.finish(&c, &NONE, &response).is_none());
    stamp(&mut response, &remote(&b, 3), None);
    assert!(initiator.finish(&c, &NONE, &response).is_none());
    let (other, _) = initiation(&a, &remote(&a, 3));
    stamp(&mut response, &remote(&b, 1), None);
    assert!(other.finish(&a, &NONE, &response).is_none(), "the answer of another");
    assert!(initiator.finish(&a, &NONE, &response).is_some());
}

/// Every byte changed, once as by noise on the way, once by somebody who can make the first MAC again. Only the index
/// of the sender is then not covered (it is not in the transcript), and the second MAC is the cookie's business.
#[test]
fn no_byte_can_be_changed() {
    let (a, b) = (local(1), local(2));
    let (to_b, to_a) = (remote(&a, 2), remote(&b, 1));
    let (initiator, message) = initiation(&a, &to_b);
    let (response, _) = respond(&b, &to_a, &NONE, &message);
    let answered = |message: &[u8; 148]| verified(&b, &to_a, message).is_some();
    let finished = |message: &[u8; 92]| initiator.finish(&a, &NONE, message).is_some();
    assert!(answered(&message) && finished(&response));
    for bit in [1, 0x80] {
        for at in 0..132 {
            let mut changed = message;
            changed[at] ^= bit;
            assert!(!answered(&changed), "byte {at} of the initiation");
            stamp(&mut changed, &to_b, None);
            assert_eq!(answered(&changed), (4..8).contains(&at) || at >= 116, "byte {at}, stamped");
        }
        for at in 0..76 {
            let mut changed = response;
            changed[at] ^= bit;
            assert!(!finished(&changed), "byte {at} of the response");
            stamp(&mut changed, &to_a, None);
            assert_eq!(finished(&changed), (4..8).contains(&at) || at >= 60, "byte {at}, stamped");
        }
    }
}

#[test]
fn what_is_not_stamped_is_not_looked_at() {
    let (a, b) = (local(1), local(2));
    let (initiator, mut message) = initiation(&a, &remote(&a, 2));
    let (mut response, _) = respond(&b, &remote(&b, 1), &NONE, &message);
    message[116..].fill(0);
    response[60..].fill(0);
    assert!(Claimed::open(&b, &message).is_none());
    assert!(initiator.finish(&a, &NONE, &response).is_none());
}

/// The points of low order and their other spellings (<https://cr.yp.to/ecdh.html>, "contributory behavior").
#[test]
fn keys_of_low_order_are_refused() {
    let ours = local(1);
    let edge = |low: u8| format!("{low:02x}{}7f", "ff".repeat(30));
    let texts = [
        "00".repeat(32),
        format!("01{}", "00".repeat(31)),
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800".to_owned(),
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157".to_owned(),
        edge(0xec),
        edge(0xed),
        edge(0xee),
    ];
    for text in texts {
        let mut key: [u8; 32] = HEXLOWER.decode(text.as_bytes()).expect("hex").try_into().expect("32 bytes");
        assert!(Remote::new(&ours, &PublicKey::from_bytes(key)).is_none(), "{text}");
        key[31] |= 0x80;
        assert!(
            Remote::new(&ours, &PublicKey::from_bytes(key)).is_none(),
            "{text} with the bit that is ignored"
        );
    }
}

#[test]
fn secrets_print_nothing() {
    let ours = Local::new(&private(1));
    assert_eq!(format!("{ours:?}"), format!("Local({})", private(1).public()));
    assert_eq!(format!("{:?}", remote(&ours, 2)), format!("Remote({})", private(2).public()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_two_keys_agree(
        keys: [[u8; 32]; 2], ephemerals: [[u8; 32]; 2], preshared: [u8; 32], indices: [u32; 2],
    ) {
        let [a, b] = keys.map(|key| Local::new(&model::PrivateKey::from_bytes(key)));
        let to_b = Remote::new(&a, b.public()).expect("a made key is not of low order");
        let to_a = Remote::new(&b, a.public()).expect("a made key is not of low order");
        let (initiator, mut message) =
            wireguard::noise::initiate(&a, &to_b, indices[0], time(), &ephemerals[0]);
        stamp(&mut message, &to_b, None);
        let verified = verified(&b, &to_a, &message).expect("of theirs");
        let (mut response, of_b) = verified.respond(&to_a, &preshared, indices[1], &ephemerals[1]);
        stamp(&mut response, &to_a, None);
        let of_a = initiator.finish(&a, &preshared, &response).expect("a session");
        prop_assert_eq!([of_b.remote_index, of_a.remote_index], indices);
        prop_assert_eq!(seal(&of_a.send, 0, &[]), seal(&of_b.receive, 0, &[]));
        prop_assert_eq!(seal(&of_a.receive, 0, &[]), seal(&of_b.send, 0, &[]));
    }
}
