//! Servers over TLS (RFC 7858) and HTTPS (RFC 8484), with an authority of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hickory_proto::op::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::fake::with_address;

/// The name in the certificate; the address 127.0.0.1 is in it too.
pub(crate) const NAME: &str = "dns.example";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tls,
    Https,
}

/// Has one address for every name.
pub(crate) struct Safe {
    pub(crate) address: SocketAddr,
    /// Its authority [PEM].
    pub(crate) authority: Vec<u8>,
    pub(crate) shared: Arc<Shared>,
    hang_up: watch::Sender<u32>,
    _task: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) connections: Mutex<Vec<Option<String>>>,
    /// The queries as they came, and the paths where there is one.
    pub(crate) heard: Mutex<Vec<(Vec<u8>, String)>>,
}

impl Safe {
    pub(crate) async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let (config, authority) = certified(kind);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shared = Arc::<Shared>::default();
        let (hang_up, hung_up) = watch::channel(0);
        let mut task = JoinSet::new();
        let ours = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared, mut hung_up) = (acceptor.clone(), Arc::clone(&ours), hung_up.clone());
                hung_up.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        _ = serve(stream, acceptor, kind, shared) => {}
                        _ = hung_up.changed() => {}
                    }
                });
            }
        });
        Self { address, authority, shared, hang_up, _task: task }
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&self) {
        self.hang_up.send_modify(|times| *times += 1);
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, kind: Kind, shared: Arc<Shared>) -> Option<()> {
    let stream = acceptor.accept(stream).await.ok()?;
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    shared.connections.lock().expect("no test panics in it").push(name);
    match kind {
        Kind::Tls => serve_tls(stream, &shared).await,
        Kind::Https => serve_https(stream, &shared).await,
    }
}

async fn serve_tls(mut stream: TlsStream<TcpStream>, shared: &Shared) -> Option<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut query).await.ok()?;
        let answer = shared.answer(query, "");
        stream.write_u16(answer.len().try_into().expect("it fits")).await.ok()?;
        stream.write_all(&answer).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn serve_https(stream: TlsStream<TcpStream>, shared: &Arc<Shared>) -> Option<()> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    let mut requests = JoinSet::new();
    while let Some(request) = connection.accept().await {
        let (request, respond) = request.ok()?;
        requests.spawn(respond_to(request, respond, Arc::clone(shared)));
    }
    None
}

async fn respond_to(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    shared: Arc<Shared>,
) -> Option<()> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut body = request.into_body();
    let mut query = Vec::new();
    while let Some(data) = body.data().await {
        query.extend_from_slice(&data.ok()?);
    }
    let answer = shared.answer(query, &path);
    let head = http::Response::builder().header("content-type", "application/dns-message");
    let mut sending = respond.send_response(head.body(()).expect("it is sound"), false).ok()?;
    sending.send_data(Bytes::from(answer), true).ok()
}

impl Shared {
    fn answer(&self, bytes: Vec<u8>, path: &str) -> Vec<u8> {
        let query = Message::from_vec(&bytes).expect("forwarders send sound queries");
        if !query.queries[0].name().to_ascii().ends_with(".test.") {
            self.heard.lock().expect("no test panics in it").push((bytes, path.into()));
        }
        with_address(&query, 60, [192, 0, 2, 1]).to_vec().expect("it is sound")
    }
}

/// A certificate for [`NAME`] and 127.0.0.1, and who vouches for it.
fn certified(kind: Kind) -> (ServerConfig, Vec<u8>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec![NAME.into(), "127.0.0.1".into()];
    let certificate =
        CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they fit together");
    if kind == Kind::Https {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    (config, authority.as_ref().pem().into_bytes())
}
