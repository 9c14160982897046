//! What a node of a run wants done, as its shell and the network do it: probes, hints, relays, answers of the server. Judges
//! nothing but where packets are sent.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{
    CLOSE_COUNT_INTERVAL, ConnectedRelay, PathInput, PathOutput, RelayId, SideId, Way, place, side,
};
use model::PublicKey;

use super::super::network::{Arrival, Network, PORT, TRIAL_PORTS};
use super::{Happening, MeshSabotage, STRANGER, STUN_PORTS, World};

/// Those of one search, and one for each other peer that a search found.
const SIDES_MAX: usize = 256 + 5;
/// To a relay and back, as it is measured once: see [`World::delay`].
const RELAY_ROUND_TRIP: Duration = Duration::from_millis(45);

impl World {
    pub(super) fn carry_out(&mut self, node: usize, output: PathOutput) {
        let device_index = |world: &Self, device| world.nodes.iter().position(|n| n.device == device);
        match output {
            PathOutput::Probe { to, bytes } => {
                self.nodes[node].sent += 1;
                self.trace.event(self.at, "probe", node as u64, &bytes);
                self.pings += 1;
                if self.sabotage == Some(MeshSabotage::PingsAreLost) && self.pings.is_multiple_of(2) {
                    return;
                }
                let arrives = |to, from| Happening::Datagram { to, from, bytes: bytes.clone() };
                self.send(node, to, arrives, &bytes, bytes.len());
            }
            PathOutput::Try { quiet, to, bytes } => {
                let port = TRIAL_PORTS[usize::from(!quiet)];
                let arrival = self.network.send(node, port, to, self.at, &mut self.dice);
                if let Some(Arrival::Server(server, seen)) = arrival.filter(|_| self.server_up) {
                    let delay = self.delay();
                    self.stun(server, seen, &bytes, delay * 2);
                }
            }
            PathOutput::Relay { relay, to, bytes } => {
                self.nodes[node].sent += 1;
                if let Some(to) = device_index(self, to).filter(|to| self.relays_to(node, *to, relay)) {
                    let delay = self.delay();
                    self.soon(delay * 2, Happening::Relayed { to, from: node, by: relay, bytes });
                }
            }
            PathOutput::Hint { to, sealed, over_relays } => {
                if let Some(to) = device_index(self, to) {
                    self.hint(node, to, &sealed, over_relays);
                }
            }
            PathOutput::Race { peer, on } => self.race(node, peer, on),
            PathOutput::Double { peer, over } => self.double(node, peer, over),
            PathOutput::Closely { peer, on } => self.watch_closely(node, peer, on),
            PathOutput::OpenSides { peer, first, count } => self.open_sides(node, peer, first, count),
            PathOutput::CloseSides { peer, but } => {
                self.nodes[node].sides.retain(|_, (side, of)| *of != peer || Some(*side) == but);
            }
            PathOutput::Steer { peer, way } => {
                let other = self.nodes.iter().position(|n| n.key == peer).unwrap_or_default();
                self.trace.tell(self.at, || format!("node {node} sends to {other} {way:?}"));
                if way == Way::Direct(STRANGER.parse().expect("an address")) {
                    self.fail("only-peers-are-sent-to", format!("node {node} sends to {way}"));
                }
                let before = self.nodes[node].ways.insert(peer, way);
                self.turned(node, peer, before);
                *self.nodes[node].turns.entry(peer).or_default() += 1;
            }
            // Its relay knows everybody, and its servers are where it was told at the beginning.
            PathOutput::Peer { .. }
            | PathOutput::StunAt(_)
            | PathOutput::Need(_)
            | PathOutput::Places(_)
            | PathOutput::Pass { .. } => {}
            PathOutput::Watch { peer, on } => self.watch(node, peer, on),
        }
    }

    fn watch(&mut self, node: usize, peer: PublicKey, on: bool) {
        let watching = &mut self.nodes[node];
        if on {
            watching.watched.insert(peer);
            return;
        }
        watching.watched.remove(&peer);
        watching.close.remove(&peer);
        watching.doubled.remove(&peer);
        watching.came_over.remove(&peer);
        let before = watching.ways.remove(&peer);
        self.turned(node, peer, before);
    }

