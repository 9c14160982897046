//! The way from a server's name to a link: every address, QUIC first, WebSocket where UDP does not pass. Dials once:
//! when to dial again is the engine's.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use model::EndpointHost;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::address::ServerAddress;
use crate::connection::{Carrier, Connection};
use crate::error::chain;
use crate::limits::{ADDRESS_DELAY, ADDRESSES_MAX, DIAL_TIME_MAX, QUIC_HEAD_START};
use crate::quic::{self, Vigil};
use crate::tls::{TlsError, Trust};
use crate::websocket;

/// Which carrier to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreferCarrier {
    /// QUIC, and WebSocket after [`QUIC_HEAD_START`] or when QUIC failed: whichever stands first.
    #[default]
    Fastest,
    /// QUIC or nothing.
    OnlyQuic,
    /// WebSocket or nothing.
    OnlyWebSocket,
}

/// Why one carrier did not come to stand, at the address that failed last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{carrier} to {remote}: {reason}")]
pub struct AttemptError {
    /// Which carrier.
    pub carrier: Carrier,
    /// Which address.
    pub remote: SocketAddr,
    /// Why, with its causes.
    pub reason: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The machine's resolver does not know the server.
    #[error("cannot resolve {server}")]
    Resolve {
        /// Whom.
        server: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// The authorities cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Behind a proxy there is no QUIC.
    #[error("a proxy carries no QUIC")]
    ProxiedQuic,
    /// Every address failed over every carrier.
    #[error("cannot reach {server} ({})", attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unreachable {
        /// Whom.
        server: ServerAddress,
        /// The last failure of each carrier.
        attempts: Vec<AttemptError>,
    },
    /// Nobody answered within [`DIAL_TIME_MAX`].
    #[error("no answer from {server} in {} s", DIAL_TIME_MAX.as_secs())]
    TimedOut {
        /// Whom.
        server: ServerAddress,
    },
}

/// Dials a server, see [`PreferCarrier`]. The attempts that lose are cancelled. Takes [`DIAL_TIME_MAX`] at most.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    server: &ServerAddress,
    trust: &Trust,
    prefer: PreferCarrier,
) -> Result<Connection, DialError> {
    dial_marked(server, trust, prefer, None).await
}

/// As [`dial`], over sockets that carry a mark (`SO_MARK`, socket(7)), which needs `CAP_NET_ADMIN`. The machine's resolver
/// asks for the name by its own.
///
/// # Errors
/// See [`DialError`].
pub async fn dial_marked(
    server: &ServerAddress,
    trust: &Trust,
    prefer: PreferCarrier,
    mark: Option<u32>,
) -> Result<Connection, DialError> {
    dial_and_watch(server, trust, prefer, mark, Vigil::SERVER).await
}

/// As [`dial_marked`], to a relay: over whichever carrier stands first, and asked more rarely whether it is there.
///
/// # Errors
/// See [`DialError`].
pub async fn dial_relay(
    relay: &ServerAddress,
    trust: &Trust,
    mark: Option<u32>,
) -> Result<Connection, DialError> {
    dial_and_watch(relay, trust, PreferCarrier::Fastest, mark, Vigil::RELAY).await
}

async fn dial_and_watch(
    server: &ServerAddress,
    trust: &Trust,
    prefer: PreferCarrier,
    mark: Option<u32>,
    vigil: Vigil,
) -> Result<Connection, DialError> {
    let dialing = async {
        let tls = trust.client_config().await?;
        let addresses =
            resolve(server).await.map_err(|source| DialError::Resolve { server: server.clone(), source })?;
        race(server, trust, prefer, mark, vigil, &tls, &addresses).await
    };
    timeout(DIAL_TIME_MAX, Box::pin(dialing))
        .await
        .unwrap_or_else(|_| Err(DialError::TimedOut { server: server.clone() }))
}

async fn race(
    server: &ServerAddress,
    trust: &Trust,
    prefer: PreferCarrier,
    mark: Option<u32>,
    vigil: Vigil,
    tls: &rustls::ClientConfig,
    addresses: &[SocketAddr],
) -> Result<Connection, DialError> {
    let quic = async {
        let attempt = |remote| quic::connect(server, remote, tls.clone(), trust, mark, vigil);
        staggered(addresses, attempt).await.map_err(|(remote, e)| failed(Carrier::Quic, remote, &e))
    };
    let websocket = async {
        let attempt = |remote| websocket::connect(server, remote, tls.clone(), trust, mark);
        staggered(addresses, attempt).await.map_err(|(remote, e)| failed(Carrier::WebSocket, remote, &e))
    };
    let proxied = matches!(trust, Trust::Authorities { proxied: true, .. });
    let outcome = match prefer {
        PreferCarrier::OnlyQuic if proxied => return Err(DialError::ProxiedQuic),
        PreferCarrier::OnlyQuic => quic.await.map_err(|e| vec![e]),
        PreferCarrier::Fastest if !proxied => quic_then_websocket(quic, websocket).await,
        PreferCarrier::Fastest | PreferCarrier::OnlyWebSocket => websocket.await.map_err(|e| vec![e]),
    };
    outcome.map_err(|attempts| DialError::Unreachable { server: server.clone(), attempts })
}

