//! Listening, staying bounded, and changes seen at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dns::Names;
use dns::serve::{Holder, ListenError, Server};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use model::Generation;
use model::patch::ZonePatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::home::{SEED, TENANT, name, set};
use crate::{LOOPBACK, start};

const PATIENCE: Duration = Duration::from_secs(10);

fn query(id: u16, owner: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let owner = Name::from_labels(owner.split('.').map(str::as_bytes)).expect("a name");
    message.add_query(Query::query(owner, RecordType::A));
    message.to_vec().expect("a query can be written")
}

async fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.expect("a free port");
    socket.connect(server).await.expect("loopback is there");
    socket
}

async fn receive(client: &UdpSocket) -> Message {
    let mut reply = [0; 2048];
    let length =
        timeout(PATIENCE, client.recv(&mut reply)).await.expect("an answer in time").expect("received");
    Message::from_vec(&reply[..length]).expect("an answer can be read")
}

async fn ask_udp(client: &UdpSocket, id: u16, owner: &str) -> Message {
    client.send(&query(id, owner)).await.expect("sent");
    let reply = receive(client).await;
    assert_eq!(reply.metadata.id, id);
    reply
}

fn framed(query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).expect("short");
    [&length.to_be_bytes(), query].concat()
}

async fn read_tcp(stream: &mut TcpStream) -> Message {
    let length = timeout(PATIENCE, stream.read_u16()).await.expect("an answer in time").expect("a length");
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.expect("the answer");
    Message::from_vec(&reply).expect("an answer can be read")
}

/// A closed socket lives on for a moment in a process that another test has forked and that has not become dig yet.
async fn wait_until_free(address: SocketAddr) {
    let free = async {
        while UdpSocket::bind(address).await.is_err() || TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, free).await.expect("the address is free again");
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_question() {
    let (names, _server, at) = start().await;
    let client = client(at).await;
    for n in 1..=200_u8 {
        let moved = set(&[&format!("A 100.64.1.{n}")]);
        let patch = ZonePatch { head: None, set: vec![(name("moving.home.internal"), moved)], gone: vec![] };
        names.patch(TENANT, Generation(7 + u64::from(n)), &patch).expect("known");
        let reply = ask_udp(&client, n.into(), "moving.home.internal").await;
        let expect = RData::A(std::net::Ipv4Addr::new(100, 64, 1, n).into());
        assert_eq!(reply.answers.iter().map(|r| &r.data).collect::<Vec<_>>(), [&expect]);
    }
    names.gone(TENANT);
    let reply = ask_udp(&client, 0, "moving.home.internal").await;
    assert_eq!(reply.metadata.response_code, hickory_proto::op::ResponseCode::Refused);
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    for n in 0..500_u16 {
        let mut garbage: Vec<u8> = (0..n).map(|b| (b.wrapping_mul(n) >> 3) as u8).collect();
        // Without answers to confuse with the one below.
        if let Some(flags) = garbage.get_mut(2) {
            *flags |= 0x80;
        }
        client.send(&garbage).await.expect("sent");
        // One at a time, so that no receive buffer overflows.
        let reply = ask_udp(&client, n, "laptop.home.internal").await;
        assert_eq!(reply.answers.len(), 1);
    }
    assert_eq!(server.counters().dropped(), 500);
}

#[tokio::test]
async fn tcp_queries_are_answered_in_order() {
    let (_names, _server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let pipelined: Vec<u8> = (0..100).flat_map(|id| framed(&query(id, "big.home.internal"))).collect();
    stream.write_all(&pipelined).await.expect("sent");
    // A client that has said all still gets all answers.
    stream.shutdown().await.expect("half closed");
    for id in 0..100 {
        assert_eq!(read_tcp(&mut stream).await.metadata.id, id);
    }
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("in time").expect("closed"), 0);
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let (_names, server, at) = start().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        stream.write_all(&framed(&query(1, "laptop.home.internal"))).await.expect("sent");
        read_tcp(&mut stream).await;
        streams.push(stream);
    }
    let mut surplus = TcpStream::connect(at).await.expect("the kernel accepts");
    let end = timeout(PATIENCE, surplus.read(&mut [0])).await.expect("in time");
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word: {end:?}");
    assert_eq!(server.counters().turned_away(), 1);
    // UDP and the open connections go on; a closed one makes room.
    ask_udp(&client(at).await, 2, "laptop.home.internal").await;
    drop(streams.pop());
    let again = async {
        loop {
            let mut stream = TcpStream::connect(at).await.expect("the kernel accepts");
            let sent = stream.write_all(&framed(&query(3, "laptop.home.internal"))).await;
            if sent.is_ok() && stream.read_u16().await.is_ok() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_cut_off() {
    // The paused clock jumps to the next deadline whenever nothing else is left to do.
    let (_names, _server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let half = framed(&query(1, "laptop.home.internal"));
    stream.write_all(&half[..7]).await.expect("sent");
    let started = tokio::time::Instant::now();
    let end = stream.read(&mut [0]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word: {end:?}");
    assert!(started.elapsed() <= Duration::from_secs(11));
}

#[tokio::test]
async fn addresses_come_and_go() {
    let (_names, mut server, at) = start().await;
    let port = at.port();
    let client_socket = client(at).await;
    let mut fixed = Server::new(Arc::new(Names::new(SEED)), port);
    let absent: IpAddr = "100.64.255.254".parse().expect("an address");
    let (second, third) =
        ("127.0.0.2".parse().expect("an address"), "127.0.0.3".parse().expect("an address"));
    let listening = |server: &Server| server.listening().map(|at| at.ip()).collect::<Vec<_>>();

    assert!(fixed.listen(&[second, absent]).await.is_empty(), "an address may come later");
    assert_eq!(listening(&fixed), [absent, second]);
    let mut kept = TcpStream::connect((second, port)).await.expect("connected");
    assert!(fixed.listen(&[second, third]).await.is_empty());
    assert_eq!(listening(&fixed), [second, third]);
    kept.write_all(&framed(&query(1, "laptop.home.internal"))).await.expect("sent");
    read_tcp(&mut kept).await;
    UdpSocket::bind((second, port)).await.expect_err("still taken");

    let errors = fixed.listen(&[third, LOOPBACK, "0.0.0.0".parse().expect("an address")]).await;
    assert_eq!(listening(&fixed), [third], "one failure does not stop the others");
    assert_eq!(
        errors.iter().map(|e| e.address().ip().to_string()).collect::<Vec<_>>(),
        ["127.0.0.1", "0.0.0.0"]
    );
    let ListenError::InUse { holder: Holder::Process { pid, .. }, .. } = &errors[0] else {
        panic!("{errors:?}");
    };
    assert_eq!(*pid, std::process::id());
    assert!(matches!(errors[1], ListenError::Unspecified(_)));
    wait_until_free(SocketAddr::new(second, port)).await;

    ask_udp(&client_socket, 1, "laptop.home.internal").await;
    assert!(server.listen(&[]).await.is_empty());
    wait_until_free(at).await;
    assert!(fixed.listen(&[third, LOOPBACK]).await.is_empty(), "what failed is tried again");
    fixed.close().await;
    wait_until_free(at).await;
    assert_eq!(server.listening().count(), 0);
}
