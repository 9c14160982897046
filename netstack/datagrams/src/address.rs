//! A socket address as the kernel reads and writes it (ip(7), ipv6(7)). Calls nothing.

use std::net::{SocketAddr, SocketAddrV6};

use nix::libc;

/// Bytes of the longer socket address, `sockaddr_in6`.
pub const ADDRESS_BYTES: usize = 28;
/// Bytes of `sockaddr_in`.
const ADDRESS_V4_BYTES: usize = 16;

/// `sockaddr_in`, `sockaddr_in6`, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    /// In the form that [`Self::length`] and the first two bytes say.
    pub bytes: [u8; ADDRESS_BYTES],
    /// Bytes of it that mean something, at most [`ADDRESS_BYTES`].
    pub length: usize,
}

impl Address {
    /// Nobody's.
    pub const NONE: Self = Self { bytes: [0; ADDRESS_BYTES], length: 0 };
    /// Room for either.
    pub const ROOM: Self = Self { bytes: [0; ADDRESS_BYTES], length: ADDRESS_BYTES };

    /// As the kernel wants it.
    pub fn new(address: &SocketAddr) -> Self {
        let mut bytes = [0; ADDRESS_BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, ADDRESS_V4_BYTES)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, ADDRESS_BYTES)
            }
        };
        bytes[..2].copy_from_slice(&family_bytes(family));
        Self { bytes, length }
    }

    /// Without flow label, which only tells one datagram's handling. `None` if it is nobody's.
    pub fn read(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        if self.length >= ADDRESS_V4_BYTES && bytes[..2] == family_bytes(libc::AF_INET) {
            Some(SocketAddr::from(([bytes[4], bytes[5], bytes[6], bytes[7]], port)))
        } else if self.length >= ADDRESS_BYTES && bytes[..2] == family_bytes(libc::AF_INET6) {
            let octets: [u8; 16] = bytes[8..24].try_into().ok()?;
            let scope = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
            Some(SocketAddrV6::new(octets.into(), port, 0, scope).into())
        } else {
            None
        }
    }
}

fn family_bytes(family: libc::c_int) -> [u8; 2] {
    libc::sa_family_t::try_from(family).expect("families are small").to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["192.0.2.1:51820", "[2001:db8::1]:1", "[fe80::1%3]:65535"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(Address::new(&address).read(), Some(address));
        }
        assert_eq!((Address::ROOM.read(), Address::NONE.read()), (None, None));
        let v6 = Address::new(&"[::1]:1".parse().expect("an address"));
        assert_eq!(Address { length: ADDRESS_V4_BYTES, ..v6 }.read(), None);
    }
}
