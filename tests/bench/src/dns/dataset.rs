//! The names that everybody serves, as zone files and as questions with the answers that are right. Knows no server.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The zone that is measured.
pub(crate) const ZONE: &str = "bench.internal";
/// Seconds: nothing expires during a run.
pub(crate) const TTL: u32 = 3_600;
/// Room for one question; a power of two, so that none lies across more cache lines than it must.
pub(crate) const QUESTION_BYTES: usize = 64;
/// Questions of one load: far more than a processor's cache holds answers for.
const QUESTIONS: u32 = 1 << 17;
const NXDOMAIN: u8 = 3;
pub(crate) const A: u16 = 1;
const AAAA: u16 = 28;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// 95 of a hundred names are there.
    Mostly,
    /// Every name is there, without a record of the type.
    NoData,
    /// No name is there.
    NxDomain,
    /// Every name is there, and its record.
    Hits,
}

impl Mix {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mostly => "95 % hits",
            Self::NoData => "NODATA",
            Self::NxDomain => "NXDOMAIN",
            Self::Hits => "hits",
        }
    }
}

/// The address of a host.
pub(crate) fn address(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + host)
}

/// The first label of a host; all are equally long.
pub(crate) fn label(host: u32) -> String {
    format!("h{host:07}")
}

/// A zone file (RFC 1035, section 5).
pub(crate) fn zone_file(records: u32) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL {TTL}\n@ SOA ns hostmaster 1 3600 600 86400 {TTL}\n@ NS ns\nns A 192.0.2.53\n"
    );
    for host in 0..records {
        let _ = writeln!(text, "{} A {}", label(host), address(host));
    }
    text
}

/// The same as unbound's configuration has it.
pub(crate) fn local_data(records: u32) -> String {
    let mut text = format!(
        "local-zone: \"{ZONE}.\" static\nlocal-data: \"{ZONE}. {TTL} SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 {TTL}\"\nlocal-data: \"{ZONE}. {TTL} NS ns.{ZONE}.\"\n"
    );
    for host in 0..records {
        let _ = writeln!(text, "local-data: \"{}.{ZONE}. {TTL} A {}\"", label(host), address(host));
    }
    text
}

/// A query for a name of the zone, with EDNS as resolvers ask (RFC 6891).
pub(crate) fn query(first: &str, kind: u16) -> Vec<u8> {
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    for label in [first].into_iter().chain(ZONE.split('.')) {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query
}

/// What an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// The question as it was.
    Echo,
    /// A response with the question's id, this code and so many answers.
    Answer { code: u8, answers: u8 },
}

impl Right {
    /// Whether a message is that, its id apart.
    pub(crate) fn is(self, message: &[u8]) -> bool {
        match self {
            Self::Echo => message.len() > 12 && message[2] & 0x80 == 0,
            // A response, not cut, and the count of its answers.
            Self::Answer { code, answers } => {
                message.len() > 12
                    && message[2] & 0x82 == 0x80
                    && message[3] & 0x0f == code
                    && message[6] == 0
                    && message[7] == answers
            }
        }
    }
}

/// Questions of equal length, in the order in which they are asked.
#[derive(Debug)]
pub(crate) struct Questions {
    arena: Vec<u8>,
    length: usize,
    right: Vec<Right>,
}

impl Questions {
    /// For a zone of so many records. The same every time.
    pub(crate) fn new(records: u32, mix: Mix) -> Self {
        let mut arena = vec![0; QUESTION_BYTES * QUESTIONS as usize];
        let (mut right, mut length, mut state) = (Vec::new(), 0, 1_u64);
        for slot in arena.chunks_exact_mut(QUESTION_BYTES) {
            let drawn = splitmix(&mut state);
            let host = u32::try_from(drawn % u64::from(records)).expect("below the count");
            let missing = mix == Mix::NxDomain || (mix == Mix::Mostly && (drawn >> 40).is_multiple_of(20));
            let first = if missing { label(host).replace('h', "x") } else { label(host) };
            let query = query(&first, if mix == Mix::NoData { AAAA } else { A });
            length = query.len();
            slot[..length].copy_from_slice(&query);
            right.push(Right::Answer {
                code: if missing { NXDOMAIN } else { 0 },
                answers: u8::from(!missing && mix != Mix::NoData),
            });
        }
        Self { arena, length, right }
    }

