//! A tenant's names as plain data: what Magic DNS serves. Knows no DNS message and answers nothing.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use minicbor::{Decode, Encode};

use crate::address::{Block, MeshAddresses};
use crate::buckets::Buckets;
use crate::key::Digest;
use crate::limits::{NAME_TTL_SECONDS, TXT_BYTES_MAX};
use crate::name::Name;

/// All names of one tenant. The serial of its SOA is the generation of the snapshot that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Zone {
    /// `<tenant>.<suffix>`; every owner in `names` is within it.
    #[n(0)]
    pub origin: Name,
    /// The addresses whose PTR names this zone answers.
    #[n(1)]
    pub block: Block,
    /// Records by owner.
    #[n(2)]
    pub names: Buckets<Name, RecordSet>,
}

/// All records of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct RecordSet {
    /// Sorted, without repetition. A CNAME stands alone.
    #[n(0)]
    pub records: Vec<Record>,
    /// Whether PTR questions for the addresses are answered with this owner.
    #[n(1)]
    pub reverse: bool,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Type and value.
    #[n(0)]
    pub data: RecordData,
    /// Seconds.
    #[n(1)]
    pub ttl: u32,
}

/// Type and value of a record (RFC 1035, RFC 3596).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum RecordData {
    /// IPv4 address.
    #[n(0)]
    A(#[cbor(n(0), with = "ipv4")] Ipv4Addr),
    /// IPv6 address.
    #[n(1)]
    Aaaa(#[cbor(n(0), with = "ipv6")] Ipv6Addr),
    /// The canonical name, within the zone or not.
    #[n(2)]
    Cname(#[n(0)] Name),
    /// One character string of at most 255 bytes.
    #[n(3)]
    Txt(#[n(0)] Text),
}

/// The text of a TXT record: at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Box<str>);

/// Longer than one character string holds, or with a NUL, which PostgreSQL cannot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TXT value has at most {TXT_BYTES_MAX} bytes and no NUL")]
pub struct BadText;

impl std::str::FromStr for Text {
    type Err = BadText;
    fn from_str(text: &str) -> Result<Self, BadText> {
        if text.len() > TXT_BYTES_MAX || text.contains('\0') { Err(BadText) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

crate::text::cbor_as_text!(Text);

impl RecordData {
    /// `A`, `AAAA`, `CNAME` or `TXT`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Txt(_) => "TXT",
        }
    }

    /// Reads a type and a value as people write them.
    pub fn parse(kind: &str, value: &str) -> Result<Self, BadRecord> {
        let bad = |_| BadRecord::Value { kind: kind.to_ascii_uppercase(), value: value.into() };
        Ok(match kind.to_ascii_uppercase().as_str() {
            "A" => Self::A(value.parse().map_err(|e: std::net::AddrParseError| bad(e.to_string()))?),
            "AAAA" => Self::Aaaa(value.parse().map_err(|e: std::net::AddrParseError| bad(e.to_string()))?),
            "CNAME" => Self::Cname(value.parse().map_err(|e: crate::name::BadName| bad(e.to_string()))?),
            "TXT" => Self::Txt(value.parse().map_err(|e: BadText| bad(e.to_string()))?),
            _ => return Err(BadRecord::Kind(kind.into())),
        })
    }
}

/// The value alone, as people write it.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(a) => a.fmt(f),
            Self::Aaaa(a) => a.fmt(f),
            Self::Cname(name) => name.fmt(f),
            Self::Txt(text) => text.fmt(f),
        }
    }
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// A type that Warren does not serve.
    #[error("record type {0} is not one of A, AAAA, CNAME, TXT")]
    Kind(String),
    /// A value that does not fit the type.
    #[error("{value:?} is no value of a {kind} record")]
    Value {
        /// The type.
        kind: String,
        /// What was given.
        value: String,
    },
}

impl RecordSet {
    /// The set of a device's name: its two addresses, answering PTR.
    pub fn of_node(addresses: MeshAddresses) -> Self {
        let record = |data| Record { data, ttl: NAME_TTL_SECONDS };
        let records = vec![record(RecordData::A(addresses.v4)), record(RecordData::Aaaa(addresses.v6))];
        Self { records, reverse: true }
    }
}

impl Zone {
    /// A zone without names.
    pub fn new(origin: Name, block: Block) -> Self {
        Self { origin, block, names: Buckets::new() }
    }

    /// The digest of all of it. Costs what changed since it was computed last.
    pub fn digest(&mut self) -> Digest {
        let head = minicbor::to_vec((&self.origin, &self.block)).expect("writing to memory cannot fail");
        Digest::of("warren zone 1", &[&head, self.names.digest().as_bytes()])
    }
}

mod ipv4 {
    use minicbor::encode::{Error, Write};
    use minicbor::{Decoder, Encoder};
    use std::net::Ipv4Addr;

    pub(super) fn encode<C, W: Write>(
        a: &Ipv4Addr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Error<W::Error>> {
        e.bytes(&a.octets())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Ipv4Addr, minicbor::decode::Error> {
        crate::address::cbor::octets::<4>(d).map(Ipv4Addr::from)
    }
}

mod ipv6 {
    use minicbor::encode::{Error, Write};
    use minicbor::{Decoder, Encoder};
    use std::net::Ipv6Addr;

    pub(super) fn encode<C, W: Write>(
        a: &Ipv6Addr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Error<W::Error>> {
        e.bytes(&a.octets())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Ipv6Addr, minicbor::decode::Error> {
        crate::address::cbor::octets::<16>(d).map(Ipv6Addr::from)
    }
}
