//! Aliases of a zone that lead outside, and a forwarder that knows what is there.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dns::Transport;
use dns::serve::{Forward, Server};
use futures_util::future::{BoxFuture, FutureExt as _};
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType};
use model::Generation;
use tokio::io::AsyncWriteExt as _;

use crate::client::{client_from, connect_from, framed, query_of, read_tcp, receive};
use crate::{LOOPBACK, home, neighbour, start};

const EXTENDED_ERROR: u16 = 15;

/// Knows an address and long texts for `www.example.org`, that `gone` is not there, and that nobody answers for
/// `failed`. Refuses `refused`, answers `odd` with what is no message and `never` never.
#[derive(Default)]
struct Outside {
    asked: AtomicU64,
}

impl Forward for Outside {
    fn serves(&self, asker: IpAddr) -> bool {
        asker != neighbour(66)
    }

    fn forward(&self, query: Vec<u8>, _transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut message = Message::from_vec(&query).expect("a query");
            assert!(message.metadata.recursion_desired);
            let question = message.queries[0].clone();
            message.metadata.message_type = MessageType::Response;
            message.metadata.recursion_available = true;
            match &query[13..13 + usize::from(query[12])] {
                b"refused" => return None,
                b"odd" => return Some(vec![0x80; 20]),
                b"never" => pending().await,
                b"gone" => message.metadata.response_code = ResponseCode::NXDomain,
                b"failed" => message.metadata.response_code = ResponseCode::ServFail,
                _ => {}
            }
            let add = |message: &mut Message, data| {
                message.add_answer(Record::from_rdata(question.name().clone(), 300, data));
            };
            match (message.metadata.response_code, question.query_type()) {
                (ResponseCode::ServFail, _) => {
                    let reason = EdnsOption::Unknown(EXTENDED_ERROR, vec![0, 22]);
                    message.edns.iter_mut().for_each(|edns| edns.options_mut().insert(reason.clone()));
                }
                (ResponseCode::NoError, RecordType::A) => {
                    add(&mut message, RData::A(A::new(192, 0, 2, 80)));
                }
                (ResponseCode::NoError, RecordType::TXT) => {
                    (0..10).for_each(|_| add(&mut message, RData::TXT(TXT::new(vec!["x".repeat(200)]))));
                }
                _ => {
                    let apex = question.name().base_name();
                    let soa = SOA::new(apex.clone(), apex.clone(), 1, 2, 3, 4, 5);
                    message.add_authority(Record::from_rdata(apex, 5, RData::SOA(soa)));
                }
            }
            Some(message.to_vec().expect("written"))
        }
        .boxed()
    }
}

/// The names of the fixture, and `X.home.internal` as an alias of `X.example.org`.
async fn start_with_aliases() -> (Server, SocketAddr) {
    let (names, server, at) = start().await;
    let mut zone = home::zone();
    for below in ["gone", "failed", "refused", "odd", "never"] {
        let alias = home::set(&[&format!("CNAME {below}.example.org")]);
        zone.names.insert(home::name(&format!("{below}.home.internal")), alias);
    }
    names.whole(home::TENANT, Generation(8), &zone).expect("alone");
    (server, at)
}

fn question(below: &str, kind: RecordType, recursion_desired: bool) -> Vec<u8> {
    let query = query_of(0x4242, &format!("{below}.home.internal"), kind);
    let mut message = Message::from_vec(&query).expect("as it was written");
    message.metadata.recursion_desired = recursion_desired;
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message.to_vec().expect("a query can be written")
}

async fn by_stream(source: IpAddr, at: SocketAddr, query: &[u8]) -> Message {
    let mut stream = connect_from(source, at).await;
    stream.write_all(&framed(query)).await.expect("sent");
    read_tcp(&mut stream).await
}

async fn by_datagram(source: IpAddr, at: SocketAddr, query: &[u8]) -> Message {
    let client = client_from(source, at).await;
    client.send(query).await.expect("sent");
    receive(&client).await
}

