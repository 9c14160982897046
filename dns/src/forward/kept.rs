//! An answer as it is kept: the records as they came, without EDNS, and where their TTLs stand; written out again for
//! each asker with its own id, question and remaining time. Knows not where it is kept.

use super::limits::STALE_TTL_SECONDS;
use super::question::{Asked, HEADER_BYTES};
use crate::limits::UDP_PAYLOAD_BYTES_MAX;

/// Extended errors that we give (RFC 8914, section 4).
pub(super) const EDE_STALE_ANSWER: u16 = 3;
pub(super) const EDE_BLOCKED: u16 = 15;
pub(super) const EDE_STALE_NXDOMAIN: u16 = 19;
pub(super) const EDE_NO_REACHABLE_AUTHORITY: u16 = 22;
pub(super) const EDE_NETWORK_ERROR: u16 = 23;

const OPT_BYTES: usize = 11;
const EXTENDED_ERROR_BYTES: usize = 6;
const CODE_NO_ERROR: u8 = 0;
const CODE_SERVER_FAILURE: u8 = 2;
const CODE_NO_SUCH_NAME: u8 = 3;

/// An answer, in one piece of memory: the key, the places of the TTLs, the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    bytes: Box<[u8]>,
    key_length: u16,
    ttls: u16,
    /// Answers, authority, additional.
    counts: [u16; 3],
    code: u8,
    /// How long it may be kept; 0: not at all.
    pub(super) seconds: u32,
    /// What it says of itself beyond its code (RFC 8914).
    extended_error: Option<u16>,
    /// The number of the server that said it; 0: nobody did.
    pub(super) server: u32,
}

/// What makes an answer.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The key of its question.
    pub(super) key: &'a [u8],
    /// All that follows the question.
    pub(super) records: &'a [u8],
    /// Where TTLs stand, from the beginning of `records`.
    pub(super) ttls: &'a [u16],
    pub(super) counts: [u16; 3],
    pub(super) code: u8,
    pub(super) seconds: u32,
    pub(super) extended_error: Option<u16>,
}

/// What the TTLs of an answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It came so many seconds ago.
    Seconds(u32),
    /// It has ended, and there is no better one (RFC 8767).
    Stale,
}

