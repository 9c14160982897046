//! Who gets no answer, or not all: askers of no tenant, and those who ask too much.
//!
//! An asker outside every block is told REFUSED, not nothing: it is a device of the mesh whose address was translated
//! on the way more often than an enemy, and learns at once to ask elsewhere. The answer is no longer than the question,
//! so that a forged source gains nothing, and it is limited like any other.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dns::Transport;
use dns::serve::{Forward, Limit, ListenError, Options};
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use model::{Block, Generation, TenantId, Zone};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::client::{PATIENCE, ask_udp, client, client_from, framed, query, query_of, read_tcp, receive};
use crate::home::name;
use crate::{LOOPBACK, neighbour, start, start_with};

/// Counts who came so far.
#[derive(Default)]
struct Asked(AtomicU64);

impl Forward for Asked {
    fn cached(&self, _buffer: &mut [u8], _length: usize) -> Option<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn forward(&self, query: Vec<u8>, _transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        ready(Some(query)).boxed()
    }
}

#[tokio::test]
async fn an_asker_of_no_tenant_is_refused_everything() {
    let (names, server, at) = start().await;
    let asked = Arc::new(Asked::default());
    server.forward(Arc::<Asked>::clone(&asked));
    // With two tenants, loopback is neither's.
    let block = Block::from_nets("100.65.0.0/16".parse().unwrap(), "fd12:3456:789b::/48".parse().unwrap());
    let zone = Zone::new(name("work.internal"), block.expect("a block"));
    names.whole(TenantId::from_bytes([2; 16]), Generation(1), &zone).expect("apart");
    let (client, mut stream) = (client(at).await, TcpStream::connect(at).await.expect("connected"));
    let owners = [
        "laptop.home.internal",
        "home.internal",
        "missing.home.internal",
        "example.org",
        "2.0.64.100.in-addr.arpa",
    ];
    for (id, owner) in (0..).zip(owners) {
        for kind in [RecordType::A, RecordType::ANY, RecordType::SOA, RecordType::PTR] {
            let query = query_of(id, owner, kind);
            client.send(&query).await.expect("sent");
            stream.write_all(&framed(&query)).await.expect("sent");
            for reply in [receive(&client).await, read_tcp(&mut stream).await] {
                assert_eq!((reply.metadata.id, reply.metadata.response_code), (id, ResponseCode::Refused));
                assert!(
                    reply.answers.is_empty() && reply.authorities.is_empty() && reply.additionals.is_empty()
                );
                assert!(reply.to_vec().expect("short").len() <= query.len(), "no longer than the question");
            }
        }
    }
    assert_eq!(asked.0.load(Ordering::Relaxed), 0, "nothing was forwarded");
}

#[tokio::test]
async fn only_addresses_that_were_named_are_bound() {
    let (_names, mut server, at) = start().await;
    let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), "::".parse().expect("an address")];
    for wrong in everywhere {
        let errors = server.listen(&[LOOPBACK, wrong]).await;
        assert!(matches!(errors[..], [ListenError::Unspecified(_)]), "{errors:?}");
    }
    assert_eq!(server.listening().collect::<Vec<_>>(), [at]);
    let elsewhere = (neighbour(2), at.port());
    TcpStream::connect(elsewhere).await.expect_err("nobody is there");
    let client = UdpSocket::bind((LOOPBACK, 0)).await.expect("a free port");
    client.connect(elsewhere).await.expect("loopback is there");
    client.send(&query(1, "laptop.home.internal")).await.expect("sent, and refused after");
    timeout(PATIENCE, client.recv(&mut [0])).await.expect("at once").expect_err("nobody is there");
}

fn limited(per_second: u32, burst: u32) -> Options {
    let number = |n| NonZeroU32::new(n).expect("not 0");
    let limit = Limit { per_second: number(per_second), burst: number(burst) };
    Options { limit: Some(limit), ..Options::default() }
}

#[tokio::test]
async fn who_asks_too_much_is_told_to_come_by_tcp_every_second_time() {
    // So slow that next to nothing is earned while the test runs.
    let (_names, server, at) = start_with(limited(1, 10)).await;
    let (greedy, modest) = (client_from(neighbour(2), at).await, client_from(neighbour(3), at).await);
    for id in 0..50 {
        greedy.send(&query(id, "laptop.home.internal")).await.expect("sent");
    }
    // Behind all of them in the same queue.
    ask_udp(&modest, 1, "laptop.home.internal").await;
    let counters = server.counters();
    let (silent, slipped) = (counters.limited(), counters.slipped());
    let whole = counters.answered(dns::Rcode::NoError) - 1;
    assert!((10..=12).contains(&whole), "{whole}");
    assert_eq!((whole + silent + slipped, slipped - silent), (50, (50 - whole) % 2));
    let mut truncated = 0;
    for _ in 0..whole + slipped {
        let reply = receive(&greedy).await;
        truncated += u64::from(reply.metadata.truncation);
        assert_eq!(reply.answers.len(), usize::from(!reply.metadata.truncation));
        assert_eq!(reply.queries.len(), 1);
    }
    assert_eq!(truncated, slipped);
    // TCP is not limited: who comes is no forgery.
    let mut stream = crate::client::connect_from(neighbour(2), at).await;
    for id in 0..20 {
        stream.write_all(&framed(&query(id, "laptop.home.internal"))).await.expect("sent");
        assert_eq!(read_tcp(&mut stream).await.answers.len(), 1);
    }
}

#[tokio::test]
async fn this_machine_and_whoever_asks_within_the_limit_are_not_limited() {
    let (_names, server, at) = start_with(limited(1, 10)).await;
    let own = client(at).await;
    for id in 0..100 {
        ask_udp(&own, id, "laptop.home.internal").await;
    }
    assert_eq!(server.counters().limited() + server.counters().slipped(), 0);
    server.close().await;

    // As much as a device without a cache asks, all at once, with what is set when nobody says otherwise.
    let (_names, server, at) = start().await;
    let busy = client_from(neighbour(2), at).await;
    for round in 0..20 {
        for id in 0..200 {
            busy.send(&query(round * 200 + id, "laptop.home.internal")).await.expect("sent");
        }
        for id in 0..200 {
            assert_eq!(receive(&busy).await.metadata.id, round * 200 + id);
        }
    }
    assert_eq!(server.counters().limited() + server.counters().slipped(), 0);
}
