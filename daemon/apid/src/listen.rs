//! The doors: HTTPS with WebSocket links, QUIC links, the unix socket, the probes. Bounds who may stand in each; decides
//! nothing about what they want.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use control::Origin;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use link::tls::{ALPN_HTTP, Certificate};
use link::unix::Visitor;
use model::limits::HANDSHAKE_TIME_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::desk::Desk;
use crate::http::Peer;
use crate::local::LocalUsers;
use crate::places::{Addresses, HTTPS_CONNECTIONS_MAX, Places};

/// Connections to the unix socket at once.
const UNIX_CONNECTIONS_MAX: usize = 256;
/// Connections of the probes at once.
const PROBE_CONNECTIONS_MAX: usize = 64;
/// A client that has not sent its request's head by then is cut.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// A request's head; a session, a few proxies' headers and a long path are below 8 kB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// A client that reads nothing of what it is sent for so long is cut (TCP_USER_TIMEOUT in tcp(7)).
const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);
const _: () =
    assert!(link::limits::outlasts_questions(UNREAD_TIME_MAX), "one lost packet must not end a link");
/// Connections of one user to the unix socket at once. Anybody on the machine may knock: the hub and whoever administers find
/// a place all the same, until four users have joined in.
const UNIX_CONNECTIONS_EACH: usize = UNIX_CONNECTIONS_MAX / 4;
/// After accept(2) failed for want of descriptors or memory; others free some meanwhile.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Serves people and links over HTTPS for as long as it is polled.
pub async fn https(
    listener: TcpListener,
    certificate: &Certificate,
    mut addresses: Addresses,
    router: Router,
) -> Result<(), link::tls::TlsError> {
    let acceptor = TlsAcceptor::from(certificate.server_config(ALPN_HTTP)?);
    let room = Arc::new(Semaphore::new(HTTPS_CONNECTIONS_MAX.into()));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let Some((stream, address)) = accepted(listener.accept().await).await else { continue };
        let address = link::listening::canonical(address);
        let Some(place) = addresses.enter(address.ip()) else { continue };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Err(error) = one_https(stream, address, &acceptor, router).await {
                tracing::debug!(%address, %error, "HTTPS connection ended");
            }
            drop((permit, place));
        });
    }
}

async fn one_https(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
) -> io::Result<()> {
    link::websocket::prepare(&stream)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIME_MAX))?;
    let stream = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await??;
    let channel = link::tls::channel(stream.get_ref().1).map_err(io::Error::other)?;
    one_http(stream, router, Some(Peer::Network { address, channel })).await
}

/// Serves the hub's links and local people on the unix socket for as long as it is polled.
pub async fn unix(listener: UnixListener, users: LocalUsers, desk: Desk, router: Router) {
    let users = Arc::new(users);
    let room = Arc::new(Semaphore::new(UNIX_CONNECTIONS_MAX));
    let places = Places::default();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
        let place = stream.peer_cred().ok().and_then(|who| places.enter(who.uid(), UNIX_CONNECTIONS_EACH));
        let Some(place) = place else {
            tracing::debug!("a user of this machine has too many connections");
            continue;
        };
        let (users, desk, router) = (users.clone(), desk.clone(), router.clone());
        tokio::spawn(async move {
            if let Err(error) = one_visitor(stream, &users, desk, router).await {
                tracing::debug!(%error, "unix connection ended");
            }
            drop((permit, place));
        });
    }
}

async fn one_visitor(stream: UnixStream, users: &LocalUsers, desk: Desk, router: Router) -> io::Result<()> {
    match link::unix::sort(stream).await? {
        Visitor::Link(connection) => match connection.credentials() {
            Some(who) if users.is_hub(who) => desk.serve(connection, Origin::Hub).await,
            who => {
                let uid = who.map(|who| who.uid);
                tracing::warn!(uid, "a user that is not the hub's wants to be the hub; see --hub-user");
            }
        },
        Visitor::Http(stream, who) => {
            let peer = Peer::Local { user: users.name(who), administrator: users.is_administrator(who) };
            one_http(stream, router, Some(peer)).await?;
        }
    }
    Ok(())
}

/// Serves health and metrics for as long as it is polled.
pub async fn probes(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(PROBE_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
        let router = router.clone();
        tokio::spawn(async move {
            if let Err(error) = one_http(stream, router, None).await {
                tracing::debug!(%error, "probe connection ended");
            }
            drop(permit);
        });
    }
}

/// Serves links over QUIC for as long as it is polled.
pub async fn quic(mut listener: link::quic::Listener, desk: Desk) {
    while let Some(connection) = listener.accept().await {
        if let Some(remote) = connection.remote() {
            tokio::spawn(desk.serve(connection, Origin::Network(remote.ip())));
        }
    }
}

/// Serves one peer, and tells the router who it is with each request. A layer of the router would say that too, and be a copy
/// of every route for each connection.
async fn one_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    peer: Option<Peer>,
) -> io::Result<()> {
    let routes = TowerToHyperService::new(router);
    let told = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        routes.call(request)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), told)
        .with_upgrades()
        .await
        .map_err(io::Error::other)
}

async fn accepted<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            None
        }
    }
}
