//! Which way a dial takes.

use std::time::Duration;

use link::quic::Limits;
use link::tls::Certificate;
use link::{Carrier, DialError, PreferCarrier, ServerAddress, Trust};
use model::wire::Channel;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::timeout;

use crate::support::{Server, Udp, longest, soon};

/// A dial that QUIC is given 300 ms of takes a third of a second, on a machine with much to do more; dial.rs holds it by a clock that waits.
const DIALLED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn quic_wins_where_udp_passes() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let (_pair, connected) = server.pair(PreferCarrier::Fastest).await;
    assert_eq!(connected.carriers, (Carrier::Quic, Carrier::Quic));
}

#[tokio::test]
async fn websocket_soon_where_udp_does_not_pass() {
    for udp in [Udp::Silent, Udp::Closed] {
        let mut server = Server::start(udp).await;
        let dial = link::dial(&server.address, &Trust::Anchor, PreferCarrier::Fastest);
        let client = timeout(DIALLED, dial).await.expect("soon").unwrap();
        let (_pair, connected) = server.pair_of(client).await;
        assert_eq!(connected.carriers, (Carrier::WebSocket, Carrier::WebSocket));
    }
}

#[tokio::test]
async fn websocket_where_quic_is_refused() {
    let mut server = Server::start(Udp::Quic(Limits { connections_max: 0, ..Limits::default() })).await;
    let (_pair, connected) = server.pair(PreferCarrier::Fastest).await;
    assert_eq!(connected.carriers.0, Carrier::WebSocket);
    let error = soon(link::dial(&server.address, &Trust::Anchor, PreferCarrier::OnlyQuic)).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    for udp in [Udp::Quic(Limits::default()), Udp::Silent] {
        let mut server = Server::start(udp).await;
        // ::1 comes first where the machine has it, and nobody is there.
        server.address = format!("https://localhost:{}", server.at.port()).parse().unwrap();
        let (_pair, connected) = server.pair(PreferCarrier::Fastest).await;
        assert_eq!(connected.remote, Some(server.at));
    }
}

#[tokio::test]
async fn nobody_there_is_said_for_each_carrier() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address: ServerAddress = free.into();
    let Err(error) = soon(link::dial(&address, &Trust::Anchor, PreferCarrier::Fastest)).await else {
        panic!("somebody is there")
    };
    let DialError::Unreachable { attempts, .. } = &error else { panic!("{error}") };
    assert_eq!(attempts.iter().map(|a| a.carrier).collect::<Vec<_>>(), [Carrier::Quic, Carrier::WebSocket]);
    assert!(attempts[1].reason.contains("refused"), "{error}");
    let unknown = "https://no-such-host.invalid".parse().unwrap();
    let error = soon(link::dial(&unknown, &Trust::Anchor, PreferCarrier::Fastest)).await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_serves_no_links_is_told() {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().into();
    let tls = tokio_rustls::TlsAcceptor::from(
        crate::support::certificate().server_config(link::tls::ALPN_HTTP).unwrap(),
    );
    tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = soon(link::dial(&address, &Trust::Anchor, PreferCarrier::OnlyWebSocket)).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

/// A certificate for these names and the PEM of the authority that signed it.
fn signed_for(names: &[&str]) -> (Certificate, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    (Certificate::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap(), ca_pem)
}

#[tokio::test]
async fn authorities_vouch_for_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let (certificate, ca_pem) = signed_for(&["127.0.0.1"]);
    std::fs::write(&ca_file, ca_pem).unwrap();
    let mut server = Server::with(Udp::Quic(Limits::default()), &certificate, |channel| channel).await;
    let trusting = |proxied| Trust::Authorities { extra_ca_file: Some(ca_file.clone()), proxied };
    for prefer in [PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket] {
        let client = soon(link::dial(&server.address, &trusting(false), prefer)).await.unwrap();
        let (_pair, connected) = server.pair_of(client).await;
        assert_eq!(connected.channels.0, connected.channels.1);
        let strict = Trust::Authorities { extra_ca_file: None, proxied: false };
        let error = soon(link::dial(&server.address, &strict, prefer)).await.unwrap_err().to_string();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
    let other_name = format!("https://localhost:{}", server.at.port()).parse().unwrap();
    let error = soon(link::dial(&other_name, &trusting(false), PreferCarrier::Fastest)).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let missing = Trust::Authorities { extra_ca_file: Some(dir.path().join("none.pem")), proxied: false };
    let error = soon(link::dial(&server.address, &missing, PreferCarrier::Fastest)).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(_)) && error.to_string().contains("none.pem"), "{error}");
}

#[tokio::test]
async fn behind_a_proxy_it_is_websocket_and_no_exporter() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let (certificate, ca_pem) = signed_for(&["127.0.0.1"]);
    std::fs::write(&ca_file, ca_pem).unwrap();
    let mut server = Server::with(Udp::Quic(Limits::default()), &certificate, |_| Channel::Proxied).await;
    let trust = Trust::Authorities { extra_ca_file: Some(ca_file), proxied: true };
    let client = soon(link::dial(&server.address, &trust, PreferCarrier::Fastest)).await.unwrap();
    assert_eq!((client.carrier(), client.channel()), (Carrier::WebSocket, Channel::Proxied));
    let (mut pair, connected) = server.pair_of(client).await;
    assert_eq!(connected.channels, (Channel::Proxied, Channel::Proxied));
    pair.server.0.send(&longest(1)).await.unwrap();
    assert_eq!(soon(pair.client.1.recv()).await, Ok(longest(1)));
    let error = soon(link::dial(&server.address, &trust, PreferCarrier::OnlyQuic)).await.unwrap_err();
    assert!(matches!(error, DialError::ProxiedQuic), "{error}");
}

#[tokio::test]
async fn a_cancelled_dial_leaves_no_link() {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let dial = link::dial(&server.address, &Trust::Anchor, PreferCarrier::Fastest);
    drop(timeout(Duration::ZERO, dial).await);
    let (_pair, _) = server.pair(PreferCarrier::Fastest).await;
    assert!(server.links.try_recv().is_err(), "one link only");
}
