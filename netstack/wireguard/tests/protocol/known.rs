//! One whole handshake, byte by byte: who changes the transcript sees it here, even where both ends change alike.
//!
//! The bytes were computed apart, by a program that follows the paper and has X25519, ChaCha20-Poly1305 and XChaCha20 of
//! its own.

use data_encoding::HEXLOWER;
use wireguard::cookie::{Baker, open_reply, stamp};
use wireguard::noise::initiate;
use wireguard::{Tai64n, Time};

use crate::oracle::{local, remote, seal, verified};

#[test]
fn a_handshake_is_the_known_one() {
    let (a, b) = (local(1), local(2));
    let (to_b, to_a) = (remote(&a, 2), remote(&b, 1));
    let preshared = [3; 32];
    let time = Tai64n::from_wall(std::time::Duration::new(1_700_000_000, 123_456_789));

    let (initiator, mut message) = initiate(&a, &to_b, 0x0102_0304, time, &[4; 32]);
    let mac1 = stamp(&mut message, &to_b, None);
    let baker = Baker::new([6; 32]);
    let reply =
        baker.reply(&b, &message, "192.0.2.1:51820".parse().expect("v4"), Time::from_nanos(0), [7; 24]);
    stamp(&mut message, &to_b, open_reply(&to_b, &reply, &mac1).as_ref());
    let verified = verified(&b, &to_a, &message).expect("of theirs");
    let (mut response, of_b) = verified.respond(&to_a, &preshared, 0x0a0b_0c0d, &[5; 32]);
    stamp(&mut response, &to_a, None);
    let of_a = initiator.finish(&a, &preshared, &response).expect("a session");

    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    assert_eq!(hex(&reply), REPLY);
    assert_eq!(hex(&message), INITIATION);
    assert_eq!(hex(&response), RESPONSE);
    assert_eq!(hex(&seal(&of_a.send, 0, &[])), INITIATORS_KEEPALIVE);
    assert_eq!(hex(&seal(&of_b.send, 0, &[])), RESPONDERS_KEEPALIVE);
}

const REPLY: &str = "\
    0300000004030201070707070707070707070707070707070707070707070707c7574c4468be8cc61fa67fc21b2171b1\
    0f9eeba146948338784b0b17dbcb2aaf";
const INITIATION: &str = "\
    0100000004030201ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b740b513c32e275ae\
    f166845895398e87e99acf254d250c287b6d54cd606e976c3f36058412595d95933c923fff7fe8b239d9893bb09d6e69\
    34a3863c1dc14ec9b0db0c0fe183666f243c821f88ecfa55edb6183ff91b0c4b201175ec4269db9d97a0dd49921e9cb7\
    bdba6d41";
const RESPONSE: &str = "\
    020000000d0c0b0a0403020150a61409b1ddd0325e9b16b700e719e9772c07000b1bd7786e907c653d20495dbfbd541b\
    104dca1259c7a93b8644f38057829434c6c2679c4572e2a1f675e90400000000000000000000000000000000";
const INITIATORS_KEEPALIVE: &str = "380326d3d923248fd09de6a1ec570659";
const RESPONDERS_KEEPALIVE: &str = "c0c6888d12ceb2b5fe59f13af8137fa4";