    /// The same, each host once: whoever asks them all has asked for everything.
    pub(crate) fn every(records: u32) -> Self {
        let mut arena = vec![0; QUESTION_BYTES * records as usize];
        let mut length = 0;
        for (host, slot) in (0..).zip(arena.chunks_exact_mut(QUESTION_BYTES)) {
            let query = query(&label(host), A);
            length = query.len();
            slot[..length].copy_from_slice(&query);
        }
        let right = vec![Right::Answer { code: 0, answers: 1 }; records as usize];
        Self { arena, length, right }
    }

    pub(crate) const fn count(&self) -> usize {
        self.right.len()
    }

    /// Bytes of each.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The question of a number, with that number's low bits as its id. Numbers beyond the last begin anew.
    pub(crate) fn ask(&mut self, number: u64) {
        let at = self.place(number) * QUESTION_BYTES;
        self.arena[at..at + 2].copy_from_slice(&id(number).to_be_bytes());
    }

    /// As it was asked last.
    pub(crate) fn bytes(&self, number: u64) -> &[u8] {
        let at = self.place(number) * QUESTION_BYTES;
        &self.arena[at..at + self.length]
    }

    /// What answers it.
    pub(crate) fn right(&self, number: u64) -> Right {
        self.right[self.place(number)]
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number % self.right.len() as u64).expect("below the count")
    }
}

#[allow(clippy::cast_possible_truncation)] // The low bits are what is wanted.
pub(crate) const fn id(number: u64) -> u16 {
    number as u16
}

/// Vigna's splitmix64: every number once in 2⁶⁴.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_equally_long_and_know_their_answers() {
        let check = |mix, missing: std::ops::RangeInclusive<usize>, hit| {
            let mut questions = Questions::new(1_000, mix);
            assert_eq!(questions.count(), QUESTIONS as usize);
            let gone = Right::Answer { code: NXDOMAIN, answers: 0 };
            let count = (0..10_000).filter(|&number| questions.right(number) == gone).count();
            assert!(missing.contains(&count), "{mix:?}: {count}");
            assert!((0..10_000).all(|number| [gone, hit].contains(&questions.right(number))), "{mix:?}");
            questions.ask(0x1_0203);
            assert_eq!(questions.bytes(0x1_0203)[..2], [2, 3]);
        };
        let hit = Right::Answer { code: 0, answers: 1 };
        check(Mix::Mostly, 400..=600, hit);
        check(Mix::Hits, 0..=0, hit);
        check(Mix::NxDomain, 10_000..=10_000, hit);
        check(Mix::NoData, 0..=0, Right::Answer { code: 0, answers: 0 });
    }

    #[test]
    fn only_what_is_right_counts() {
        let right = Right::Answer { code: 0, answers: 1 };
        let answer = |flags: [u8; 2], answers| {
            let mut message = query("h", A);
            message[2..4].copy_from_slice(&flags);
            message[7] = answers;
            message
        };
        assert!(right.is(&answer([0x85, 0], 1)));
        for wrong in [
            answer([0x85, 0], 0),
            answer([0x85, 2], 1),
            answer([0x87, 0], 1),
            answer([0x05, 0], 1),
            vec![0x85; 12],
        ] {
            assert!(!right.is(&wrong), "{wrong:02x?}");
        }
        assert!(Right::Echo.is(&query("h", A)));
        assert!(!Right::Echo.is(&answer([0x85, 0], 1)));
    }

    #[test]
    fn the_zone_is_told_to_everybody_alike() {
        assert!(zone_file(12).ends_with("h0000011 A 11.0.0.11\n"));
        assert!(local_data(12).ends_with("\"h0000011.bench.internal. 3600 A 11.0.0.11\"\n"));
    }
}
