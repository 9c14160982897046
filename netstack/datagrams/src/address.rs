//! A socket address as the kernel reads and writes it (ip(7), ipv6(7)). Calls nothing.

use std::net::{SocketAddr, SocketAddrV6};

use nix::libc;

/// Bytes of the longer one, `sockaddr_in6`.
pub(crate) const ADDRESS_BYTES: usize = 28;
/// Bytes of `sockaddr_in`.
const ADDRESS_V4_BYTES: usize = 16;

/// `sockaddr_in`, `sockaddr_in6`, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) bytes: [u8; ADDRESS_BYTES],
    pub(crate) length: usize,
}

impl Address {
    /// Nobody's.
    pub(crate) const NONE: Self = Self { bytes: [0; ADDRESS_BYTES], length: 0 };

    /// Without flow label, which only tells one datagram's handling.
    pub(crate) fn read(&self) -> Option<SocketAddr> {
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
