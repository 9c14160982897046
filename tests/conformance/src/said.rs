//! What an answer says, whatever the order and the compression of its records.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

/// An answer, read by hickory-proto.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// QR to CD as they came.
    pub flags: u16,
    /// With the upper bits of EDNS.
    pub code: u16,
    /// With the case that it came with.
    pub question: Vec<u8>,
    /// Records as lines, names in lower case.
    pub answers: BTreeSet<String>,
    /// The same of the authority section.
    pub authorities: BTreeSet<String>,
    /// The same of the additional section, without EDNS.
    pub additionals: BTreeSet<String>,
    /// Version and flags, where there is EDNS.
    pub edns: Option<(u8, u16)>,
}

/// Authoritative.
pub const AA: u16 = 0x0400;
/// Truncated: the asker goes on over TCP.
pub const TC: u16 = 0x0200;
/// Recursion available.
pub const RA: u16 = 0x0080;
/// Of no meaning, and 0 (RFC 1035, section 4.1.1).
pub const Z: u16 = 0x0040;
/// Checking disabled (RFC 4035, section 3.2.2).
pub const CD: u16 = 0x0010;
const FLAGS: [(u16, &str); 8] = [
    (0x8000, "qr"),
    (AA, "aa"),
    (TC, "tc"),
    (0x0100, "rd"),
    (RA, "ra"),
    (Z, "z"),
    (0x0020, "ad"),
    (CD, "cd"),
];

impl Said {
    /// Reads an answer.
    ///
    /// # Panics
    /// If it is no message.
    pub fn read(bytes: &[u8]) -> Self {
        let message = Message::from_vec(bytes).unwrap_or_else(|e| panic!("{e}: {bytes:02x?}"));
        let edns = message.edns.as_ref();
        let end = end_of_question(bytes);
        Self {
            flags: u16::from_be_bytes([bytes[2], bytes[3]]) & 0xfff0,
            code: message.metadata.response_code.into(),
            question: bytes[12..end].to_vec(),
            answers: lines(&message.answers),
            authorities: lines(&message.authorities),
            additionals: lines(&message.additionals),
            edns: edns.map(|edns| (edns.version(), (*edns.flags()).into())),
        }
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

fn end_of_question(bytes: &[u8]) -> usize {
    if bytes[5] == 0 {
        return 12;
    }
    let mut at = 12;
    while bytes[at] != 0 {
        at += 1 + usize::from(bytes[at]);
    }
    at + 5
}

/// Texts keep their case, names do not.
fn lines(records: &[Record]) -> BTreeSet<String> {
    let line = |record: &Record| match record.record_type() {
        RecordType::TXT => {
            let owner = record.name.to_lowercase();
            format!("{owner} {} {} {:?}", record.ttl, record.dns_class, record.data)
        }
        _ => record.to_string().to_lowercase(),
    };
    records.iter().map(line).collect()
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = FLAGS.iter().filter(|(flag, _)| self.flags & flag != 0).map(|(_, name)| *name);
        write!(
            f,
            "code {} opcode {} {}",
            self.code,
            self.flags >> 11 & 15,
            set.collect::<Vec<_>>().join(" ")
        )?;
        write!(f, " edns {:?} question {}", self.edns, self.question.escape_ascii())?;
        for (name, lines) in
            [("answer", &self.answers), ("authority", &self.authorities), ("additional", &self.additionals)]
        {
            for line in lines {
                write!(f, "\n      {name} {line}")?;
            }
        }
        Ok(())
    }
}