    /// Who sends to this port, as the node has it; `None`: nobody listens there.
    fn seen_at(&self, node: usize, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        match from {
            _ if port == PORT => Some(from),
            SocketAddr::V4(from) => self.nodes[node].sides.get(&port).map(|(side, _)| place(*side, from)),
            SocketAddr::V6(_) => None,
        }
    }

    fn open_sides(&mut self, node: usize, peer: PublicKey, first: SideId, count: u16) {
        self.trace.tell(self.at, || format!("node {node} opens {count} side sockets"));
        let open = &mut self.nodes[node].sides;
        open.extend((0..count).map(|number| {
            let side = SideId(first.0.wrapping_add(number.into()));
            (Network::side_port(side), (side, peer))
        }));
        if open.len() > SIDES_MAX {
            self.fail("side-sockets-are-few", format!("node {node} has {}", self.nodes[node].sides.len()));
        }
    }

    fn hint(&mut self, node: usize, to: usize, sealed: &[u8], over_relays: bool) {
        self.nodes[node].sent += 1;
        if self.sabotage == Some(MeshSabotage::HintsAreLost) {
            return;
        }
        let delay = self.delay() * 2;
        if self.server_up {
            self.soon(delay, Happening::Hinted { to, from: node, sealed: sealed.to_vec() });
        }
        // While there is no link, every relay is given it.
        let races = over_relays && self.sabotage != Some(MeshSabotage::NobodyRaces);
        if races || !self.nodes[node].relays.contains(&RelayId::SERVER) {
            for by in self.nodes[node].relays.clone() {
                if self.relays_to(node, to, by) {
                    self.soon(delay, Happening::Relayed { to, from: node, by, bytes: sealed.to_vec() });
                }
            }
        }
    }

    fn double(&mut self, node: usize, peer: PublicKey, over: Option<RelayId>) {
        let doubled = &mut self.nodes[node].doubled;
        match over.filter(|_| self.sabotage != Some(MeshSabotage::NobodyDoubles)) {
            Some(relay) => doubled.insert(peer, relay),
            None => doubled.remove(&peer),
        };
        let way = self.nodes[node].ways.get(&peer).copied();
        self.turned(node, peer, way);
    }

    fn watch_closely(&mut self, node: usize, peer: PublicKey, on: bool) {
        let close = &mut self.nodes[node].close;
        let _ = if on { close.insert(peer) } else { close.remove(&peer) };
        if on && !std::mem::replace(&mut self.counts_closely, true) {
            self.soon(CLOSE_COUNT_INTERVAL, Happening::CountClosely);
        }
    }

    fn race(&mut self, node: usize, peer: PublicKey, on: bool) {
        if !on {
            self.nodes[node].racing.remove(&peer);
        } else if self.sabotage != Some(MeshSabotage::NobodyRaces) {
            self.trace.tell(self.at, || format!("node {node} races"));
            self.nodes[node].racing.insert(peer);
            let relays = self.nodes[node].relays.clone();
            self.begin_again(node, peer, &relays);
            let delay = self.dice.millis(50, 300);
            self.soon(delay, Happening::Dialled { node });
        }
    }

    /// The relays that a node is connected to, the nearest first: beside the server the nearest, and all without it.
    pub(super) fn connected(&mut self) -> Vec<RelayId> {
        let mut relays = self.relays.clone();
        let at = self.dice.below(relays.len() + 1);
        if self.server_up {
            if !relays.is_empty() {
                relays = vec![relays[self.dice.below(relays.len())]];
            }
            relays.insert(at.min(relays.len()), RelayId::SERVER);
        }
        relays
    }

    /// A node hears of the relays that are there.
    pub(super) fn connect(&mut self, node: usize) {
        let relays = self.connected();
        self.connected_to(node, relays);
    }

    pub(super) fn connected_to(&mut self, node: usize, relays: Vec<RelayId>) {
        self.nodes[node].relays.clone_from(&relays);
        self.nodes[node].came_over.clear();
        let relays = relays.into_iter().map(|id| ConnectedRelay { id, round_trip: Some(RELAY_ROUND_TRIP) });
        self.tell(node, PathInput::Relays(relays.collect()));
    }

