//! What the table holds for one name: ready-made records, and what is below it. Knows neither the name nor the zone.
//!
//! A record is as it goes out in the simplest answer: its owner a pointer to the question, then type, class, TTL, length
//! and data (RFC 1035, sections 3.2.1 and 4.1.4). Names in the data are whole and in lower case.

use model::{Record, RecordData, RecordSet};

use crate::table::{read_number, write_number};
use crate::wire;

/// Types of records (RFC 1035, section 3.2.2; RFC 3596; RFC 2782; RFC 1035, section 3.2.3).
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// A pointer to the question's name, which is always behind the header.
pub(crate) const QUESTION_POINTER: [u8; 2] = [0xc0, 0x0c];
/// Owner, type, class, TTL and length of a record whose owner is a pointer.
pub(crate) const RECORD_HEAD_BYTES: usize = 12;
const CLASS_IN: [u8; 2] = [0, 1];

const HELD: u8 = 1;
const REVERSE: u8 = 2;
const ALIAS: u8 = 4;
const WILDCARD: u8 = 8;
const BELOW: u8 = 16;

/// A name that exists: it has records, or a name below it has (RFC 4592, section 2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Node<'t> {
    /// What the zone says of this very name.
    pub(crate) held: Option<Held<'t>>,
    /// Names directly below this one that exist.
    pub(crate) below: u32,
    /// One of them is `*`.
    pub(crate) wildcard: bool,
}

/// The records of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held<'t> {
    /// Whether PTR questions for the addresses are answered with this name.
    pub(crate) reverse: bool,
    /// Whether the only record is a CNAME.
    pub(crate) alias: bool,
    /// One behind the other.
    pub(crate) bytes: &'t [u8],
}

impl<'t> Node<'t> {
    pub(crate) fn read(value: &'t [u8]) -> Self {
        let flags = value[0];
        let (below, rest) = if flags & BELOW == 0 { (0, 1) } else { read_number(value, 1) };
        let held = Held { reverse: flags & REVERSE != 0, alias: flags & ALIAS != 0, bytes: &value[rest..] };
        Self { held: (flags & HELD != 0).then_some(held), below, wildcard: flags & WILDCARD != 0 }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let flag = |set, flag| if set { flag } else { 0 };
        let mut flags = flag(self.wildcard, WILDCARD) | flag(self.below > 0, BELOW);
        if let Some(held) = &self.held {
            flags |= HELD | flag(held.reverse, REVERSE) | flag(held.alias, ALIAS);
        }
        let mut value = Vec::with_capacity(6 + self.bytes().len());
        value.push(flags);
        if self.below > 0 {
            write_number(&mut value, self.below);
        }
        value.extend_from_slice(self.bytes());
        value
    }

    pub(crate) const fn exists(&self) -> bool {
        self.held.is_some() || self.below > 0
    }

    /// Whether it has records: a name without them may exist by what is below it.
    pub(crate) fn has_records(&self) -> bool {
        !self.bytes().is_empty()
    }

    /// All its records.
    pub(crate) fn records(&self) -> Records<'t> {
        Records::of(self.bytes())
    }

    /// The only record, if it is a CNAME.
    pub(crate) fn alias(&self) -> Option<Ready<'t>> {
        self.held.filter(|held| held.alias).and_then(|_| self.records().next())
    }

    fn bytes(&self) -> &'t [u8] {
        self.held.map_or(&[], |held| held.bytes)
    }
}

/// A set of records, ready-made.
#[derive(Debug)]
pub(crate) struct Compiled {
    reverse: bool,
    alias: bool,
    bytes: Vec<u8>,
}

impl Compiled {
    /// Beside a CNAME nothing is kept (RFC 1034, section 3.6.2), and of the TTLs of one type the least (RFC 2181,
    /// section 5.2).
    pub(crate) fn new(set: &RecordSet) -> Self {
        let alias = set.records.iter().position(|record| matches!(record.data, RecordData::Cname(_)));
        let kept = alias.map_or(&*set.records, |at| &set.records[at..=at]);
        let mut bytes = Vec::new();
        for record in kept {
            let alike = kept.iter().filter(|other| other.data.kind() == record.data.kind());
            let ttl = alike.map(|other| other.ttl).min().unwrap_or_default();
            write_record(&mut bytes, record, ttl);
        }
        Self { reverse: set.reverse, alias: alias.is_some(), bytes }
    }

    pub(crate) fn held(&self) -> Held<'_> {
        Held { reverse: self.reverse, alias: self.alias, bytes: &self.bytes }
    }
}

fn write_record(out: &mut Vec<u8>, record: &Record, ttl: u32) {
    match &record.data {
        RecordData::A(address) => write_ready(out, kind::A, ttl, &[&address.octets()]),
        RecordData::Aaaa(address) => write_ready(out, kind::AAAA, ttl, &[&address.octets()]),
        RecordData::Cname(target) => write_ready(out, kind::CNAME, ttl, &[&wire::of_name(target), &[0]]),
        RecordData::Txt(text) => {
            let length = u8::try_from(text.as_str().len()).expect("a text has 255 bytes at most");
            write_ready(out, kind::TXT, ttl, &[&[length], text.as_str().as_bytes()]);
        }
        RecordData::Srv { priority, weight, port, target } => {
            let numbers = [priority, weight, port].map(|number| number.to_be_bytes());
            write_ready(out, kind::SRV, ttl, &[numbers.as_flattened(), &wire::of_name(target), &[0]]);
        }
        RecordData::Later(_) => {}
    }
}

