//! The bytes of nfnetlink and nf_tables messages (`linux/netfilter/nf_tables.h`). Knows no rule of ours.

use crate::netlink::{align, attributes};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFPROTO_INET`: one table for IPv4 and IPv6.
const FAMILY_INET: u8 = 1;
/// `nlmsghdr` and `nfgenmsg`.
const HEADERS_BYTES: usize = 20;
const NESTED: u16 = 0x8000;

/// `enum nf_tables_msg_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Verb {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewSetElements = 12,
    GetSetElements = 13,
}

impl Verb {
    pub(crate) const fn kind(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// Attribute numbers, named as in the kernel's header without the `NFTA_`.
pub(crate) mod attr {
    pub(crate) const LIST_ELEM: u16 = 1;
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;
    pub(crate) const TABLE_USERDATA: u16 = 6;
    pub(crate) const CHAIN_TABLE: u16 = 1;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const HOOK_HOOKNUM: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const RULE_TABLE: u16 = 1;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_USERDATA: u16 = 7;
    pub(crate) const EXPR_NAME: u16 = 1;
    pub(crate) const EXPR_DATA: u16 = 2;
    pub(crate) const DATA_VALUE: u16 = 1;
    pub(crate) const DATA_VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LEN: u16 = 5;
    pub(crate) const SET_DESC: u16 = 9;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const SET_DESC_CONCAT: u16 = 2;
    pub(crate) const SET_FIELD_LEN: u16 = 1;
    pub(crate) const ELEMENTS_TABLE: u16 = 1;
    pub(crate) const ELEMENTS_SET: u16 = 2;
    pub(crate) const ELEMENTS_LIST: u16 = 3;
    pub(crate) const ELEMENT_KEY: u16 = 1;
    pub(crate) const ELEMENT_USERDATA: u16 = 6;
    pub(crate) const ELEMENT_KEY_END: u16 = 10;
}

/// Attributes being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Raw bytes. Integers of nf_tables are big-endian: `&x.to_be_bytes()`.
    pub(crate) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("an attribute of ours is far below 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    pub(crate) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }

    pub(crate) fn list(self, kind: u16, elements: &[Self]) -> Self {
        let inner = elements.iter().fold(Self::new(), |all, one| all.nest(attr::LIST_ELEM, one));
        self.nest(kind, &inner)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One message: header, `nfgenmsg`, attributes.
fn message(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, body: &[u8]) {
    let length = u32::try_from(HEADERS_BYTES + body.len()).expect("a message of ours is far below 4 GiB");
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((flags | netlink_packet_core::NLM_F_REQUEST).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    out.extend(body);
    out.resize(align(out.len()), 0);
}

/// A request that reads.
pub(crate) fn read(verb: Verb, flags: u16, sequence: u32, body: &Attributes) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, verb.kind(), flags, sequence, FAMILY_INET, 0, body.bytes());
    out
}

/// A transaction: all of it happens or none. The last message carries the sequence to wait for.
pub(crate) fn transaction(sequence: u32, steps: &[(Verb, u16, Attributes)]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, BATCH_BEGIN, 0, sequence, 0, SUBSYSTEM, &[]);
    for (number, (verb, flags, body)) in steps.iter().enumerate() {
        let ack = if number + 1 == steps.len() { netlink_packet_core::NLM_F_ACK } else { 0 };
        message(&mut out, verb.kind(), flags | ack, sequence, FAMILY_INET, 0, body.bytes());
    }
    message(&mut out, BATCH_END, 0, sequence, 0, SUBSYSTEM, &[]);
    out
}

/// The attributes of an nf_tables message body, behind its `nfgenmsg`.
pub(crate) fn body_attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(body.get(4..).unwrap_or_default())
}

/// The text of a NUL-terminated attribute.
pub(crate) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// The value of one attribute in a nest.
pub(crate) fn within(nest: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(nest).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// User data that nft shows as `comment` (type 0, length, text, NUL).
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("a comment of ours is short");
    let mut bytes = vec![0, length];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The inverse of [`comment`].
pub(crate) fn comment_text(userdata: &[u8]) -> Option<&str> {
    let [0, length, rest @ ..] = userdata else { return None };
    rest.get(..usize::from(*length)).map(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_come_back() {
        assert_eq!(comment_text(&comment("warren 1")), Some("warren 1"));
        for bad in [&[][..], &[0], &[1, 1, 0], &[0, 9, b'x']] {
            assert_eq!(comment_text(bad), None);
        }
    }

    #[test]
    fn attributes_are_padded_and_come_back() {
        let inner = Attributes::new().text(1, "ab").u32(2, 7);
        let outer = Attributes::new().list(4, &[inner.clone(), inner]);
        let (kind, list) = attributes(outer.bytes()).next().unwrap();
        assert_eq!(kind, 4);
        let all: Vec<_> = attributes(list).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(within(all[1].1, 1).map(text), Some("ab"));
        assert_eq!(within(all[1].1, 2), Some(&[0, 0, 0, 7][..]));
    }
}
