//! Composes answers whose names have to be compressed by hand: chains of aliases, SOA and NS. Beside the buffer, so that
//! there is a way back to the query.
//!
//! Names are compressed as hickory-proto does it: the longest ending that was written before becomes a pointer to where
//! it was written first.

use model::limits::{NAME_TTL_SECONDS, NEGATIVE_TTL_SECONDS};

use super::Hot;
use super::asked::{Asked, HEADER_BYTES};
use super::reply::{Reply, head, pointer};
use crate::limits::{CNAME_CHAIN_MAX, HOT_BUFFER_BYTES};
use crate::node::{Node, RECORD_HEAD_BYTES, Ready, kind};
use crate::rcode::Rcode;
use crate::record::ANY_CPU;
use crate::view::{Found, View};
use crate::wire::{Sought, suffixes};

/// Names in one answer: the question, an owner's target for each link, server and mailbox.
const NAMES_MAX: usize = CNAME_CHAIN_MAX + 4;
/// hickory-proto keeps the beginnings of so many labels to point to.
pub(super) const LABELS_MAX: usize = 64;

/// Records under way.
pub(super) struct Composer<'n> {
    view: &'n View,
    bytes: [u8; HOT_BUFFER_BYTES],
    length: usize,
    /// Where the first byte will be in the message.
    begin: usize,
    too_long: bool,
    names: [Written<'n>; NAMES_MAX],
    names_count: usize,
    labels: usize,
    answers: u16,
    authorities: u16,
}

/// A name that is in the message. Its first bytes are written out, the rest is a pointer.
#[derive(Clone, Copy)]
struct Written<'n> {
    at: usize,
    name: &'n [u8],
    literal: usize,
}

/// Has records composed and puts them over the query. `None` leaves the buffer as it was.
pub(super) fn composed<'n>(
    view: &'n View,
    asked: &'n Asked,
    buffer: &mut [u8],
    compose: impl FnOnce(&mut Composer<'n>) -> Option<Rcode>,
) -> Option<Hot> {
    let mut composer = Composer::new(view, asked);
    let code = compose(&mut composer)?;
    let mut reply = Reply::over(buffer, asked);
    if composer.too_long {
        reply.give_up();
    }
    reply.sections(&composer.bytes[..composer.length], composer.answers, composer.authorities);
    Some(reply.send(code))
}

impl<'n> Composer<'n> {
    fn new(view: &'n View, asked: &'n Asked) -> Self {
        let name = asked.name.as_bytes();
        let question = Written { at: HEADER_BYTES, name, literal: name.len() };
        Self {
            view,
            bytes: [0; HOT_BUFFER_BYTES],
            length: 0,
            begin: asked.end,
            too_long: false,
            names: [question; NAMES_MAX],
            names_count: 1,
            labels: asked.name.labels(),
            answers: 0,
            authorities: 0,
        }
    }

    /// Follows aliases from the name asked for, which this node is, as [`crate::lookup`] does. Those that lead out of
    /// the zone are for the slow path where they are followed there too.
    pub(super) fn chain(&mut self, asked: &'n Asked, node: Node<'n>, follows: bool) -> Option<Rcode> {
        let view = self.view;
        let apex = asked.name.labels() - view.origin().labels;
        let mut owners: [&[u8]; _] = [&[]; CNAME_CHAIN_MAX + 1];
        let (mut owner, mut node) = (asked.name.as_bytes(), node);
        for link in 0..=CNAME_CHAIN_MAX {
            if owner.len() == view.origin().wire.len() && self.of_top(asked.kind, owner)? {
                return Some(Rcode::NoError);
            }
            if self.matching(asked.kind, owner, node)? {
                return Some(Rcode::NoError);
            }
            let Some(alias) = node.alias() else { return self.negative(asked, apex, Rcode::NoError) };
            self.record(owner, alias)?;
            owners[link] = owner;
            owner = alias.target();
            let next = Sought::of_wire(owner);
            if !next.is_within(view.origin()) {
                return (!follows).then_some(Rcode::NoError);
            }
            if owners[..=link].contains(&owner) {
                return Some(Rcode::NoError);
            }
            node = match view.find(&next) {
                Found::Exact(node) | Found::Wildcard(node, _) => node,
                Found::Missing(_) => return self.negative(asked, apex, Rcode::NxDomain),
            };
        }
        Some(Rcode::NoError)
    }

    /// What only the top of a zone has: the question without its first labels.
    pub(super) fn top(&mut self, asked: &'n Asked, labels: usize) -> Option<Rcode> {
        let owner = &asked.name.as_bytes()[asked.name.start(labels)..];
        self.of_top(asked.kind, owner)?.then_some(Rcode::NoError)
    }

