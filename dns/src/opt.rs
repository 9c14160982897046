//! What EDNS says in a query (RFC 6891, section 6.1). Knows no option: whatever they ask for is ignored.

use crate::limits::{UDP_PAYLOAD_BYTES_MAX, UDP_PLAIN_BYTES_MAX};

/// The fixed part of an OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Bytes of a datagram that the asker takes.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// RFC 3225.
    pub(crate) dnssec_ok: bool,
}

impl Opt {
    /// From the class and both halves of the TTL.
    pub(crate) const fn new(class: u16, high: u16, low: u16) -> Self {
        Self { payload: class, version: high.to_be_bytes()[1], dnssec_ok: low & 0x8000 != 0 }
    }
}

/// How many bytes of a datagram the asker takes (RFC 6891, section 6.2.3: less than 512 means 512).
pub(crate) fn datagram_bytes_max(opt: Option<Opt>) -> usize {
    let payload = opt.map_or(UDP_PLAIN_BYTES_MAX, |opt| opt.payload);
    payload.clamp(UDP_PLAIN_BYTES_MAX, UDP_PAYLOAD_BYTES_MAX).into()
}

/// Whether the options fill the data of an OPT record: each a code, a length and so many bytes.
pub(crate) fn options_fit(mut data: &[u8]) -> bool {
    while let [_, _, high, low, rest @ ..] = data {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(rest) = rest.get(length..) else { return false };
        data = rest;
    }
    data.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_counted_and_not_read() {
        let check = |data: &[u8], expect| assert_eq!(options_fit(data), expect, "{data:?}");
        check(&[], true);
        check(&[0, 10, 0, 0], true);
        check(&[0, 10, 0, 2, 1, 2, 0xff, 0xff, 0, 1, 9], true);
        check(&[0, 10, 0, 3, 1, 2], false);
        check(&[0, 10, 0], false);
        check(&[0, 10, 0, 0, 1], false);
    }

    #[test]
    fn the_fixed_part_is_in_class_and_ttl() {
        let opt = Opt::new(1232, 0x1203, 0x8001);
        assert_eq!((opt.payload, opt.version, opt.dnssec_ok), (1232, 3, true));
        assert!(!Opt::new(0, 0, 0x7fff).dnssec_ok);
    }
}
