//! A port of the router in front of this machine, opened for WireGuard's: by PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP IGD,
//! whichever the router speaks. Kept while it is wanted, then left to expire; knows no peer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, natpmp};
use engine::paths::is_private;
use igd_next::aio::tokio::search_gateway;
use igd_next::{PortMappingProtocol, SearchOptions};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::chain::chain;

/// So long a port stays open without us: a program that was killed leaves it behind.
const LEASE_SECONDS: u32 = 3600;
/// A router may give less, and is not asked more often all the same.
const RENEWAL_MIN: Duration = Duration::from_secs(60);
/// A router that speaks none of these may be replaced, or be configured.
const RETRY: Duration = Duration::from_secs(20 * 60);
/// A router on the same link answers within this time, or does not speak UPnP.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(3);
/// For all of it, whatever a router does.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(20);
/// What a router's list of ports shows.
const DESCRIPTION: &str = "Warren";

/// What is to be opened where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The router.
    pub(crate) router: Ipv4Addr,
    /// Our address towards it.
    pub(crate) own: Ipv4Addr,
    /// Of WireGuard's socket.
    pub(crate) port: NonZeroU16,
}

impl Wish {
    /// `None` where no NAT is to be expected: our own address is one of the internet's.
    pub(crate) fn new(router: Option<IpAddr>, own: Option<IpAddr>, port: u16) -> Option<Self> {
        let (Some(IpAddr::V4(router)), Some(IpAddr::V4(own))) = (router, own) else { return None };
        let wish = Self { router, own, port: NonZeroU16::new(port)? };
        is_private(own).then_some(wish)
    }
}

/// Keeps the port open, and tells where that is. Until nobody listens.
pub(crate) async fn keep(wish: Wish, told: watch::Sender<Option<SocketAddr>>) {
    let mut before = None;
    loop {
        let opened = timeout(ATTEMPT_TIME_MAX, open(&wish, before)).await.ok().flatten();
        before = opened.map(|opened| opened.at.port());
        told.send_if_modified(|at| {
            let now = opened.map(|opened| opened.at);
            std::mem::replace(at, now) != now
        });
        let next = opened.map_or(RETRY, |opened| (opened.lease / 2).max(RENEWAL_MIN));
        tokio::select! {
            () = sleep(next) => {}
            () = told.closed() => return,
        }
    }
}

/// A port that is open.
#[derive(Debug, Clone, Copy)]
struct Opened {
    at: SocketAddr,
    lease: Duration,
}

async fn open(wish: &Wish, before: Option<u16>) -> Option<Opened> {
    let by_pcp = by_pcp(wish, before).await;
    match by_pcp {
        Ok(opened) => return Some(opened),
        Err(error) => tracing::debug!(router = %wish.router, error, "no port by PCP or NAT-PMP"),
    }
    match by_upnp(wish).await {
        Ok(opened) => Some(opened),
        Err(error) => {
            tracing::debug!(router = %wish.router, error, "no port by UPnP");
            None
        }
    }
}

async fn by_pcp(wish: &Wish, before: Option<u16>) -> Result<Opened, String> {
    let options = PortMappingOptions {
        external_port: before.and_then(NonZeroU16::new).or(Some(wish.port)),
        lifetime_seconds: Some(LEASE_SECONDS),
        timeout_config: None,
    };
    let (router, own) = (wish.router.into(), wish.own.into());
    let mapping = PortMapping::new(router, own, InternetProtocol::Udp, wish.port, options).await;
    let mapping = mapping.map_err(|error| chain(&error))?;
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => {
            natpmp::external_address(router, None).await.map_err(|error| chain(&error))?.into()
        }
    };
    let lease = Duration::from_secs(mapping.lifetime().into());
    Ok(Opened { at: SocketAddr::new(ip, mapping.external_port().get()), lease })
}

async fn by_upnp(wish: &Wish) -> Result<Opened, String> {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::from((wish.own, 0));
    options.timeout = Some(SEARCH_TIME_MAX);
    let router = search_gateway(options).await.map_err(|error| chain(&error))?;
    // Somebody else on the link is not the NAT.
    if router.addr.ip() != IpAddr::V4(wish.router) {
        return Err(format!("{} says that it is the router", router.addr.ip()));
    }
    let own = SocketAddr::from((wish.own, wish.port.get()));
    let opened = router.get_any_address(PortMappingProtocol::UDP, own, LEASE_SECONDS, DESCRIPTION).await;
    let at = opened.map_err(|error| chain(&error))?;
    Ok(Opened { at, lease: Duration::from_secs(LEASE_SECONDS.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_wished_for_where_a_nat_is_to_be_expected() {
        let check = |own: &str, port, expect| {
            let (router, own) = ("192.168.1.1".parse().ok(), own.parse().ok());
            assert_eq!(Wish::new(router, own, port).is_some(), expect, "{own:?} {port}");
        };
        check("192.168.1.2", 51820, true);
        check("100.64.0.2", 51820, true);
        check("203.0.113.2", 51820, false);
        check("fd00::2", 51820, false);
        check("192.168.1.2", 0, false);
        check("", 51820, false);
    }
}
