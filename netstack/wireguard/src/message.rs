//! The four kinds of datagrams, told apart by type and length alone. Knows neither keys nor whether one is genuine.

/// Length of an initiation (section 5.4.2).
pub const INITIATION_BYTES: usize = 148;
/// Length of a response (section 5.4.3).
pub const RESPONSE_BYTES: usize = 92;
/// Length of a cookie reply (section 5.4.7).
pub const COOKIE_REPLY_BYTES: usize = 64;
/// Length of a data message before its sealed packet (section 5.4.6): type, receiver's index, counter.
pub const DATA_HEADER_BYTES: usize = 16;
/// Length of the data message of an empty packet, a keepalive: header and tag.
pub const DATA_BYTES_MIN: usize = 32;

/// The first four bytes, little endian: the type, and three bytes that are zero.
pub const INITIATION: u32 = 1;
/// See [`INITIATION`].
pub const RESPONSE: u32 = 2;
/// See [`INITIATION`].
pub const COOKIE_REPLY: u32 = 3;
/// See [`INITIATION`].
pub const DATA: u32 = 4;

/// A datagram of the type and the length that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Begins a handshake.
    Initiation(&'a [u8; INITIATION_BYTES]),
    /// Answers an initiation.
    Response(&'a [u8; RESPONSE_BYTES]),
    /// Asks for the proof of an address.
    CookieReply(&'a [u8; COOKIE_REPLY_BYTES]),
    /// Carries a packet, from [`DATA_HEADER_BYTES`] on, with a tag of 16 bytes.
    Data {
        /// The index under which the receiver keeps the session.
        receiver: u32,
        /// The number of the packet in its session.
        counter: u64,
    },
}

impl<'a> Message<'a> {
    /// Reads a datagram. `None` if no message has its type and length; data has any length from
    /// [`DATA_BYTES_MIN`], as in the kernel.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        match u32::from_le_bytes(*datagram.first_chunk()?) {
            INITIATION => datagram.try_into().ok().map(Self::Initiation),
            RESPONSE => datagram.try_into().ok().map(Self::Response),
            COOKIE_REPLY => datagram.try_into().ok().map(Self::CookieReply),
            DATA if datagram.len() >= DATA_BYTES_MIN => Some(Self::Data {
                receiver: u32::from_le_bytes(array(datagram, 4)),
                counter: u64::from_le_bytes(array(datagram, 8)),
            }),
            _ => None,
        }
    }

    /// The index of its receiver's session or handshake: everything but an initiation has one.
    pub fn receiver(&self) -> Option<u32> {
        match self {
            Self::Initiation(_) => None,
            Self::Response(bytes) => Some(u32::from_le_bytes(array(*bytes, 8))),
            Self::CookieReply(bytes) => Some(u32::from_le_bytes(array(*bytes, 4))),
            Self::Data { receiver, .. } => Some(*receiver),
        }
    }
}

/// The `N` bytes from `at` on, of a message that is known to have them.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the length of a message was checked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(datagram: &[u8]) -> Option<u32> {
        Message::parse(datagram).map(|message| match message {
            Message::Initiation(_) => INITIATION,
            Message::Response(_) => RESPONSE,
            Message::CookieReply(_) => COOKIE_REPLY,
            Message::Data { .. } => DATA,
        })
    }

    #[test]
    fn a_type_has_its_length() {
        for length in 0..300 {
            for first in 0..=5_u32 {
                let mut datagram = vec![0; length];
                first.to_le_bytes().iter().zip(&mut datagram).for_each(|(byte, place)| *place = *byte);
                let right = match first {
                    INITIATION => length == 148,
                    RESPONSE => length == 92,
                    COOKIE_REPLY => length == 64,
                    DATA => length >= 32,
                    _ => false,
                };
                assert_eq!(kind(&datagram), right.then_some(first), "type {first}, {length} bytes");
                for reserved in 1..4.min(length) {
                    let mut other = datagram.clone();
                    other[reserved] = 1;
                    assert_eq!(kind(&other), None, "reserved bytes are zero");
                }
            }
        }
    }

    #[test]
    fn indices_and_counters_are_where_the_paper_has_them() {
        let mut datagram = [0; 148];
        for (byte, place) in (0..).zip(&mut datagram) {
            *place = byte;
        }
        let mut receiver = |first: u32, length| {
            datagram[..4].copy_from_slice(&first.to_le_bytes());
            Message::parse(&datagram[..length]).map(|message| message.receiver())
        };
        assert_eq!(receiver(INITIATION, 148), Some(None));
        assert_eq!(receiver(RESPONSE, 92), Some(Some(0x0b0a_0908)));
        assert_eq!(receiver(COOKIE_REPLY, 64), Some(Some(0x0706_0504)));
        assert_eq!(receiver(DATA, 32), Some(Some(0x0706_0504)));
        let counter = 0x0f0e_0d0c_0b0a_0908;
        let expected = Message::Data { receiver: 0x0706_0504, counter };
        assert_eq!(Message::parse(&datagram[..33]), Some(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, first in 0..=5_u8) {
            let datagram = [&[first, 0, 0, 0], &bytes[..]].concat();
            if let Some(message) = Message::parse(&datagram) {
                prop_assert_eq!(message.receiver().is_none(), first == 1);
            }
        }
    }
}
