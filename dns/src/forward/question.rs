//! A question as it came, read by hand (RFC 1035, section 4.1), and the key by which its answer is kept. Knows no answer.

use crate::limits::{UDP_PAYLOAD_BYTES_MAX, UDP_PLAIN_BYTES_MAX};

pub(super) const HEADER_BYTES: usize = 12;
/// A name on the wire (RFC 1035, section 3.1).
pub(super) const NAME_BYTES_MAX: usize = 255;
const KEY_BYTES_MAX: usize = NAME_BYTES_MAX + 5;

pub(super) const KIND_A: u16 = 1;
pub(super) const KIND_SOA: u16 = 6;
pub(super) const KIND_AAAA: u16 = 28;
pub(super) const KIND_OPT: u16 = 41;
pub(super) const KIND_ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;
/// OPT without options (RFC 6891, section 6.1.2).
const OPT_BYTES: usize = 11;
const DNSSEC_OK: u8 = 0x80;
const RECURSION_DESIRED: u8 = 0x01;
const CHECKING_DISABLED: u8 = 0x10;

/// Everything that tells one answer from another: the name in wire form and lower case, type, class, and whether
/// signatures were asked for (DO) and are not to be checked (CD).
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl Key {
    const fn new() -> Self {
        Self { bytes: [0; KEY_BYTES_MAX], length: 0 }
    }

    /// A question of our own.
    pub(super) fn of(name: &[u8], kind: u16) -> Self {
        let mut key = Self::new();
        key.bytes[..name.len()].copy_from_slice(name);
        key.length = name.len();
        key.finish(kind, CLASS_IN, false, false);
        key
    }

    fn finish(&mut self, kind: u16, class: u16, dnssec_ok: bool, unchecked: bool) {
        let [kind_high, kind_low] = kind.to_be_bytes();
        let [class_high, class_low] = class.to_be_bytes();
        let flags = u8::from(dnssec_ok) | u8::from(unchecked) << 1;
        let rest = [kind_high, kind_low, class_high, class_low, flags];
        self.bytes[self.length..self.length + rest.len()].copy_from_slice(&rest);
        self.length += rest.len();
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The name in wire form, with the root's zero.
    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.length - 5]
    }

    /// Name, type and class, as they stand in a message.
    pub(super) fn question(&self) -> &[u8] {
        &self.bytes[..self.length - 1]
    }

    pub(super) fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[self.length - 5], self.bytes[self.length - 4]])
    }

    /// DO: the asker takes signatures (RFC 3225).
    pub(super) const fn dnssec_ok(&self) -> bool {
        self.bytes[self.length - 1] & 1 != 0
    }

    /// CD: the asker checks signatures itself (RFC 4035, section 3.2.2).
    pub(super) const fn unchecked(&self) -> bool {
        self.bytes[self.length - 1] & 2 != 0
    }
}

/// A query, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) id: u16,
    /// Where the question ends in the query.
    pub(super) question_end: usize,
    /// How many bytes the asker takes in a datagram, if it speaks EDNS.
    pub(super) payload: Option<u16>,
    has_options: bool,
}

impl Asked {
    /// Reads a query that may be forwarded: one question of class IN, recursion desired, nothing else but EDNS of
    /// version 0. Its options are read over; none is ours to pass on.
    pub(super) fn read(query: &[u8]) -> Option<Self> {
        let header = query.first_chunk::<HEADER_BYTES>()?;
        // QR, opcode and TC are 0. AA means nothing in a query.
        if header[2] & 0b1111_1011 != RECURSION_DESIRED
            || header[4..10] != [0, 1, 0, 0, 0, 0]
            || header[10] != 0
        {
            return None;
        }
        let mut key = Key::new();
        let question_end = read_name(query, &mut key)? + 4;
        let [kind_high, kind_low, class_high, class_low] = *query.get(question_end - 4..)?.first_chunk()?;
        let (kind, class) =
            (u16::from_be_bytes([kind_high, kind_low]), u16::from_be_bytes([class_high, class_low]));
        // Transfers, TKEY and the like are between two servers (RFC 6895, section 3.1).
        if class != CLASS_IN || kind == KIND_OPT || (128..KIND_ANY).contains(&kind) {
            return None;
        }
        let rest = &query[question_end..];
        let edns = match header[11] {
            0 if rest.is_empty() => None,
            1 => Some(read_edns(rest)?),
            _ => return None,
        };
        let dnssec_ok = edns.is_some_and(|(_, dnssec_ok)| dnssec_ok);
        key.finish(kind, class, dnssec_ok, header[3] & CHECKING_DISABLED != 0);
        let payload = edns.map(|(payload, _)| payload);
        let has_options = edns.is_some() && rest.len() > OPT_BYTES;
        Some(Self { key, id: u16::from_be_bytes([header[0], header[1]]), question_end, payload, has_options })
    }

    /// Whether we send such queries to plain servers: it may be one that came back.
    pub(super) fn is_like_ours(&self) -> bool {
        !self.has_options && self.payload.is_none_or(|payload| payload == UDP_PAYLOAD_BYTES_MAX)
    }

    /// How many bytes an answer by datagram may have.
    pub(super) fn datagram_bytes_max(&self) -> usize {
        self.payload.unwrap_or_default().clamp(UDP_PLAIN_BYTES_MAX, UDP_PAYLOAD_BYTES_MAX).into()
    }
}

