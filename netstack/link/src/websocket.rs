//! A link over WebSocket: one frame or one datagram is one binary message. Trusts the caller for what lies below (TLS, proxies).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{Sink, Stream, StreamExt as _};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use model::limits::HANDSHAKE_TIME_MAX;
use model::wire::Channel;
use rustls_pki_types::ServerName;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{self, create_response_with_body};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use crate::address::ServerAddress;
use crate::connection::{Carrier, Connection};
use crate::datagrams::{Feed, HEADER, HEADER_VALUE, Queues};
use crate::half::{ReadHalf, WriteHalf};
use crate::limits::{
    FRAME_WIRE_BYTES_MAX, READ_BYTES_MAX, TCP_ASK_INTERVAL, TCP_QUIET_MAX, TCP_SILENCE_MAX,
    TCP_UNSENT_BYTES_MAX,
};
use crate::route::Route;
use crate::tls::{ALPN_HTTP, Trust, exporter};

/// Where a server serves links.
pub const PATH: &str = "/link";

/// Why a WebSocket was not opened.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketFailed {
    /// TCP or TLS failed.
    #[error("cannot connect")]
    Connect(#[from] io::Error),
    /// The other side did not speak WebSocket.
    #[error("no WebSocket")]
    Handshake(#[from] Box<WebSocketError>),
    /// The exporter is not there.
    #[error("TLS gives no exporter")]
    Exporter(#[from] rustls::Error),
}

/// The request asks for no WebSocket, or for one of a version that nobody speaks (RFC 6455, section 4.2.1). Answer it
/// with 400.
#[derive(Debug, thiserror::Error)]
#[error("the request asks for no WebSocket")]
pub struct NotWebSocket(#[from] Box<WebSocketError>);

/// Limits of every WebSocket here. A message is a frame at most; a pong and a frame may wait to be written.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES_MAX)
        .write_buffer_size(READ_BYTES_MAX)
        .max_write_buffer_size(2 * (READ_BYTES_MAX + FRAME_WIRE_BYTES_MAX))
        .max_message_size(Some(FRAME_WIRE_BYTES_MAX))
        .max_frame_size(Some(FRAME_WIRE_BYTES_MAX))
}

/// Takes an upgrade request to [`PATH`], with any body type, from axum or hyper. Send the response, and await the
/// second part in a task of its own: it is ready when the response was written, or failed
/// [`HANDSHAKE_TIME_MAX`] later. The connection must be served with upgrades.
///
/// `channel` is [`crate::tls::channel`] of the TLS connection below, or [`Channel::Proxied`] where TLS ended at a
/// proxy that the configuration names; `remote` is the peer as the server sees it.
///
/// # Errors
/// The request asks for no WebSocket.
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
    channel: Channel,
    remote: SocketAddr,
) -> Result<(Response<R>, impl Future<Output = io::Result<Connection>> + Send + use<B, R>), NotWebSocket> {
    let mut response = create_response_with_body(request, R::default).map_err(Box::new)?;
    let datagrams = agree(request.headers(), response.headers_mut());
    let upgraded = hyper::upgrade::on(request);
    let connection = async move {
        let upgraded = timeout(HANDSHAKE_TIME_MAX, upgraded).await?.map_err(io::Error::other)?;
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config())).await;
        Ok(connection(socket, channel, remote, datagrams))
    };
    Ok((response, connection))
}

/// Takes the server's half of a WebSocket straight from a TLS or TCP stream, where no HTTP server is in between.
/// `channel` and `remote` as in [`upgrade`]. Gives up after [`HANDSHAKE_TIME_MAX`].
///
/// # Errors
/// The peer does not speak WebSocket, or not in time.
pub async fn accept<S>(stream: S, channel: Channel, remote: SocketAddr) -> Result<Connection, WebSocketFailed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut datagrams = Known::Not;
    #[expect(clippy::result_large_err, reason = "tungstenite's own type")]
    let answer = |request: &server::Request, mut response: server::Response| {
        datagrams = agree(request.headers(), response.headers_mut());
        Ok(response)
    };
    let handshake = tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config()));
    let socket = timeout(HANDSHAKE_TIME_MAX, handshake).await.map_err(io::Error::from)?.map_err(Box::new)?;
    Ok(connection(socket, channel, remote, datagrams))
}

/// Who knows datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Not this end, as the other did not ask for them.
    Not,
    /// This end alone; what is taken for one is dropped. A proxy may have kept the answer from us.
    Here,
    /// Both ends.
    Both,
}

/// A server's answer to whether it knows datagrams.
fn agree(request: &HeaderMap, response: &mut HeaderMap) -> Known {
    if !asks_for_datagrams(request) {
        return Known::Not;
    }
    response.insert(HEADER, HeaderValue::from_static(HEADER_VALUE));
    Known::Both
}

