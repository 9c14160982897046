//! What a view says to a question: records, NODATA, NXDOMAIN or a refusal. Knows no header, size or transport.

use hickory_proto::op::Query;
use hickory_proto::rr::{Name as WireName, Record as WireRecord, RecordType};
use model::{Name, Record, RecordData};

use crate::arpa::{self, Place};
use crate::key::Key;
use crate::limits::{CNAME_CHAIN_MAX, PTR_RECORDS_MAX};
use crate::rcode::Rcode;
use crate::record;
use crate::view::View;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Rcode,
    pub(crate) answers: Vec<WireRecord>,
    pub(crate) authority: Option<WireRecord>,
}

impl Outcome {
    /// Not ours to answer.
    pub(crate) const fn refused() -> Self {
        Self { code: Rcode::Refused, answers: Vec::new(), authority: None }
    }

    const fn positive(answers: Vec<WireRecord>) -> Self {
        Self { code: Rcode::NoError, answers, authority: None }
    }
}

/// Answers a question of class IN.
pub(crate) fn look_up(view: &View, question: &Query) -> Outcome {
    let key = Key::of_question(question.name());
    if key.is_within(view.origin()) {
        forward(view, question, key)
    } else if let Some((place, apex_labels)) = arpa::place(&key, view.block()) {
        reverse(view, question, place, apex_labels)
    } else {
        Outcome::refused()
    }
}

/// Follows CNAME records as far as they stay in the zone. The last name decides the code (RFC 6604, section 3).
fn forward(view: &View, question: &Query, mut key: Key) -> Outcome {
    let mut owner = question.name().clone();
    let mut answers = Vec::new();
    for _ in 0..=CNAME_CHAIN_MAX {
        let apex = owner.trim_to(view.origin_labels());
        let Some(held) = view.records(&key) else {
            return negative(view, Rcode::NxDomain, answers, &apex);
        };
        let of_apex = (key == *view.origin()).then(|| of_apex(view, &owner, question.query_type())).flatten();
        let found =
            of_apex.map_or_else(|| matching(&owner, held, question.query_type()), |found| vec![found]);
        if !found.is_empty() {
            answers.extend(found);
            return Outcome::positive(answers);
        }
        let Some((alias, target)) = alias(held) else {
            return negative(view, Rcode::NoError, answers, &apex);
        };
        answers.push(record::of_zone(&owner, alias));
        (owner, key) = (record::wire_name(target), Key::from(target));
        if !key.is_within(view.origin()) || answers.iter().any(|link| link.name == owner) {
            return Outcome::positive(answers);
        }
    }
    Outcome::positive(answers)
}

fn reverse(view: &View, question: &Query, place: Place, apex_labels: usize) -> Outcome {
    let owner = question.name();
    let apex = owner.trim_to(apex_labels);
    let kind = question.query_type();
    let answers: Vec<WireRecord> = match place {
        Place::Nowhere => return negative(view, Rcode::NxDomain, Vec::new(), &apex),
        Place::Apex => of_apex(view, owner, kind).into_iter().collect(),
        Place::Between => Vec::new(),
        Place::Address(address) => {
            let mut names = view.names_of(address).take(PTR_RECORDS_MAX).peekable();
            match kind {
                _ if names.peek().is_none() => return negative(view, Rcode::NxDomain, Vec::new(), &apex),
                RecordType::PTR => names.map(|name| record::ptr(owner, name)).collect(),
                RecordType::ANY => vec![record::any(owner)],
                _ => Vec::new(),
            }
        }
    };
    if answers.is_empty() {
        negative(view, Rcode::NoError, answers, &apex)
    } else {
        Outcome::positive(answers)
    }
}

/// The records of a name that answer a question. For ANY a CNAME or one HINFO (RFC 8482, section 4.2).
fn matching(owner: &WireName, held: &[Record], kind: RecordType) -> Vec<WireRecord> {
    let of_kind = |kind| {
        let found = held.iter().filter(move |record| record::kind(&record.data) == kind);
        found.map(|record| record::of_zone(owner, record)).collect::<Vec<_>>()
    };
    match kind {
        RecordType::ANY if alias(held).is_some() => of_kind(RecordType::CNAME),
        RecordType::ANY if !held.is_empty() => vec![record::any(owner)],
        _ => of_kind(kind),
    }
}

/// What only the top of a zone has. For ANY the SOA stands for all (RFC 8482, section 4.1).
fn of_apex(view: &View, apex: &WireName, kind: RecordType) -> Option<WireRecord> {
    match kind {
        RecordType::SOA | RecordType::ANY => Some(view.authority().soa(apex)),
        RecordType::NS => Some(view.authority().ns(apex)),
        _ => None,
    }
}

fn alias(held: &[Record]) -> Option<(&Record, &Name)> {
    held.iter().find_map(|record| match &record.data {
        RecordData::Cname(target) => Some((record, target)),
        RecordData::A(_) | RecordData::Aaaa(_) | RecordData::Txt(_) => None,
    })
}

fn negative(view: &View, code: Rcode, answers: Vec<WireRecord>, apex: &WireName) -> Outcome {
    Outcome { code, answers, authority: Some(view.authority().negative_soa(apex)) }
}
