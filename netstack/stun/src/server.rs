//! What a server answers. Does not know who asks too often.

use std::net::{IpAddr, SocketAddr};

use crate::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, CHANGE_IP, CHANGE_PORT, CHANGE_REQUEST, ERROR_CODE,
    HEADER_BYTES, MAGIC_COOKIE, RESPONSE_PORT, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS, attributes, is_stun,
    masked,
};

/// A longer datagram is no binding request of anybody: the minimum MTU of IPv4 without headers (RFC 8489, section 6.1).
pub const REQUEST_BYTES_MAX: usize = 548;
/// Attributes that an error names at most: an answer stays shorter than what it answers, but for its fixed part.
const UNKNOWN_MAX: usize = 8;
/// An answer is never longer: the header, and an address of IPv6 or an error with what it names.
pub const REPLY_BYTES_MAX: usize = HEADER_BYTES + 4 + 20 + 8;

/// Attributes that a server without credentials may pass over although the standard has it understand them (RFC 8489,
/// section 18.3; RFC 5780, section 9.1): a client that signs its request is answered all the same.
const PASSED_OVER: [u16; 12] =
    [0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020, 0x0026];
/// Numbers from here on may be passed over by everybody (section 14).
const OPTIONAL_FROM: u16 = 0x8000;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// At most [`REPLY_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// It is to leave from the server's other port.
    pub from_other_port: bool,
    /// It is to go to this port of the address that asked.
    pub to_port: Option<u16>,
}

/// Answers a binding request that came from an address. `None`: it is none, and nothing is sent.
pub fn reply(request: &[u8], from: SocketAddr) -> Option<Reply> {
    if request.len() > REQUEST_BYTES_MAX || !is_stun(request) || request[..2] != BINDING_REQUEST {
        return None;
    }
    let mut unknown = Vec::new();
    let mut change = 0;
    let mut port = None;
    for attribute in attributes(request)? {
        match attribute? {
            (CHANGE_REQUEST, flags) => change = u32::from_be_bytes(flags.try_into().ok()?),
            (RESPONSE_PORT, value) => port = Some(u16::from_be_bytes(*value.first_chunk()?)),
            (kind, _) if kind >= OPTIONAL_FROM || PASSED_OVER.contains(&kind) => {}
            (kind, _) => unknown.push(kind),
        }
    }
    // There is one address to answer from.
    if change & CHANGE_IP != 0 {
        unknown.push(CHANGE_REQUEST);
    }
    let transaction = &request[8..HEADER_BYTES];
    let bytes = if unknown.is_empty() {
        message(BINDING_SUCCESS, transaction, &mapped(from, &request[4..HEADER_BYTES]))
    } else {
        message(BINDING_ERROR, transaction, &refusal(&unknown))
    };
    let is_good = unknown.is_empty();
    let to_port = port.filter(|port| is_good && *port != 0);
    Some(Reply { bytes, from_other_port: is_good && change & CHANGE_PORT != 0, to_port })
}

fn message(kind: [u8; 2], transaction: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("an answer is short");
    [&kind[..], &length.to_be_bytes(), &MAGIC_COOKIE, transaction, attributes].concat()
}

fn mapped(from: SocketAddr, mask: &[u8]) -> Vec<u8> {
    let (family, octets) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(masked(&from.port().to_be_bytes(), mask));
    value.extend(masked(&octets, mask));
    attribute(XOR_MAPPED_ADDRESS, &value)
}

