//! What one record says: its type and value, as people write it and as it travels. Knows no owner and no TTL.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::limits::TXT_BYTES_MAX;
use crate::name::Name;

/// Type and value of a record (RFC 1035, RFC 3596, RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordData {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// The canonical name, within the zone or not.
    Cname(Name),
    /// One character string of at most 255 bytes.
    Txt(Text),
    /// Where a service is.
    Srv {
        /// Lower is asked first.
        priority: u16,
        /// Among equal priorities, its share of the askers.
        weight: u16,
        /// On the target.
        port: u16,
        /// The host, within the zone or not.
        target: Name,
    },
    /// A type that came with a later version: answered to nobody, and kept as it is so that digests agree.
    Later(Later),
}

/// A record's type and value as their CBOR, which this version cannot read further.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Later(Box<[u8]>);

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Later({} bytes)", self.0.len())
    }
}

/// The text of a TXT record: at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Box<str>);

/// One character string as zone files have it (RFC 1035, section 5.1): quoted, and no byte that could steer a terminal.
pub fn quoted(string: &[u8]) -> String {
    let byte = |&byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).into(),
        _ => format!("\\{byte:03}"),
    };
    format!("\"{}\"", string.iter().map(byte).collect::<String>())
}

/// Longer than one character string holds, or with a NUL, which PostgreSQL cannot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TXT value has at most {TXT_BYTES_MAX} bytes and no NUL")]
pub struct BadText;

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Text {
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

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// A type that Warren does not serve.
    #[error("record type {0} is not one of A, AAAA, CNAME, TXT, SRV")]
    Kind(String),
    /// A value that does not fit the type.
    #[error("{value:?} is no value of {} {kind} record, which is {expected}", article(kind))]
    Value {
        /// The type.
        kind: &'static str,
        /// What was given.
        value: String,
        /// What the type takes.
        expected: &'static str,
    },
}

/// Before a type that is spelt out: "an A", "an SRV", but "a TXT".
fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'S']) { "an" } else { "a" }
}

impl RecordData {
    /// `A`, `AAAA`, `CNAME`, `TXT` or `SRV`; `LATER` for one that this version does not know.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Txt(_) => "TXT",
            Self::Srv { .. } => "SRV",
            Self::Later(_) => "LATER",
        }
    }

    /// The name that the record sends the asker to.
    pub const fn target(&self) -> Option<&Name> {
        match self {
            Self::Cname(target) | Self::Srv { target, .. } => Some(target),
            Self::A(_) | Self::Aaaa(_) | Self::Txt(_) | Self::Later(_) => None,
        }
    }

    /// The same with another name for the asker to be sent to, where it sends to one.
    pub fn with_target(&self, target: Name) -> Self {
        match self {
            Self::Cname(_) => Self::Cname(target),
            &Self::Srv { priority, weight, port, .. } => Self::Srv { priority, weight, port, target },
            Self::A(_) | Self::Aaaa(_) | Self::Txt(_) | Self::Later(_) => self.clone(),
        }
    }

    /// Reads a type and a value as people write them.
    pub fn parse(kind: &str, value: &str) -> Result<Self, BadRecord> {
        let (kind, expected, read) = match kind.to_ascii_uppercase().as_str() {
            "A" => ("A", "an IPv4 address", value.parse().ok().map(Self::A)),
            "AAAA" => ("AAAA", "an IPv6 address", value.parse().ok().map(Self::Aaaa)),
            "CNAME" => ("CNAME", "a name", value.parse().ok().map(Self::Cname)),
            "TXT" => ("TXT", "a text of at most 255 bytes without NUL", value.parse().ok().map(Self::Txt)),
            "SRV" => {
                ("SRV", "PRIORITY WEIGHT PORT TARGET, such as \"10 5 8080 web.example.org\"", srv(value))
            }
            _ => return Err(BadRecord::Kind(kind.into())),
        };
        read.ok_or_else(|| BadRecord::Value { kind, value: value.into(), expected })
    }
}

fn srv(value: &str) -> Option<RecordData> {
    let mut words = value.split_ascii_whitespace();
    let mut number = || words.next()?.parse::<u16>().ok();
    let (priority, weight, port) = (number()?, number()?, number()?);
    let target = words.next()?.parse().ok()?;
    words.next().is_none().then_some(RecordData::Srv { priority, weight, port, target })
}

/// The value alone, as people write it.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(a) => a.fmt(f),
            Self::Aaaa(a) => a.fmt(f),
            Self::Cname(name) => name.fmt(f),
            Self::Txt(text) => text.fmt(f),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Later(later) => fmt::Debug::fmt(later, f),
        }
    }
}

