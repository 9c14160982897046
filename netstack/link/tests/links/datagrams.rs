//! Datagrams beside frames: over both carriers that have them, bounded, and never in the way of a frame.

use bytes::Bytes;
use link::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_QUEUE_BYTES_MAX};
use link::quic::Limits;
use link::{Carrier, Datagrams, PreferCarrier, Trust};
use model::relay::KIND;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, Udp, frame, longest, raw_tls, soon, unix_pair};

const CARRIERS: [PreferCarrier; 2] = [PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket];

fn datagram(length: usize, number: u8) -> Bytes {
    let mut bytes = vec![KIND; length];
    bytes[1] = number;
    bytes.into()
}

struct Ends {
    client: Datagrams,
    server: Datagrams,
    up: link::Sender,
    down: link::Sender,
    to_client: link::Receiver,
    to_server: link::Receiver,
}

async fn ends(server: &mut Server, prefer: PreferCarrier) -> Ends {
    let dialed = soon(link::dial(&server.address, &Trust::Anchor, prefer)).await.unwrap();
    let client = dialed.datagrams().unwrap();
    let (up, to_client) = dialed.split();
    up.send(&frame(0)).await.unwrap();
    let accepted = server.accept().await;
    let at_server = accepted.datagrams().unwrap();
    let (down, mut to_server) = accepted.split();
    assert_eq!(soon(to_server.recv()).await, Ok(frame(0)));
    Ends { client, server: at_server, up, down, to_client, to_server }
}

/// Reads frames all the time, as programs do, and gives the link's ends back for as long as they are needed.
fn read_frames(mut receiver: link::Receiver) -> tokio::task::JoinHandle<Vec<model::wire::Frame>> {
    tokio::spawn(async move {
        let mut frames = Vec::new();
        while let Ok(frame) = receiver.recv().await {
            frames.push(frame);
        }
        frames
    })
}

#[tokio::test]
async fn datagrams_pass_both_ways_beside_frames() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    for prefer in CARRIERS {
        let Ends { client, server, up, down, to_client, to_server } = ends(&mut server, prefer).await;
        let (at_client, at_server) = (read_frames(to_client), read_frames(to_server));
        for number in 0..50 {
            up.send(&frame(u64::from(number))).await.unwrap();
            let length = if number % 2 == 0 { 2 } else { client.bytes_max().min(server.bytes_max()) };
            assert!(length == 2 || length >= 1000, "{prefer:?}: {length}");
            assert!(client.send(datagram(length, number)), "{prefer:?}");
            assert_eq!(soon(server.recv()).await, Some(datagram(length, number)), "{prefer:?}");
            assert!(server.send(datagram(length, number)), "{prefer:?}");
            assert_eq!(soon(client.recv()).await, Some(datagram(length, number)), "{prefer:?}");
        }
        assert!(!client.send(datagram(DATAGRAM_BYTES_MAX + 1, 0)), "{prefer:?}: too long");
        drop(down);
        up.close(None).await.unwrap();
        assert_eq!(soon(at_server).await.unwrap().len(), 50, "{prefer:?}");
        soon(at_client).await.unwrap();
        assert_eq!(soon(client.recv()).await, None, "{prefer:?}: the end is told");
        assert_eq!(soon(server.recv()).await, None, "{prefer:?}: the end is told");
        assert!(!client.send(datagram(2, 0)), "{prefer:?}");
    }
}

#[tokio::test]
async fn a_flood_of_datagrams_keeps_no_frame_back() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    for prefer in CARRIERS {
        let Ends { client, server, up, down: _down, to_client: _to_client, mut to_server } =
            ends(&mut server, prefer).await;
        let length = client.bytes_max();
        // Several times what waits at most, again and again: some is lost, and the queue is never empty.
        let flood = tokio::spawn(async move {
            let mut lost = 0_u64;
            loop {
                for _ in 0..DATAGRAM_QUEUE_BYTES_MAX / length {
                    lost += u64::from(!client.send(datagram(length, 0)));
                }
                tokio::task::yield_now().await;
                if client.send(datagram(2, 1)) && lost > 1000 {
                    return lost;
                }
            }
        });
        let drain = tokio::spawn(async move {
            let mut came = 0_u64;
            while server.recv().await.is_some() {
                came += 1;
            }
            came
        });
        for number in 1..=8 {
            up.send(&longest(number)).await.unwrap();
            assert_eq!(soon(to_server.recv()).await, Ok(longest(number)), "{prefer:?}");
        }
        assert!(soon(flood).await.unwrap() > 1000, "{prefer:?}");
        up.send(&frame(9)).await.unwrap();
        assert_eq!(soon(to_server.recv()).await, Ok(frame(9)));
        drop((up, to_server, _down, _to_client));
        assert!(soon(drain).await.unwrap() > 0, "{prefer:?}");
    }
}

#[tokio::test]
async fn a_unix_socket_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = link::unix::listen(&path, 0o600).await.unwrap();
    let client = link::unix::dial(&path).await.unwrap();
    assert!(client.datagrams().is_none());
    drop(listener);
    let (_pair, connected) = unix_pair().await;
    assert_eq!(connected.carriers.0, Carrier::Unix);
}

#[tokio::test]
async fn a_peer_of_before_gets_frames_and_no_datagram() {
    let mut server = Server::start(Udp::Closed).await;
    let url = format!("wss://{}/link", server.at);
    let (mut socket, response) =
        tokio_tungstenite::client_async(url, raw_tls(server.at).await).await.unwrap();
    assert!(response.headers().get("warren-datagrams").is_none());
    let accepted = server.accept().await;
    assert!(accepted.datagrams().is_none());
    let (down, _receiver) = accepted.split();
    down.send(&frame(1)).await.unwrap();
    let got = soon(futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap();
    assert_eq!(got, Message::Binary(model::wire::encode(&frame(1)).into()));
}
