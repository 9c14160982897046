//! SOCKS5 and HTTP proxies on one port, told apart by the first byte: what programs of a device without an interface
//! reach the mesh by. Names are the zone's, whatever the machine's resolver knows.

mod http;
mod socks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use model::{Code, Refusal};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::profiles::Profiles;
use crate::reach::{self, Duplex, Reached};

/// As many as the stack has connections; whoever comes later waits in the kernel's queue.
const CONNECTIONS_MAX: usize = stack::FLOWS_MAX;
/// A program says at once where it wants to go.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// A handshake of WireGuard may be lost and is repeated after five seconds; programs give up later than this.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// When the machine is short of descriptors, or the like, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of SOCKS5 (RFC 1928); no method of HTTP begins with it.
const SOCKS5: u8 = 5;

/// The proxies' port.
pub struct Listener {
    listener: TcpListener,
    outside: bool,
}

/// What a connection of a program needs.
#[derive(Clone)]
pub(crate) struct Way {
    profiles: Arc<Profiles>,
    outside: bool,
}

impl Listener {
    /// Listens. With `outside`, destinations outside the mesh are reached by the machine's own network.
    pub async fn bind(address: SocketAddr, outside: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("no proxy at {address}; choose another place with --proxy, or none"))?;
        tracing::info!(%address, "SOCKS5 and HTTP proxies reach the mesh");
        Ok(Self { listener, outside })
    }

    /// Serves until dropped.
    pub async fn serve(self, profiles: Arc<Profiles>) {
        let way = Way { profiles, outside: self.outside };
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, way.clone(), seat))),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the proxy could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, way: Way, seat: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let served = match timeout(REQUEST_PATIENCE, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == SOCKS5 => socks::serve(stream, &way).await,
        Ok(Ok(1)) => http::serve(stream, way, seat).await,
        Ok(Ok(_)) => return,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the proxy ended early");
    }
}

impl Way {
    /// Connects to where a program wants to go: the first profile that knows it, or outside if that is allowed.
    async fn open(&self, target: &str, port: u16) -> Result<Reached, Refusal> {
        let mut refused = None;
        for profile in self.profiles.all_running().await {
            match reach::device(&profile, target, port, CONNECT_PATIENCE).await {
                Err(refusal) if refusal.code == Code::NameUnknown => {
                    let zone = reach::zone(&profile).await?;
                    if is_inside(target, &zone) {
                        return Err(refusal);
                    }
                }
                Err(refusal) if is_absent(refusal.code) => refused = Some(refusal),
                done => return done,
            }
        }
        if self.outside {
            return outside(target, port).await;
        }
        Err(refused
            .unwrap_or_else(|| Refusal::new(Code::OutsideMesh, format!("{target} is no device of the mesh"))))
    }
}

/// The device takes no part now, so that nobody knows what is in its mesh.
const fn is_absent(code: Code) -> bool {
    matches!(
        code,
        Code::NotEnrolled | Code::DeviceDown | Code::DevicePending | Code::DeviceRevoked | Code::StateDamaged
    )
}

/// Whether what is not found would be the mesh's: a name without dots or of the zone, or an address of the block.
fn is_inside(target: &str, zone: &model::Zone) -> bool {
    match target.parse() {
        Ok(address) => zone.block.contains(address),
        Err(_) => {
            let name = target.trim_end_matches('.');
            let in_zone = name.parse::<model::Name>().is_ok_and(|name| name.is_within(&zone.origin));
            in_zone || !name.contains('.')
        }
    }
}

async fn outside(target: &str, port: u16) -> Result<Reached, Refusal> {
    let refused = |error: &io::Error| reach::refusal(target, port, error);
    let connect = async {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in lookup_host((target, port)).await? {
            match reach::machine(address).await {
                Ok(stream) => return Ok(Reached { address, stream }),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match timeout(CONNECT_PATIENCE, connect).await {
        Ok(result) => result.map_err(|error| refused(&error)),
        Err(_) => Err(refused(&io::ErrorKind::TimedOut.into())),
    }
}

/// Carries bytes until both sides have ended; each half ends by itself.
async fn carry(mut program: impl Duplex, mut reached: Reached) -> io::Result<()> {
    copy_bidirectional(&mut program, &mut reached.stream).await.map(drop)
}

#[cfg(test)]
mod tests {
    use model::{Block, TenantId, Zone};

    use super::*;

    #[test]
    fn what_would_be_the_meshs_is_told_from_the_rest() {
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), TenantId::from_bytes([7; 16]));
        let zone = Zone::new("home.internal".parse().expect("a name"), block.expect("a block"));
        for inside in ["beta", "beta.home.internal", "BETA.Home.Internal.", "100.64.3.4"] {
            assert!(is_inside(inside, &zone), "{inside}");
        }
        for outside in ["example.org", "home.internal.example", "192.0.2.1", "::1"] {
            assert!(!is_inside(outside, &zone), "{outside}");
        }
    }
}
