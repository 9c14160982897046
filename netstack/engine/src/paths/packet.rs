//! The form of probes and hints, before and after sealing. Keeps no key and judges no content.
//!
//! ```text
//! probe   D7 01 | receiver's tag 8 | counter 8 | sealed { kind 1, ping's number 8, address 19, pace 4 } + 16      66 bytes
//! long    the same with more zeros, as long as a packet of full size is in WireGuard                         1452 bytes
//! hint    D8 01 | nonce 24 | sealed CBOR + 16
//! ```
//! Both first bytes are above 4, by which they are told from WireGuard's messages (WireGuard paper, section 5.4), and above
//! 3, by which they are told from STUN's (RFC 7983, section 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::{Decode, Encode};
use model::limits::MTU_DEFAULT;

use super::address::{CandidateKind, Mapping};
use super::pace::Told;
use super::seal::{HINT_NONCE_BYTES, TAG_BYTES};

const PROBE: u8 = 0xD7;
const HINT: u8 = 0xD8;
const VERSION: u8 = 1;
const PROBE_HEADER_BYTES: usize = 2 + 8 + 8;
const PROBE_PLAIN_BYTES: usize = 1 + 8 + ADDRESS_BYTES + 4;
const ADDRESS_BYTES: usize = 1 + 16 + 2;
/// A probe of either kind: an answer is as long as its question, so nobody gains by forging whom it comes from.
pub(super) const PROBE_BYTES: usize = PROBE_HEADER_BYTES + PROBE_PLAIN_BYTES + TAG_BYTES;
/// What WireGuard puts around a packet (WireGuard paper, section 5.4.6).
const WIREGUARD_BYTES: usize = 32;
/// A long probe, sent as WireGuard's packets are: in fragments where they are. Its answer is short.
pub(super) const LONG_PROBE_BYTES: usize = MTU_DEFAULT as usize + WIREGUARD_BYTES;
/// Zeros at the end of a long probe.
pub(super) const LONG_PROBE_PADDING_BYTES: usize = LONG_PROBE_BYTES - PROBE_BYTES;
const HINT_HEADER_BYTES: usize = 2 + HINT_NONCE_BYTES;
/// Candidates in one hint; more would not fit [`model::limits::HINT_BYTES_MAX`].
pub(super) const CANDIDATES_MAX: usize = 16;

/// By which the receiver of a probe finds the sender without asking every key it knows.
pub(super) type Tag = [u8; 8];

/// What a datagram is by its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Probe(ProbePacket<'a>),
    Hint(HintPacket<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbePacket<'a> {
    pub(super) header: &'a [u8],
    pub(super) tag: Tag,
    pub(super) counter: u64,
    pub(super) sealed: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct HintPacket<'a> {
    pub(super) header: &'a [u8],
    pub(super) nonce: [u8; HINT_NONCE_BYTES],
    pub(super) sealed: &'a [u8],
}

/// Takes a datagram apart. `None`: it is neither.
pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    match bytes {
        [PROBE, VERSION, ..] if (PROBE_BYTES..=LONG_PROBE_BYTES).contains(&bytes.len()) => {
            let (header, sealed) = bytes.split_at(PROBE_HEADER_BYTES);
            let tag = header[2..10].try_into().ok()?;
            let counter = u64::from_le_bytes(header[10..].try_into().ok()?);
            Some(Packet::Probe(ProbePacket { header, tag, counter, sealed }))
        }
        [HINT, VERSION, ..] if bytes.len() > HINT_HEADER_BYTES + TAG_BYTES => {
            let (header, sealed) = bytes.split_at(HINT_HEADER_BYTES);
            Some(Packet::Hint(HintPacket { header, nonce: header[2..].try_into().ok()?, sealed }))
        }
        _ => None,
    }
}

/// What stands before a sealed probe.
pub(super) fn probe_header(tag: &Tag, counter: u64) -> [u8; PROBE_HEADER_BYTES] {
    let mut header = [0; PROBE_HEADER_BYTES];
    header[..2].copy_from_slice(&[PROBE, VERSION]);
    header[2..10].copy_from_slice(tag);
    header[10..].copy_from_slice(&counter.to_le_bytes());
    header
}

/// What stands before a sealed hint.
pub(super) fn hint_header(nonce: &[u8; HINT_NONCE_BYTES]) -> [u8; HINT_HEADER_BYTES] {
    let mut header = [0; HINT_HEADER_BYTES];
    header[..2].copy_from_slice(&[HINT, VERSION]);
    header[2..].copy_from_slice(nonce);
    header
}