    /// A node that misses a peer is connected to all relays.
    pub(super) fn dialled(&mut self, node: usize) {
        let mut relays = self.nodes[node].relays.clone();
        relays.extend(self.relays.iter().filter(|relay| !self.nodes[node].relays.contains(relay)));
        if relays != self.nodes[node].relays {
            let new = relays[self.nodes[node].relays.len()..].to_vec();
            self.connected_to(node, relays);
            for peer in self.nodes[node].racing.clone() {
                self.begin_again(node, peer, &new);
            }
        }
    }

    pub(super) fn relays_to(&self, from: usize, to: usize, relay: RelayId) -> bool {
        let is_there = if relay == RelayId::SERVER { self.server_up } else { self.relays.contains(&relay) };
        let is_linked = |node: usize| self.nodes[node].relays.contains(&relay);
        is_there && is_linked(from) && is_linked(to) && self.deaf != Some((to, relay))
    }

    pub(super) fn delay(&mut self) -> Duration {
        self.dice.millis(5, 40)
    }

    pub(super) fn send(
        &mut self,
        node: usize,
        to: SocketAddr,
        arrives: impl Fn(usize, SocketAddr) -> Happening,
        bytes: &[u8],
        length: usize,
    ) {
        let delay = self.delay();
        let is_spared = self.sabotage == Some(MeshSabotage::LongPingsPass) && !bytes.is_empty();
        let (port, to) = match side(to) {
            // What is closed sends nothing.
            Some((side, _)) if !self.nodes[node].sides.contains_key(&Network::side_port(side)) => return,
            Some((side, remote)) => (Network::side_port(side), remote),
            None => (PORT, to),
        };
        match self.network.send(node, port, to, self.at, &mut self.dice) {
            Some(Arrival::Host(host, ..))
                if host != node && (self.blocked || self.blocked_from == Some(node)) => {}
            Some(Arrival::Host(host, ..)) if self.network.carries(node, host) < length && !is_spared => {}
            Some(Arrival::Host(host, from, port)) => {
                if let Some(from) = self.seen_at(host, from, port) {
                    self.soon(delay, arrives(host, from));
                }
            }
            Some(Arrival::Server(server, seen)) if self.server_up => {
                self.stun(server, seen, bytes, delay * 2);
            }
            Some(Arrival::Server(..)) | None => {}
        }
    }

    /// What the server answers (RFC 8489; RFC 5780 where somebody asks for another port).
    fn stun(&mut self, server: SocketAddr, seen: SocketAddr, request: &[u8], delay: Duration) {
        if !STUN_PORTS.contains(&server.port()) {
            return;
        }
        let (mut by, mut to) = (server, seen);
        match request.get(20..) {
            Some([]) => {}
            Some([0, 3, 0, 4, 0, 0, 0, 2]) => {
                by.set_port(STUN_PORTS[usize::from(server.port() == STUN_PORTS[0])]);
            }
            Some([0, 0x27, 0, 4, high, low, 0, 0]) => to.set_port(u16::from_be_bytes([*high, *low])),
            _ => return,
        }
        let told = match self.sabotage {
            Some(MeshSabotage::ServerLies) => SocketAddr::new(server.ip(), 9),
            _ => seen,
        };
        let (family, octets) = match told.ip() {
            std::net::IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            std::net::IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let length = u8::try_from(octets.len() + 4).expect("8 or 20");
        let mut bytes = vec![1, 1, 0, length + 4];
        bytes.extend(&request[4..20]);
        bytes.extend([0, 0x20, 0, length, 0, family]);
        bytes.extend((told.port() ^ 0x2112).to_be_bytes());
        bytes.extend(octets.iter().zip(&request[4..20]).map(|(byte, mask)| byte ^ mask));
        match self.network.answer(by, to, self.at, &mut self.dice) {
            Some(Arrival::Host(to, from, PORT)) => self.soon(delay, Happening::Datagram { to, from, bytes }),
            Some(Arrival::Host(to, from, port)) if port == TRIAL_PORTS[0] => {
                self.soon(delay, Happening::Tried { to, from, bytes });
            }
            _ => {}
        }
    }
}
