//! A link over QUIC: one bidirectional stream that the client opens, and datagrams (RFC 9221). Knows no fallback: that is `dial`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::limits::HANDSHAKE_TIME_MAX;
use model::wire::Channel;
use model::wire::handshake::EXPORTER_LABEL;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::{HashedConnectionIdGenerator, Incoming, RandomConnectionIdGenerator};
use tokio::time::{Instant, sleep, timeout};

use crate::address::ServerAddress;
use crate::connection::{Carrier, Connection};
use crate::half::{ReadHalf, WriteHalf};
use crate::limits::{
    CONNECTIONS_MAX_DEFAULT, DATAGRAM_QUEUE_BYTES_MAX, HALF_OPEN_MAX_DEFAULT, QUIC_IDLE_MAX,
    QUIC_INCOMING_BYTES_MAX, QUIC_INCOMING_MAX, QUIC_KEEP_ALIVE, QUIC_LOOK_INTERVAL, QUIC_RELAY_KEEP_ALIVE,
    QUIC_RELAY_SILENCE_MAX, QUIC_RESET_INTERVAL, QUIC_SILENCE_MAX, QUIC_TIME_MAX, QUIC_WINDOW_BYTES,
    RETRY_ABOVE_DEFAULT,
};
use crate::listening;
use crate::route::Route;
use crate::served::{self, Held, Sessions};
use crate::tls::{ALPN_LINK, Certificate, TlsError, Trust};

/// Why a listener was not made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The UDP socket cannot be had.
    #[error("cannot listen on udp {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Why one QUIC connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum QuicFailed {
    /// No UDP socket.
    #[error("no UDP socket")]
    Socket(#[from] io::Error),
    /// What was asked for makes no sense to QUIC.
    #[error("cannot begin")]
    Begin(#[from] quinn::ConnectError),
    /// The handshake or the stream failed.
    #[error("handshake failed")]
    Handshake(#[from] quinn::ConnectionError),
    /// Not in time.
    #[error("no answer in time")]
    TimedOut,
}

/// How much a listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more are refused, and their clients come by WebSocket.
    pub connections_max: usize,
    /// Connections that have not opened their stream yet; more wait unlooked-at. One address may have half of them.
    pub half_open_max: usize,
    /// From so many half-open connections on, a peer must first prove its address, at the price of a round trip.
    pub retry_above: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX_DEFAULT,
            half_open_max: HALF_OPEN_MAX_DEFAULT,
            retry_above: RETRY_ABOVE_DEFAULT,
        }
    }
}

type Opening = BoxFuture<'static, (IpAddr, Result<Connection, QuicFailed>)>;

/// Accepts links over QUIC. Does its work inside [`Self::accept`], so that must be polled all the time.
pub struct Listener {
    endpoint: served::Endpoint,
    limits: Limits,
    opening: FuturesUnordered<Opening>,
    /// Half-open connections of each address; all of an IPv6 /64 are one.
    sources: BTreeMap<IpAddr, usize>,
}

