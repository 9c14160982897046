//! Peers that are no Warren, or mean harm: a clear error for the one, nothing for the others.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::SinkExt as _;
use link::quic::{Limits, Listener};
use link::tls::ALPN_LINK;
use link::unix::Visitor;
use link::{LinkError, PreferCarrier};
use model::wire::{FrameError, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::{Server, Udp, certificate, frame, raw_client, raw_tls, serve_plain, soon};

/// Bytes that look like nothing, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

async fn raw_quic(from: &str, to: SocketAddr) -> Result<quinn::Connection, quinn::ConnectionError> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(raw_client(ALPN_LINK)).unwrap();
    let endpoint = quinn::Endpoint::client(from.parse().unwrap()).unwrap();
    endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), to, "localhost").unwrap().await
}

#[tokio::test]
async fn noise_at_every_port_harms_nobody() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in noise(200_000).chunks(997) {
        udp.send_to(datagram, server.at).await.unwrap();
    }
    let mut tcp = tokio::net::TcpStream::connect(server.at).await.unwrap();
    // The server may hang up in the middle.
    let _ = tcp.write_all(&noise(100_000)).await;
    let mut tls = raw_tls(server.at).await;
    let _ = tls.write_all(&noise(100_000)).await;
    for prefer in [PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket] {
        let (pair, _) = server.pair(prefer).await;
        drop(pair);
    }
}

async fn raw_websocket(server: &mut Server, message: Message) -> Result<model::wire::Frame, LinkError> {
    let url = format!("wss://{}/link", server.at);
    let stream = raw_tls(server.at).await;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    // The server may hang up in the middle.
    let sent = tokio::spawn(async move {
        let _ = socket.send(message).await;
        socket
    });
    let (_sender, mut receiver) = server.accept().await.split();
    let received = soon(receiver.recv()).await;
    sent.abort();
    received
}

#[tokio::test]
async fn websocket_messages_that_are_no_frames_are_named() {
    let mut server = Server::start(Udp::Closed).await;
    let oversized = Message::Binary(vec![0; 10_000_000].into());
    let error = raw_websocket(&mut server, oversized).await.unwrap_err();
    assert!(matches!(error, LinkError::Frame(FrameError::TooLong(10_000_000))), "{error:?}");
    let error = raw_websocket(&mut server, Message::Text("hello".into())).await.unwrap_err();
    assert!(matches!(&error, LinkError::Lost(why) if why.contains("text")), "{error:?}");
    let error = raw_websocket(&mut server, Message::Binary(Bytes::from(noise(1000)))).await.unwrap_err();
    assert!(matches!(error, LinkError::Frame(_)), "{error:?}");
    let (pair, _) = server.pair(PreferCarrier::OnlyWebSocket).await;
    drop(pair);
}

#[tokio::test]
async fn pings_are_answered_and_not_taken_for_frames() {
    let mut server = Server::start(Udp::Closed).await;
    let url = format!("wss://{}/link", server.at);
    let stream = raw_tls(server.at).await;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    socket.send(Message::Binary(encode(&frame(4)).into())).await.unwrap();
    let (sender, mut receiver) = server.accept().await.split();
    assert_eq!(soon(receiver.recv()).await, Ok(frame(4)));
    sender.send(&frame(5)).await.unwrap();
    let answers = soon(async {
        let mut answers = Vec::new();
        while answers.len() < 2 {
            answers.push(futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap());
        }
        answers
    })
    .await;
    assert_eq!(answers, [Message::Pong(Bytes::from_static(b"x")), Message::Binary(encode(&frame(5)).into())]);
}

/// What the receiver of a link says of these bytes on a unix socket, followed by the end.
async fn check_bytes(bytes: &[u8]) -> LinkError {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(bytes).await.unwrap();
    drop(client);
    let Visitor::Link(server) = soon(link::unix::sort(server)).await.unwrap() else { panic!("no link") };
    let (_sender, mut receiver) = server.split();
    soon(receiver.recv()).await.unwrap_err()
}

#[tokio::test]
async fn broken_frames_are_named() {
    let long = [0, 4, 0, 1];
    assert_eq!(check_bytes(&long).await, LinkError::Frame(FrameError::TooLong(0x4_0001)));
    assert_eq!(check_bytes(&[0, 0, 0, 1, 7]).await, LinkError::Frame(FrameError::TooShort(1)));
    let cut = &encode(&frame(1))[..7];
    assert!(matches!(check_bytes(cut).await, LinkError::Lost(why) if why.contains("within a frame")));
    let mut unreadable = encode(&frame(1));
    *unreadable.last_mut().unwrap() = 0xff;
    assert!(matches!(
        check_bytes(&unreadable).await,
        LinkError::Frame(FrameError::Unreadable { kind: 14, .. })
    ));
}

#[tokio::test]
async fn one_unix_socket_serves_links_and_http_and_dead_sockets_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(link::unix::listen(&path, 0o600).await.unwrap());
    let listener = link::unix::listen(&path, 0o600).await.unwrap();
    let taken = link::unix::listen(&path, 0o600).await.map(drop).map_err(|e| e.kind());
    assert_eq!(taken, Err(std::io::ErrorKind::AddrInUse));
    // The refused second listener looked whether somebody answers, and hung up.
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let error = soon(link::unix::sort(stream)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET /host HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let Visitor::Http(stream, who) = soon(link::unix::sort(stream)).await.unwrap() else { panic!("a link") };
    assert_eq!(who.pid, Some(std::process::id().cast_signed()));
    soon(serve_plain(stream)).await;
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("h"), "{answer}");
    std::fs::write(dir.path().join("f"), "x").unwrap();
    assert!(link::unix::listen(&dir.path().join("f"), 0o600).await.is_err(), "a file stays");
    assert!(dir.path().join("f").exists());
}

#[tokio::test]
async fn half_open_connections_of_one_address_leave_room_for_others() {
    let limits = Limits { half_open_max: 4, ..Limits::default() };
    let mut server = Server::start(Udp::Quic(limits)).await;
    // They complete the handshake and never open a stream.
    let first = soon(raw_quic("127.0.0.2:0", server.at)).await.unwrap();
    let second = soon(raw_quic("127.0.0.2:0", server.at)).await.unwrap();
    let third = soon(raw_quic("127.0.0.2:0", server.at)).await.map(drop).unwrap_err();
    assert!(third.to_string().contains("refused"), "{third}");
    let (pair, _) = server.pair(PreferCarrier::OnlyQuic).await;
    drop(pair);
    // One goes, and another may come: its place is free as soon as the server hears of it.
    first.close(0u32.into(), b"");
    let fourth = soon(async {
        loop {
            match raw_quic("127.0.0.2:0", server.at).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    drop((second, fourth));
}

#[tokio::test]
async fn under_load_addresses_are_validated_first() {
    let limits = Limits { retry_above: 0, ..Limits::default() };
    let mut server = Server::start(Udp::Quic(limits)).await;
    let (pair, _) = server.pair(PreferCarrier::OnlyQuic).await;
    drop(pair);
}

#[tokio::test]
async fn another_protocol_over_quic_is_refused() {
    let certificate = certificate();
    let mut listener =
        Listener::bind("127.0.0.1:0".parse().unwrap(), &certificate, Limits::default()).unwrap();
    let at = listener.local_address().unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(raw_client(b"h3")).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, at, "localhost").unwrap();
    let refused = soon(async {
        tokio::select! {
            accepted = listener.accept() => panic!("{accepted:?}"),
            connected = connecting => connected.map(drop).unwrap_err(),
        }
    })
    .await;
    assert!(refused.to_string().contains("protocol"), "{refused}");
}
