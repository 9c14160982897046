//! The hot path: answers queries over themselves, from ready-made records, without hickory-proto. Says what the slow path
//! ([`crate::answer`]) says, to the last bit, or nothing.
//!
//! ```text
//! header │ question │ OPT or nothing       as it came: read by `asked`
//! header │ question │ records │ OPT        as it goes: id, question and its case stay where they are
//! ```

mod asked;
mod compose;
mod reply;

use model::limits::{NAME_TTL_SECONDS, NEGATIVE_TTL_SECONDS};

use crate::arpa::Place;
use crate::authority::{Authority, MAILBOX_LABEL, SERVER_LABEL};
use crate::limits::HOT_BUFFER_BYTES;
use crate::node::{Node, QUESTION_POINTER, RECORD_HEAD_BYTES, kind};
use crate::rcode::Rcode;
use crate::tenants::{Part, Sight, Spot};
use crate::view::{Found, View};
use asked::Asked;
pub(crate) use asked::HEADER_BYTES;
use compose::composed;
use reply::{Reply, head};

/// What became of a query in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hot {
    /// Send what is in the buffer now.
    Reply {
        /// So many bytes of it.
        length: usize,
        /// What it says, for counting.
        code: Rcode,
    },
    /// Not known for certain here: ask [`crate::Names::answer`]. The buffer is as it was.
    Slow,
    /// The asker is one of ours and the question is plain, but its name is of no zone that they see: somebody else may
    /// answer, or nobody. The buffer is as it was.
    Foreign,
    /// Say nothing: it was itself a response, or too short to have an id.
    Drop,
}

/// Answers the query in the first bytes of the buffer, of somebody who sees these zones.
pub(crate) fn answer_in_place(sight: Option<Sight<'_>>, buffer: &mut [u8], length: usize) -> Hot {
    let Some(query) = buffer.get(..length).filter(|_| buffer.len() >= HOT_BUFFER_BYTES) else {
        return Hot::Slow;
    };
    if query.get(2).is_none_or(|flags| flags & 0x80 != 0) || query.len() < HEADER_BYTES {
        return Hot::Drop;
    }
    let Some(asked) = Asked::read(query) else { return Hot::Slow };
    let Some(sight) = sight else { return Reply::over(buffer, &asked).refuse() };
    let Some(spot) = sight.spot(&asked.name) else { return Hot::Foreign };
    answer(sight, &spot, &asked, buffer).unwrap_or(Hot::Slow)
}

/// `None` leaves the buffer as it was.
fn answer(sight: Sight<'_>, spot: &Spot, asked: &Asked, buffer: &mut [u8]) -> Option<Hot> {
    let view = &**spot.view;
    match spot.part {
        Part::Names => names(sight, view, asked, buffer),
        Part::Addresses(place, apex_labels) => addresses(view, asked, buffer, place, apex_labels),
    }
}

fn names(sight: Sight<'_>, view: &View, asked: &Asked, buffer: &mut [u8]) -> Option<Hot> {
    let apex = asked.name.labels() - view.origin().labels;
    let found = view.find(&asked.name);
    let node = match found {
        Found::Exact(node) | Found::Wildcard(node, _) => node,
        Found::Missing(_) => return below_origin(view, asked, buffer, apex, Rcode::NxDomain),
    };
    if node.alias().is_some() || (apex == 0 && matches!(asked.kind, kind::SOA | kind::NS | kind::ANY)) {
        let follows = asked.recursion_desired && sight.hands_over_aliases();
        return composed(view, asked, buffer, |composer| composer.chain(asked, node, follows));
    }
    positive(asked, buffer, node).or_else(|| below_origin(view, asked, buffer, apex, Rcode::NoError))
}

/// The records of the type asked for, as they are in the table. `None` if there is none.
fn positive(asked: &Asked, buffer: &mut [u8], node: Node<'_>) -> Option<Hot> {
    if asked.kind == kind::ANY {
        return node.has_records().then(|| any(asked, buffer));
    }
    let mut found = node.records().filter(|record| record.kind() == asked.kind).peekable();
    found.peek()?;
    let mut reply = Reply::over(buffer, asked);
    for record in found {
        reply.answer(&[record.bytes]);
    }
    Some(reply.send(Rcode::NoError))
}

