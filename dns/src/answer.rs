//! From the bytes of a query to the bytes of its answer: header, EDNS, sizes. Knows no zone and no socket.

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::limits::{UDP_PAYLOAD_BYTES_MAX, UDP_PLAIN_BYTES_MAX};
use crate::lookup::{Outcome, look_up};
use crate::rcode::Rcode;
use crate::view::View;

/// How a query came, which bounds the size of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram: 512 bytes, or with EDNS as many as the asker takes, up to 1232.
    Udp,
    /// A stream: 65 535 bytes.
    Tcp,
}

/// What to do about a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this back.
    Reply {
        /// A whole DNS message, without the length that TCP puts in front.
        bytes: Vec<u8>,
        /// What it says, for counting.
        code: Rcode,
    },
    /// Say nothing: it was itself a response, or too short to have an id.
    Drop,
}

/// Answers a query of somebody who may see `view`; without one, everything is refused.
pub(crate) fn answer(view: Option<&View>, query: &[u8], transport: Transport) -> Answer {
    let mut decoder = BinDecoder::new(query);
    let Ok(header) = Header::read(&mut decoder) else { return Answer::Drop };
    if header.message_type == MessageType::Response {
        return Answer::Drop;
    }
    // Whatever it is refused for, its id is given back, and EDNS if that can be read (RFC 6891, section 6.1.1).
    let early = if view.is_none() {
        Some(Rcode::Refused)
    } else if header.op_code != OpCode::Query {
        Some(Rcode::NotImp)
    } else if header.counts.queries != 1 {
        Some(Rcode::FormErr)
    } else {
        None
    };
    let question = match header.counts.queries {
        0 => Some(None),
        1 => Query::read(&mut decoder).ok().map(Some),
        _ => None,
    };
    let rest = question.as_ref().and_then(|_| Rest::read(&mut decoder, &header));
    let question = question.flatten();
    let edns = rest.as_ref().and_then(|rest| rest.edns.as_ref());
    let outcome = match (early, view, &question, &rest) {
        (Some(code), ..) => Err(code),
        (None, Some(view), Some(question), Some(rest)) => {
            rest.check(question).map(|()| look_up(view, question))
        }
        _ => Err(Rcode::FormErr),
    };
    let (code, message) = message(&header.metadata, question, edns, outcome);
    encode(code, &message, limit(edns, transport))
}

/// What follows the question.
struct Rest {
    edns: Option<Edns>,
}

impl Rest {
    /// Reads all sections, of which only EDNS counts. `None` if a record is broken or bytes are left over.
    fn read(decoder: &mut BinDecoder<'_>, header: &Header) -> Option<Self> {
        let op = header.op_code;
        Message::read_records(decoder, header.counts.answers.into(), false, op).ok()?;
        Message::read_records(decoder, header.counts.authorities.into(), false, op).ok()?;
        let (_, edns, _) = Message::read_records(decoder, header.counts.additionals.into(), true, op).ok()?;
        decoder.is_empty().then_some(Self { edns })
    }

    /// Whether the question is one that zones answer.
    fn check(&self, question: &Query) -> Result<(), Rcode> {
        if self.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Err(Rcode::BadVers);
        }
        match question.query_type() {
            _ if question.query_class() != DNSClass::IN => Err(Rcode::Refused),
            RecordType::ANY => Ok(()),
            RecordType::OPT => Err(Rcode::FormErr),
            // Q-types and meta-types (RFC 6895, section 3.1): transfers, TKEY, MAILB and the like.
            kind if (128..=255).contains(&u16::from(kind)) => Err(Rcode::Refused),
            _ => Ok(()),
        }
    }
}

fn message(
    asked: &Metadata,
    question: Option<Query>,
    edns: Option<&Edns>,
    outcome: Result<Outcome, Rcode>,
) -> (Rcode, Message) {
    let mut message = Message::response(asked.id, asked.op_code);
    message.metadata = Metadata::response_from_request(asked);
    message.add_queries(question);
    let code = match outcome {
        Ok(outcome) => {
            message.metadata.authoritative = outcome.code != Rcode::Refused;
            message.add_answers(outcome.answers);
            message.add_authorities(outcome.authority);
            outcome.code
        }
        Err(code) => code,
    };
    message.metadata.response_code = code.into();
    if let Some(edns) = edns {
        let mut ours = Edns::new();
        // RFC 3225, section 3: the DO bit is given back as it came. Everything else of theirs is not ours to repeat.
        ours.set_max_payload(UDP_PAYLOAD_BYTES_MAX).set_dnssec_ok(edns.flags().dnssec_ok);
        message.set_edns(ours);
    }
    (code, message)
}

/// How many bytes the asker takes (RFC 6891, section 6.2.3: less than 512 means 512).
fn limit(edns: Option<&Edns>, transport: Transport) -> usize {
    match (transport, edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => UDP_PLAIN_BYTES_MAX.into(),
        (Transport::Udp, Some(edns)) => {
            edns.max_payload().clamp(UDP_PLAIN_BYTES_MAX, UDP_PAYLOAD_BYTES_MAX).into()
        }
    }
}

/// Writes a message. One that is too long is sent without records and with TC: the asker comes back over TCP.
fn encode(code: Rcode, message: &Message, limit: usize) -> Answer {
    let whole = message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    if let Some(bytes) = whole.or_else(|| message.truncate().to_vec().ok()) {
        return Answer::Reply { bytes, code };
    }
    let failed = Message::error_msg(message.metadata.id, message.metadata.op_code, ResponseCode::ServFail);
    failed.to_vec().map_or(Answer::Drop, |bytes| Answer::Reply { bytes, code: Rcode::ServFail })
}
