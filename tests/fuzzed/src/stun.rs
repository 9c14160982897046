//! Questions and answers of STUN: an answer is bounded, says what it should, and is no question again.

use std::net::SocketAddr;

pub(crate) fn check(bytes: &[u8]) {
    let from: SocketAddr = ([192, 0, 2, 1], 32_853).into();
    if let Some(reply) = ::stun::reply(bytes, from) {
        assert!(reply.bytes.len() <= ::stun::REPLY_BYTES_MAX);
        assert!(::stun::reply(&reply.bytes, from).is_none(), "two servers would answer each other for ever");
        if let Some((transaction, seen)) = ::stun::response(&reply.bytes) {
            assert_eq!((&transaction[..], seen), (&bytes[8..20], from));
        }
    }
    if ::stun::response(bytes).is_some() {
        assert!(::stun::is_stun(bytes));
    }
}
