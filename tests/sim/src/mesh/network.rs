//! Hosts behind NATs behind NATs, and who must be able to talk to whom directly. Delays nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use engine::paths::SideId;
use model::Mono;

use super::nat::{FIREWALL_EXPIRY, Filters, Firewall, Maps, Nat};
use crate::dice::Dice;

/// The port of every host's WireGuard.
pub const PORT: u16 = 41_641;
/// Those of the sockets by which a host learns what NATs remember: the one that is tried, and the other.
pub const TRIAL_PORTS: [u16; 2] = [41_642, 41_643];
/// Those of side sockets, from here on: one for each number, until they begin anew.
const SIDE_PORTS: u16 = 45_000;
const SIDE_PORTS_MAX: u16 = 20_000;
/// The segment that everything hangs on.
pub const INTERNET: usize = 0;
/// The server, over both families.
pub const SERVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// A packet of full size as WireGuard seals it.
pub const FULL_BYTES: usize = model::limits::MTU_DEFAULT as usize + 32;
/// What every link carries that is not broken: Ethernet without the headers of IPv6 and UDP.
pub const CARRIES_ALL: usize = 1500 - 48;
/// What one does that drops fragments, behind a tunnel of somebody else.
pub const CARRIES_LITTLE: usize = 1300;
/// NATs on one packet's way.
const HOPS_MAX: usize = 8;

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Where its IPv4 address is.
    pub segment: usize,
    /// Its IPv4 address.
    pub v4: Option<IpAddr>,
    /// Its IPv6 address: of the Internet, behind a firewall.
    pub v6: Option<IpAddr>,
    /// Before its IPv6 address, or on the host itself.
    pub firewall: Option<Firewall>,
    /// No UDP leaves or comes.
    pub blocked: bool,
    /// Longer datagrams are lost on its way to other hosts, without a word. What goes to a server is short or cut.
    pub carries: usize,
}

/// A NAT, and what it is between.
#[derive(Debug)]
pub struct Router {
    /// What it does.
    pub nat: Nat,
    /// The segment behind it.
    pub inside: usize,
    /// The segment before it.
    pub outside: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Network {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The NATs.
    pub routers: Vec<Router>,
}

/// Where a packet arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// At a host, from an address as the host sees it, at a port of its.
    Host(usize, SocketAddr, u16),
    /// At the server's port.
    Server(SocketAddr, SocketAddr),
}

impl Network {
    /// The addresses of a host, as its interfaces say.
    pub fn interfaces(&self, host: usize) -> Vec<SocketAddr> {
        let host = &self.hosts[host];
        host.v4.iter().chain(&host.v6).map(|ip| SocketAddr::new(*ip, PORT)).collect()
    }

    /// The port of a side socket.
    pub fn side_port(side: SideId) -> u16 {
        SIDE_PORTS + u16::try_from(side.0 % u32::from(SIDE_PORTS_MAX)).expect("below 20 000")
    }

    /// Sends a datagram from a port of a host. `None`: it is dropped on the way.
    pub fn send(
        &mut self,
        host: usize,
        port: u16,
        to: SocketAddr,
        now: Mono,
        dice: &mut Dice,
    ) -> Option<Arrival> {
        let sender = &mut self.hosts[host];
        let own = if to.is_ipv4() { sender.v4 } else { sender.v6 }?;
        if sender.blocked {
            return None;
        }
        if let Some(firewall) = &mut sender.firewall {
            firewall.out(port, to, now);
        }
        let segment = if to.is_ipv4() { sender.segment } else { INTERNET };
        self.carry(segment, SocketAddr::new(own, port), to, now, dice)
    }

    /// Sends a datagram from the server.
    pub fn answer(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Mono,
        dice: &mut Dice,
    ) -> Option<Arrival> {
        self.carry(INTERNET, from, to, now, dice)
    }

    fn carry(
        &mut self,
        mut segment: usize,
        mut from: SocketAddr,
        mut to: SocketAddr,
        now: Mono,
        dice: &mut Dice,
    ) -> Option<Arrival> {
        for _ in 0..HOPS_MAX {
            if segment == INTERNET && SERVER.contains(&to.ip()) {
                return Some(Arrival::Server(to, from));
            }
            if let Some(host) = self.host_at(segment, to.ip()) {
                return self.admits(host, from, to, now).then_some(Arrival::Host(host, from, to.port()));
            }
            let entered = self.routers.iter().find(|r| r.outside == segment && r.nat.external == to.ip());
            if let Some(router) = entered {
                to = router.nat.back(from, to.port(), now)?;
                segment = router.inside;
                continue;
            }
            let router = self.routers.iter_mut().find(|router| router.inside == segment)?;
            if !to.is_ipv4() {
                return None;
            }
            from = router.nat.out(from, to, now, dice);
            if to.ip() == router.nat.external {
                to = router.nat.rules.hairpin.then(|| router.nat.back(from, to.port(), now))??;
            } else {
                segment = router.outside;
            }
        }
        None
    }