impl Listener {
    /// Listens on a UDP address; on `[::]` for IPv4 too. Needs a tokio runtime.
    ///
    /// # Errors
    /// The certificate cannot be used, or the socket cannot be had.
    pub fn bind(address: SocketAddr, certificate: &Certificate, limits: Limits) -> Result<Self, BindError> {
        let socket = |source| BindError::Socket { address, source };
        let udp = listening::udp(address).map_err(socket)?;
        let (config, server) = (endpoint_config(certificate), server_config(certificate)?);
        let endpoint = served::Endpoint::new(config, server, udp).map_err(socket)?;
        Ok(Self { endpoint, limits, opening: FuturesUnordered::new(), sources: BTreeMap::new() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_address()
    }

    /// Connections at this moment, half-open ones included.
    pub fn connections(&self) -> usize {
        self.endpoint.connections()
    }

    /// Presents another certificate from now on; connections that stand keep theirs.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn set_certificate(&self, certificate: &Certificate) -> Result<(), TlsError> {
        self.endpoint.set_server_config(Some(server_config(certificate)?));
        Ok(())
    }

    /// The next link whose client opened its stream, that is, said something. Cancel-safe. `None` if
    /// the socket failed for good.
    pub async fn accept(&mut self) -> Option<Connection> {
        loop {
            let room = self.opening.len() < self.limits.half_open_max;
            tokio::select! {
                Some((source, opened)) = self.opening.next(), if !self.opening.is_empty() => {
                    self.forget(source);
                    match opened {
                        Ok(connection) => return Some(connection),
                        Err(error) => tracing::debug!(%source, %error, "quic connection not opened"),
                    }
                }
                incoming = self.endpoint.arrival(), if room => self.judge(incoming?),
            }
        }
    }

    fn judge(&mut self, incoming: Incoming) {
        let source = listening::network_of(incoming.remote_address().ip());
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if self.endpoint.connections() >= self.limits.connections_max
            || of_source >= self.limits.half_open_max.div_ceil(2)
        {
            tracing::debug!(%source, half_open = of_source, "quic connection refused");
            self.endpoint.refuse(incoming);
        } else if self.opening.len() >= self.limits.retry_above && !incoming.remote_address_validated() {
            // An address that is not validated may always be retried, says quinn.
            if let Err(error) = self.endpoint.retry(incoming) {
                tracing::debug!(%source, %error, "quic retry not sent");
            }
        } else {
            match self.endpoint.admit(incoming) {
                Ok(served) => {
                    *self.sources.entry(source).or_default() += 1;
                    self.opening.push(Box::pin(async move { (source, open(served).await) }));
                }
                Err(error) => tracing::debug!(%source, %error, "quic connection not begun"),
            }
        }
    }

    fn forget(&mut self, source: IpAddr) {
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Takes no new connection, and waits until those that stand are closed, which is the caller's to do; cuts the rest
    /// after `time_max`. Returns how many were cut.
    pub async fn drain(self, time_max: Duration) -> usize {
        self.endpoint.leave();
        drop(self.opening);
        if timeout(time_max, self.endpoint.idle()).await.is_ok() {
            return 0;
        }
        let cut = self.endpoint.connections();
        self.endpoint.close();
        cut
    }
}

async fn open(served: Held) -> Result<Connection, QuicFailed> {
    let opened = timeout(HANDSHAKE_TIME_MAX, served.opened()).await;
    let stream = opened.map_err(|_| QuicFailed::TimedOut)??;
    let channel = Channel::Exporter(served.exporter(EXPORTER_LABEL));
    let remote = listening::canonical(served.remote());
    let (read, write) = (ReadHalf::served(served.clone(), stream), WriteHalf::Served(served, stream));
    Ok(Connection::new(Carrier::Quic, channel, read, write).with_remote(remote))
}

/// How soon a device notices that the other end of its link is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vigil {
    /// It asks after so long without a packet...
    pub(crate) keep_alive: Duration,
    /// ... and gives up after so long.
    pub(crate) silence_max: Duration,
}

impl Vigil {
    /// Of a server.
    pub(crate) const SERVER: Self = Self { keep_alive: QUIC_KEEP_ALIVE, silence_max: QUIC_SILENCE_MAX };
    /// Of a relay.
    pub(crate) const RELAY: Self =
        Self { keep_alive: QUIC_RELAY_KEEP_ALIVE, silence_max: QUIC_RELAY_SILENCE_MAX };
}

/// Connects to one address of the server within [`QUIC_TIME_MAX`]. The server hears of the stream with the first frame on it.
pub(crate) async fn connect(
    server: &ServerAddress,
    remote: SocketAddr,
    mut tls: rustls::ClientConfig,
    trust: &Trust,
    mark: Option<u32>,
    vigil: Vigil,
) -> Result<Connection, QuicFailed> {
    tls.alpn_protocols = vec![ALPN_LINK.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).expect("the ring provider has the initial cipher of QUIC");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport();
    transport.keep_alive_interval(Some(vigil.keep_alive)).max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.transport_config(Arc::new(transport));
    // A network that is not there is known at once: the endpoint would go on trying, and warn of each packet.
    let route = Route::new(remote, None, mark);
    route.connect()?;
    let udp = route.socket()?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new(client_endpoint_config(), None, udp, runtime)?;
    let connecting = endpoint.connect_with(config, remote, &server.host_text())?;
    let connection = timeout(QUIC_TIME_MAX, connecting).await.map_err(|_| QuicFailed::TimedOut)??;
    let (send, receive) = connection.open_bi().await?;
    let channel = trust.channel(exporter(&connection));
    tokio::spawn(end_when_silent(connection.clone(), vigil.silence_max));
    let remote = listening::canonical(connection.remote_address());
    let (read, write) = (ReadHalf::quic(receive), WriteHalf::quic(send, connection));
    Ok(Connection::new(Carrier::Quic, channel, read, write).with_remote(remote).with_route(route))
}

/// Ends a connection on which nothing came for so long, though keep-alives asked for it.
async fn end_when_silent(connection: quinn::Connection, silence_max: Duration) {
    let received = || connection.stats().udp_rx.datagrams;
    let (mut seen, mut heard_at) = (received(), Instant::now());
    loop {
        tokio::select! {
            _ = connection.closed() => return,
            () = sleep(QUIC_LOOK_INTERVAL) => {}
        }
        let now = received();
        if now != seen {
            (seen, heard_at) = (now, Instant::now());
        } else if heard_at.elapsed() >= silence_max {
            return connection.close(VarInt::from_u32(0), b"silence");
        }
    }
}

fn exporter(connection: &quinn::Connection) -> [u8; 32] {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
        .expect("the handshake is complete and 32 bytes are not too many");
    exporter
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAM_QUEUE_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAM_QUEUE_BYTES_MAX)
        .stream_receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .send_window(QUIC_WINDOW_BYTES.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(QUIC_IDLE_MAX).expect("half a minute")))
        // Packets of 1200 bytes pass everywhere (RFC 9000, section 14). Longer ones would win nothing, since a full packet of
        // the tunnel is two of either, and be lost where a path begins to swallow them until that is noticed.
        .mtu_discovery_config(None);
    transport
}

