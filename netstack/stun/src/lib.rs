//! STUN binding (RFC 8489): what a device asks to learn its address before a NAT, and what a server answers. Reads and
//! writes bytes; opens no socket, keeps no state, and knows nothing of meshes.
//!
//! Of the standard it has what a public server needs: binding requests without credentials, `XOR-MAPPED-ADDRESS`, error 420,
//! and of RFC 5780 the request to be answered from the server's other port, by which a NAT shows what it lets in,
//! and the one to be answered at another port of one's own, by which it shows what it remembers.

mod client;
mod server;

pub use client::{Transaction, request, request_from_other_port, request_to_port, response};
pub use server::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reply, reply};

/// The port that the standard gives (RFC 8489, section 18.6).
pub const PORT: u16 = 3478;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const BINDING_ERROR: [u8; 2] = [1, 0x11];

/// RFC 5780, section 7.2: the flags are "change IP" and "change port".
const CHANGE_REQUEST: u16 = 0x0003;
const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;
/// RFC 5780, section 7.5: a port, and two bytes that say nothing.
const RESPONSE_PORT: u16 = 0x0027;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Whether a datagram is STUN's by its first bytes (RFC 7983, section 7). What else shares the socket may begin alike: see
/// there.
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES && bytes[0] < 4 && bytes[4..8] == MAGIC_COOKIE
}

/// The attributes of a message, whose header's length must be right. `None` in it: one that is cut short.
fn attributes(message: &[u8]) -> Option<impl Iterator<Item = Option<(u16, &[u8])>>> {
    let (header, mut rest) = message.split_at_checked(HEADER_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != MAGIC_COOKIE || rest.len() != length {
        return None;
    }
    Some(std::iter::from_fn(move || {
        let (head, behind) = match rest.split_at_checked(4) {
            Some(split) => split,
            None if rest.is_empty() => return None,
            None => {
                rest = &[];
                return Some(None);
            }
        };
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = behind.get(..length);
        // Each is padded to four bytes (RFC 8489, section 14).
        rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(value.map(|value| (kind, value)))
    }))
}

/// Masks an address, or unmasks it (RFC 8489, section 14.2): the port with the cookie's first half, the address with
/// cookie and transaction, which `mask` has.
fn masked<'a>(octets: &'a [u8], mask: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask)
}