/// `NoError: CNAME A / SOA`.
fn text(reply: &Message) -> String {
    let kinds = |records: &[Record]| {
        let kinds: Vec<String> = records.iter().map(|record| record.record_type().to_string()).collect();
        kinds.join(" ")
    };
    format!("{:?}: {} / {}", reply.metadata.response_code, kinds(&reply.answers), kinds(&reply.authorities))
}

#[tokio::test]
async fn what_is_at_the_end_is_answered_with_the_alias() {
    let (server, at) = start_with_aliases().await;
    let outside = Arc::<Outside>::default();
    server.forward(Arc::<Outside>::clone(&outside));
    let cases = [
        ("away", RecordType::A, "NoError: CNAME A / "),
        ("away", RecordType::AAAA, "NoError: CNAME / SOA"),
        ("gone", RecordType::A, "NXDomain: CNAME / SOA"),
        ("failed", RecordType::A, "ServFail: CNAME / "),
        ("odd", RecordType::A, "ServFail: CNAME / "),
        ("refused", RecordType::A, "NoError: CNAME / "),
    ];
    for (below, kind, expect) in cases {
        let query = question(below, kind, true);
        for reply in [by_datagram(LOOPBACK, at, &query).await, by_stream(LOOPBACK, at, &query).await] {
            assert_eq!(text(&reply), expect, "{below} {kind}");
            let metadata = reply.metadata;
            assert!(metadata.id == 0x4242 && metadata.authoritative && !metadata.truncation);
            assert_eq!(reply.queries[0].name().to_string(), format!("{below}.home.internal."));
            let reason = reply.edns.expect("as asked").option(EdnsCode::from(EXTENDED_ERROR)).cloned();
            assert_eq!(reason.is_some(), below == "failed", "why it failed is passed on");
        }
    }
    assert_eq!(outside.asked.load(Ordering::Relaxed), 12, "once for each question");
    let reply = by_datagram(LOOPBACK, at, &question("away", RecordType::A, true)).await;
    let target = WireName::from_ascii("www.example.org.").expect("a name");
    assert_eq!((&reply.answers[1].name, reply.answers[1].ttl), (&target, 300));
    assert!(reply.metadata.recursion_available);
}

#[tokio::test]
async fn what_does_not_fit_with_the_alias_is_asked_again_by_stream() {
    let (server, at) = start_with_aliases().await;
    server.forward(Arc::<Outside>::default());
    let query = question("away", RecordType::TXT, true);
    let cut = by_datagram(LOOPBACK, at, &query).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = by_stream(LOOPBACK, at, &query).await;
    assert!(!whole.metadata.truncation && whole.answers.len() == 11);
}

#[tokio::test]
async fn nobody_is_asked_who_need_not_be() {
    let (server, at) = start_with_aliases().await;
    let away = question("away", RecordType::A, true);
    let check = async |source, query: &[u8], expect: &str| {
        for reply in [by_datagram(source, at, query).await, by_stream(source, at, query).await] {
            assert_eq!(text(&reply), expect);
            assert!(reply.metadata.authoritative && !reply.metadata.recursion_available);
        }
    };
    check(LOOPBACK, &away, "NoError: CNAME / ").await;
    let outside = Arc::<Outside>::default();
    server.forward(Arc::<Outside>::clone(&outside));
    check(neighbour(66), &away, "NoError: CNAME / ").await;
    check(LOOPBACK, &question("away", RecordType::A, false), "NoError: CNAME / ").await;
    check(LOOPBACK, &question("away", RecordType::CNAME, true), "NoError: CNAME / ").await;
    check(LOOPBACK, &question("away", RecordType::ANY, true), "NoError: CNAME / ").await;
    check(LOOPBACK, &question("alias", RecordType::A, true), "NoError: CNAME CNAME A / ").await;
    check(LOOPBACK, &question("dangling", RecordType::A, true), "NXDomain: CNAME / SOA").await;
    check(LOOPBACK, &question("round", RecordType::A, true), "NoError: CNAME CNAME / ").await;
    assert_eq!(outside.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_the_end() {
    let (server, at) = start_with_aliases().await;
    server.forward(Arc::<Outside>::default());
    let reply = by_stream(LOOPBACK, at, &question("never", RecordType::A, true)).await;
    assert_eq!(text(&reply), "ServFail: CNAME / ");
}
