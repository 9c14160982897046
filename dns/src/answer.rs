//! From the bytes of a query to the bytes of its answer: header, EDNS, sizes. Knows no zone and no socket.

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::away::Away;
use crate::limits::UDP_PAYLOAD_BYTES_MAX;
use crate::lookup::{Outcome, look_up};
use crate::node::kind;
use crate::opt::{Opt, datagram_bytes_max, options_fit};
use crate::rcode::Rcode;
use crate::tenants::Sight;
use crate::wire::Sought;
use crate::written::{is_cut, write};

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
    /// The asker is one of ours and the question is well formed, but its name is of no zone that they see: somebody
    /// else may answer, or nobody.
    Foreign {
        /// What to send back if nobody does.
        refusal: Vec<u8>,
    },
    /// The name is an alias that leads to one of no zone that they see, and they want it followed: somebody else may
    /// say what is there. Only where somebody does, see [`crate::Names::hand_over_aliases`].
    Away(Away),
    /// Say nothing: it was itself a response, or too short to have an id.
    Drop,
}

impl Answer {
    /// What is sent where nobody else is asked.
    pub fn into_reply(self) -> Option<(Vec<u8>, Rcode)> {
        match self {
            Self::Reply { bytes, code } => Some((bytes, code)),
            Self::Foreign { refusal } => Some((refusal, Rcode::Refused)),
            Self::Away(away) => Some((away.into_bare(), Rcode::NoError)),
            Self::Drop => None,
        }
    }
}

/// Answers a query of somebody who sees these zones; somebody who sees none is refused everything.
pub(crate) fn answer(sight: Option<Sight<'_>>, query: &[u8], transport: Transport) -> Answer {
    let mut decoder = BinDecoder::new(query);
    let Ok(header) = Header::read(&mut decoder) else { return Answer::Drop };
    if header.message_type == MessageType::Response {
        return Answer::Drop;
    }
    // Whatever it is refused for, its id is given back, and EDNS if that can be read (RFC 6891, section 6.1.1).
    let early = if sight.is_none() {
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
    let opt = rest.as_ref().and_then(|rest| rest.opt);
    let outcome = match (early, sight, &question, &rest) {
        (Some(code), ..) => Err(code),
        (None, Some(sight), Some(question), Some(rest)) => {
            rest.check(question).map(|()| find(sight, question))
        }
        _ => Err(Rcode::FormErr),
    };
    let foreign = matches!(outcome, Ok(None));
    let mut outcome = outcome.and_then(|outcome| outcome.ok_or(Rcode::Refused));
    let outside = outcome.as_mut().ok().and_then(|outcome| outcome.outside.take());
    let outside = outside.filter(|_| header.metadata.recursion_desired);
    let (code, message) = message(&header.metadata, question, opt, outcome);
    let limit = limit(opt, transport);
    match (encode(code, &message, limit), outside) {
        (Answer::Reply { bytes, .. }, _) if foreign => Answer::Foreign { refusal: bytes },
        // Aliases that do not fit do not fit with more behind them.
        (Answer::Reply { bytes, code }, Some(target)) if !is_cut(&bytes) => {
            let away = Away::new(&message, bytes.clone(), target, opt, limit);
            away.map_or(Answer::Reply { bytes, code }, Answer::Away)
        }
        (answer, _) => answer,
    }
}

/// What the asker's zones say. `None` if the name is of none of them.
fn find(sight: Sight<'_>, question: &Query) -> Option<Outcome> {
    let name = Sought::of_question(question.name());
    let spot = sight.spot(&name)?;
    let mut outcome = look_up(&spot, question, name, None);
    outcome.outside = outcome
        .outside
        .filter(|target| sight.hands_over_aliases() && sight.spot(&Sought::of_question(target)).is_none());
    Some(outcome)
}

/// What follows the question.
struct Rest {
    opt: Option<Opt>,
}

impl Rest {
    /// Reads all sections, of which only EDNS counts: the data of other records is nobody's here. `None` if a record is
    /// cut, bytes are left over, or there is more than one OPT or one in the wrong place (RFC 6891, section 6.1.1).
    fn read(decoder: &mut BinDecoder<'_>, header: &Header) -> Option<Self> {
        let mut rest = Self { opt: None };
        let counts = &header.counts;
        let before = u32::from(counts.answers) + u32::from(counts.authorities);
        for number in 0..before + u32::from(counts.additionals) {
            let owner = WireName::read(decoder).ok()?;
            let mut short = || decoder.read_u16().ok().map(|number| number.unverified());
            let (kind, class, high, low, length) = (short()?, short()?, short()?, short()?, short()?);
            let data = decoder.read_slice(length.into()).ok()?.unverified();
            if kind == kind::OPT {
                let whole = owner.is_root() && options_fit(data);
                if number < before || rest.opt.is_some() || !whole {
                    return None;
                }
                rest.opt = Some(Opt::new(class, high, low));
            }
        }
        decoder.is_empty().then_some(rest)
    }

    /// Whether the question is one that zones answer.
    fn check(&self, question: &Query) -> Result<(), Rcode> {
        if self.opt.is_some_and(|opt| opt.version != 0) {
            return Err(Rcode::BadVers);
        }
        if question.query_class() != DNSClass::IN {
            return Err(Rcode::Refused);
        }
        check_kind(question.query_type().into())
    }
}

/// Whether there may be records of the type.
pub(crate) fn check_kind(number: u16) -> Result<(), Rcode> {
    match number {
        kind::ANY => Ok(()),
        kind::OPT => Err(Rcode::FormErr),
        // Q-types and meta-types (RFC 6895, section 3.1): transfers, TKEY, MAILB and the like.
        128..=255 => Err(Rcode::Refused),
        _ => Ok(()),
    }
}

fn message(
    asked: &Metadata,
    question: Option<Query>,
    opt: Option<Opt>,
    outcome: Result<Outcome, Rcode>,
) -> (Rcode, Message) {
    let mut message = Message::response(asked.id, asked.op_code);
    message.metadata = Metadata::response_from_request(asked);
    message.add_queries(question);
    let code = match outcome {
        Ok(outcome) => {
            message.metadata.authoritative = true;
            message.add_answers(outcome.answers);
            message.add_authorities(outcome.authority);
            outcome.code
        }
        Err(code) => code,
    };
    message.metadata.response_code = code.into();
    if let Some(opt) = opt {
        let mut ours = Edns::new();
        // RFC 3225, section 3: the DO bit is given back as it came. Everything else of theirs is not ours to repeat.
        ours.set_max_payload(UDP_PAYLOAD_BYTES_MAX).set_dnssec_ok(opt.dnssec_ok);
        message.set_edns(ours);
    }
    (code, message)
}

fn limit(opt: Option<Opt>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => datagram_bytes_max(opt),
    }
}

/// Writes a message, or that it cannot be written.
fn encode(code: Rcode, message: &Message, limit: usize) -> Answer {
    if let Some(bytes) = write(message, limit) {
        return Answer::Reply { bytes, code };
    }
    let failed = Message::error_msg(message.metadata.id, message.metadata.op_code, ResponseCode::ServFail);
    failed.to_vec().map_or(Answer::Drop, |bytes| Answer::Reply { bytes, code: Rcode::ServFail })
}