fn asks_for_datagrams(headers: &HeaderMap) -> bool {
    headers.get(HEADER).is_some_and(|value| value == HEADER_VALUE)
}

fn connection<S>(socket: S, channel: Channel, remote: SocketAddr, datagrams: Known) -> Connection
where
    S: Stream<Item = Result<Message, WebSocketError>>
        + Sink<Message, Error = WebSocketError>
        + Send
        + 'static,
{
    let (sink, stream) = socket.split();
    let queues = Arc::new(Queues::default());
    let feed = |is_known: bool| is_known.then(|| Feed(queues.clone()));
    let read = ReadHalf::websocket(stream, feed(datagrams != Known::Not));
    let write = WriteHalf::websocket(sink, feed(datagrams == Known::Both));
    Connection::new(Carrier::WebSocket, channel, read, write).with_remote(remote)
}

/// Connects to one address of the server.
pub(crate) async fn connect(
    server: &ServerAddress,
    remote: SocketAddr,
    tls: rustls::ClientConfig,
    trust: &Trust,
    mark: Option<u32>,
) -> Result<Connection, WebSocketFailed> {
    let stream = connect_tls(server, remote, tls, mark).await?;
    let own = stream.get_ref().0.local_addr()?.ip();
    let channel = trust.channel(exporter(stream.get_ref().1)?);
    let url = format!("wss://{}{PATH}", server.authority());
    let mut request = url.into_client_request().map_err(Box::new)?;
    request.headers_mut().insert(HEADER, HeaderValue::from_static(HEADER_VALUE));
    let (socket, response) = tokio_tungstenite::client_async_with_config(request, stream, Some(config()))
        .await
        .map_err(Box::new)?;
    let datagrams = if asks_for_datagrams(response.headers()) { Known::Both } else { Known::Here };
    let route = Route::new(remote, Some(own), mark);
    Ok(connection(socket, channel, remote, datagrams).with_route(route))
}

/// Makes a TCP connection fit for links: what is written goes at once, little waits in the kernel where no frame can overtake it, and a
/// peer that is gone without a word is noticed ([`TCP_SILENCE_MAX`]; tcp(7)). A server calls it for what it accepts.
///
/// # Errors
/// What setsockopt(2) says.
pub fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = socket2::SockRef::from(tcp);
    socket.set_tcp_notsent_lowat(TCP_UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(TCP_SILENCE_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_QUIET_MAX).with_interval(TCP_ASK_INTERVAL))
}

/// TLS with HTTP/1.1 to one address of the server.
pub(crate) async fn connect_tls(
    server: &ServerAddress,
    remote: SocketAddr,
    mut tls: rustls::ClientConfig,
    mark: Option<u32>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    tls.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    let name = ServerName::try_from(server.host_text()).map_err(io::Error::other)?;
    let tcp = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(mark) = mark {
        socket2::SockRef::from(&tcp).set_mark(mark)?;
    }
    let tcp = tcp.connect(remote).await?;
    prepare(&tcp)?;
    TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// In the network namespace of this thread.
    fn run(program: &str, arguments: &str) -> String {
        let output = Command::new(program).args(arguments.split_whitespace()).output();
        let output = output.expect("the program is there");
        assert!(output.status.success(), "{program} {arguments}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Two ends of a connection on which a client's packets are dropped from now on, as a rule says; the client's is prepared.
    async fn losing(what: &str) -> [TcpStream; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (client, (server, _)) = (client.expect("connected"), server.expect("accepted"));
        prepare(&client).expect("options are set");
        run("nft", &format!("add rule ip lost come tcp dport {} {what} counter drop", at.port()));
        [client, server]
    }

    async fn questions() {
        run("ip", "link set lo up");
        run("nft", "add table ip lost");
        run("nft", "add chain ip lost come { type filter hook input priority 0 ; }");
        // A packet without data has 52 bytes: of two the second is above the bound.
        let [mut client, mut server] = losing("quota until 60 bytes").await;
        let [mut cut, _held] = losing("").await;
        let longer = TCP_QUIET_MAX + 6 * TCP_ASK_INTERVAL + Duration::from_secs(1);
        let alive = async { timeout(longer, client.read_u8()).await.is_err() };
        let gone = async { timeout(longer, cut.read_u8()).await.is_ok_and(|read| read.is_err()) };
        let (alive, gone) = tokio::join!(alive, gone);
        let lost = run("nft", "list table ip lost");
        assert!(lost.contains("packets 1 "), "one was lost of the first connection: {lost}");
        assert!(alive, "one packet that is lost ends no link");
        assert!(gone, "nobody has answered for long");
        client.write_u8(7).await.expect("it is open");
        assert_eq!(server.read_u8().await.expect("it is open"), 7);
    }

    #[test]
    fn one_lost_question_ends_no_link_and_silence_does() {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(questions());
        };
        thread::spawn(run).join().expect("it holds");
    }
}