fn failed(carrier: Carrier, remote: SocketAddr, error: &(dyn std::error::Error + 'static)) -> AttemptError {
    AttemptError { carrier, remote, reason: chain(error) }
}

async fn quic_then_websocket<T, E>(
    quic: impl Future<Output = Result<T, E>>,
    websocket: impl Future<Output = Result<T, E>>,
) -> Result<T, Vec<E>> {
    let (quic, websocket) = (pin!(quic), pin!(websocket));
    let quic = match select(quic, pin!(sleep(QUIC_HEAD_START))).await {
        Either::Left((Ok(connection), _)) => return Ok(connection),
        Either::Left((Err(failed), _)) => return websocket.await.map_err(|e| vec![failed, e]),
        Either::Right(((), quic)) => quic,
    };
    match select(quic, websocket).await {
        Either::Left((Ok(connection), _)) | Either::Right((Ok(connection), _)) => Ok(connection),
        Either::Left((Err(failed), websocket)) => websocket.await.map_err(|e| vec![failed, e]),
        Either::Right((Err(failed), quic)) => quic.await.map_err(|e| vec![e, failed]),
    }
}

/// Tries one address after the other, the next when the one before failed or [`ADDRESS_DELAY`] has passed, and keeps
/// those under way (RFC 8305, section 5). The error is the last, with its address.
pub(crate) async fn staggered<T, E, F: Future<Output = Result<T, E>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, (SocketAddr, E)> {
    let mut last = None;
    let mut left = addresses.iter().copied();
    let mut next = left.next();
    let mut next_at = Instant::now();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((remote, outcome)) = under_way.next(), if !under_way.is_empty() => match outcome {
                Ok(done) => return Ok(done),
                Err(error) => {
                    last = Some((remote, error));
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if next.is_some() => {
                if let Some(remote) = next {
                    let running = attempt(remote);
                    under_way.push(async move { (remote, running.await) });
                }
                next = left.next();
                next_at = Instant::now() + ADDRESS_DELAY;
            }
            else => return Err(last.expect("resolve gives one address at least, and each was tried")),
        }
    }
}

/// Every address of the server, IPv6 first and then in turns (RFC 8305, section 4), [`ADDRESSES_MAX`] at most.
pub(crate) async fn resolve(server: &ServerAddress) -> io::Result<Vec<SocketAddr>> {
    let name = match &server.host {
        EndpointHost::Address(ip) => return Ok(vec![SocketAddr::new(*ip, server.port)]),
        EndpointHost::Name(name) => name.to_string(),
    };
    let found = tokio::net::lookup_host((name, server.port)).await?;
    let addresses = in_turns(found);
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut v6, mut v4): (Vec<SocketAddrV6>, Vec<SocketAddrV4>) = Default::default();
    for address in found {
        match address {
            SocketAddr::V6(a) if !v6.contains(&a) => v6.push(a),
            SocketAddr::V4(a) if !v4.contains(&a) => v4.push(a),
            SocketAddr::V6(_) | SocketAddr::V4(_) => {}
        }
    }
    let turns = v6.len().max(v4.len());
    (0..turns)
        .flat_map(|i| [v6.get(i).copied().map(SocketAddr::V6), v4.get(i).copied().map(SocketAddr::V4)])
        .flatten()
        .take(ADDRESSES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|t| t.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let check = |found: &[&str], expect: &[&str]| {
            assert_eq!(in_turns(addresses(found).into_iter()), addresses(expect));
        };
        check(&[], &[]);
        check(&["192.0.2.1:1"], &["192.0.2.1:1"]);
        check(
            &["192.0.2.1:1", "192.0.2.2:1", "192.0.2.1:1", "[2001:db8::1]:1"],
            &["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"],
        );
        let many: Vec<String> = (0..20).map(|i| format!("192.0.2.{i}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, &many[..ADDRESSES_MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_a_moment_and_a_refusing_one_not_at_all() {
        let all = addresses(&["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
        let began = Instant::now();
        let done = staggered(&all, |remote| {
            let (silent, refusing) = (all[0], all[1]);
            async move {
                match remote {
                    r if r == silent => std::future::pending().await,
                    r if r == refusing => Err("refused"),
                    r => Ok(r),
                }
            }
        })
        .await;
        assert_eq!((done, began.elapsed()), (Ok(all[2]), ADDRESS_DELAY));
        let failed = staggered(&all, |_| async { Err::<(), _>("refused") }).await;
        assert_eq!(failed, Err((all[2], "refused")));
    }

    #[tokio::test(start_paused = true)]
    async fn websocket_waits_for_its_turn_and_no_longer() {
        let after = |millis, outcome: Result<&'static str, &'static str>| async move {
            sleep(Duration::from_millis(millis)).await;
            outcome
        };
        let check = async |quic, websocket, expect, millis| {
            let began = Instant::now();
            assert_eq!(quic_then_websocket(quic, websocket).await, expect);
            assert_eq!(began.elapsed(), Duration::from_millis(millis));
        };
        check(after(200, Ok("quic")), after(0, Ok("ws")), Ok("quic"), 200).await;
        check(after(400, Ok("quic")), after(200, Ok("ws")), Ok("quic"), 400).await;
        check(after(9000, Ok("quic")), after(10, Ok("ws")), Ok("ws"), 310).await;
        check(after(5, Err("refused")), after(10, Ok("ws")), Ok("ws"), 15).await;
        check(after(350, Err("late")), after(100, Ok("ws")), Ok("ws"), 400).await;
        check(after(900, Ok("quic")), after(10, Err("404")), Ok("quic"), 900).await;
        check(after(900, Err("silent")), after(10, Err("404")), Err(vec!["silent", "404"]), 900).await;
    }
}
