//! A packet on its way over a relay: to whom or from whom, and which piece. Reads no payload.
//!
//! ```text
//!  0   1                        17         19
//!  ├───┼────────────────────────┼──────────┼─────────
//!  │ 1 │ device                 │ piece    │ payload
//!  └───┴────────────────────────┴──────────┴─────────
//!   on the way to the relay: to whom; from the relay: from whom
//!   piece, big-endian: 14 bits of number, 1 "the first of two", 1 "the second of two"; 0 is a whole
//! ```

use crate::id::DeviceId;

/// The first byte of each datagram: kind and version in one. A frame begins with 0.
pub const KIND: u8 = 1;
/// Bytes before the payload.
pub const HEAD_BYTES: usize = 19;
/// The longest payload: two pieces must fit the smallest path of QUIC, which takes 1000 bytes and more in a datagram (RFC
/// 9000, section 14). A WireGuard message has 32 bytes more than the tunnel's MTU.
pub const PAYLOAD_BYTES_MAX: usize = 2 * (1000 - HEAD_BYTES);
/// The longest datagram.
pub const DATAGRAM_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;

const FIRST: u16 = 0b10;
const SECOND: u16 = 0b01;
const NUMBER_SHIFT: u16 = 2;
/// Numbers of a relay, which cuts what does not fit its own way on, are apart from those of senders.
const OF_RELAY: u16 = 1 << 13;

/// Which part of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The first of two with this number.
    First(u16),
    /// The second of two with this number.
    Second(u16),
}

impl Piece {
    const fn to_bits(self) -> u16 {
        match self {
            Self::Whole => 0,
            Self::First(number) => number << NUMBER_SHIFT | FIRST,
            Self::Second(number) => number << NUMBER_SHIFT | SECOND,
        }
    }

    const fn from_bits(bits: u16) -> Option<Self> {
        let number = bits >> NUMBER_SHIFT;
        match bits & (FIRST | SECOND) {
            0 if number == 0 => Some(Self::Whole),
            FIRST => Some(Self::First(number)),
            SECOND => Some(Self::Second(number)),
            _ => None,
        }
    }
}

/// The numbers of cut payloads, in turn. A number comes again after 8 192 others.
#[derive(Debug, Clone)]
pub struct PieceIds {
    next: u16,
    side: u16,
}

impl PieceIds {
    /// Of a device that sends.
    pub const fn of_sender() -> Self {
        Self { next: 0, side: 0 }
    }

    /// Of a relay, for one receiver.
    pub const fn of_relay() -> Self {
        Self { next: 0, side: OF_RELAY }
    }

    const fn take(&mut self) -> u16 {
        let number = self.next | self.side;
        self.next = (self.next + 1) % OF_RELAY;
        number
    }
}

/// A datagram as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// To whom, or from whom.
    pub device: DeviceId,
    /// Which part.
    pub piece: Piece,
    /// WireGuard's, or a sealed probe or hint.
    pub payload: &'a [u8],
}

impl<'a> Relayed<'a> {
    /// Reads a datagram. `None`: it is none, or has no payload, or is longer than [`DATAGRAM_BYTES_MAX`].
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let (head, payload) = datagram.split_first_chunk::<HEAD_BYTES>()?;
        let [KIND, device @ .., high, low] = head else { return None };
        let device = DeviceId::from_bytes(*device.first_chunk::<16>()?);
        let piece = Piece::from_bits(u16::from_be_bytes([*high, *low]))?;
        (!payload.is_empty()).then_some(Self { device, piece, payload })
    }

    /// The datagram with other names on it, as a relay gives it on.
    pub fn write(&self) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(HEAD_BYTES + self.payload.len());
        datagram.push(KIND);
        datagram.extend_from_slice(self.device.as_bytes());
        datagram.extend_from_slice(&self.piece.to_bits().to_be_bytes());
        datagram.extend_from_slice(self.payload);
        datagram
    }
}

/// A payload in one datagram, or in two of equal length if it does not fit `bytes_max`. None if it would not fit two, or
/// is longer than [`PAYLOAD_BYTES_MAX`].
pub fn cut<'a>(
    device: DeviceId,
    payload: &'a [u8],
    bytes_max: usize,
    ids: &mut PieceIds,
) -> impl Iterator<Item = Relayed<'a>> + use<'a> {
    let room = bytes_max.saturating_sub(HEAD_BYTES);
    let half = payload.len().div_ceil(2);
    let datagram = move |piece, payload| Relayed { device, piece, payload };
    let pieces = if payload.is_empty() || payload.len() > PAYLOAD_BYTES_MAX || half > room {
        [None, None]
    } else if payload.len() <= room {
        [Some(datagram(Piece::Whole, payload)), None]
    } else {
        let number = ids.take();
        let (first, second) = payload.split_at(half);
        [Some(datagram(Piece::First(number), first)), Some(datagram(Piece::Second(number), second))]
    };
    pieces.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::from_bytes([7; 16]);

    #[test]
    fn what_is_written_is_read() {
        for piece in [Piece::Whole, Piece::First(0), Piece::Second(0x3fff), Piece::First(77)] {
            let datagram = Relayed { device: DEVICE, piece, payload: &[4, 5] };
            let bytes = datagram.write();
            assert_eq!(bytes.len(), HEAD_BYTES + 2);
            assert_eq!(Relayed::parse(&bytes), Some(datagram));
        }
    }

    #[test]
    fn what_is_no_datagram_is_not_read() {
        let good = Relayed { device: DEVICE, piece: Piece::Whole, payload: &[4] }.write();
        let check = |what, change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            assert_eq!(Relayed::parse(&bytes), None, "{what}");
        };
        check("nothing", Vec::clear);
        check("another kind", |b| b[0] = 2);
        check("no payload", |b| b.truncate(HEAD_BYTES));
        check("half a head", |b| b.truncate(10));
        check("both pieces", |b| b[18] = 3);
        check("a whole with a number", |b| b[18] = 4);
        check("too long", |b| b.resize(DATAGRAM_BYTES_MAX + 1, 0));
    }

    #[test]
    fn a_payload_is_cut_only_if_it_must_be() {
        let mut ids = PieceIds::of_relay();
        let payload = [9; PAYLOAD_BYTES_MAX];
        let mut check = |length: usize, bytes_max, expect: &[(Piece, usize)]| {
            let pieces: Vec<_> = cut(DEVICE, &payload[..length], bytes_max, &mut ids)
                .map(|d| (d.piece, d.payload.len()))
                .collect();
            assert_eq!(pieces, expect, "{length} in {bytes_max}");
        };
        check(0, 1000, &[]);
        check(981, 1000, &[(Piece::Whole, 981)]);
        check(982, 1000, &[(Piece::First(OF_RELAY), 491), (Piece::Second(OF_RELAY), 491)]);
        check(1452, 1350, &[(Piece::First(OF_RELAY + 1), 726), (Piece::Second(OF_RELAY + 1), 726)]);
        check(
            PAYLOAD_BYTES_MAX,
            1000,
            &[(Piece::First(OF_RELAY + 2), 981), (Piece::Second(OF_RELAY + 2), 981)],
        );
        check(PAYLOAD_BYTES_MAX, 999, &[]);
        check(5, 0, &[]);
        check(5, DATAGRAM_BYTES_MAX, &[(Piece::Whole, 5)]);
        let too_long = [0; PAYLOAD_BYTES_MAX + 1];
        assert_eq!(cut(DEVICE, &too_long, usize::MAX, &mut ids).count(), 0);
    }
}
