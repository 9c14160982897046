//! What a view says to a question: records, NODATA or NXDOMAIN. Knows no header, size or transport.

use std::net::IpAddr;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name as WireName, Record as WireRecord};

use crate::arpa::Place;
use crate::limits::{CNAME_CHAIN_MAX, PTR_RECORDS_MAX};
use crate::node::{Node, kind};
use crate::rcode::Rcode;
use crate::record::{self, Writer};
use crate::rule::Rule;
use crate::tenants::{Part, Spot};
use crate::view::{Found, View};
use crate::wire::Sought;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Rcode,
    pub(crate) answers: Vec<WireRecord>,
    pub(crate) authority: Option<WireRecord>,
    /// The name outside of the zone where the aliases end.
    pub(crate) outside: Option<WireName>,
}

/// Answers a question of class IN for a name of this spot. Writes down by which rules, if somebody wants to know.
pub(crate) fn look_up(spot: &Spot, question: &Query, name: Sought, rules: Option<&mut Vec<Rule>>) -> Outcome {
    let mut answer = Answering {
        view: &spot.view,
        question: question.name(),
        kind: question.query_type().into(),
        writer: Writer::new(question.name()),
        rules,
    };
    match spot.part {
        Part::Names => answer.forward(name),
        Part::Addresses(place, apex_labels) => answer.reverse(place, apex_labels),
    }
}

struct Answering<'q> {
    view: &'q View,
    question: &'q WireName,
    kind: u16,
    writer: Writer<'q>,
    rules: Option<&'q mut Vec<Rule>>,
}

impl Answering<'_> {
    /// Follows CNAME records as far as they stay in the zone. The last name decides the code (RFC 6604, section 3).
    fn forward(&mut self, mut name: Sought) -> Outcome {
        let (view, mut owner) = (self.view, self.question.clone());
        let apex = owner.trim_to(view.origin().labels);
        let mut answers: Vec<WireRecord> = Vec::new();
        for _ in 0..=CNAME_CHAIN_MAX {
            let node = match view.find(&name) {
                Found::Exact(node) => node,
                Found::Wildcard(node, at) => {
                    self.tell(|| Rule::Wildcard { name: name.text(0), encloser: name.text(at) });
                    node
                }
                Found::Missing(at) => {
                    self.tell(|| Rule::Missing { name: name.text(0), encloser: name.text(at) });
                    return self.negative(Rcode::NxDomain, answers, &apex);
                }
            };
            let is_apex = name.labels() == view.origin().labels;
            let of_apex = is_apex.then(|| self.of_apex(&owner)).flatten();
            let found = of_apex.map_or_else(|| self.matching(&owner, &node), |found| vec![found]);
            if !found.is_empty() {
                self.tell(|| Rule::Records { name: name.text(0), count: found.len() });
                answers.extend(found);
                return positive(answers);
            }
            let Some(alias) = node.alias() else {
                self.tell(|| Rule::NoRecords { name: name.text(0) });
                return self.negative(Rcode::NoError, answers, &apex);
            };
            answers.extend(self.writer.of_zone(&owner, alias));
            let target = Sought::of_wire(alias.target());
            self.tell(|| Rule::Alias { name: name.text(0), target: target.text(0) });
            (owner, name) = (self.writer.name(alias.target()), target);
            if !name.is_within(view.origin()) {
                self.tell(|| Rule::Outside { name: name.text(0) });
                return Outcome { outside: Some(owner), ..positive(answers) };
            }
            if answers.iter().any(|link| link.name == owner) {
                break;
            }
        }
        self.tell(|| Rule::Endless { name: name.text(0) });
        positive(answers)
    }

    fn tell(&mut self, rule: impl FnOnce() -> Rule) {
        if let Some(rules) = &mut self.rules {
            rules.push(rule());
        }
    }

    fn reverse(&mut self, place: Place, apex_labels: usize) -> Outcome {
        let owner = self.question;
        let apex = owner.trim_to(apex_labels);
        let name = || Sought::of_question(owner).text(0);
        let answers: Option<Vec<WireRecord>> = match place {
            Place::Nowhere => None,
            Place::Apex => Some(self.of_apex(owner).into_iter().collect()),
            Place::Between => Some(Vec::new()),
            Place::Address(address) => self.of_address(address),
        };
        match answers {
            None => {
                self.tell(|| Rule::Missing { name: name(), encloser: Sought::of_question(&apex).text(0) });
                self.negative(Rcode::NxDomain, Vec::new(), &apex)
            }
            Some(answers) if answers.is_empty() => {
                self.tell(|| Rule::NoRecords { name: name() });
                self.negative(Rcode::NoError, answers, &apex)
            }
            Some(answers) => {
                self.tell(|| Rule::Records { name: name(), count: answers.len() });
                positive(answers)
            }
        }
    }

    /// `None` if no name has the address.
    fn of_address(&self, address: IpAddr) -> Option<Vec<WireRecord>> {
        let mut names = self.view.names_of(address).take(PTR_RECORDS_MAX).peekable();
        names.peek()?;
        Some(match self.kind {
            kind::PTR => {
                names.map(|name| self.writer.ptr(&[name, &self.view.origin().wire].concat())).collect()
            }
            kind::ANY => vec![record::any(self.question)],
            _ => Vec::new(),
        })
    }

    /// The records of a name that answer a question. For ANY a CNAME or one HINFO (RFC 8482, section 4.2).
    fn matching(&self, owner: &WireName, node: &Node<'_>) -> Vec<WireRecord> {
        let wanted = match self.kind {
            kind::ANY if node.alias().is_some() => kind::CNAME,
            kind::ANY if node.has_records() => return vec![record::any(owner)],
            wanted => wanted,
        };
        let found = node.records().filter(|record| record.kind() == wanted);
        found.filter_map(|record| self.writer.of_zone(owner, record)).collect()
    }

    /// What only the top of a zone has. For ANY the SOA stands for all (RFC 8482, section 4.1).
    fn of_apex(&self, apex: &WireName) -> Option<WireRecord> {
        match self.kind {
            kind::SOA | kind::ANY => Some(self.writer.soa(apex, self.view.authority())),
            kind::NS => Some(self.writer.ns(apex, self.view.authority())),
            _ => None,
        }
    }

    fn negative(&self, code: Rcode, answers: Vec<WireRecord>, apex: &WireName) -> Outcome {
        let authority = Some(self.writer.negative_soa(apex, self.view.authority()));
        Outcome { code, answers, authority, outside: None }
    }
}

const fn positive(answers: Vec<WireRecord>) -> Outcome {
    Outcome { code: Rcode::NoError, answers, authority: None, outside: None }
}