/// Copies the name of the question in lower case, and returns where it ends.
fn read_name(query: &[u8], key: &mut Key) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        let label = usize::from(*query.get(at)?);
        let end = at + 1 + label;
        if label > 63 || end - HEADER_BYTES > NAME_BYTES_MAX {
            return None;
        }
        let place = at - HEADER_BYTES;
        key.bytes[place] = query[at];
        for (to, from) in key.bytes[place + 1..].iter_mut().zip(query.get(at + 1..end)?) {
            *to = from.to_ascii_lowercase();
        }
        at = end;
        if label == 0 {
            key.length = at - HEADER_BYTES;
            return Some(at);
        }
    }
}

/// The payload that the asker takes and whether it takes signatures, if this is OPT of version 0 and nothing else.
fn read_edns(record: &[u8]) -> Option<(u16, bool)> {
    let &[0, 0, 41, payload_high, payload_low, _, 0, flags, _, length_high, length_low] =
        record.first_chunk()?
    else {
        return None;
    };
    let mut options = record.get(OPT_BYTES..)?;
    if options.len() != usize::from(u16::from_be_bytes([length_high, length_low])) {
        return None;
    }
    while !options.is_empty() {
        let &[_, _, high, low] = options.first_chunk()?;
        options = options.get(4 + usize::from(u16::from_be_bytes([high, low]))..)?;
    }
    Some((u16::from_be_bytes([payload_high, payload_low]), flags & DNSSEC_OK != 0))
}

/// A name in wire form from its text, which [`model::Name`] has checked.
pub(super) fn wire_name(name: &model::Name) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.labels() {
        wire.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire.into()
}

/// A name in wire form as text, for people.
pub(super) fn text(name: &[u8]) -> String {
    let labels = suffixes(name).filter_map(|rest| rest.get(1..1 + usize::from(*rest.first()?)));
    let labels: Vec<String> =
        labels.filter(|label| !label.is_empty()).map(|label| label.escape_ascii().to_string()).collect();
    labels.join(".")
}

/// The name and each name above it, longest first, the root last.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let here = rest?;
        let label = usize::from(*here.first()?);
        rest = if label == 0 { None } else { here.get(1 + label..) };
        Some(here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use hickory_proto::rr::{Name, RecordType};

    fn query(name: &str, kind: RecordType, edns: Option<Edns>) -> Vec<u8> {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        if let Some(edns) = edns {
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn what_is_read_is_what_was_asked() {
        let plain = query("WWW.Example.Org.", RecordType::AAAA, None);
        let asked = Asked::read(&plain).unwrap();
        assert_eq!(asked.key.name(), b"\x03www\x07example\x03org\x00");
        assert_eq!((asked.key.kind(), asked.id, asked.payload), (KIND_AAAA, 0x1234, None));
        assert_eq!((asked.question_end, asked.datagram_bytes_max()), (plain.len(), 512));
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
        let signed = query("www.example.org.", RecordType::AAAA, Some(edns));
        let asked_signed = Asked::read(&signed).unwrap();
        assert_eq!((asked_signed.payload, asked_signed.datagram_bytes_max()), (Some(4096), 1232));
        assert!(asked_signed.key.dnssec_ok() && !asked_signed.key.unchecked());
        assert!(asked.is_like_ours() && !asked_signed.is_like_ours());
        assert_ne!(asked.key.as_bytes(), asked_signed.key.as_bytes());
        assert_eq!(Key::of(asked.key.name(), KIND_AAAA).as_bytes(), asked.key.as_bytes());
    }

    #[test]
    fn everything_else_is_left_alone() {
        let good = query("a.example.", RecordType::A, Some(Edns::new()));
        assert!(Asked::read(&good).is_some());
        for length in 0..good.len() {
            assert!(Asked::read(&good[..length]).is_none(), "cut to {length}");
        }
        let changed = |at: usize, value: u8| {
            let mut query = good.clone();
            query[at] = value;
            Asked::read(&query).is_some()
        };
        assert!(!changed(2, 0x81), "a response");
        assert!(!changed(2, 0x00), "no recursion desired");
        assert!(!changed(2, 0x29), "an update");
        assert!(!changed(2, 0x03), "truncated");
        for count in [5, 7, 9, 11] {
            assert!(!changed(count, 2), "two of the section at {count}");
        }
        assert!(!changed(12, 0xc0), "a compressed name");
        let kind = good.len() - 11 - 4;
        assert!(!changed(kind + 1, 252) && !changed(kind + 1, 41) && changed(kind + 1, 255));
        assert!(!changed(kind + 3, 3), "class CH");
        assert!(!changed(good.len() - 5, 1), "EDNS of version 1");
        assert!(!changed(good.len() - 1, 1), "an option that is not there");
        let mut longer = good.clone();
        longer.push(0);
        assert!(Asked::read(&longer).is_none(), "a byte too many");
        let long = format!("{}.", ["abcdefg"; 32].join("."));
        assert!(Name::from_ascii(&long).is_err(), "256 bytes are no name for others either");
    }

    #[test]
    fn a_name_is_within_all_above_it() {
        let name = b"\x01a\x02bc\x00";
        let all: Vec<&[u8]> = suffixes(name).collect();
        assert_eq!(all, [&name[..], &name[2..], &name[5..]]);
        assert_eq!(suffixes(b"\x00").collect::<Vec<_>>(), [b"\x00"]);
        assert_eq!(&*wire_name(&"A.bc".parse().unwrap()), name);
        assert_eq!(
            (text(name), text(b"\x00"), text(b"\x02\n.\x00")),
            ("a.bc".into(), String::new(), "\\n.".into())
        );
    }
}
