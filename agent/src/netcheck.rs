//! `warren netcheck` and `warren doctor paths`: what the NAT before this machine does, and what stands in the way of direct
//! paths. Asks the mesh's STUN servers from a socket of its own; changes nothing.
//!
//! How a NAT maps is learnt from two questions of one socket to two ports of the server (RFC 5780, section 4.3, as far as
//! one address goes), and what it lets in by asking for an answer from the port that was not asked (section 4.4).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use engine::paths::{Way, WhyNotDirect, is_beyond};
use host::drive::Report;
use model::Refusal;
use model::api::SCHEMA_VERSION;
use model::api::local::{Finding, Netcheck, Reachable, RelayDistance};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::doctor::inactive;
use crate::profile::Profile;
use crate::{returns, view};

/// A question is asked so often, since one may be lost.
const ATTEMPTS: usize = 3;
/// Longer than a path around the earth takes.
const ANSWER_TIME: Duration = Duration::from_millis(600);

/// What is known of where this device may be reached.
///
/// # Errors
/// The device is not active, or its node has stopped.
pub async fn run(profile: &Profile) -> Result<Netcheck, Refusal> {
    let report = profile.report().await?;
    if view::active(&report).is_none() {
        return Err(view::inactive(&report));
    }
    let servers = report.paths.stun_servers.clone();
    let [v4, v6] = families(&report, mark(profile)).await;
    let candidate = |candidate: &engine::paths::Candidate| Reachable {
        address: candidate.address,
        kind: candidate.kind.to_string(),
    };
    let relay = |relay: &host::drive::RelayReport| RelayDistance {
        name: relay.name.clone(),
        round_trip_micros: relay.round_trip.map(view::micros),
        is_home: relay.is_home,
    };
    Ok(Netcheck {
        schema_version: SCHEMA_VERSION,
        servers,
        ipv4: v4.to_string(),
        ipv6: v6.to_string(),
        candidates: report.node.candidates.iter().map(candidate).collect(),
        port_mapping: report.paths.mapped,
        keepalive_seconds: report.node.keepalive_seconds,
        relays: report.paths.relays.iter().map(relay).collect(),
    })
}

/// What stands in the way of direct paths.
///
/// # Errors
/// The node has stopped.
pub async fn doctor(profile: &Profile) -> Result<Vec<Finding>, Refusal> {
    let report = profile.report().await?;
    if view::active(&report).is_none() {
        return Ok(vec![inactive(&report, "peers")]);
    }
    let servers = &report.paths.stun_servers;
    let mut findings = Vec::new();
    if let Some(why) = &report.host.unsteered {
        findings.push(Finding::bad(
            "kernel",
            format!(
                "the kernel's WireGuard cannot be told the way of each peer, so the hub carries all: {why}"
            ),
            "give the agent CAP_NET_RAW, or start it with --mode userspace",
        ));
    }
    if profile.stack().is_none() {
        let own = view::active(&report).and_then(|tenant| tenant.addresses);
        findings.extend(returns::dropped(servers, &own.map(|own| own.both().to_vec()).unwrap_or_default()));
    }
    if servers.is_empty() {
        findings.push(Finding::bad(
            "server",
            "the server says nowhere where STUN is answered: devices behind NATs find few direct paths",
            "on the server: warren-apid --stun-listen [::]:3478",
        ));
    } else {
        let [v4, v6] = families(&report, mark(profile)).await;
        findings.push(nat(&v4, &v6, &report));
    }
    let peers = view::active(&report).map(|tenant| tenant.peers.as_slice()).unwrap_or_default();
    for peer in peers {
        let Some(path) = &peer.path else { continue };
        findings.push(match path.why_not_direct {
            None | Some(WhyNotDirect::NoTraffic) => {
                Finding::good("path", format!("{}: {}", peer.name, path.way))
            }
            Some(why) => Finding::bad("path", format!("{}: {}: {why}", peer.name, path.way), remedy(why)),
        });
    }
    Ok(findings)
}

/// What is asked goes where the underlay's packets go, whatever the mesh carries.
fn mark(profile: &Profile) -> Option<u32> {
    profile.stack().is_none().then_some(host::MARK)
}

/// What the way out does to packets of IPv4 and of IPv6.
async fn families(report: &Report, mark: Option<u32>) -> [Nat; 2] {
    let of = async |is_v4: bool| {
        let servers = report.paths.stun_servers.iter().copied().filter(|server| server.is_ipv4() == is_v4);
        match family(servers, mark).await {
            // That nothing comes by UDP is known only where something comes otherwise.
            Nat::Blocked if report.link.is_none() || comes(report, is_v4) => Nat::Unanswered,
            nat => nat,
        }
    };
    [of(true).await, of(false).await]
}

