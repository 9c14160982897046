//! A server as apid is one, and pairs of links to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use link::quic::{Limits, Listener};
use link::tls::{ALPN_HTTP, Certificate};
use link::{Carrier, Connection, PreferCarrier, Receiver, Sender, ServerAddress, Trust};
use model::limits::FRAME_BYTES_MAX;
use model::wire::{Channel, Frame, Heard, Part, encode};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Nothing here takes so long unless it hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("done in time")
}

pub(crate) fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap()
}

/// What is at the UDP port.
pub(crate) enum Udp {
    Quic(Limits),
    /// Packets are dropped.
    Silent,
    /// Packets are answered by ICMP.
    Closed,
}

pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) address: ServerAddress,
    pub(crate) links: mpsc::Receiver<Connection>,
    _silent: Option<UdpSocket>,
}

impl Server {
    pub(crate) async fn start(udp: Udp) -> Self {
        Self::with(udp, &certificate(), |channel| channel).await
    }

    /// `channel` says what the server's end of a WebSocket is bound to, given the exporter.
    pub(crate) async fn with(udp: Udp, certificate: &Certificate, channel: fn(Channel) -> Channel) -> Self {
        let (links, accepted) = mpsc::channel(16);
        let (tcp, silent) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = tcp.local_addr().unwrap();
            // The UDP port of the same number may be a client's of another test.
            match &udp {
                Udp::Quic(limits) => {
                    let Ok(listener) = Listener::bind(at, certificate, *limits) else { continue };
                    serve_quic(listener, links.clone());
                    break (tcp, None);
                }
                Udp::Silent => {
                    let Ok(silent) = UdpSocket::bind(at).await else { continue };
                    break (tcp, Some(silent));
                }
                Udp::Closed => break (tcp, None),
            }
        };
        let at = tcp.local_addr().unwrap();
        let tls = TlsAcceptor::from(certificate.server_config(ALPN_HTTP).unwrap());
        tokio::spawn(async move {
            while let Ok((stream, remote)) = tcp.accept().await {
                tokio::spawn(serve_https(stream, remote, tls.clone(), channel, links.clone()));
            }
        });
        Self { at, address: at.into(), links: accepted, _silent: silent }
    }

    pub(crate) async fn accept(&mut self) -> Connection {
        soon(self.links.recv()).await.expect("the server runs")
    }

    /// A link over this carrier, both ends. It has carried one frame.
    pub(crate) async fn pair(&mut self, prefer: PreferCarrier) -> (Pair, Connected) {
        let client = soon(link::dial(&self.address, &Trust::Anchor, prefer)).await.unwrap();
        self.pair_of(client).await
    }

    pub(crate) async fn pair_of(&mut self, client: Connection) -> (Pair, Connected) {
        let (channel, carrier, remote) = (client.channel(), client.carrier(), client.remote());
        let (client_sender, client_receiver) = client.split();
        client_sender.send(&frame(0)).await.unwrap();
        let server = self.accept().await;
        let connected = Connected {
            channels: (channel, server.channel()),
            carriers: (carrier, server.carrier()),
            remote,
        };
        let (server_sender, mut server_receiver) = server.split();
        assert_eq!(soon(server_receiver.recv()).await, Ok(frame(0)));
        let pair =
            Pair { client: (client_sender, client_receiver), server: (server_sender, server_receiver) };
        (pair, connected)
    }
}

pub(crate) struct Pair {
    pub(crate) client: (Sender, Receiver),
    pub(crate) server: (Sender, Receiver),
}

#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) channels: (Channel, Channel),
    pub(crate) carriers: (Carrier, Carrier),
    pub(crate) remote: Option<SocketAddr>,
}

fn serve_quic(mut listener: Listener, links: mpsc::Sender<Connection>) {
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            if links.send(connection).await.is_err() {
                return;
            }
        }
    });
}