impl Kept {
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let places = parts.ttls.iter().flat_map(|place| place.to_ne_bytes());
        let bytes = parts.key.iter().copied().chain(places).chain(parts.records.iter().copied());
        Self {
            bytes: bytes.collect(),
            key_length: u16::try_from(parts.key.len()).expect("a key has 260 bytes at most"),
            ttls: u16::try_from(parts.ttls.len()).expect("a record has more than two bytes"),
            counts: parts.counts,
            code: parts.code,
            seconds: parts.seconds,
            extended_error: parts.extended_error,
            server: 0,
        }
    }

    /// That nobody could say it.
    pub(super) fn failure(key: &[u8], extended_error: u16, seconds: u32) -> Self {
        Self::empty(key, CODE_SERVER_FAILURE, Some(extended_error), seconds)
    }

    /// That there is nothing that we may say.
    pub(super) fn blocked(key: &[u8], seconds: u32) -> Self {
        Self::empty(key, CODE_NO_ERROR, Some(EDE_BLOCKED), seconds)
    }

    fn empty(key: &[u8], code: u8, extended_error: Option<u16>, seconds: u32) -> Self {
        Self::new(&Parts { key, records: &[], ttls: &[], counts: [0; 3], code, seconds, extended_error })
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_length.into()]
    }

    /// Memory on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is what a server said of the name, and not that none could be had.
    pub(super) const fn is_answer(&self) -> bool {
        self.code == CODE_NO_ERROR || self.code == CODE_NO_SUCH_NAME
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        let start = usize::from(self.key_length);
        let places = self.bytes[start..start + 2 * usize::from(self.ttls)].as_chunks().0;
        places.iter().map(|place| usize::from(u16::from_ne_bytes(*place)))
    }

    fn records(&self) -> &[u8] {
        &self.bytes[usize::from(self.key_length) + 2 * usize::from(self.ttls)..]
    }

    /// Writes the answer over the query at the beginning of `buffer`, whose id and question stay, in at most `limit`
    /// bytes: what is longer is cut to nothing, with TC. Returns its length, or `None` if `buffer` is too short even
    /// for that; then it is as it was.
    pub(super) fn write(&self, buffer: &mut [u8], asked: &Asked, age: Age, limit: usize) -> Option<usize> {
        let limit = limit.min(buffer.len());
        let extended_error = match age {
            Age::Seconds(_) => self.extended_error,
            Age::Stale if self.code == CODE_NO_SUCH_NAME => Some(EDE_STALE_NXDOMAIN),
            Age::Stale => Some(EDE_STALE_ANSWER),
        };
        let edns = match (asked.payload, extended_error) {
            (None, _) => 0,
            (Some(_), None) => OPT_BYTES,
            (Some(_), Some(_)) => OPT_BYTES + EXTENDED_ERROR_BYTES,
        };
        if asked.question_end + edns > limit {
            return None;
        }
        let fits = asked.question_end + self.records().len() + edns <= limit;
        let counts = if fits { self.counts } else { [0; 3] };
        self.write_header(buffer, counts, asked.payload.is_some(), !fits);
        let mut end = asked.question_end;
        if fits {
            let records = &mut buffer[end..end + self.records().len()];
            records.copy_from_slice(self.records());
            self.write_ttls(records, age);
            end += self.records().len();
        }
        if asked.payload.is_some() {
            end = write_edns(buffer, end, asked.key.dnssec_ok(), extended_error);
        }
        Some(end)
    }

    /// The answer to a query, as [`Self::write`] writes it.
    pub(super) fn reply(&self, query: &[u8], asked: &Asked, age: Age, limit: usize) -> Option<Vec<u8>> {
        let length = asked.question_end + self.records().len() + OPT_BYTES + EXTENDED_ERROR_BYTES;
        let mut buffer = query.to_vec();
        buffer.resize(length.min(limit), 0);
        let length = self.write(&mut buffer, asked, age, limit)?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// RD and CD stay as they were asked; AD is never given, as nothing was checked here.
    fn write_header(&self, buffer: &mut [u8], counts: [u16; 3], has_edns: bool, cut: bool) {
        const RESPONSE: u8 = 0x80;
        const CUT: u8 = 0x02;
        const RECURSION_AVAILABLE: u8 = 0x80;
        buffer[2] = RESPONSE | buffer[2] & 0x01 | if cut { CUT } else { 0 };
        buffer[3] = RECURSION_AVAILABLE | buffer[3] & 0x10 | self.code;
        let [answers, authority, additional] = counts;
        let counts = [1, answers, authority, additional + u16::from(has_edns)];
        for (place, count) in buffer[4..HEADER_BYTES].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }

    fn write_ttls(&self, records: &mut [u8], age: Age) {
        for place in self.places() {
            let ttl = records[place..].first_chunk_mut().expect("a TTL has four bytes");
            *ttl = match age {
                Age::Seconds(0) => continue,
                Age::Seconds(age) => u32::from_be_bytes(*ttl).saturating_sub(age).to_be_bytes(),
                Age::Stale => STALE_TTL_SECONDS.to_be_bytes(),
            };
        }
    }
}

/// EDNS of our own, whatever the server sent (RFC 6891, section 6.2.1), with DO as it was asked (RFC 3225, section 3).
fn write_edns(buffer: &mut [u8], at: usize, dnssec_ok: bool, extended_error: Option<u16>) -> usize {
    let [payload_high, payload_low] = UDP_PAYLOAD_BYTES_MAX.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    let length = if extended_error.is_some() { 6 } else { 0 };
    let end = at + OPT_BYTES;
    buffer[at..end].copy_from_slice(&[0, 0, 41, payload_high, payload_low, 0, 0, flags, 0, 0, length]);
    let Some(code) = extended_error else { return end };
    let [high, low] = code.to_be_bytes();
    buffer[end..end + EXTENDED_ERROR_BYTES].copy_from_slice(&[0, 15, 0, 2, high, low]);
    end + EXTENDED_ERROR_BYTES
}