/// Section 6.3.1: error 420, and what was not understood.
fn refusal(unknown: &[u16]) -> Vec<u8> {
    let named: Vec<u8> = unknown.iter().take(UNKNOWN_MAX).flat_map(|kind| kind.to_be_bytes()).collect();
    [attribute(ERROR_CODE, &[0, 0, 4, 20]), attribute(UNKNOWN_ATTRIBUTES, &named)].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("an answer is short");
    let mut bytes = [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Transaction, request, request_from_other_port, request_to_port, response};

    const TRANSACTION: Transaction = *b"twelve bytes";

    fn with(attributes: &[u8]) -> Vec<u8> {
        message(BINDING_REQUEST, &TRANSACTION, attributes)
    }

    fn from(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn who_asks_learns_its_address() {
        for text in ["192.0.2.1:32853", "[2001:db8::1]:1", "0.0.0.0:65535"] {
            let reply = reply(&request(&TRANSACTION), from(text)).expect("an answer");
            assert_eq!(response(&reply.bytes), Some((TRANSACTION, from(text))));
            assert!(!reply.from_other_port && reply.bytes.len() <= REPLY_BYTES_MAX);
        }
        let mapped = reply(&request(&TRANSACTION), from("[::ffff:192.0.2.1]:7")).expect("an answer");
        assert_eq!(response(&mapped.bytes), Some((TRANSACTION, from("192.0.2.1:7"))));
    }

    #[test]
    fn who_asks_for_the_other_port_is_answered_from_there() {
        let reply = reply(&request_from_other_port(&TRANSACTION), from("192.0.2.1:7")).expect("an answer");
        assert!(reply.from_other_port);
        assert_eq!(response(&reply.bytes), Some((TRANSACTION, from("192.0.2.1:7"))));
    }

    #[test]
    fn who_asks_for_another_port_of_its_own_is_answered_there() {
        let reply = reply(&request_to_port(&TRANSACTION, 4711), from("192.0.2.1:7")).expect("an answer");
        assert_eq!((reply.to_port, reply.from_other_port), (Some(4711), false));
        assert_eq!(response(&reply.bytes), Some((TRANSACTION, from("192.0.2.1:7"))));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused = |attributes: &[u8], expect: &[u8]| {
            let reply = reply(&with(attributes), from("192.0.2.1:7")).expect("an answer");
            assert_eq!(reply.bytes[..2], BINDING_ERROR);
            assert_eq!(reply.bytes[HEADER_BYTES..], *expect);
            assert!(!reply.from_other_port && reply.bytes.len() <= REPLY_BYTES_MAX);
        };
        refused(
            b"\x00\x03\x00\x04\x00\x00\x00\x06",
            b"\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x02\x00\x03\x00\x00",
        );
        refused(
            b"\x7f\xff\x00\x01\x01\x00\x00\x00",
            b"\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x02\x7f\xff\x00\x00",
        );
        let many = [0x7f, 0xff, 0, 0].repeat(100);
        let named =
            [&b"\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x10"[..], &[0x7f, 0xff].repeat(8)].concat();
        refused(&many, &named);
        let passed = with(b"\x80\x22\x00\x03abc\x00\x00\x06\x00\x04user");
        let reply = reply(&passed, from("192.0.2.1:7")).expect("an answer");
        assert!(response(&reply.bytes).is_some(), "software and user name are of no interest");
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        let silent = |bytes: &[u8]| assert_eq!(reply(bytes, from("192.0.2.1:7")), None, "{bytes:?}");
        let good = request(&TRANSACTION);
        (0..good.len()).for_each(|cut| silent(&good[..cut]));
        silent(&[&good[..], &[0]].concat());
        silent(&with(&[0x80, 0x22, 0, 5, 1, 2, 3]));
        silent(&with(b"\x00\x03\x00\x02\x00\x02\x00\x00"));
        silent(&with(&vec![0; REQUEST_BYTES_MAX]));
        let answer = reply(&good, from("192.0.2.1:7")).expect("an answer").bytes;
        silent(&answer);
        // An indication (RFC 8489, section 5), and the protocol before the cookie (RFC 3489).
        silent(&[&[0, 0x11][..], &good[2..]].concat());
        silent(&[&good[..4], &[0; 4], &good[8..]].concat());
    }

    proptest! {
        #[test]
        fn an_answer_is_bounded_whatever_is_asked(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if bytes.len() >= HEADER_BYTES {
                let length = u16::try_from(bytes.len() - HEADER_BYTES).expect("short");
                bytes[..2].copy_from_slice(&BINDING_REQUEST);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            }
            if let Some(reply) = reply(&bytes, from("[2001:db8::1]:1")) {
                prop_assert!(reply.bytes.len() <= REPLY_BYTES_MAX.min(bytes.len() + 24));
            }
            let _ = response(&bytes);
        }
    }
}