    /// The SOA of a negative answer; its owner is the question without its first labels.
    pub(super) fn negative(&mut self, asked: &'n Asked, labels: usize, code: Rcode) -> Option<Rcode> {
        let owner = &asked.name.as_bytes()[asked.name.start(labels)..];
        self.soa(owner, NEGATIVE_TTL_SECONDS)?;
        self.authorities = 1;
        Some(code)
    }

    /// Whether there was something of this type.
    fn of_top(&mut self, kind: u16, owner: &'n [u8]) -> Option<bool> {
        match kind {
            kind::SOA | kind::ANY => self.soa(owner, NAME_TTL_SECONDS)?,
            kind::NS => {
                let view = self.view;
                let head = self.head(owner, kind::NS, NAME_TTL_SECONDS)?;
                self.name(&view.authority().server)?;
                self.close(head);
            }
            _ => return Some(false),
        }
        self.answers += 1;
        Some(true)
    }

    /// Whether there was something of this type.
    fn matching(&mut self, kind: u16, owner: &'n [u8], node: Node<'n>) -> Option<bool> {
        let wanted = match kind {
            kind::ANY if node.alias().is_some() => kind::CNAME,
            kind::ANY if node.has_records() => {
                let owner = self.find(owner)?;
                self.put(&any_record(pointer(owner)));
                self.answers += 1;
                return Some(true);
            }
            wanted => wanted,
        };
        let before = self.answers;
        for record in node.records().filter(|record| record.kind() == wanted) {
            self.record(owner, record)?;
        }
        Some(self.answers > before)
    }

    fn record(&mut self, owner: &'n [u8], record: Ready<'n>) -> Option<()> {
        let head = self.head(owner, record.kind(), record.ttl())?;
        if record.kind() == kind::CNAME {
            self.name(record.target())?;
        } else {
            self.put(record.data());
        }
        self.close(head);
        self.answers = self.answers.saturating_add(1);
        Some(())
    }

    fn soa(&mut self, owner: &'n [u8], ttl: u32) -> Option<()> {
        let authority = self.view.authority();
        let head = self.head(owner, kind::SOA, ttl)?;
        self.name(&authority.server)?;
        self.name(&authority.mailbox)?;
        self.put(&authority.numbers());
        self.close(head);
        Some(())
    }

    /// Begins a record whose owner was written before. Gives where its data begin.
    fn head(&mut self, owner: &[u8], kind: u16, ttl: u32) -> Option<usize> {
        let owner = self.find(owner)?;
        self.put(&head(pointer(owner), kind, ttl, 0));
        Some(self.length)
    }

    /// Writes the length of a record's data, which are whole now.
    fn close(&mut self, data: usize) {
        if let (false, Ok(length)) = (self.too_long, u16::try_from(self.length - data)) {
            self.bytes[data - 2..data].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Writes a name. `None` if not everybody would compress it alike.
    fn name(&mut self, name: &'n [u8]) -> Option<()> {
        let at = self.begin + self.length;
        let ending = suffixes(name).find_map(|suffix| Some((suffix.len(), self.find(suffix)?)));
        let (alike, there) = ending.map_or((0, None), |(length, there)| (length, Some(there)));
        let literal = name.len() - alike;
        self.put(&name[..literal]);
        match there {
            Some(there) => self.put(&pointer(there)),
            None => self.put(&[0]),
        }
        self.labels += suffixes(name).take_while(|suffix| suffix.len() > alike).count();
        if literal > 0 {
            *self.names.get_mut(self.names_count)? = Written { at, name, literal };
            self.names_count += 1;
        }
        (self.labels <= LABELS_MAX).then_some(())
    }

    /// Where a name was written. `None` if it was not, or only as a pointer, or is the root.
    fn find(&self, name: &[u8]) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        self.names[..self.names_count].iter().find_map(|written| {
            let before =
                written.name.len().checked_sub(name.len()).filter(|before| *before < written.literal)?;
            let same = suffixes(written.name).any(|suffix| suffix.len() == name.len() && suffix == name);
            same.then_some(written.at + before)
        })
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.bytes.get_mut(self.length..end) {
            Some(room) if !self.too_long => {
                room.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.too_long = true,
        }
    }
}

/// The answer to a question of type ANY (RFC 8482, section 4.2): HINFO with an empty second string.
pub(super) fn any_record(owner: [u8; 2]) -> [u8; RECORD_HEAD_BYTES + 2 + ANY_CPU.len()] {
    let mut record = [0; RECORD_HEAD_BYTES + 2 + ANY_CPU.len()];
    let data = 2 + ANY_CPU.len();
    record[..RECORD_HEAD_BYTES].copy_from_slice(&head(owner, kind::HINFO, NAME_TTL_SECONDS, data));
    record[RECORD_HEAD_BYTES] = u8::try_from(ANY_CPU.len()).expect("seven");
    record[RECORD_HEAD_BYTES + 1..][..ANY_CPU.len()].copy_from_slice(ANY_CPU.as_bytes());
    record
}
