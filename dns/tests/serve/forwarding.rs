//! Names of no zone: a forwarder that tests lead by the hand.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dns::serve::{Forward, Options, Path, Server, Way};
use dns::{Rcode, Transport};
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use hickory_proto::op::{Message, ResponseCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::client::{PATIENCE, ask_udp, client, client_from, connect_from, framed, query, read_tcp, receive};
use crate::{LOOPBACK, listen_somewhere, neighbour, start, start_with};

/// Answers as the name says, with an empty answer of the query's id: `at-once.test`, `later.test` (when led on),
/// `never.test`, `not.test` (refuses), `long.test` (more than a datagram), `known.test` (from memory), `wrong.test`
/// (panics).
pub(crate) struct Led {
    on: Semaphore,
    asked: AtomicU64,
}

impl Led {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { on: Semaphore::new(0), asked: AtomicU64::new(0) })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn first_label(query: &[u8]) -> &[u8] {
    &query[13..13 + usize::from(query[12])]
}

fn answer(mut query: Vec<u8>) -> Vec<u8> {
    query[2] |= 0x80;
    query[3] |= 0x80;
    query
}

impl Forward for Led {
    fn serves(&self, asker: IpAddr) -> bool {
        asker != neighbour(66)
    }

    fn cached(&self, buffer: &mut [u8], length: usize) -> Option<usize> {
        assert!(first_label(buffer) != b"wrong", "as it was asked to");
        (first_label(buffer) == b"known").then(|| {
            buffer[2] |= 0x80;
            length
        })
    }

    fn forward(&self, query: Vec<u8>, _transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async move {
            match first_label(&query) {
                b"later" => self.on.acquire().await.expect("open").forget(),
                b"never" => pending().await,
                b"not" => return None,
                b"long" => return Some([answer(query), vec![0; 1300]].concat()),
                _ => {}
            }
            Some(answer(query))
        }
        .boxed()
    }
}

fn answered(server: &Server, transport: Transport, path: Path) -> u64 {
    server.counters().answered_by(Way { transport, path }).map(|(_, count)| count).sum()
}

async fn write(stream: &mut TcpStream, id: u16, owner: &str) {
    stream.write_all(&framed(&query(id, owner))).await.expect("sent");
}

fn code(reply: &Message) -> ResponseCode {
    reply.metadata.response_code
}

#[tokio::test]
async fn foreign_names_are_forwarded_and_own_ones_are_not() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    assert_eq!(code(&ask_udp(&client, 1, "at-once.test").await), ResponseCode::Refused, "nobody forwards");
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let reply = ask_udp(&client, 2, "at-once.test").await;
    assert!(reply.metadata.recursion_available && code(&reply) == ResponseCode::NoError);
    assert_eq!(code(&ask_udp(&client, 3, "missing.home.internal").await), ResponseCode::NXDomain);
    assert_eq!(code(&ask_udp(&client, 4, "not.test").await), ResponseCode::Refused);
    assert_eq!(led.asked(), 2);
    assert!(ask_udp(&client, 5, "long.test").await.metadata.truncation);
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let long = framed(&query(6, "long.test"));
    stream.write_all(&long).await.expect("sent");
    let mut whole = vec![0; long.len() + 1300];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut whole).await.expect("all of it");
    assert_eq!(answered(&server, Transport::Udp, Path::Forwarded), 3);
    assert_eq!(answered(&server, Transport::Tcp, Path::Forwarded), 1);
    assert_eq!(server.counters().answered(Rcode::Refused), 2);
}

#[tokio::test]
async fn whom_the_forwarder_does_not_serve_gets_own_names_only() {
    let (_names, server, at) = start().await;
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let client = client_from(neighbour(66), at).await;
    for (id, foreign) in (0..).zip(["at-once.test", "known.test"]) {
        assert_eq!(code(&ask_udp(&client, id, foreign).await), ResponseCode::Refused);
    }
    let mut stream = connect_from(neighbour(66), at).await;
    write(&mut stream, 3, "at-once.test").await;
    assert_eq!(code(&read_tcp(&mut stream).await), ResponseCode::Refused);
    assert_eq!(code(&ask_udp(&client, 4, "laptop.home.internal").await), ResponseCode::NoError);
    assert_eq!(led.asked(), 0);
}

#[tokio::test]
async fn what_a_forwarder_has_at_hand_goes_with_the_batch() {
    let (_names, server, at) = start().await;
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let client = client(at).await;
    for id in 0..50 {
        assert_eq!(code(&ask_udp(&client, id, "known.test").await), ResponseCode::NoError);
    }
    assert_eq!((led.asked(), answered(&server, Transport::Udp, Path::Forwarded)), (0, 50));
}