fn server_config(certificate: &Certificate) -> Result<quinn::ServerConfig, TlsError> {
    let tls = certificate.server_config(ALPN_LINK)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(Sessions::new(tls, EXPORTER_LABEL)));
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(QUIC_INCOMING_MAX)
        .incoming_buffer_size(QUIC_INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(QUIC_INCOMING_BYTES_MAX * QUIC_INCOMING_MAX as u64);
    Ok(config)
}

/// Each connection of a device has a socket of its own, by which what comes is told: no id of it has to come with each packet (RFC 9000,
/// section 5.1), a twelfth of an idle link's bytes.
fn client_endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(0)));
    config
}

/// The keys of connection ids and stateless resets come from the certificate's: a server that was killed and came back
/// knows the ids of its former life and resets their links (RFC 9000, section 10.3), where they would else wait for
/// [`QUIC_IDLE_MAX`].
fn endpoint_config(certificate: &Certificate) -> EndpointConfig {
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &certificate.derive(b"warren quic reset 1"));
    let [a, b, c, d, e, f, g, h, ..] = certificate.derive(b"warren quic connection id 1");
    let ids = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)))
        .supported_versions(vec![served::VERSION])
        .min_reset_interval(QUIC_RESET_INTERVAL);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        Listener::bind("127.0.0.1:0".parse().unwrap(), &certificate, Limits::default()).unwrap()
    }

    /// Carries datagrams between who comes first and a server, and tells of each: whether it is the server's, and its bytes.
    async fn ferry(
        between: tokio::net::UdpSocket,
        server: SocketAddr,
        told: tokio::sync::mpsc::UnboundedSender<(bool, Vec<u8>)>,
    ) {
        let (mut client, mut buffer) = (None, [0; 2000]);
        loop {
            let (length, from) = between.recv_from(&mut buffer).await.unwrap();
            let to = if from == server { client.unwrap() } else { server };
            client = client.or(Some(from));
            between.send_to(&buffer[..length], to).await.unwrap();
            let _ = told.send((from == server, buffer[..length].to_vec()));
        }
    }

    #[tokio::test]
    async fn a_link_that_is_kept_costs_few_bytes_and_ends_when_nothing_comes() {
        let mut listener = listener();
        let server = listener.local_address().unwrap();
        let between = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = between.local_addr().unwrap();
        let (told, mut carried) = tokio::sync::mpsc::unbounded_channel();
        let ferry = tokio::spawn(ferry(between, server, told));
        let vigil = Vigil { keep_alive: Duration::from_millis(50), silence_max: Duration::from_millis(400) };
        let tls = Trust::Anchor.client_config().await.unwrap();
        let accepting = tokio::spawn(async move { (listener.accept().await, listener.accept().await) });
        let client = connect(&at.into(), at, tls, &Trust::Anchor, None, vigil).await.unwrap();
        let (up, mut down) = client.split();
        up.send(&model::wire::Heard { sequence: 1, lease: None }.into()).await.unwrap();
        // The handshake is followed by questions and answers.
        let is_short =
            |bytes: &[u8]| bytes.first().is_some_and(|first| first & 0x80 == 0) && bytes.len() < 50;
        let mut kept: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        while kept.iter().any(|lengths| lengths.len() < 20) {
            let (is_servers, bytes) = timeout(QUIC_TIME_MAX, carried.recv()).await.unwrap().unwrap();
            kept[usize::from(is_servers)].extend(is_short(&bytes).then_some(bytes.len()));
        }
        let shortest = kept.map(|lengths| lengths.into_iter().min().unwrap());
        assert!(shortest[0] < 40 && shortest[1] < 29, "{shortest:?} bytes");
        ferry.abort();
        let began = Instant::now();
        let ended = timeout(QUIC_LOOK_INTERVAL * 3, down.recv()).await.expect("it is noticed");
        assert!(ended.is_err() && began.elapsed() < QUIC_SILENCE_MAX, "{ended:?}");
        accepting.abort();
    }

    #[tokio::test]
    async fn a_connection_whose_worker_breaks_off_is_lost_and_no_other() {
        let listener = listener();
        let endpoint = &listener.endpoint;
        let at = listener.local_address().unwrap();
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let trust = Trust::Anchor;
            let server = at.into();
            let tls = trust.client_config().await.unwrap();
            let arriving = async {
                endpoint.admit(endpoint.arrival().await.expect("it stands")).expect("it begins well")
            };
            let (client, served) =
                tokio::join!(Box::pin(connect(&server, at, tls, &trust, None, Vigil::SERVER)), arriving);
            pairs.push((client.unwrap(), served));
        }
        let (kept, broken) = (pairs.remove(0), pairs.remove(0));
        endpoint.break_off(&broken.1);
        let error = broken.1.opened().await.unwrap_err();
        assert!(error.to_string().contains("mistake"), "{error}");
        assert_eq!(endpoint.connections(), 1);
        // What still comes for it is answered by a reset, and goes to nobody else.
        drop(broken);
        let (up, _receiver) = kept.0.split();
        up.send(&model::wire::Heard { sequence: 1, lease: None }.into()).await.unwrap();
        let stream = kept.1.opened().await.unwrap();
        assert!(kept.1.read(stream, 100).await.unwrap().is_some());
    }
}