/// Writes one record, its data in parts.
pub(crate) fn write_ready(out: &mut Vec<u8>, kind: u16, ttl: u32, data: &[&[u8]]) {
    let length: usize = data.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&QUESTION_POINTER);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN);
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(length).expect("no type here has 64 KiB of data").to_be_bytes());
    data.iter().for_each(|part| out.extend_from_slice(part));
}

/// A ready-made record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready<'t> {
    /// All of it.
    pub(crate) bytes: &'t [u8],
}

impl<'t> Ready<'t> {
    pub(crate) const fn kind(self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    pub(crate) const fn ttl(self) -> u32 {
        u32::from_be_bytes([self.bytes[6], self.bytes[7], self.bytes[8], self.bytes[9]])
    }

    pub(crate) fn data(self) -> &'t [u8] {
        &self.bytes[RECORD_HEAD_BYTES..]
    }

    /// The name that the data of a CNAME is, or that ends those of an SRV; without the root.
    pub(crate) fn target(self) -> &'t [u8] {
        let data = self.data();
        &data[if self.kind() == kind::SRV { 6 } else { 0 }..data.len() - 1]
    }
}

/// Ready-made records, one by one.
#[derive(Debug, Clone)]
pub(crate) struct Records<'t> {
    rest: &'t [u8],
}

impl<'t> Records<'t> {
    pub(crate) const fn of(bytes: &'t [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'t> Iterator for Records<'t> {
    type Item = Ready<'t>;

    fn next(&mut self) -> Option<Ready<'t>> {
        let length = u16::from_be_bytes([*self.rest.get(10)?, self.rest[11]]);
        let (bytes, rest) = self.rest.split_at(RECORD_HEAD_BYTES + usize::from(length));
        self.rest = rest;
        Some(Ready { bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(records: &[(&str, &str, u32)]) -> RecordSet {
        let record = |(kind, value, ttl): &(&str, &str, u32)| Record {
            data: RecordData::parse(kind, value).expect("a record"),
            ttl: *ttl,
        };
        RecordSet { records: records.iter().map(record).collect(), reverse: false }
    }

    #[test]
    fn nodes_read_back_as_they_were_written() {
        let mut named = Compiled::new(&set(&[("A", "192.0.2.1", 30), ("AAAA", "2001:db8::1", 30)]));
        named.reverse = true;
        let sets = [named, Compiled::new(&set(&[])), Compiled::new(&set(&[("CNAME", "a.b", 30)]))];
        for held in sets.iter().map(|set| Some(set.held())).chain([None]) {
            for (below, wildcard) in [(0, false), (1, true), (300, false)] {
                let node = Node { held, below, wildcard };
                assert_eq!(Node::read(&node.write()), node);
                assert_eq!(node.exists(), held.is_some() || below > 0);
            }
        }
    }

    #[test]
    fn records_are_as_they_go_out() {
        let check = |kind: &str, value: &str, expect: &[u8]| {
            let compiled = Compiled::new(&set(&[(kind, value, 0x0102_0304)]));
            let expect = [b"\xc0\x0c", expect].concat();
            assert_eq!(compiled.bytes, expect, "{kind} {value}");
            let records: Vec<Ready<'_>> = Records::of(&compiled.bytes).collect();
            assert_eq!(records, [Ready { bytes: &expect }]);
            assert_eq!(records[0].ttl(), 0x0102_0304);
        };
        check("A", "192.0.2.1", b"\0\x01\0\x01\x01\x02\x03\x04\0\x04\xc0\0\x02\x01");
        check("CNAME", "A.bc", b"\0\x05\0\x01\x01\x02\x03\x04\0\x06\x01a\x02bc\0");
        check("TXT", "", b"\0\x10\0\x01\x01\x02\x03\x04\0\x01\0");
        check("TXT", "hi", b"\0\x10\0\x01\x01\x02\x03\x04\0\x03\x02hi");
        check("SRV", "1 2 3 a.bc", b"\0\x21\0\x01\x01\x02\x03\x04\0\x0c\0\x01\0\x02\0\x03\x01a\x02bc\0");
    }

    #[test]
    fn sets_become_what_the_protocol_allows() {
        let kinds_and_ttls = |records: &[(&str, &str, u32)]| {
            let compiled = Compiled::new(&set(records));
            Records::of(&compiled.bytes).map(|r| (r.kind(), r.ttl())).collect::<Vec<_>>()
        };
        let mixed = [("A", "192.0.2.1", 60), ("A", "192.0.2.2", 30), ("TXT", "x", 90)];
        assert_eq!(kinds_and_ttls(&mixed), [(kind::A, 30), (kind::A, 30), (kind::TXT, 90)]);
        let beside = [("A", "192.0.2.1", 60), ("CNAME", "a", 30), ("CNAME", "b", 30)];
        assert_eq!(kinds_and_ttls(&beside), [(kind::CNAME, 30)]);
        let compiled = Compiled::new(&set(&beside));
        let node = Node { held: Some(compiled.held()), ..Node::default() };
        assert_eq!(node.alias().map(Ready::target), Some(&b"\x01a"[..]));
    }

    #[test]
    fn a_record_of_a_later_version_is_a_name_without_records() {
        let later = minicbor::decode(b"\x82\x18\x63\x81\x01").expect("a kind that nobody knows yet");
        let set = RecordSet { records: vec![Record { data: later, ttl: 30 }], reverse: false };
        let compiled = Compiled::new(&set);
        let node = Node { held: Some(compiled.held()), ..Node::default() };
        assert!(node.exists() && !node.has_records() && node.alias().is_none());
    }
}
