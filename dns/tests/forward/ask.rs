//! How a test asks a forwarder.

use std::net::SocketAddr;

use dns::Transport;
use dns::forward::{ForwardConfig, Forwarder, Machine, Mesh, Rule};
use dns::serve::Forward as _;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};

/// A forwarder to these servers: `SUFFIX=SERVER` or `SERVER`.
pub(crate) fn forwarder(rules: &[String]) -> Forwarder {
    forwarder_with(ForwardConfig {
        upstreams: rules.iter().map(|rule| parse(rule)).collect(),
        ..Default::default()
    })
}

pub(crate) fn forwarder_with(config: ForwardConfig) -> Forwarder {
    let forwarder = Forwarder::start(config).expect("the settings are sound");
    forwarder.set_mesh(Mesh {
        zones: vec!["home.internal".parse().expect("a name")],
        blocks: vec!["100.64.0.0/16".parse().expect("a net")],
        own: vec!["100.64.0.2".parse().expect("an address")],
    });
    forwarder
}

pub(crate) fn parse(rule: &str) -> Rule {
    rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}"))
}

pub(crate) fn machine(resolvers: &[SocketAddr]) -> Machine {
    Machine { resolvers: resolvers.to_vec(), domains: vec!["lan.example".parse().expect("a name")] }
}

/// A query as stub resolvers send it.
pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1400);
    message.set_edns(edns);
    message
}

/// Asks over UDP. `None`: refused.
pub(crate) async fn try_ask(forwarder: &Forwarder, query: &Message) -> Option<Message> {
    let bytes = query.to_vec().expect("it is sound");
    let answer = forwarder.forward(bytes, Transport::Udp).await?;
    let answer = Message::from_vec(&answer).expect("an answer is sound");
    assert_eq!((answer.metadata.id, &answer.queries), (query.metadata.id, &query.queries));
    Some(answer)
}

pub(crate) async fn ask(forwarder: &Forwarder, name: &str) -> Message {
    try_ask(forwarder, &query(name, RecordType::A)).await.expect("it is forwarded")
}

/// What the hot path has, if anything.
pub(crate) fn cached(forwarder: &Forwarder, query: &Message) -> Option<Message> {
    let mut buffer = query.to_vec().expect("it is sound");
    let (before, length) = (buffer.clone(), buffer.len());
    buffer.resize(2048, 0);
    let Some(written) = forwarder.cached(&mut buffer, length) else {
        assert_eq!(buffer[..length], before, "it is as it was");
        return None;
    };
    Some(Message::from_vec(&buffer[..written]).expect("an answer is sound"))
}

/// The code and the data of all answers, in words.
pub(crate) fn said(answer: &Message) -> String {
    let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    match answer.metadata.response_code {
        ResponseCode::NoError => data.join(" "),
        other => format!("{other:?} {}", data.join(" ")).trim_end().into(),
    }
}

/// The extended error (RFC 8914).
pub(crate) fn extended_error(answer: &Message) -> Option<u16> {
    let edns = answer.edns.as_ref()?;
    match edns.options().get(15.into())? {
        EdnsOption::Unknown(_, data) => data.first_chunk().map(|code| u16::from_be_bytes(*code)),
        _ => None,
    }
}
