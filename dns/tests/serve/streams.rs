//! Queries over TCP: pipelines, many connections, and askers that are slow or speak nonsense.

use std::time::Duration;

use dns::Transport;
use dns::serve::{Path, Way};
use hickory_proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::client::{
    PATIENCE, ask_udp, client, connect_from, framed, query, query_of, read_tcp, try_read_tcp,
};
use crate::{neighbour, start};

#[tokio::test]
async fn tcp_queries_are_answered_in_order() {
    let (_names, _server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let pipelined: Vec<u8> =
        (0..100).flat_map(|id| framed(&query_of(id, "big.home.internal", RecordType::TXT))).collect();
    stream.write_all(&pipelined).await.expect("sent");
    // A client that has said all still gets all answers.
    stream.shutdown().await.expect("half closed");
    for id in 0..100 {
        let reply = read_tcp(&mut stream).await;
        assert_eq!((reply.metadata.id, reply.answers.len(), reply.metadata.truncation), (id, 30, false));
    }
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("in time").expect("closed"), 0);
}

#[tokio::test]
async fn a_query_may_come_byte_by_byte() {
    let (_names, server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.set_nodelay(true).expect("sets");
    for id in 0..3 {
        for byte in framed(&query(id, "laptop.home.internal")) {
            stream.write_all(&[byte]).await.expect("sent");
        }
        assert_eq!(read_tcp(&mut stream).await.metadata.id, id);
    }
    let hot = Way { transport: Transport::Tcp, path: Path::Hot };
    assert_eq!(server.counters().answered_by(hot).map(|(_, count)| count).sum::<u64>(), 3);
    assert_eq!(server.counters().connections(), 1);
}

#[tokio::test]
async fn what_is_no_query_ends_the_connection_after_the_answers_before_it() {
    for nonsense in [framed(&[0; 11]), framed(&[0xff; 40]), framed(&[]), vec![0xff; 2]] {
        let (_names, server, at) = start().await;
        let mut stream = TcpStream::connect(at).await.expect("connected");
        let bytes =
            [framed(&query(1, "laptop.home.internal")), nonsense, framed(&query(2, "hub.home.internal"))];
        stream.write_all(&bytes.concat()).await.expect("sent");
        assert_eq!(read_tcp(&mut stream).await.metadata.id, 1);
        assert!(try_read_tcp(&mut stream).await.is_none());
        assert_eq!(server.counters().dropped() + server.counters().cut_off(), 1);
    }
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let (_names, server, at) = start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        stream.write_all(&framed(&query(1, "laptop.home.internal"))).await.expect("sent");
        read_tcp(&mut stream).await;
        streams.push(stream);
    }
    let mut surplus = TcpStream::connect(at).await.expect("the kernel accepts");
    let end = timeout(PATIENCE, surplus.read(&mut [0])).await.expect("in time");
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word: {end:?}");
    assert_eq!((server.counters().turned_away(), server.counters().connections()), (1, 64));
    // Others, UDP and the open connections go on; a closed one makes room.
    let mut other = connect_from(neighbour(2), at).await;
    other.write_all(&framed(&query(2, "laptop.home.internal"))).await.expect("sent");
    read_tcp(&mut other).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_served_at_once() {
    // Both ends are in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let (_names, server, at) = start().await;
    let mut streams = Vec::new();
    for n in 0..1000_u16 {
        streams.push(connect_from(neighbour(1 + (n % 20) as u8), at).await);
    }
    for round in 0..3 {
        for (n, stream) in streams.iter_mut().enumerate() {
            let id = u16::try_from(n).expect("a thousand");
            stream.write_all(&framed(&query(id ^ round, "laptop.home.internal"))).await.expect("sent");
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let id = u16::try_from(n).expect("a thousand");
            assert_eq!(read_tcp(stream).await.metadata.id, id ^ round);
        }
    }
    assert_eq!((server.counters().connections(), server.counters().turned_away()), (1000, 0));
    let counters = server.counters();
    timeout(PATIENCE, server.close()).await.expect("closing waits for nobody who is idle");
    assert_eq!(counters.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_cut_off() {
    // The paused clock jumps to the next deadline whenever nothing else is left to do.
    let (_names, server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let half = framed(&query(1, "laptop.home.internal"));
    stream.write_all(&half[..7]).await.expect("sent");
    let started = Instant::now();
    let end = stream.read(&mut [0]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word: {end:?}");
    assert!(started.elapsed() <= Duration::from_secs(11));
    assert_eq!(server.counters().cut_off(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_in_ten_seconds() {
    let (_names, server, at) = start().await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let started = Instant::now();
    for id in 0..3 {
        tokio::time::advance(Duration::from_secs(9)).await;
        stream.write_all(&framed(&query(id, "laptop.home.internal"))).await.expect("sent");
        assert_eq!(stream.read_u16().await.expect("an answer"), 54);
        stream.read_exact(&mut [0; 54]).await.expect("an answer");
    }
    assert_eq!(stream.read(&mut [0]).await.expect("an orderly end"), 0);
    let whole = started.elapsed();
    assert!((36..=38).contains(&whole.as_secs()), "{whole:?}");
    assert_eq!(server.counters().cut_off(), 0);
}

/// Asks much and reads nothing.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_asked_no_more_and_cut_off() {
    let (_names, server, at) = start().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("sets");
    let mut stream = socket.connect(at).await.expect("connected");
    // More than the kernel holds for both ends: this ends when the server hangs up.
    let queries = framed(&query_of(1, "big.home.internal", RecordType::TXT)).repeat(400_000);
    stream.write_all(&queries).await.expect_err("nobody takes so much");
    let answered = server.counters().answered(dns::Rcode::NoError);
    assert!(answered < 5_000, "{answered} answers were made, though nobody read them");
    assert_eq!(server.counters().cut_off(), 1);
    // Nobody else is hurt.
    let mut other = TcpStream::connect(at).await.expect("connected");
    other.write_all(&framed(&query_of(1, "big.home.internal", RecordType::TXT))).await.expect("sent");
    assert_eq!(read_tcp(&mut other).await.answers.len(), 30);
}