async fn serve_https(
    stream: TcpStream,
    remote: SocketAddr,
    tls: TlsAcceptor,
    channel: fn(Channel) -> Channel,
    links: mpsc::Sender<Connection>,
) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let channel = channel(link::tls::channel(stream.get_ref().1).unwrap());
    let service = service_fn(|request| answer(request, channel, remote, links.clone()));
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // Clients of these tests break off, that is what they are for.
    drop(served);
}

async fn answer(
    mut request: Request<Incoming>,
    channel: Channel,
    remote: SocketAddr,
    links: mpsc::Sender<Connection>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    if request.uri().path() != link::websocket::PATH {
        let host = request.headers()[hyper::header::HOST].as_bytes().to_vec();
        return Ok(match request.uri().path() {
            "/host" => Response::new(Full::from(host)),
            "/long" => Response::new(Full::from(vec![7; 100_000])),
            "/never" => std::future::pending().await,
            _ => Response::builder().status(StatusCode::NOT_FOUND).body(Full::default()).unwrap(),
        });
    }
    Ok(match link::websocket::upgrade(&mut request, channel, remote) {
        Ok((response, connection)) => {
            tokio::spawn(async move {
                if let Ok(connection) = connection.await {
                    let _ = links.send(connection).await;
                }
            });
            response
        }
        Err(_) => Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default()).unwrap(),
    })
}

/// Serves only what [`answer`] serves, over any stream.
pub(crate) async fn serve_plain(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) {
    let (links, _none) = mpsc::channel(1);
    let remote = SocketAddr::from(([127, 0, 0, 1], 1));
    let service = service_fn(|request| answer(request, Channel::Local, remote, links.clone()));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap();
}

/// A pair of links over a unix socket.
pub(crate) async fn unix_pair() -> (Pair, Connected) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link.sock");
    let listener = link::unix::listen(&path, 0o600).await.unwrap();
    let client = link::unix::dial(&path).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let (channel, carrier) = (client.channel(), client.carrier());
    let own = client.credentials().unwrap();
    assert_eq!(own.pid, Some(std::process::id().cast_signed()));
    let client = client.split();
    client.0.send(&frame(0)).await.unwrap();
    let link::unix::Visitor::Link(server) = soon(link::unix::sort(stream)).await.unwrap() else {
        panic!("a link")
    };
    assert_eq!(server.credentials(), Some(own));
    let connected = Connected {
        channels: (channel, server.channel()),
        carriers: (carrier, server.carrier()),
        remote: None,
    };
    let mut server = server.split();
    assert_eq!(soon(server.1.recv()).await, Ok(frame(0)));
    (Pair { client, server }, connected)
}

/// A pair over each carrier there is.
pub(crate) async fn every_pair() -> Vec<(Pair, Connected)> {
    let mut server = Server::start(Udp::Quic(Limits::default())).await;
    let quic = server.pair(PreferCarrier::OnlyQuic).await;
    let websocket = server.pair(PreferCarrier::OnlyWebSocket).await;
    assert_eq!(quic.1.carriers, (Carrier::Quic, Carrier::Quic));
    assert_eq!(websocket.1.carriers, (Carrier::WebSocket, Carrier::WebSocket));
    vec![quic, websocket, unix_pair().await]
}

pub(crate) fn frame(sequence: u64) -> Frame {
    Heard { sequence, lease: None }.into()
}

/// The longest frame there is.
pub(crate) fn longest(fill: u8) -> Frame {
    let frame = Part { bytes: vec![fill; FRAME_BYTES_MAX - 9] }.into();
    assert_eq!(encode(&frame).len(), link::limits::FRAME_WIRE_BYTES_MAX);
    frame
}

/// A client of rustls that believes everybody.
pub(crate) async fn raw_tls(at: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(at).await.unwrap();
    let name = at.ip().into();
    tokio_rustls::TlsConnector::from(Arc::new(raw_client(ALPN_HTTP))).connect(name, tcp).await.unwrap()
}

pub(crate) fn raw_client(alpn: &[u8]) -> rustls::ClientConfig {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible))
            .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