/// The content of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Are you there?
    Ping {
        /// Given back by the answer.
        number: u64,
    },
    /// Yes.
    Pong {
        /// Of the ping.
        number: u64,
        /// Where the ping came from, as seen. `None` over a relay.
        seen: Option<SocketAddr>,
    },
}

impl Probe {
    pub(super) fn to_bytes(self, told: Told) -> [u8; PROBE_PLAIN_BYTES] {
        let (kind, number, seen) = match self {
            Self::Ping { number } => (1, number, None),
            Self::Pong { number, seen } => (2, number, seen),
        };
        let mut plain = [0; PROBE_PLAIN_BYTES];
        plain[0] = kind;
        plain[1..9].copy_from_slice(&number.to_be_bytes());
        if let Some(seen) = seen {
            let address = &mut plain[9..9 + ADDRESS_BYTES];
            match seen.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    address[0] = 4;
                    address[1..5].copy_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    address[0] = 6;
                    address[1..17].copy_from_slice(&ip.octets());
                }
            }
            address[17..].copy_from_slice(&seen.port().to_be_bytes());
        }
        plain[9 + ADDRESS_BYTES..].copy_from_slice(&told.to_bytes());
        plain
    }

    /// `None`: a kind that this version does not know.
    pub(super) fn from_bytes(plain: &[u8]) -> Option<(Self, Told)> {
        let plain = plain.first_chunk::<PROBE_PLAIN_BYTES>()?;
        let number = u64::from_be_bytes(plain[1..9].try_into().ok()?);
        let address = &plain[9..9 + ADDRESS_BYTES];
        let port = u16::from_be_bytes([address[17], address[18]]);
        let ip: Option<IpAddr> = match address[0] {
            4 => <[u8; 4]>::try_from(&address[1..5]).ok().map(|octets| Ipv4Addr::from(octets).into()),
            6 => <[u8; 16]>::try_from(&address[1..17]).ok().map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        };
        let told = Told::from_bytes(plain[9 + ADDRESS_BYTES..].try_into().ok()?);
        match plain[0] {
            1 => Some((Self::Ping { number }, told)),
            2 => Some((Self::Pong { number, seen: ip.map(|ip| SocketAddr::new(ip, port)) }, told)),
            _ => None,
        }
    }
}

/// What one device tells another about where it may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct HintBody {
    /// For probes to the sender.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) tag: Tag,
    /// The sender's life.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) epoch: [u8; 16],
    /// The receiver's life as far as the sender knows it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) echo: Option<[u8; 16]>,
    /// Grows within one life: an older one says nothing new.
    #[n(3)]
    pub(super) number: u64,
    /// Where the sender may be reached, at most [`CANDIDATES_MAX`].
    #[n(4)]
    pub(super) candidates: Vec<Advert>,
    /// The relay where the sender is, besides the server.
    #[n(5)]
    pub(super) relay: Option<u32>,
    /// How the sender's NAT maps.
    #[n(6)]
    pub(super) mapping: Option<Mapping>,
    /// The longest probe that the sender answers. `None`: it answers short ones only.
    #[n(7)]
    pub(super) probe_bytes_max: Option<u16>,
    /// Ports of a NAT that the sender guesses when it is told that sockets wait behind it. `None`: none.
    #[n(8)]
    pub(super) guesses_max: Option<u16>,
    /// The sender's side sockets wait behind its NAT, which gives them ports by chance: the number of its search.
    #[n(9)]
    pub(super) sides: Option<u32>,
}

/// What this version says of itself as [`HintBody::probe_bytes_max`].
pub(super) const OWN_PROBE_BYTES_MAX: u16 = LONG_PROBE_BYTES as u16;

/// A candidate as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub(super) struct Advert {
    #[cbor(n(0), with = "address")]
    pub(super) address: SocketAddr,
    #[n(1)]
    pub(super) kind: CandidateKind,
}

