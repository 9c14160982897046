//! Many queries at once over UDP: all ways through, datagrams that are none, and several threads.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dns::serve::{Options, Path, Server, Way};
use dns::{Rcode, Transport};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::{PATIENCE, ask_udp, client, client_from, query, query_of, receive};
use crate::{neighbour, start, start_with};

/// What is no plain question: the table leaves it to the message library.
fn odd(id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message
        .add_query(Query::query(Name::from_ascii("laptop.home.internal.").expect("a name"), RecordType::A));
    let mut edns = Edns::new();
    edns.set_version(1);
    edns.options_mut().insert(EdnsOption::Unknown(100, vec![0; 4]));
    message.set_edns(edns);
    message.to_vec().expect("a query can be written")
}

fn answered(server: &Server, path: Path) -> u64 {
    let way = Way { transport: Transport::Udp, path };
    server.counters().answered_by(way).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn a_burst_is_answered_whole_and_what_is_quick_in_order() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    let mut expected = BTreeMap::new();
    // As many answers as the client's receive buffer holds.
    for id in 0..160 {
        let (query, code) = match id % 8 {
            0 => (odd(id), ResponseCode::BADVERS),
            1 => (query(id, "missing.home.internal"), ResponseCode::NXDomain),
            2 => (query_of(id, "v4only.home.internal", RecordType::AAAA), ResponseCode::NoError),
            3 => (query(id, "example.org"), ResponseCode::Refused),
            _ => (query(id, "laptop.home.internal"), ResponseCode::NoError),
        };
        client.send(&query).await.expect("sent");
        expected.insert(id, code);
    }
    let mut quick = Vec::new();
    while !expected.is_empty() {
        let reply = receive(&client).await;
        let code = expected.remove(&reply.metadata.id).expect("one answer each");
        assert_eq!(u16::from(reply.metadata.response_code), u16::from(code), "{reply}");
        if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            quick.push(reply.metadata.id);
        }
    }
    assert!(quick.is_sorted(), "in the order in which they were asked");
    let (hot, slow) = (answered(&server, Path::Hot), answered(&server, Path::Slow));
    assert!(hot >= 120 && slow >= 20 && hot + slow == 160, "{hot} hot and {slow} slow");
    let counters = server.counters();
    assert_eq!((counters.answered(Rcode::BadVers), counters.answered(Rcode::Refused)), (20, 20));
    assert_eq!(counters.crowded() + counters.unsent() + counters.dropped() + counters.malformed(), 0);
}

/// A datagram whose sender says that it has no port.
fn send_from_port_0(to: SocketAddr, payload: &[u8]) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("root may");
    let length = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
    let header = [[0, 0], to.port().to_be_bytes(), length, [0, 0]];
    socket.send_to(&[header.as_flattened(), payload].concat(), &to.into()).expect("sent");
}

#[tokio::test]
async fn datagrams_that_are_none_are_dropped_and_counted() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    let counters = server.counters();
    client.send(&[]).await.expect("sent");
    client.send(&[0; 3000]).await.expect("sent");
    send_from_port_0(at, &query(1, "laptop.home.internal"));
    // Too short for an id, and a response.
    client.send(&[0; 11]).await.expect("sent");
    let mut response = query(2, "laptop.home.internal");
    response[2] |= 0x80;
    client.send(&response).await.expect("sent");
    ask_udp(&client, 3, "laptop.home.internal").await;
    assert_eq!((counters.malformed(), counters.dropped()), (3, 2));
    assert_eq!(counters.answered(Rcode::NoError), 1);
}

#[tokio::test]
async fn several_threads_share_an_address() {
    let (_names, server, at) = start_with(Options { threads: 4, ..Options::default() }).await;
    let mut clients = Vec::new();
    for number in 1..=32 {
        clients.push(client_from(neighbour(number), at).await);
    }
    for id in 0..20 {
        for client in &clients {
            client.send(&query(id, "laptop.home.internal")).await.expect("sent");
        }
    }
    for client in &clients {
        for id in 0..20 {
            assert_eq!(receive(client).await.metadata.id, id, "one sender's are in order");
        }
    }
    assert_eq!(server.counters().answered(Rcode::NoError), 640);
    server.close().await;
    let gone = client(at).await;
    gone.send(&[0; 12]).await.expect("sent, and refused after");
    gone.recv(&mut [0]).await.expect_err("nobody is there");
}

#[tokio::test]
async fn an_answer_counts_as_slow_or_quick_as_it_was() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    ask_udp(&client, 1, "laptop.home.internal").await;
    ask_udp(&client, 2, "example.org").await;
    assert_eq!((answered(&server, Path::Hot), answered(&server, Path::Slow)), (1, 1));
    let counters = server.counters();
    server.close().await;
    for path in [Path::Hot, Path::Slow] {
        let took = counters.took(Way { transport: Transport::Udp, path });
        assert_eq!(took.counts().iter().sum::<u64>(), 1);
        assert!(!took.sum().is_zero() && took.sum() < PATIENCE, "{took:?}");
    }
}