#[tokio::test]
async fn nothing_waits_behind_a_forwarded_query() {
    let (_names, server, at) = start().await;
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let mut stream = TcpStream::connect(at).await.expect("connected");
    write(&mut stream, 1, "later.test").await;
    for id in 2..50 {
        write(&mut stream, id, "laptop.home.internal").await;
        assert_eq!(read_tcp(&mut stream).await.metadata.id, id);
    }
    write(&mut stream, 50, "at-once.test").await;
    assert_eq!(read_tcp(&mut stream).await.metadata.id, 50);
    // Who has said all still gets what is under way.
    stream.shutdown().await.expect("half closed");
    led.on.add_permits(1);
    assert_eq!(read_tcp(&mut stream).await.metadata.id, 1);

    let client = client(at).await;
    client.send(&query(1, "later.test")).await.expect("sent");
    ask_udp(&client, 2, "laptop.home.internal").await;
    ask_udp(&client, 3, "at-once.test").await;
    led.on.add_permits(1);
    assert_eq!(receive(&client).await.metadata.id, 1);
}

/// Waits until so many queries are with the forwarder.
async fn until_asked(led: &Led, count: u64) {
    let asked = async {
        while led.asked() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asked).await.expect("they are forwarded");
}

#[tokio::test]
async fn those_under_way_are_bounded_by_source_and_together() {
    let (_names, server, at) = start().await;
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let source = |number: u64| -> IpAddr { neighbour(u8::try_from(number).expect("few")) };
    let mut clients = Vec::new();
    for number in 1..=16 {
        let client = client_from(source(number), at).await;
        for id in 0..64 {
            client.send(&query(id, "later.test")).await.expect("sent");
            until_asked(&led, (number - 1) * 64 + u64::from(id) + 1).await;
        }
        // One more of the same source is told at once.
        assert_eq!(code(&ask_udp(&client, 999, "later.test").await), ResponseCode::ServFail);
        // What is not forwarded goes on.
        assert_eq!(code(&ask_udp(&client, 998, "laptop.home.internal").await), ResponseCode::NoError);
        clients.push(client);
    }
    let last = client_from(source(17), at).await;
    assert_eq!(
        code(&ask_udp(&last, 1, "at-once.test").await),
        ResponseCode::ServFail,
        "all places are taken"
    );
    let mut stream = TcpStream::connect(at).await.expect("connected");
    write(&mut stream, 1, "at-once.test").await;
    assert_eq!(code(&read_tcp(&mut stream).await), ResponseCode::ServFail);
    assert_eq!((server.counters().crowded(), led.asked()), (18, 1024));
    led.on.add_permits(1024);
    for client in &clients {
        for _ in 0..64 {
            assert_eq!(code(&receive(client).await), ResponseCode::NoError);
        }
    }
    assert_eq!(code(&ask_udp(&last, 2, "at-once.test").await), ResponseCode::NoError, "there is room again");
    assert_eq!(server.counters().crowded(), 18);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (_names, server, at) = start().await;
    server.forward(Led::new());
    let mut stream = TcpStream::connect(at).await.expect("connected");
    write(&mut stream, 7, "never.test").await;
    let reply = read_tcp(&mut stream).await;
    assert_eq!((reply.metadata.id, code(&reply)), (7, ResponseCode::ServFail));
}

#[tokio::test]
async fn closing_waits_for_what_is_forwarded_and_not_for_ever() {
    let (_names, server, at) = start().await;
    let led = Led::new();
    server.forward(Arc::<Led>::clone(&led));
    let client = client(at).await;
    client.send(&query(1, "later.test")).await.expect("sent");
    client.send(&query(2, "never.test")).await.expect("sent");
    until_asked(&led, 2).await;
    led.on.add_permits(1);
    timeout(Duration::from_secs(5), server.close()).await.expect("two seconds and some");
    assert_eq!(receive(&client).await.metadata.id, 1);
    client.send(&query(3, "later.test")).await.expect("sent, and refused after");
    client.recv(&mut [0; 512]).await.expect_err("the address is free");
}

/// A mistake costs one question, and the address a moment.
#[tokio::test]
async fn an_address_whose_thread_panics_is_opened_anew() {
    for threads in [1, 3] {
        let (_names, mut server, at) = start_with(Options { threads, ..Options::default() }).await;
        server.forward(Led::new());
        let client = client(at).await;
        client.send(&query(1, "wrong.test")).await.expect("sent");
        timeout(PATIENCE, server.ended()).await.expect("it is told");
        let at = listen_somewhere(&mut server, LOOPBACK).await;
        let again = client_from(LOOPBACK, at).await;
        for id in 0..20 {
            ask_udp(&again, id, "laptop.home.internal").await;
        }
    }
}