/// CBOR for an address: its 4 or 16 bytes with the port behind them.
mod address {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        address: &SocketAddr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let mut bytes = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend(address.port().to_be_bytes());
        e.bytes(&bytes)?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<SocketAddr, DecodeError> {
        let bytes = d.bytes()?;
        let Some((ip, port)) = bytes.split_last_chunk::<2>() else {
            return Err(DecodeError::message("an address has a port"));
        };
        let ip: IpAddr = if let Ok(v4) = <[u8; 4]>::try_from(ip) {
            Ipv4Addr::from(v4).into()
        } else if let Ok(v6) = <[u8; 16]>::try_from(ip) {
            Ipv6Addr::from(v6).into()
        } else {
            return Err(DecodeError::message("an address has 4 or 16 bytes and a port"));
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}

impl HintBody {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to memory cannot fail")
    }

    /// `None`: not a hint, or one with too many candidates.
    pub(super) fn from_bytes(plain: &[u8]) -> Option<Self> {
        minicbor::decode(plain).ok().filter(|body: &Self| body.candidates.len() <= CANDIDATES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use model::limits::HINT_BYTES_MAX;

    use super::*;

    #[test]
    fn probes_of_both_kinds_have_one_length_and_come_back_as_they_were() {
        let seen = |text: &str| text.parse().ok();
        for probe in [
            Probe::Ping { number: 7 },
            Probe::Pong { number: u64::MAX, seen: None },
            Probe::Pong { number: 0, seen: seen("192.0.2.1:51820") },
            Probe::Pong { number: 1, seen: seen("[2001:db8::1]:1") },
        ] {
            let told = Told::from_bytes([1, 2, 3, 4]);
            assert_eq!(Probe::from_bytes(&probe.to_bytes(told)), Some((probe, told)));
        }
        assert_eq!(Probe::from_bytes(&[3; PROBE_PLAIN_BYTES]), None, "an unknown kind");
        assert_eq!(Probe::from_bytes(&[1; 3]), None, "a short one");
    }

    #[test]
    fn the_largest_hint_fits() {
        let address = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("an address");
        let body = HintBody {
            tag: [0xFF; 8],
            epoch: [0xFF; 16],
            echo: Some([0xFF; 16]),
            number: u64::MAX,
            candidates: vec![Advert { address, kind: CandidateKind::Mapped }; CANDIDATES_MAX],
            relay: Some(u32::MAX),
            mapping: Some(Mapping::PortDependent),
            probe_bytes_max: Some(u16::MAX),
            guesses_max: Some(u16::MAX),
            sides: Some(u32::MAX),
        };
        let bytes = body.to_bytes();
        assert!(HINT_HEADER_BYTES + bytes.len() + TAG_BYTES <= HINT_BYTES_MAX, "{}", bytes.len());
        assert_eq!(HintBody::from_bytes(&bytes), Some(body.clone()));
        let many = HintBody { candidates: vec![body.candidates[0]; CANDIDATES_MAX + 1], ..body };
        assert_eq!(HintBody::from_bytes(&many.to_bytes()), None);
    }

    /// A hint of a version before side sockets, with something that a later one may say.
    #[derive(Encode)]
    #[cbor(map)]
    struct Other {
        #[cbor(n(0), with = "minicbor::bytes")]
        tag: Tag,
        #[cbor(n(1), with = "minicbor::bytes")]
        epoch: [u8; 16],
        #[n(3)]
        number: u64,
        #[n(4)]
        candidates: Vec<Advert>,
        #[n(60)]
        later: Option<u32>,
    }

    #[test]
    fn hints_of_other_versions_are_read_as_far_as_they_are_understood() {
        let other = Other { tag: [1; 8], epoch: [2; 16], number: 3, candidates: Vec::new(), later: Some(4) };
        let bytes = minicbor::to_vec(&other).expect("memory takes all");
        let body = HintBody::from_bytes(&bytes).expect("it is a hint");
        assert_eq!((body.tag, body.epoch, body.number), ([1; 8], [2; 16], 3));
        assert_eq!((body.guesses_max, body.sides, body.probe_bytes_max), (None, None, None));
    }

    #[test]
    fn what_is_neither_is_not_taken_for_one() {
        let mut probe = [0; PROBE_BYTES];
        probe[..2].copy_from_slice(&[PROBE, VERSION]);
        assert!(matches!(parse(&probe), Some(Packet::Probe(_))));
        assert_eq!(parse(&probe[1..]), None);
        assert_eq!(parse(&probe[..PROBE_BYTES - 1]), None);
        let long = [probe.as_slice(), &[0; LONG_PROBE_PADDING_BYTES]].concat();
        assert!(matches!(parse(&long), Some(Packet::Probe(_))));
        assert_eq!(parse(&[long.as_slice(), &[0]].concat()), None);
        assert_eq!(parse(&[HINT, VERSION]), None);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[1, 0, 0, 0]), None);
    }
}