/// NODATA or NXDOMAIN of a name below the origin, whose label in the question is counted from the left.
fn below_origin(view: &View, asked: &Asked, buffer: &mut [u8], apex: usize, code: Rcode) -> Option<Hot> {
    let authority = view.authority();
    // A question for these names would be pointed to as a whole.
    let named = |label: &[u8]| apex > 0 && asked.name.label(apex - 1) == &label[1..];
    if !authority.below_origin || named(SERVER_LABEL) || named(MAILBOX_LABEL) {
        return composed(view, asked, buffer, |composer| composer.negative(asked, apex, code));
    }
    let apex = asked.pointer(apex);
    let mut reply = Reply::over(buffer, asked);
    soa(&mut reply, apex, authority, &[SERVER_LABEL, &apex, MAILBOX_LABEL, &apex]);
    Some(reply.send(code))
}

fn addresses(view: &View, asked: &Asked, buffer: &mut [u8], place: Place, apex_labels: usize) -> Option<Hot> {
    let apex = asked.name.labels() - apex_labels;
    let negative = |buffer: &mut [u8], code| below_block(view, asked, buffer, apex, code);
    match place {
        Place::Nowhere => negative(buffer, Rcode::NxDomain),
        Place::Apex if matches!(asked.kind, kind::SOA | kind::NS | kind::ANY) => {
            composed(view, asked, buffer, |composer| composer.top(asked, apex))
        }
        Place::Apex | Place::Between => negative(buffer, Rcode::NoError),
        Place::Address(address) => {
            let mut names = view.names_of(address);
            match (names.next(), asked.kind) {
                (None, _) => negative(buffer, Rcode::NxDomain),
                // Further names would be compressed, and names that end like the question are.
                (Some(name), kind::PTR) if names.next().is_none() && !view.origin().is_reverse() => {
                    Some(pointer(view, asked, buffer, name))
                }
                (Some(_), kind::PTR) => None,
                (Some(_), kind::ANY) => Some(any(asked, buffer)),
                (Some(_), _) => negative(buffer, Rcode::NoError),
            }
        }
    }
}

/// The answer to a question for the name of an address.
fn pointer(view: &View, asked: &Asked, buffer: &mut [u8], name: &[u8]) -> Hot {
    let origin = &*view.origin().wire;
    let mut reply = Reply::over(buffer, asked);
    let head = head(QUESTION_POINTER, kind::PTR, NAME_TTL_SECONDS, name.len() + origin.len() + 1);
    reply.answer(&[&head, name, origin, &[0]]);
    reply.send(Rcode::NoError)
}

/// NODATA or NXDOMAIN of a name in the reverse tree. Server and mailbox have nothing in common with the question, but
/// the mailbox with the server.
fn below_block(view: &View, asked: &Asked, buffer: &mut [u8], apex: usize, code: Rcode) -> Option<Hot> {
    let authority = view.authority();
    let labels = asked.name.labels() + view.origin().labels + 2;
    if !authority.below_origin || view.origin().is_reverse() || labels > compose::LABELS_MAX {
        return composed(view, asked, buffer, |composer| composer.negative(asked, apex, code));
    }
    let origin = asked.end + RECORD_HEAD_BYTES + SERVER_LABEL.len();
    let apex = asked.pointer(apex);
    let mut reply = Reply::over(buffer, asked);
    soa(&mut reply, apex, authority, &[&authority.server, &[0], MAILBOX_LABEL, &reply::pointer(origin)]);
    Some(reply.send(code))
}

/// The SOA of a negative answer, its names as they are written here.
fn soa(reply: &mut Reply<'_>, apex: [u8; 2], authority: &Authority, names: &[&[u8]]) {
    let numbers = authority.numbers();
    let length = names.iter().map(|part| part.len()).sum::<usize>() + numbers.len();
    let head = head(apex, kind::SOA, NEGATIVE_TTL_SECONDS, length);
    reply.authority(&head, names, &numbers);
}

/// The answer to a question of type ANY (RFC 8482, section 4.2).
fn any(asked: &Asked, buffer: &mut [u8]) -> Hot {
    let mut reply = Reply::over(buffer, asked);
    reply.answer(&[&compose::any_record(QUESTION_POINTER)]);
    reply.send(Rcode::NoError)
}
