//! Makes queries and turns answers into one line of text, to compare.

use std::net::IpAddr;

use dns::{Answer, Names, Rcode, Transport};
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

/// The reply to a query, parsed. Checks what holds for all replies.
pub(crate) fn ask(names: &Names, query: &Message, source: IpAddr, transport: Transport) -> (Rcode, Message) {
    let Answer::Reply { bytes, code } = names.answer(&bytes(query), source, transport) else {
        panic!("no answer to {query}");
    };
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
pub(crate) const KINDS: [RecordType; 9] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::NS,
    RecordType::MX,
    RecordType::ANY,
];