    fn host_at(&self, segment: usize, ip: IpAddr) -> Option<usize> {
        let is_there = |host: &Host| match ip {
            IpAddr::V4(_) => host.segment == segment && host.v4 == Some(ip),
            IpAddr::V6(_) => host.v6 == Some(ip),
        };
        self.hosts.iter().position(is_there)
    }

    fn admits(&self, host: usize, from: SocketAddr, to: SocketAddr, now: Mono) -> bool {
        let host = &self.hosts[host];
        let open = host.firewall.as_ref().is_none_or(|firewall| firewall.admits(to.port(), from, now));
        let listens = to.port() == PORT || TRIAL_PORTS.contains(&to.port()) || to.port() >= SIDE_PORTS;
        open && !host.blocked && listens
    }

    /// After how long of silence a host is not reached any more where it was. `None`: it always is.
    pub fn forgets(&self, host: usize) -> Option<Duration> {
        let firewall = self.hosts[host].firewall.as_ref().map(|_| FIREWALL_EXPIRY);
        let nats = self.chain(host).into_iter().map(|router| router.nat.rules.expiry);
        nats.chain(firewall).min()
    }

    /// The NATs between a host and the Internet, the nearest first.
    fn chain(&self, host: usize) -> Vec<&Router> {
        let mut segment = self.hosts[host].segment;
        let mut chain = Vec::new();
        while let Some(router) = self.routers.iter().find(|router| router.inside == segment) {
            chain.push(router);
            segment = router.outside;
        }
        chain
    }

    /// Whether two hosts must find a direct path, whatever chance does: what NATs of these kinds allow to who sends first
    /// from both sides, and asks a server where it is seen.
    pub fn must_be_direct(&self, a: usize, b: usize) -> bool {
        let (one, two) = (&self.hosts[a], &self.hosts[b]);
        if one.blocked || two.blocked || self.carries(a, b) < FULL_BYTES {
            return false;
        }
        // Firewalls let in who is talked to, and both talk.
        if one.v6.is_some() && two.v6.is_some() {
            return true;
        }
        if one.v4.is_none() || two.v4.is_none() {
            return false;
        }
        if one.segment == two.segment {
            return true;
        }
        let (mine, theirs) = (self.chain(a), self.chain(b));
        let shared = mine.iter().find(|router| theirs.iter().any(|other| other.inside == router.inside));
        if shared.is_some_and(|router| !router.nat.rules.hairpin) {
            return false;
        }
        match (maps_anew(&mine), maps_anew(&theirs)) {
            (false, false) => true,
            // It comes from a port that nobody could know: who lets in every port of the address hears it.
            (true, false) => !is_strict(&theirs, two),
            (false, true) => !is_strict(&mine, one),
            (true, true) => false,
        }
    }

    /// The same where no server can be asked, because an address of an interface is enough.
    pub fn must_be_direct_unasked(&self, a: usize, b: usize) -> bool {
        let (one, two) = (&self.hosts[a], &self.hosts[b]);
        let both_v6 = one.v6.is_some() && two.v6.is_some();
        let is_open = |host: &Host| host.segment == INTERNET && host.firewall.is_none();
        let both_v4 = one.v4.is_some() && two.v4.is_some();
        let near = both_v4 && (one.segment == two.segment || is_open(one) || is_open(two));
        self.must_be_direct(a, b) && (both_v6 || near)
    }

    /// The longest datagram that passes between two hosts.
    pub fn carries(&self, a: usize, b: usize) -> usize {
        self.hosts[a].carries.min(self.hosts[b].carries)
    }

    /// Whether a port has to be guessed: one gives each remote another, the other lets in only who was talked to.
    pub fn is_hard(&self, a: usize, b: usize) -> bool {
        let (one, two) = (&self.hosts[a], &self.hosts[b]);
        let (mine, theirs) = (self.chain(a), self.chain(b));
        let shared = mine.iter().any(|router| theirs.iter().any(|other| other.inside == router.inside));
        let no_v6 = one.v6.is_none() || two.v6.is_none();
        let wide = self.carries(a, b) >= FULL_BYTES;
        let open = !one.blocked && !two.blocked && !shared && no_v6 && wide;
        let guess = (maps_anew(&mine) && !maps_anew(&theirs) && is_strict(&theirs, two))
            || (maps_anew(&theirs) && !maps_anew(&mine) && is_strict(&mine, one));
        open && guess
    }
}

/// Whether each remote gets another port.
fn maps_anew(chain: &[&Router]) -> bool {
    chain.iter().any(|router| router.nat.rules.maps == Maps::PerRemote)
}

/// Whether only an address and port that was talked to gets in.
fn is_strict(chain: &[&Router], host: &Host) -> bool {
    host.firewall.is_some() || chain.iter().any(|router| router.nat.rules.filters == Filters::Ports)
}