/// Whether UDP of a family came from beyond a moment ago: on the link, or from a peer.
fn comes(report: &Report, is_v4: bool) -> bool {
    let link = report.link.filter(|link| link.carrier == link::Carrier::Quic);
    let peers = view::active(report).map(|tenant| tenant.peers.as_slice()).unwrap_or_default();
    let ways = peers.iter().filter_map(|peer| Some(peer.path.as_ref()?.way));
    let mut came = link.and_then(|link| link.remote).into_iter().chain(from_beyond(ways));
    came.any(|from| from.ip().to_canonical().is_ipv4() == is_v4)
}

/// Where packets of peers come from that came through the way out: those of this network say nothing of it.
fn from_beyond(ways: impl Iterator<Item = Way>) -> impl Iterator<Item = SocketAddr> {
    ways.filter_map(|way| match way {
        Way::Direct(address) => Some(address).filter(|address| is_beyond(*address)),
        Way::Relayed(_) | Way::ViaHub => None,
    })
}

fn nat(v4: &Nat, v6: &Nat, report: &Report) -> Finding {
    let mapped = report.paths.mapped.map(|at| format!(", and its port {at} is open for this device"));
    let told = format!("IPv4: {v4}; IPv6: {v6}{}", mapped.as_deref().unwrap_or_default());
    match (v4, v6) {
        (Nat::None | Nat::Keeps { .. }, _) | (_, Nat::None | Nat::Keeps { .. }) => {
            Finding::good("nat", &told)
        }
        (Nat::Symmetric { .. }, _) | (_, Nat::Symmetric { .. }) if mapped.is_some() => {
            Finding::good("nat", &told)
        }
        (Nat::Symmetric { .. }, _) | (_, Nat::Symmetric { .. }) => {
            Finding::bad("nat", &told, remedy(WhyNotDirect::BothSymmetric))
        }
        (Nat::Unanswered, _) | (_, Nat::Unanswered) => {
            Finding::bad("nat", &told, remedy(WhyNotDirect::NoStun))
        }
        (Nat::Blocked | Nat::Unknown, _) => Finding::bad("nat", &told, remedy(WhyNotDirect::NoUdpHere)),
    }
}

const fn remedy(why: WhyNotDirect) -> &'static str {
    match why {
        WhyNotDirect::NoUdpHere => "let UDP out of this network, to any port",
        WhyNotDirect::NoUdpThere => "let UDP out of the peer's network: warren doctor paths, there",
        WhyNotDirect::NoStun => {
            "is the server up, and are its UDP ports of STUN open? warren server doctor, on the server"
        }
        WhyNotDirect::BothSymmetric | WhyNotDirect::OneSymmetric => {
            "switch UPnP or NAT-PMP on at one of the routers, or forward a UDP port: warren-agent --listen-port"
        }
        WhyNotDirect::NoHint => "is the peer's agent running? warren status, there",
        WhyNotDirect::Narrow => {
            "let long UDP packets and their fragments through between the two, or raise the MTU on the way"
        }
        WhyNotDirect::Searching => "warren ping NAME, and look again",
        WhyNotDirect::NoAnswer { .. } => {
            "let UDP in at one of the firewalls, or warren doctor paths at the peer"
        }
        WhyNotDirect::NoTraffic => "",
    }
}

/// What the way out does to packets of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nat {
    /// Nobody answers, though the server is reached.
    Blocked,
    /// Nobody answers, which may be the server's.
    Unanswered,
    /// There is no server, or no way to it.
    Unknown,
    /// Packets leave as they are.
    None,
    /// One port for all, whom it lets in from other ports of an address that was written to, or not.
    Keeps { is_open: bool },
    /// A port for each.
    Symmetric { is_open: bool },
}

impl std::fmt::Display for Nat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let filtering = |is_open: bool| match is_open {
            true => "lets in other ports of whom it wrote to",
            false => "lets in only whom it wrote to",
        };
        match self {
            Self::Blocked => f.write_str("no UDP"),
            Self::Unanswered => f.write_str("STUN does not answer"),
            Self::Unknown => f.write_str("none"),
            Self::None => f.write_str("no NAT"),
            Self::Keeps { is_open } => write!(f, "a NAT that keeps its port and {}", filtering(*is_open)),
            Self::Symmetric { is_open } => write!(f, "a symmetric NAT that {}", filtering(*is_open)),
        }
    }
}

/// Looks at one family, by the first server's two ports.
async fn family(servers: impl Iterator<Item = SocketAddr>, mark: Option<u32>) -> Nat {
    let servers: Vec<SocketAddr> = servers.collect();
    let Some(first) = servers.first().copied() else { return Nat::Unknown };
    let second = servers.iter().copied().find(|other| other.ip() == first.ip() && *other != first);
    let Some((socket, own)) = open(first, mark).await else { return Nat::Unknown };
    // Before the other port was written to, which would let it in.
    let Some(seen) = ask(&socket, first, false).await else { return Nat::Blocked };
    let is_open = ask(&socket, first, true).await.is_some();
    let other = match second {
        Some(second) => ask(&socket, second, false).await,
        None => None,
    };
    match other {
        Some(other) if other != seen => Nat::Symmetric { is_open },
        _ if seen == own => Nat::None,
        _ => Nat::Keeps { is_open },
    }
}

