//! What every carrier does alike.

use link::quic::Limits;
use link::{PreferCarrier, Trust};
use model::wire::Channel;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Pair, Server, Udp, certificate, every_pair, frame, longest, soon};

#[tokio::test]
async fn frames_pass_both_ways_at_once() {
    for (pair, connected) in every_pair().await {
        let Pair { client: (up, mut from_server), server: (down, mut from_client) } = pair;
        // More than queue and windows hold: each side must read while it writes.
        let send = |sender: link::Sender| async move {
            for i in 0..16 {
                sender.send(&longest(i)).await.unwrap();
                sender.send(&frame(u64::from(i))).await.unwrap();
            }
            sender
        };
        let receive = async |receiver: &mut link::Receiver| {
            for i in 0..16 {
                assert_eq!(receiver.recv().await, Ok(longest(i)));
                assert_eq!(receiver.recv().await, Ok(frame(u64::from(i))));
            }
        };
        let all = async {
            tokio::join!(send(up), send(down), receive(&mut from_server), receive(&mut from_client))
        };
        let (up, ..) = soon(all).await;
        soon(up.drained()).await.unwrap_or_else(|e| panic!("{connected:?}: {e}"));
    }
}

#[tokio::test]
async fn the_exporter_is_the_same_at_both_ends_and_another_for_each_link() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let mut seen = Vec::new();
    for prefer in [PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket] {
        for _ in 0..2 {
            let (_pair, connected) = server.pair(prefer).await;
            let (Channel::Exporter(client), Channel::Exporter(server)) = connected.channels else {
                panic!("{connected:?}")
            };
            assert_eq!(client, server, "{prefer:?}");
            assert!(!seen.contains(&client), "{prefer:?}");
            seen.push(client);
        }
    }
}

#[tokio::test]
async fn remote_is_the_server() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    for prefer in [PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket] {
        let (_pair, connected) = server.pair(prefer).await;
        assert_eq!(connected.remote, Some(server.at));
    }
}

#[tokio::test]
async fn a_websocket_needs_no_http_server_below() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().into();
    let tls = TlsAcceptor::from(certificate().server_config(link::tls::ALPN_HTTP).unwrap());
    let accepted = async {
        let (stream, remote) = tcp.accept().await.unwrap();
        let stream = tls.accept(stream).await.unwrap();
        let channel = link::tls::channel(stream.get_ref().1).unwrap();
        link::websocket::accept(stream, channel, remote).await.unwrap()
    };
    let dialed = link::dial(&address, &Trust::Anchor, PreferCarrier::OnlyWebSocket);
    let (server, client) = soon(Box::pin(async { tokio::join!(accepted, dialed) })).await;
    let client = client.unwrap();
    assert_eq!(server.channel(), client.channel());
    let ((up, _from_server), (_down, mut from_client)) = (client.split(), server.split());
    up.send(&longest(3)).await.unwrap();
    assert_eq!(soon(from_client.recv()).await, Ok(longest(3)));
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    for (mut pair, connected) in every_pair().await {
        let (up, from_client) = (pair.client.0, &mut pair.server.1);
        up.send(&longest(1)).await.unwrap();
        up.send(&frame(2)).await.unwrap();
        let mut seen = Vec::new();
        soon(async {
            while seen.len() < 2 {
                tokio::select! {
                    biased;
                    frame = from_client.recv() => seen.push(frame.unwrap()),
                    () = tokio::task::yield_now() => {}
                }
            }
        })
        .await;
        assert_eq!(seen, [longest(1), frame(2)], "{connected:?}");
    }
}