/// `[kind, [fields…]]`, as minicbor derives it for an enum; but a kind that is not known is kept instead of refused.
mod cbor {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decode, Decoder, Encode, Encoder};

    use super::{Later, RecordData};
    use crate::address::cbor::octets;

    impl<C> Encode<C> for RecordData {
        fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
            let mut kind = |kind, fields| e.array(2)?.u32(kind)?.array(fields).map(drop);
            match self {
                Self::A(address) => {
                    kind(0, 1)?;
                    e.bytes(&address.octets())?
                }
                Self::Aaaa(address) => {
                    kind(1, 1)?;
                    e.bytes(&address.octets())?
                }
                Self::Cname(target) => {
                    kind(2, 1)?;
                    e.encode(target)?
                }
                Self::Txt(text) => {
                    kind(3, 1)?;
                    e.encode(text)?
                }
                Self::Srv { priority, weight, port, target } => {
                    kind(4, 4)?;
                    e.u16(*priority)?.u16(*weight)?.u16(*port)?.encode(target)?
                }
                Self::Later(Later(bytes)) => {
                    e.writer_mut().write_all(bytes).map_err(EncodeError::write)?;
                    e
                }
            };
            Ok(())
        }
    }

    impl<'b, C> Decode<'b, C> for RecordData {
        fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
            let start = d.position();
            let wrong = |text| Err(DecodeError::message(text).at(start));
            if d.array()? != Some(2) {
                return wrong("a record is its kind and its fields");
            }
            let kind = d.u32()?;
            if kind > 4 {
                d.skip()?;
                return Ok(Self::Later(Later(d.input()[start..d.position()].into())));
            }
            let fields = d.array()?;
            if fields != Some(if kind == 4 { 4 } else { 1 }) {
                return wrong("a record has other fields than its kind says");
            }
            Ok(match kind {
                0 => Self::A(Ipv4Addr::from(octets::<4>(d)?)),
                1 => Self::Aaaa(Ipv6Addr::from(octets::<16>(d)?)),
                2 => Self::Cname(d.decode()?),
                3 => Self::Txt(d.decode()?),
                _ => Self::Srv { priority: d.u16()?, weight: d.u16()?, port: d.u16()?, target: d.decode()? },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_as_they_are_written() {
        let check = |kind: &str, value: &str, expect: &str| {
            let data = RecordData::parse(kind, value).expect("a record");
            assert_eq!(data.to_string(), expect);
            assert_eq!(RecordData::parse(data.kind(), expect).as_ref(), Ok(&data));
            let bytes = minicbor::to_vec(&data).expect("encodes");
            assert_eq!(minicbor::decode::<RecordData>(&bytes).as_ref().ok(), Some(&data));
        };
        check("a", "192.0.2.1", "192.0.2.1");
        check("AAAA", "2001:DB8::1", "2001:db8::1");
        check("cname", "WWW.example.org.", "www.example.org");
        check("txt", " two  words ", " two  words ");
        check("TXT", "", "");
        check("srv", " 10  5 8080 Host.home.internal. ", "10 5 8080 host.home.internal");
        check("SRV", "0 65535 0 a", "0 65535 0 a");
    }

    #[test]
    fn texts_are_quoted_as_zone_files_have_them() {
        let check = |text: &str, expect: &str| assert_eq!(quoted(text.as_bytes()), expect);
        check("", r#""""#);
        check("two words", r#""two words""#);
        check("a \"b\" \\", r#""a \"b\" \\""#);
        check("a\nforged A 192.0.2.1\x1b\x7fé", r#""a\010forged A 192.0.2.1\027\127\195\169""#);
    }

    #[test]
    fn what_is_no_record_is_refused_with_what_would_be() {
        let check = |kind: &str, value: &str, expect: &str| {
            let refused = RecordData::parse(kind, value).expect_err("no record").to_string();
            assert!(refused.contains(expect), "{refused}");
        };
        check("MX", "10 mail.example.org", "record type MX is not one of A, AAAA, CNAME, TXT, SRV");
        check("LATER", "x", "record type LATER");
        check("A", "2001:db8::1", "no value of an A record, which is an IPv4 address");
        check("AAAA", "192.0.2.1", "an IPv6 address");
        check("CNAME", "a..b", "no value of a CNAME record, which is a name");
        check("TXT", &"x".repeat(256), "255 bytes");
        check("TXT", "a\0b", "without NUL");
        for bad in
            ["", "10", "10 5", "10 5 80", "10 5 80 .", "10 5 80 a b", "-1 5 80 a", "65536 5 80 a", "x 5 80 a"]
        {
            check("SRV", bad, "PRIORITY WEIGHT PORT TARGET");
        }
    }

    #[test]
    fn records_travel_as_they_always_did() {
        let check = |kind, value, expect: &[u8]| {
            let data = RecordData::parse(kind, value).expect("a record");
            assert_eq!(minicbor::to_vec(&data).expect("encodes"), expect, "{kind} {value}");
        };
        check("A", "192.0.2.1", b"\x82\x00\x81\x44\xc0\x00\x02\x01");
        let mut six = *b"\x82\x01\x81\x50\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        check("AAAA", "2001:db8::1", &six);
        check("CNAME", "a.b", b"\x82\x02\x81\x63a.b");
        check("TXT", "hi", b"\x82\x03\x81\x62hi");
        check("SRV", "1 2 3 a.b", b"\x82\x04\x84\x01\x02\x03\x63a.b");
        six[2] = 0x82;
        assert!(minicbor::decode::<RecordData>(&six).is_err(), "one field more than the kind has");
        assert!(minicbor::decode::<RecordData>(b"\x82\x04\x81\x01").is_err(), "fields are missing");
    }

    #[test]
    fn a_kind_of_a_later_version_is_kept_as_it_came() {
        let later = b"\x82\x18\x63\xa1\x01\x82\x02\x61x";
        let data: RecordData = minicbor::decode(later).expect("decodes");
        assert_eq!((data.kind(), data.target()), ("LATER", None));
        assert_eq!(minicbor::to_vec(&data).expect("encodes"), later);
        let set = [&b"\x81"[..], later].concat();
        let set: Vec<RecordData> = minicbor::decode(&set).expect("decodes among others");
        assert_eq!(set, [data]);
    }
}
