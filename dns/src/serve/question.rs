//! The question of a message, read by hand, and the answers that need no more than it. Knows no zone.

use std::fmt;

use hickory_proto::rr::RecordType;

/// Bytes before the question (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;
/// Bytes of a name on the wire, with the root (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
/// Of the third byte, what an answer repeats: opcode and RD.
const REPEATED_THIRD: u8 = 0x79;
/// Of the fourth byte, what an answer repeats: CD.
const REPEATED_FOURTH: u8 = 0x10;
const SERVER_FAILURE: u8 = 2;

/// The one question of a query or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question<'a> {
    /// As on the wire, with the root.
    name: &'a [u8],
    kind: u16,
}

impl<'a> Question<'a> {
    /// `None` if there is not exactly one, or it is not whole.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        if message.get(4..6)? != [0, 1] {
            return None;
        }
        let name = &message[HEADER_BYTES.min(message.len())..];
        let mut end = 0;
        loop {
            let length = usize::from(*name.get(end)?);
            // Whoever is the first name of a message points nowhere.
            if length > 63 || end >= NAME_BYTES_MAX {
                return None;
            }
            end += length + 1;
            if length == 0 {
                break;
            }
        }
        let kind = name.get(end..end + 4)?;
        (end <= NAME_BYTES_MAX)
            .then(|| Self { name: &name[..end], kind: u16::from_be_bytes([kind[0], kind[1]]) })
    }

    const fn end(&self) -> usize {
        HEADER_BYTES + self.name.len() + 4
    }
}

/// `laptop.home.internal. AAAA`, as zone files write it (RFC 1035, section 5.1; RFC 3597, section 5): one word a
/// field, whatever the bytes.
impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.name;
        while let Some((&length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, next) = after.split_at(usize::from(length));
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
            rest = next;
        }
        if self.name.len() == 1 {
            f.write_str(".")?;
        }
        match RecordType::from(self.kind) {
            RecordType::Unknown(number) => write!(f, " TYPE{number}"),
            kind => write!(f, " {kind}"),
        }
    }
}

/// An answer without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brief {
    /// We could not find out.
    Failed,
    /// The answer is too long, or there were too many: ask by TCP.
    ByTcp,
}

/// Writes an answer without a record over a query of `length` bytes: its header and, if it can be read, its question.
/// `None` if it is no query; the bytes are as they were.
pub(super) fn write_brief(message: &mut [u8], length: usize, brief: Brief) -> Option<usize> {
    let query = message.get(..length)?;
    if query.len() < HEADER_BYTES || query[2] & RESPONSE != 0 {
        return None;
    }
    let end = Question::read(query).map(|question| question.end());
    let (third, fourth) = match brief {
        Brief::Failed => (0, SERVER_FAILURE),
        Brief::ByTcp => (TRUNCATED, 0),
    };
    message[2] = (message[2] & REPEATED_THIRD) | RESPONSE | third;
    message[3] = (message[3] & REPEATED_FOURTH) | fourth;
    message[4..HEADER_BYTES].fill(0);
    message[5] = u8::from(end.is_some());
    Some(end.unwrap_or(HEADER_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::written::is_cut;

    fn query(name: &[u8], kind: u16) -> Vec<u8> {
        let header = [0x12, 0x34, 0x01, 0x30, 0, 1, 0, 0, 0, 0, 0, 1];
        [&header, name, &kind.to_be_bytes(), &[0, 1], &[0; 11]].concat()
    }

    #[test]
    fn questions_are_read_and_shown_in_one_word_a_field() {
        let check = |name: &[u8], kind, expect: Option<&str>| {
            let shown = Question::read(&query(name, kind)).map(|question| question.to_string());
            assert_eq!(shown.as_deref(), expect, "{name:?}");
        };
        check(b"\x06Laptop\x04home\x00", 1, Some("Laptop.home. A"));
        check(b"\x00", 2, Some(". NS"));
        check(b"\x03a.b\x02\n \x01\xff\x00", 666, Some("a\\.b.\\010\\032.\\255. TYPE666"));
        check(b"\xc0\x0c", 1, None);
        check(b"\x40", 1, None);
        let longest = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62]].concat();
        check(
            &[&longest[..], b"\x00"].concat(),
            1,
            Some(&format!("{0}.{0}.{0}.{1}. A", "?".repeat(63), "=".repeat(61))),
        );
        check(&[&longest[..], b"\x01a\x00"].concat(), 1, None);
    }

    #[test]
    fn a_question_that_is_not_whole_is_none() {
        let whole = query(b"\x01a\x00", 1);
        for length in 0..whole.len() {
            assert_eq!(Question::read(&whole[..length]).is_some(), length >= 19, "{length}");
        }
        for count in [0, 2] {
            let mut other = whole.clone();
            other[5] = count;
            assert_eq!(Question::read(&other), None);
        }
    }

    #[test]
    fn brief_answers_repeat_what_they_must() {
        let mut message = query(b"\x01a\x00", 1);
        let length = message.len();
        assert_eq!(write_brief(&mut message, length, Brief::ByTcp), Some(19));
        assert_eq!(message[..12], [0x12, 0x34, 0x83, 0x10, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(is_cut(&message));
        assert_eq!(write_brief(&mut message, 19, Brief::Failed), None, "it is an answer now");
        // A question that cannot be read is not repeated.
        let mut message = query(b"\xc0\x0c", 1);
        let length = message.len();
        assert_eq!(write_brief(&mut message, length, Brief::Failed), Some(12));
        assert_eq!(message[..12], [0x12, 0x34, 0x81, 0x12, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(!is_cut(&message));
        assert_eq!(write_brief(&mut [0; 11], 11, Brief::Failed), None);
        assert_eq!(write_brief(&mut [0; 11], 12, Brief::Failed), None);
    }
}
