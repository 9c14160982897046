//! An answer whose aliases lead out of the zones, and what makes it whole. Asks nobody.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name as WireName, RecordType};
use model::Name;

use crate::hot::HEADER_BYTES;
use crate::opt::Opt;
use crate::wire::Sought;
use crate::written::write;

/// Why there is no better answer (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// A chain of aliases that ends at a name of no zone that the asker sees. Somebody else may know that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    bare: Vec<u8>,
    question: Vec<u8>,
    /// Bytes that the asker takes.
    limit: usize,
}

impl Away {
    /// From our answer, as a message and written, and the name where it ends. `None` if that cannot be asked for.
    pub(crate) fn new(
        ours: &Message,
        bare: Vec<u8>,
        target: WireName,
        opt: Option<Opt>,
        limit: usize,
    ) -> Option<Self> {
        let kind = ours.queries.first()?.query_type();
        let mut question = Message::new(ours.metadata.id, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.metadata.checking_disabled = ours.metadata.checking_disabled;
        question.add_query(Query::query(target, kind));
        if let Some(opt) = opt {
            let mut theirs = Edns::new();
            theirs.set_max_payload(opt.payload).set_dnssec_ok(opt.dnssec_ok);
            question.set_edns(theirs);
        }
        Some(Self { bare, question: question.to_vec().ok()?, limit })
    }

    /// What to send back if nobody else is asked: the aliases alone.
    pub fn into_bare(self) -> Vec<u8> {
        self.bare
    }

    /// Where the aliases lead to.
    pub fn target(&self) -> Option<Name> {
        let (target, _) = Sought::read(&self.question, HEADER_BYTES)?;
        target.text(0).parse().ok()
    }

    /// What to ask somebody else, who answers as over TCP: it is cut here if it has to be.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// The aliases with what somebody else answered to [`Self::question`]. The last name decides the code (RFC 6604,
    /// section 3), the first one whether the answer is authoritative (RFC 1035, section 4.1.1).
    pub fn complete(self, answer: &[u8]) -> Vec<u8> {
        let end = Message::from_vec(answer).ok();
        match end.filter(|end| end.metadata.message_type == MessageType::Response) {
            Some(end) => self.ended_by(end),
            None => self.fail(),
        }
    }

    /// The aliases, and that nobody could say what comes after them.
    pub fn fail(self) -> Vec<u8> {
        let end = Message::error_msg(0, OpCode::Query, ResponseCode::ServFail);
        self.ended_by(end)
    }

    fn ended_by(self, end: Message) -> Vec<u8> {
        let Ok(mut whole) = Message::from_vec(&self.bare) else { return self.bare };
        whole.metadata.response_code = end.metadata.response_code;
        whole.metadata.truncation = end.metadata.truncation;
        whole.metadata.recursion_available = true;
        whole.add_answers(end.answers);
        // What says how long a "no" holds (RFC 2308, section 5). Who is asked beside is nobody's question.
        if end.authorities.iter().any(|record| record.record_type() == RecordType::SOA) {
            whole.add_authorities(end.authorities);
        }
        let reason = end.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(EXTENDED_ERROR)));
        if let (Some(ours), Some(reason)) = (&mut whole.edns, reason) {
            ours.options_mut().insert(reason.clone());
        }
        write(&whole, self.limit).unwrap_or(self.bare)
    }
}
