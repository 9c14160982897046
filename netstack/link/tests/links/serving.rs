//! Many links on one UDP socket: each has its turn, whatever another does, and nothing stays of those that left.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use link::limits::DATAGRAM_QUEUE_BYTES_MAX;
use link::quic::{Limits, Listener};
use link::tls::ALPN_LINK;
use link::{Carrier, LinkError, PreferCarrier, Receiver, Sender, Trust};
use model::wire::{Decoder, Frame, encode};
use quinn::{ClientConfig, Endpoint};
use quinn_proto::crypto::rustls::QuicClientConfig;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{Server, Udp, certificate, frame, longest, raw_client, soon};

/// A closed connection stays for three times what an answer takes at worst, which on a machine with much to do is seconds.
const LEAVING_MAX: Duration = Duration::from_secs(60);

fn client_config() -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(raw_client(ALPN_LINK)).unwrap()))
}

/// One socket of many clients.
fn clients(from: &str) -> Endpoint {
    let mut endpoint = Endpoint::client(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    endpoint.set_default_client_config(client_config());
    endpoint
}

/// A link as a client has it that knows no more than QUIC.
struct Raw {
    /// Dropped, it is closed.
    _connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
}

impl Raw {
    async fn open(endpoint: &Endpoint, at: SocketAddr) -> Self {
        let connection = endpoint.connect(at, "localhost").unwrap().await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Self { _connection: connection, send, receive }
    }

    async fn asks(&mut self, frame: &Frame) -> Frame {
        self.send.write_all(&encode(frame)).await.unwrap();
        let mut decoder = Decoder::new();
        loop {
            let chunk = self.receive.read_chunk(usize::MAX, true).await.unwrap().expect("it goes on");
            decoder.push(&chunk.bytes);
            if let Some(frame) = decoder.next_frame().unwrap() {
                return frame;
            }
        }
    }
}

impl Raw {
    /// Says that nothing more comes, and waits for the other end to say so. A word that may be lost is not enough: whoever
    /// does not hear it waits half a minute.
    async fn leave(mut self) {
        self.send.finish().unwrap();
        while let Ok(Some(_)) = self.receive.read_chunk(usize::MAX, true).await {}
    }
}

/// Answers each frame with itself, until it is told to hand the listener back.
fn echo(mut listener: Listener) -> (mpsc::Sender<()>, JoinHandle<Listener>) {
    let (enough, mut is_enough) = mpsc::channel(1);
    let serving = tokio::spawn(async move {
        loop {
            tokio::select! {
                connection = listener.accept() => {
                    let (sender, mut receiver) = connection.unwrap().split();
                    tokio::spawn(async move {
                        while let Ok(frame) = receiver.recv().await {
                            sender.send(&frame).await.unwrap();
                        }
                    });
                }
                _ = is_enough.recv() => return listener,
            }
        }
    });
    (enough, serving)
}

fn listener(limits: Limits) -> (Listener, SocketAddr) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &certificate(), limits).unwrap();
    let at = listener.local_address().unwrap();
    (listener, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_links_are_served_at_once_and_nothing_is_left_of_them() {
    const LINKS: u64 = 60;
    let (listener, at) = listener(Limits { half_open_max: 1000, ..Limits::default() });
    let (enough, serving) = echo(listener);
    let endpoint = clients("127.0.0.1");
    let raws = soon(join_all((0..LINKS).map(|number| {
        let endpoint = &endpoint;
        async move {
            let mut raw = Raw::open(endpoint, at).await;
            assert_eq!(raw.asks(&frame(number)).await, frame(number));
            raw
        }
    })));
    let mut raws = raws.await;
    for round in 1..4 {
        let asked = raws.iter_mut().zip(0..).map(|(raw, number)| async move {
            assert_eq!(raw.asks(&frame(number * round)).await, frame(number * round));
        });
        soon(join_all(asked)).await;
    }
    enough.send(()).await.unwrap();
    let listener = soon(serving).await.unwrap();
    assert_eq!(listener.connections() as u64, LINKS);
    soon(join_all(raws.into_iter().map(Raw::leave))).await;
    assert_eq!(listener.drain(LEAVING_MAX).await, 0, "all left by themselves");
    // Its tasks end, and the port is free.
    let certificate = certificate();
    soon(async {
        while Listener::bind(at, &certificate, Limits::default()).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let (stalled, _) = server.pair(PreferCarrier::OnlyQuic).await;
    let (down, _down) = &stalled.server;
    let mut refused = 0;
    while refused < 100 {
        refused = if down.try_send(&longest(1)).is_ok() { 0 } else { refused + 1 };
        tokio::task::yield_now().await;
    }
    for number in 0..5 {
        let (mut pair, _) = server.pair(PreferCarrier::OnlyQuic).await;
        pair.server.0.send(&longest(number)).await.unwrap();
        assert_eq!(soon(pair.client.1.recv()).await, Ok(longest(number)));
        pair.client.0.send(&longest(number)).await.unwrap();
        assert_eq!(soon(pair.server.1.recv()).await, Ok(longest(number)));
    }
    assert!(down.try_send(&frame(1)).is_err(), "it still does not read");
}

#[tokio::test]
async fn a_link_whose_client_moves_goes_on() {
    let (listener, at) = listener(Limits::default());
    let (_enough, _serving) = echo(listener);
    let endpoint = clients("127.0.0.1");
    let mut raw = soon(Raw::open(&endpoint, at)).await;
    assert_eq!(soon(raw.asks(&frame(1))).await, frame(1));
    let before = endpoint.local_addr().unwrap();
    endpoint.rebind(std::net::UdpSocket::bind("127.0.0.3:0").unwrap()).unwrap();
    assert_ne!(endpoint.local_addr().unwrap(), before);
    for number in 2..20 {
        assert_eq!(soon(raw.asks(&frame(number))).await, frame(number));
    }
    assert_eq!(soon(raw.asks(&longest(3))).await, longest(3));
}

/// Longer than a server waits for an answer, as far away as it is here.
const MISSED: Duration = Duration::from_millis(500);

/// A NAT between a client and a server. Told to, it loses the server's next packet and moves to another port, and the client's next
/// packet comes out of it when the server misses its answer: the machine has much to do, and both wait for their turn.
async fn nat(inside: UdpSocket, server: SocketAddr, mut told: mpsc::Receiver<()>) {
    const PACKET: usize = 1500;
    let (mut outside, mut client) = (bound().await, server);
    let (mut up, mut down) = ([0; PACKET], [0; PACKET]);
    let (mut loses, mut holds) = (false, false);
    loop {
        tokio::select! {
            biased;
            Some(()) = told.recv() => loses = true,
            got = inside.recv_from(&mut up) => {
                let (length, from) = got.unwrap();
                client = from;
                if mem::take(&mut holds) {
                    let end = Instant::now() + MISSED;
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                }
                outside.send_to(&up[..length], server).await.unwrap();
            }
            got = outside.recv(&mut down) => {
                let length = got.unwrap();
                if mem::take(&mut loses) {
                    (outside, holds) = (bound().await, true);
                } else {
                    inside.send_to(&down[..length], client).await.unwrap();
                }
            }
        }
    }
}

async fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// By debug assertions of `quinn-proto`: it counts on a peer that moved being sent something before a miss is looked at.
#[tokio::test]
async fn a_link_that_moves_while_the_server_misses_an_answer_goes_on() {
    let (listener, at) = listener(Limits::default());
    let (_enough, _serving) = echo(listener);
    let inside = bound().await;
    let by_nat = inside.local_addr().unwrap();
    let (tell, told) = mpsc::channel(1);
    let _nat = tokio::spawn(nat(inside, at, told));
    let endpoint = clients("127.0.0.1");
    let mut raw = soon(Raw::open(&endpoint, by_nat)).await;
    assert_eq!(soon(raw.asks(&frame(0))).await, frame(0));
    for number in 1..4 {
        tell.send(()).await.unwrap();
        assert_eq!(soon(raw.asks(&frame(number))).await, frame(number));
    }
}

#[tokio::test]
async fn first_packets_alone_cost_no_more_than_a_few_connections() {
    let limits = Limits { half_open_max: 16, retry_above: 4, ..Limits::default() };
    let (mut listener, at) = listener(limits);
    let (mut endpoint, mut packet) =
        (quinn_proto::Endpoint::new(Arc::default(), None, false, None), Vec::new());
    let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let flood = async {
        // Each begins well, and never answers.
        let mut begun = Vec::new();
        for _ in 0..1000 {
            let now = Instant::now();
            let (_, mut connection) = endpoint.connect(now, client_config(), at, "localhost").unwrap();
            packet.clear();
            let transmit = connection.poll_transmit(now, 1, &mut packet).expect("a first packet");
            socket.send_to(&packet[..transmit.size], at).await.unwrap();
            begun.push(connection);
            tokio::task::yield_now().await;
        }
    };
    let honest = clients("127.0.0.1");
    let accepted = async {
        let asked = async {
            let mut raw = Raw::open(&honest, at).await;
            raw.send.write_all(&encode(&frame(1))).await.unwrap();
            raw
        };
        let (accepted, raw) = tokio::join!(listener.accept(), asked);
        (accepted.unwrap(), raw)
    };
    let ((), (connection, raw)) = soon(Box::pin(async { tokio::join!(flood, accepted) })).await;
    assert_eq!(connection.carrier(), Carrier::Quic);
    assert!(listener.connections() <= 16, "{}", listener.connections());
    drop((connection, raw));
    assert_eq!(listener.drain(LEAVING_MAX).await, 0, "what never opened is closed");
}

#[tokio::test]
async fn who_stays_is_cut_when_the_drain_is_over() {
    let (mut listener, at) = listener(Limits::default());
    let address = at.into();
    let dialing = async {
        let dialed = link::dial(&address, &Trust::Anchor, PreferCarrier::OnlyQuic).await.unwrap();
        let (up, from_server): (Sender, Receiver) = dialed.split();
        up.send(&frame(1)).await.unwrap();
        (up, from_server)
    };
    let ((_up, mut from_server), accepted) = soon(async { tokio::join!(dialing, listener.accept()) }).await;
    let (down, _from_client) = accepted.unwrap().split();
    assert_eq!(soon(listener.drain(Duration::from_millis(20))).await, 1);
    let end = soon(from_server.recv()).await;
    assert_eq!(end, Err(LinkError::Closed));
    assert!(soon(down.send(&frame(2))).await.is_err() || soon(down.drained()).await.is_err());
}

#[tokio::test]
async fn the_newest_datagrams_of_too_many_arrive() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let dialed = soon(link::dial(&server.address, &Trust::Anchor, PreferCarrier::OnlyQuic)).await.unwrap();
    let client = dialed.datagrams().expect("QUIC has them");
    let (up, _from_server) = dialed.split();
    up.send(&frame(0)).await.unwrap();
    let accepted = server.accept().await;
    let datagrams = accepted.datagrams().expect("QUIC has them");
    let length = datagrams.bytes_max();
    let count = (2 * DATAGRAM_QUEUE_BYTES_MAX / length) as u32;
    let numbered = |number: u32| {
        let mut bytes = vec![0; length];
        bytes[0] = model::relay::KIND;
        bytes[1..5].copy_from_slice(&number.to_be_bytes());
        Bytes::from(bytes)
    };
    // Nobody else runs meanwhile: what has no room gives way.
    let lost = (0..count).filter(|number| !datagrams.send(numbered(*number))).count();
    assert!(lost as u32 > count / 3, "{lost} of {count}");
    let mut came = Vec::new();
    while came.last() != Some(&(count - 1)) {
        let datagram = soon(client.recv()).await.expect("the link stands");
        came.push(u32::from_be_bytes(datagram[1..5].try_into().unwrap()));
    }
    assert!(came.first().is_some_and(|first| *first as usize >= lost), "{:?} after {lost}", came.first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn links_come_and_go_while_others_talk() {
    let (listener, at) = listener(Limits { half_open_max: 1000, ..Limits::default() });
    let (enough, serving) = echo(listener);
    let endpoint = clients("127.0.0.1");
    let mut talking = soon(Raw::open(&endpoint, at)).await;
    let talk = async {
        for number in 0..50 {
            assert_eq!(soon(talking.asks(&longest(number))).await, longest(number));
        }
    };
    let come_and_go = async {
        let mut open = FuturesUnordered::new();
        for number in 0..60 {
            let endpoint = &endpoint;
            open.push(async move {
                let mut raw = Raw::open(endpoint, at).await;
                assert_eq!(raw.asks(&frame(number)).await, frame(number));
                raw.leave().await;
            });
            if open.len() > 10 {
                soon(open.next()).await.unwrap();
            }
        }
        while soon(open.next()).await.is_some() {}
    };
    tokio::join!(talk, come_and_go);
    enough.send(()).await.unwrap();
    let listener = soon(serving).await.unwrap();
    let (left, cut) = tokio::join!(soon(talking.leave()), listener.drain(LEAVING_MAX));
    assert_eq!((left, cut), ((), 0));
}
