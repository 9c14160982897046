//! Cookies: with boringtun where its MAC is the same, and what they are bound to.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use wireguard::Time;
use wireguard::cookie::{Baker, COOKIE_LIFE, SECRET_LIFE, mac1_is_valid, open_reply, stamp};
use wireguard::message::Message;

use crate::oracle::{NONE, answer_of, initiation, initiation_of, local, remote, respond, tunn};

const START: Time = Time::from_nanos(0);
const TICK: Duration = Duration::from_nanos(1);

fn from(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A message to us with the cookie that `baker` gives to `at`, at this time.
fn proven(baker: &Baker, at: SocketAddr, now: Time) -> [u8; 148] {
    let (ours, peer) = (local(1), local(2));
    let us = remote(&peer, 1);
    let (_, mut message) = initiation(&peer, &us);
    let mac1 = stamp(&mut message, &us, None);
    let cookie = open_reply(&us, &baker.reply(&ours, &message, at, now, [6; 24]), &mac1).expect("a cookie");
    stamp(&mut message, &us, Some(&cookie));
    assert!(mac1_is_valid(&ours, &message));
    message
}

#[test]
fn we_prove_our_address_to_boringtun() {
    let (ours, mut theirs) = (local(1), tunn(2, 1, None, true));
    let them = remote(&ours, 2);
    let (initiator, mut message) = initiation(&ours, &them);
    let mac1 = stamp(&mut message, &them, None);
    let reply = answer_of(&mut theirs, &message).expect("it is under load");
    let Some(Message::CookieReply(reply)) = Message::parse(&reply) else { panic!("a cookie reply") };
    assert_eq!(Message::CookieReply(reply).receiver(), Some(initiator.index()));
    let cookie = open_reply(&them, reply, &mac1).expect("bound to our message");
    stamp(&mut message, &them, Some(&cookie));
    let response = answer_of(&mut theirs, &message).expect("it is content");
    assert!(initiator.finish(&ours, &NONE, response.as_slice().try_into().expect("a response")).is_some());
}

#[test]
fn boringtun_proves_its_address_to_us() {
    let (ours, mut theirs) = (local(1), tunn(2, 1, None, false));
    let (baker, at) = (Baker::new([9; 32]), from("192.0.2.1:51820"));
    let message = initiation_of(&mut theirs);
    assert!(mac1_is_valid(&ours, &message) && !baker.mac2_is_valid(&message, at, START));
    let reply = baker.reply(&ours, &message, at, START, [6; 24]);
    assert_eq!(answer_of(&mut theirs, &reply), None);
    let again = initiation_of(&mut theirs);
    assert!(mac1_is_valid(&ours, &again) && baker.mac2_is_valid(&again, at, START));
}

#[test]
fn a_response_is_challenged_like_an_initiation() {
    let (a, b) = (local(1), local(2));
    let (to_b, to_a) = (remote(&a, 2), remote(&b, 1));
    let (_, message) = initiation(&a, &to_b);
    let (mut response, _) = respond(&b, &to_a, &NONE, &message);
    let mac1 = stamp(&mut response, &to_a, None);
    let (baker, at) = (Baker::new([9; 32]), from("[2001:db8::1]:1"));
    assert!(mac1_is_valid(&a, &response) && !baker.mac2_is_valid(&response, at, START));
    let reply = baker.reply(&a, &response, at, START, [6; 24]);
    assert_eq!(reply[4..8], response[4..8], "it goes to the sender's index");
    stamp(&mut response, &to_a, open_reply(&to_a, &reply, &mac1).as_ref());
    assert!(mac1_is_valid(&a, &response) && baker.mac2_is_valid(&response, at, START));
}

#[test]
fn a_cookie_is_of_one_address_and_one_port() {
    let baker = Baker::new([9; 32]);
    let at = [
        "192.0.2.1:51820",
        "192.0.2.1:51821",
        "192.0.2.2:51820",
        "[2001:db8::1]:51820",
        "[2001:db8::1]:51821",
        "[2001:db8::1:1]:51820",
    ];
    for one in at {
        let message = proven(&baker, from(one), START);
        for other in at {
            assert_eq!(baker.mac2_is_valid(&message, from(other), START), one == other, "{one} {other}");
        }
        assert!(!Baker::new([8; 32]).mac2_is_valid(&message, from(one), START), "of another baker");
    }
    let message = proven(&baker, from("192.0.2.1:51820"), START);
    assert!(
        baker.mac2_is_valid(&message, from("[::ffff:192.0.2.1]:51820"), START),
        "the same, of a dual socket"
    );
    let message = proven(&baker, from("[fe80::1]:51820"), START);
    let scoped = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 51820, 5, 3);
    assert!(baker.mac2_is_valid(&message, scoped.into(), START));
}