/// A socket, and the address that it has towards the server.
async fn open(server: SocketAddr, mark: Option<u32>) -> Option<(UdpSocket, SocketAddr)> {
    let any: SocketAddr = match server.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Not the one that asks: that must hear of another port, too.
    let towards = bind(any, mark).await.ok()?;
    towards.connect(server).await.ok()?;
    let ip = towards.local_addr().ok()?.ip();
    let socket = bind(any, mark).await.ok()?;
    let port = socket.local_addr().ok()?.port();
    Some((socket, SocketAddr::new(ip, port)))
}

async fn bind(any: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any).await?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    Ok(socket)
}

/// Where the server sees the socket; by its other port if asked to.
async fn ask(socket: &UdpSocket, server: SocketAddr, other_port: bool) -> Option<SocketAddr> {
    for _ in 0..ATTEMPTS {
        let mut transaction = [0; 12];
        getrandom::fill(&mut transaction).ok()?;
        let sent = match other_port {
            true => socket.send_to(&stun::request_from_other_port(&transaction), server).await,
            false => socket.send_to(&stun::request(&transaction), server).await,
        };
        sent.ok()?;
        let until = Instant::now() + ANSWER_TIME;
        let mut answer = [0; 512];
        // What comes late is of a question before, and passed over.
        while let Ok(came) = timeout_at(until, socket.recv_from(&mut answer)).await {
            let Ok((bytes, from)) = came else { break };
            match stun::response(&answer[..bytes]) {
                Some((of, seen)) if of == transaction && from.ip() == server.ip() => {
                    return Some(SocketAddr::new(seen.ip().to_canonical(), seen.port()));
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at two ports of the loopback, and hides the address of who asks as a NAT would.
    async fn server(answers: bool, symmetric: bool, is_open: bool) -> [SocketAddr; 2] {
        let sockets = [
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
        ];
        let at = [sockets[0].local_addr().unwrap(), sockets[1].local_addr().unwrap()];
        tokio::spawn(async move {
            let (mut first, mut second) = ([0; 512], [0; 512]);
            loop {
                let (which, bytes, from) = tokio::select! {
                    Ok((bytes, from)) = sockets[0].recv_from(&mut first) => (0, first[..bytes].to_vec(), from),
                    Ok((bytes, from)) = sockets[1].recv_from(&mut second) => (1, second[..bytes].to_vec(), from),
                };
                let port = if symmetric { 1000 + which as u16 } else { 1000 };
                let seen = SocketAddr::from(([192, 0, 2, 1], port));
                let Some(reply) = stun::reply(&bytes, seen).filter(|_| answers) else { continue };
                if reply.from_other_port && !is_open {
                    continue;
                }
                let by = if reply.from_other_port { 1 - which } else { which };
                sockets[by].send_to(&reply.bytes, from).await.unwrap();
            }
        });
        at
    }

    #[tokio::test]
    async fn each_kind_of_nat_is_told() {
        let check = async |answers: bool, symmetric: bool, is_open: bool, expect: Nat| {
            let at = server(answers, symmetric, is_open).await;
            assert_eq!(family(at.into_iter(), None).await, expect);
        };
        check(true, false, true, Nat::Keeps { is_open: true }).await;
        check(true, false, false, Nat::Keeps { is_open: false }).await;
        check(true, true, true, Nat::Symmetric { is_open: true }).await;
        check(true, true, false, Nat::Symmetric { is_open: false }).await;
        check(false, false, false, Nat::Blocked).await;
        assert_eq!(family(std::iter::empty(), None).await, Nat::Unknown);
    }

    #[test]
    fn peers_of_this_network_say_nothing_of_the_way_out() {
        let comes = |way: Way| from_beyond([way].into_iter()).next().is_some();
        let direct = |address: &str| Way::Direct(address.parse().unwrap());
        assert!(comes(direct("203.0.113.7:51820")) && comes(direct("[2001:db8::7]:51820")));
        for near in ["192.168.1.7:51820", "10.0.0.7:51820", "100.64.0.7:51820", "[fd00::7]:51820"] {
            assert!(!comes(direct(near)), "{near}");
        }
        assert!(!comes(Way::ViaHub) && !comes(Way::Relayed(engine::paths::RelayId::SERVER)));
    }

    #[tokio::test]
    async fn where_nothing_is_changed_there_is_no_nat() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                let reply = stun::reply(&bytes[..length], from).unwrap();
                socket.send_to(&reply.bytes, from).await.unwrap();
            }
        });
        assert_eq!(family([at].into_iter(), None).await, Nat::None);
    }
}
