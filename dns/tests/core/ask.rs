//! Makes queries and turns answers into one line of text, to compare. Every question over UDP is asked of the hot path
//! too, which has to say the same or nothing.

use std::net::IpAddr;

use dns::{Answer, HOT_BUFFER_BYTES, Hot, Names, Rcode, Transport};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::home;

pub(crate) const ID: u16 = 0x4242;

/// The IPv4 address of a host of the block.
pub(crate) fn v4(number: u32) -> IpAddr {
    home::block().host(number).expect("in the block").v4.into()
}

/// A plain query from `name TYPE`.
pub(crate) fn query(question: &str) -> Message {
    let (name, kind) = question.split_once(' ').expect("a name and a type");
    let mut question = Query::query(wire_name(name), kind.parse().expect("a type"));
    question.set_query_class(DNSClass::IN);
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(question);
    message
}

fn wire_name(text: &str) -> Name {
    let labels = text.trim_end_matches('.').split('.').filter(|label| !label.is_empty());
    Name::from_labels(labels.map(str::as_bytes)).expect("a name")
}

pub(crate) fn bytes(query: &Message) -> Vec<u8> {
    query.to_vec().expect("a query can be written")
}

/// What is sent back, if anything.
pub(crate) fn reply(
    names: &Names,
    query: &[u8],
    source: IpAddr,
    transport: Transport,
) -> Option<(Rcode, Vec<u8>)> {
    names.answer(query, source, transport).into_reply().map(|(bytes, code)| (code, bytes))
}

/// Asks both paths over UDP. Gives the answer if the hot path had one, which is the slow path's; or says how it is not.
pub(crate) fn both(names: &Names, query: &[u8], source: IpAddr) -> Result<Option<Vec<u8>>, String> {
    let mut buffer = query.to_vec();
    buffer.resize(query.len().max(HOT_BUFFER_BYTES), 0xaa);
    let hot = names.answer_in_place(&mut buffer, query.len(), source);
    let slow = names.answer(query, source, Transport::Udp);
    match (hot, slow) {
        (Hot::Slow, _) | (Hot::Foreign, Answer::Foreign { .. }) if buffer[..query.len()] == *query => {
            Ok(None)
        }
        (Hot::Drop, Answer::Drop) => Ok(None),
        (Hot::Reply { length, code }, Answer::Reply { bytes, code: expect })
            if code == expect && buffer[..length] == *bytes =>
        {
            Ok(Some(bytes))
        }
        (hot, slow) => Err(format!("{query:02x?}\n{hot:?} {buffer:02x?}\nand slow\n{slow:02x?}")),
    }
}

/// The reply to a query, parsed. Checks what holds for all replies.
pub(crate) fn ask(names: &Names, query: &Message, source: IpAddr, transport: Transport) -> (Rcode, Message) {
    let query = bytes(query);
    if transport == Transport::Udp {
        both(names, &query, source).expect("both paths agree");
    }
    let (code, bytes) = reply(names, &query, source, transport).expect("an answer");
    let reply = Message::from_vec(&bytes).expect("an answer can be read");
    assert_eq!((reply.metadata.id, reply.metadata.message_type), (ID, MessageType::Response));
    assert!(!reply.metadata.recursion_available && !reply.metadata.authentic_data);
    assert_eq!(u16::from(reply.metadata.response_code), number(code));
    (code, reply)
}

pub(crate) fn number(code: Rcode) -> u16 {
    let code: hickory_proto::op::ResponseCode = code.into();
    code.into()
}

/// `noerror aa: laptop.home.internal. 30 A 100.64.0.2 / authority`, records sorted by nothing: as they stand.
pub(crate) fn text((code, reply): &(Rcode, Message)) -> String {
    let mut text = code.to_string();
    for (flag, set) in [(" aa", reply.metadata.authoritative), (" tc", reply.metadata.truncation)] {
        text.push_str(if set { flag } else { "" });
    }
    let section = |records: &[Record]| records.iter().map(of_record).collect::<Vec<_>>().join(", ");
    format!("{text}: {} / {}", section(&reply.answers), section(&reply.authorities))
}

fn of_record(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => format!("{} {}", soa.serial, soa.minimum),
        RData::HINFO(_) => "RFC8482".into(),
        data => data.to_string(),
    };
    format!("{} {} {} {data}", record.name, record.ttl, record.record_type())
}

/// The types that tests ask for.
pub(crate) const KINDS: [RecordType; 10] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::NS,
    RecordType::MX,
    RecordType::ANY,
];
