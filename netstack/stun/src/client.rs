//! Requests, and what is learnt from their answers. Does not know when to ask again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    BINDING_REQUEST, BINDING_SUCCESS, CHANGE_PORT, CHANGE_REQUEST, HEADER_BYTES, MAGIC_COOKIE, RESPONSE_PORT,
    XOR_MAPPED_ADDRESS, attributes, masked,
};

/// 96 random bits, which an answer repeats.
pub type Transaction = [u8; 12];

/// A binding request without attributes: its answer is longer by one address, as the protocol has it.
pub fn request(transaction: &Transaction) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&BINDING_REQUEST);
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
    bytes[8..].copy_from_slice(transaction);
    bytes
}

/// A binding request that is to be answered from the server's other port (RFC 5780, section 4.4).
pub fn request_from_other_port(transaction: &Transaction) -> [u8; HEADER_BYTES + 8] {
    let mut bytes = [0; HEADER_BYTES + 8];
    bytes[..HEADER_BYTES].copy_from_slice(&request(transaction));
    bytes[3] = 8;
    bytes[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&CHANGE_REQUEST.to_be_bytes());
    bytes[HEADER_BYTES + 3] = 4;
    bytes[HEADER_BYTES + 4..].copy_from_slice(&CHANGE_PORT.to_be_bytes());
    bytes
}

/// A binding request that is to be answered at another port of the address that it comes from (RFC 5780, section 4.6).
pub fn request_to_port(transaction: &Transaction, port: u16) -> [u8; HEADER_BYTES + 8] {
    let mut bytes = [0; HEADER_BYTES + 8];
    bytes[..HEADER_BYTES].copy_from_slice(&request(transaction));
    bytes[3] = 8;
    bytes[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&RESPONSE_PORT.to_be_bytes());
    bytes[HEADER_BYTES + 3] = 4;
    bytes[HEADER_BYTES + 4..HEADER_BYTES + 6].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Reads a success response: its transaction and the address that the server saw. `None`: anything else.
pub fn response(bytes: &[u8]) -> Option<(Transaction, SocketAddr)> {
    let attributes = attributes(bytes)?;
    if bytes[..2] != BINDING_SUCCESS {
        return None;
    }
    let transaction: Transaction = bytes[8..HEADER_BYTES].try_into().ok()?;
    for attribute in attributes {
        let (kind, value) = attribute?;
        if kind == XOR_MAPPED_ADDRESS {
            return Some((transaction, unmask(value, &bytes[4..HEADER_BYTES])?));
        }
    }
    None
}

fn unmask(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let (head, address) = value.split_at_checked(4)?;
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let octets: Vec<u8> = masked(address, mask).collect();
    let ip: IpAddr = match head[1] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok().filter(|_| address.len() == 4)?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok().filter(|_| address.len() == 16)?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_stun;

    /// RFC 5769, section 2.2 and 2.3, without the attributes that need a password.
    fn sample(attributes: &[u8]) -> Vec<u8> {
        let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let length = u16::try_from(attributes.len()).expect("short");
        [&BINDING_SUCCESS[..], &length.to_be_bytes(), &MAGIC_COOKIE, &transaction, attributes].concat()
    }

    const SOFTWARE: &[u8] = b"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20";

    #[test]
    fn the_vectors_of_the_standard_are_read() {
        let v4 = [SOFTWARE, b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"].concat();
        let read = response(&sample(&v4)).map(|(_, address)| address);
        assert_eq!(read, "192.0.2.1:32853".parse().ok());
        let v6 = [
            SOFTWARE,
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9",
        ]
        .concat();
        let read = response(&sample(&v6)).map(|(_, address)| address);
        assert_eq!(read, "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().ok());
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        let good = sample(b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        assert!(is_stun(&good) && response(&good).is_some());
        for cut in 0..good.len() {
            assert_eq!(response(&good[..cut]), None, "{cut} bytes");
        }
        assert_eq!(response(&sample(b"\x00\x20\x00\x08\x00\x03\xa1\x47\xe1\x12\xa6\x43")), None);
        assert_eq!(response(&sample(b"\x00\x20\x00\x05\x00\x01\xa1\x47\xe1\x12\xa6\x43")), None);
        assert_eq!(response(&request(&[1; 12])), None);
        let mut wrong = good;
        wrong[5] ^= 1;
        assert!(!is_stun(&wrong) && response(&wrong).is_none());
    }
}