#[test]
fn a_cookie_is_good_until_the_secret_has_changed_twice() {
    let (baker, at) = (Baker::new([9; 32]), from("192.0.2.1:51820"));
    let change = |number| START + SECRET_LIFE * number;
    for made in [change(0), change(3), change(4).checked_sub(TICK).expect("later than the start")] {
        let message = proven(&baker, at, made);
        let first = if made < change(3) { 0 } else { 3 };
        let gone = change(first + 2);
        for good in [made, made + COOKIE_LIFE, change(first + 1), gone.checked_sub(TICK).expect("later")] {
            assert!(baker.mac2_is_valid(&message, at, good), "made {made:?}, shown {good:?}");
        }
        for bad in [gone, change(first + 3), change(first + 1000)] {
            assert!(!baker.mac2_is_valid(&message, at, bad), "made {made:?}, shown {bad:?}");
        }
    }
    let message = proven(&baker, at, change(1));
    assert!(!baker.mac2_is_valid(&message, at, change(1).checked_sub(TICK).expect("later")), "of the future");
}

#[test]
fn a_reply_is_bound_to_the_message_and_to_who_sends_it() {
    let (ours, peer) = (local(1), local(2));
    let us = remote(&peer, 1);
    let (_, mut message) = initiation(&peer, &us);
    let mac1 = stamp(&mut message, &us, None);
    let reply = Baker::new([9; 32]).reply(&ours, &message, from("192.0.2.1:51820"), START, [6; 24]);
    assert!(open_reply(&us, &reply, &mac1).is_some());
    assert!(open_reply(&remote(&peer, 3), &reply, &mac1).is_none(), "of another");
    for at in 0..16 {
        let mut other = mac1;
        other[at] ^= 1;
        assert!(open_reply(&us, &reply, &other).is_none(), "byte {at} of the MAC");
    }
    for at in (0..4).chain(8..64) {
        let mut other = reply;
        other[at] ^= 1;
        assert!(open_reply(&us, &other, &mac1).is_none(), "byte {at} of the reply");
    }
}

#[test]
fn the_macs_cover_the_message() {
    let (ours, baker, at) = (local(1), Baker::new([9; 32]), from("192.0.2.1:51820"));
    let message = proven(&baker, at, START);
    for byte in 0..148 {
        let mut changed = message;
        changed[byte] ^= 1;
        assert_eq!(mac1_is_valid(&ours, &changed), byte >= 132, "byte {byte}");
        assert!(!baker.mac2_is_valid(&changed, at, START), "byte {byte}");
    }
}

#[test]
fn only_handshakes_have_macs() {
    let (ours, baker, at) = (local(1), Baker::new([9; 32]), from("192.0.2.1:51820"));
    let us = remote(&local(2), 1);
    for length in 0..200 {
        for kind in 0..=5 {
            let mut message = vec![0; length];
            message.iter_mut().take(1).for_each(|byte| *byte = kind);
            if length >= 32 {
                stamp(&mut message, &us, None);
            }
            let handshake = (kind, length) == (1, 148) || (kind, length) == (2, 92);
            assert_eq!(mac1_is_valid(&ours, &message), handshake, "type {kind}, {length} bytes");
            assert!(!baker.mac2_is_valid(&message, at, START));
        }
    }
}
