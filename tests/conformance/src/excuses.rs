//! Where Warren and NSD differ, and why. Each excuse makes level what it is about and nothing else.

use dns::limits::CNAME_CHAIN_MAX;

use crate::said::{AA, CD, RA, Said, TC, Z};

/// A difference that may be.
pub struct Excuse {
    /// Who does what, by which text.
    pub reason: &'static str,
    /// Makes it level, if the query is one that it is about.
    level: fn(&Asked, &mut Said, &mut Said),
}

/// What an excuse needs to know of a query.
struct Asked {
    name: Vec<u8>,
    flags: u16,
    kind: u16,
    class: u16,
}

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const KIND_NS: u16 = 2;
const KIND_ANY: u16 = 255;
const OPCODE_NOTIFY: u16 = 4;
const NO_ERROR: u16 = 0;
const NAME_ERROR: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
const BAD_VERSION: u16 = 16;

const EXCUSES: &[Excuse] = &[
    Excuse {
        reason: "CD comes back as it was (RFC 4035, section 3.2.2); NSD clears it",
        level: |asked, ours, theirs| {
            if ours.flags & CD == asked.flags & CD {
                theirs.flags = theirs.flags & !CD | ours.flags & CD;
            }
        },
    },
    Excuse {
        reason: "an unknown EDNS version: NSD leaves flags as they were, and drops DO (RFC 3225, section 3)",
        level: |_, ours, theirs| {
            if ours.code == BAD_VERSION && ours.flags & (AA | TC | RA | Z) == 0 {
                theirs.flags &= !(AA | TC | RA | Z);
                theirs.edns = theirs.edns.and(ours.edns);
            }
        },
    },
    Excuse {
        reason: "another opcode: NSD leaves flags as they were, often drops question and EDNS, and refuses NOTIFY",
        level: |asked, ours, theirs| {
            if asked.opcode() != 0 && ours.code == NOT_IMPLEMENTED {
                let refused = asked.opcode() == OPCODE_NOTIFY && matches!(theirs.code, NAME_ERROR | REFUSED);
                if theirs.code == NOT_IMPLEMENTED || refused {
                    theirs.clone_from(ours);
                }
            }
        },
    },
    Excuse {
        reason: "transfers, TSIG and the like as types: refused (RFC 6895, section 3.1); NSD takes them for data",
        level: |asked, ours, theirs| {
            if matches!(asked.kind, 128..=254) && ours.code == REFUSED && all_cname(theirs) {
                theirs.clone_from(ours);
            }
        },
    },
    Excuse {
        reason: "all above an address of the block exists, so that nobody need know whose addresses are taken below",
        level: |asked, ours, theirs| {
            if asked.is_above_addresses() && ours.code == NO_ERROR && theirs.code == NAME_ERROR {
                theirs.code = NO_ERROR;
            }
        },
    },
    Excuse {
        reason: "another class: refused; NSD does not give back the question, and answers class ANY without AA",
        level: |asked, ours, theirs| {
            let answered = asked.class == CLASS_ANY && theirs.flags & AA == 0;
            let refused = theirs.code == REFUSED && theirs.question.is_empty();
            if asked.class != CLASS_IN && ours.code == REFUSED && (answered || refused) {
                theirs.clone_from(ours);
            }
        },
    },
    Excuse {
        reason: "more CNAME records in a row than are followed (dns::limits): the asker goes on from the last one",
        level: |_, ours, theirs| {
            let longest = ours.answers.len() > CNAME_CHAIN_MAX && all_cname(ours);
            if longest && ours.code == NO_ERROR && theirs.answers.is_superset(&ours.answers) {
                theirs.clone_from(ours);
            }
        },
    },
    Excuse {
        reason: "a truncated answer has no records, so that nobody takes some for all (RFC 2181, section 9); NSD leaves CNAME",
        level: |_, ours, theirs| {
            if ours.has(TC) && theirs.has(TC) && ours.answers.is_empty() && all_cname(theirs) {
                theirs.answers.clear();
            }
        },
    },
    Excuse {
        reason: "addresses of a zone's server beside its NS: who asks here has them",
        level: |asked, ours, theirs| {
            if asked.kind == KIND_NS && ours.answers.iter().any(|line| line.contains(" in ns ")) {
                theirs.additionals.clear();
            }
        },
    },
    Excuse {
        reason: "ANY: one HINFO, or the SOA at an apex (RFC 8482, section 4); NSD gives all",
        level: |asked, ours, theirs| {
            let all = !theirs.answers.is_empty() || theirs.has(TC);
            if asked.kind == KIND_ANY && all && ours.answers.len() == 1 {
                theirs.answers.clone_from(&ours.answers);
                theirs.flags = theirs.flags & !TC | ours.flags & TC;
            }
        },
    },
];

fn all_cname(said: &Said) -> bool {
    said.answers.iter().all(|line| line.contains(" in cname "))
}

/// Makes level what may differ, and gives the excuses that were needed.
pub fn level(query: &[u8], ours: &mut Said, theirs: &mut Said) -> Vec<&'static Excuse> {
    let asked = Asked::read(query);
    let needed = |excuse: &&Excuse| {
        let before = (ours.clone(), theirs.clone());
        (excuse.level)(&asked, ours, theirs);
        before != (ours.clone(), theirs.clone())
    };
    EXCUSES.iter().filter(needed).collect()
}

impl Asked {
    /// Of a query with one question, as the asker makes them.
    fn read(query: &[u8]) -> Self {
        let number = |at: usize| u16::from_be_bytes([query[at], query[at + 1]]);
        let mut end = 12;
        while query[end] != 0 {
            end += 1 + usize::from(query[end]);
        }
        let name = query[12..end].to_ascii_lowercase();
        Self { name, flags: number(2), kind: number(end + 1), class: number(end + 3) }
    }

    const fn opcode(&self) -> u16 {
        self.flags >> 11 & 15
    }

    /// In the reverse tree of the home's block, shorter than an address.
    fn is_above_addresses(&self) -> bool {
        let six = self.name.ends_with(b"\x01d\x01f\x03ip6\x04arpa") && self.name.len() < 32 * 2 + 9;
        let labels = self.name.iter().filter(|byte| **byte < b'-').count();
        six || self.name.ends_with(b"\x0264\x03100\x07in-addr\x04arpa") && labels < 6
    }
}
