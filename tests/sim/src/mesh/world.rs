//! The world of one run: devices that talk in pairs, a server that relays and answers STUN, faults, and the judgement.
//!
//! ```text
//! calm ─▶ one fault ─▶ mended ─▶ silence ─▶ a first packet
//! ```
//! Judged all the time: between two that talk, nothing is silent for longer than the present phase allows.

mod judge;
mod phases;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{PathInput, PathOutput, Paths, RelayId, Way};
use model::key::Digest;
use model::{DeviceId, Mono, PrivateKey, PublicKey};

use super::network::{Arrival, Network, SERVER};
use super::topology;
use crate::dice::Dice;
use crate::judge::Violation;
use crate::queue::Queue;
use crate::trace::{Trace, Verbosity};

const STUN_PORTS: [u16; 2] = [3478, 3479];
/// Silence that a path which dies may cause.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Where somebody hostile is, who plays again what he heard.
const STRANGER: &str = "192.0.2.66:666";

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshOutcome {
    /// Over everything that happened.
    pub digest: Digest,
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    /// What there is to read, as far as it was asked for.
    pub story: String,
    /// How much happened.
    pub events: u64,
    /// Pairs that talk, those that must be direct, and those that are.
    pub pairs: [usize; 3],
    /// Pairs of which one gives each remote another port, one lets in only who was talked to, so that a port must be
    /// guessed; and those that are direct all the same.
    pub hard: [usize; 2],
}

struct Node {
    paths: Paths,
    device: DeviceId,
    key: PublicKey,
    ways: BTreeMap<PublicKey, Way>,
    watched: BTreeSet<PublicKey>,
    counted: BTreeMap<PublicKey, (u64, u64)>,
    woken: u64,
    sent: u64,
    /// How often each peer's way changed in this phase.
    turns: BTreeMap<PublicKey, u32>,
}

/// Two that talk, and when each was last heard by the other.
struct Pair {
    nodes: [usize; 2],
    heard: [Mono; 2],
    was_direct: bool,
}

enum Happening {
    Datagram { to: usize, from: SocketAddr, bytes: Vec<u8> },
    Relayed { to: usize, from: usize, bytes: Vec<u8> },
    Hinted { to: usize, from: usize, sealed: Vec<u8> },
    Packet { to: usize, from: usize, by: Way },
    Wake { node: usize, woken: u64 },
    Talk,
    Count,
    Next(Phase),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Fault,
    Mend,
    Silence,
    Quiet,
    Again,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// No packet goes between the two of a pair, but by relay.
    DirectBlocked,
    /// The relay and the link are gone.
    ServerGone,
    /// Every NAT forgets what it knew.
    NatsReboot,
    /// A host is on another network.
    HostMoves,
}

struct World {
    dice: Dice,
    network: Network,
    nodes: Vec<Node>,
    pairs: Vec<Pair>,
    queue: Queue<Happening>,
    trace: Trace,
    at: Mono,
    began: Mono,
    talking: bool,
    server_up: bool,
    blocked: bool,
    silence_max: Duration,
    fault: Fault,
    violation: Option<Violation>,
    ended: bool,
    /// What went by: datagrams and hints, with whom they were for and from.
    recorded: Vec<(usize, usize, Vec<u8>)>,
    sabotage: Option<MeshSabotage>,
    pings: u64,
}

/// A part of the model that is broken on purpose: a run with one must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshSabotage {
    /// Nobody hears where the others are.
    HintsAreLost,
    /// The server sees everybody at one address.
    ServerLies,
    /// Packets are lost on the way to a relay, which says that it is there.
    RelayEatsPackets,
    /// Every second ping is lost.
    PingsAreLost,
    /// What is sent is told to go on for ever.
    TrafficNeverEnds,
}

/// Runs a seed to its end, or to the first rule that does not hold.
pub fn run(seed: u64, verbosity: Verbosity) -> MeshOutcome {
    run_with(seed, verbosity, None)
}

/// The same with a part broken on purpose.
pub fn run_with(seed: u64, verbosity: Verbosity, sabotage: Option<MeshSabotage>) -> MeshOutcome {
    let mut world = World::new(seed, verbosity, sabotage);
    while !world.ended && world.violation.is_none() {
        let Some((at, happening)) = world.queue.pop() else { break };
        world.at = at;
        world.happen(happening);
    }
    let must = |pair: &&Pair| world.network.must_be_direct(pair.nodes[0], pair.nodes[1]);
    let pairs = [
        world.pairs.len(),
        world.pairs.iter().filter(must).count(),
        world.pairs.iter().filter(|pair| pair.was_direct).count(),
    ];
    let is_hard = |pair: &&Pair| world.network.is_hard(pair.nodes[0], pair.nodes[1]);
    let hard = [
        world.pairs.iter().filter(is_hard).count(),
        world.pairs.iter().filter(is_hard).filter(|pair| pair.was_direct).count(),
    ];
    let (story, events) = (world.trace.take_story(), world.trace.events());
    MeshOutcome { digest: world.trace.finish(), violation: world.violation, story, events, pairs, hard }
}

impl World {
    fn new(seed: u64, verbosity: Verbosity, sabotage: Option<MeshSabotage>) -> Self {
        let mut dice = Dice::new(seed, "mesh");
        let hosts = 2 + dice.below(4);
        let network = topology::network(hosts, &mut dice);
        let secrets: Vec<PrivateKey> = (0..hosts).map(|_| PrivateKey::from_bytes(dice.bytes())).collect();
        let known: BTreeMap<PublicKey, DeviceId> =
            secrets.iter().map(|secret| (secret.public(), DeviceId::from_bytes(dice.bytes()))).collect();
        let nodes = secrets.into_iter().map(|secret| Node {
            key: secret.public(),
            device: known[&secret.public()],
            paths: Paths::new(secret, dice.bytes()),
            ways: BTreeMap::new(),
            watched: BTreeSet::new(),
            counted: BTreeMap::new(),
            woken: 0,
            sent: 0,
            turns: BTreeMap::new(),
        });
        let nodes: Vec<Node> = nodes.collect();
        let all = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| [a, b]));
        let pairs = all.map(|nodes| Pair { nodes, heard: [Mono::default(); 2], was_direct: false }).collect();
        let faults = [Fault::DirectBlocked, Fault::ServerGone, Fault::NatsReboot, Fault::HostMoves];
        let fault = faults[dice.below(faults.len())];
        let mut world = Self {
            dice,
            network,
            nodes,
            pairs,
            queue: Queue::default(),
            trace: Trace::new(verbosity),
            at: Mono::default(),
            began: Mono::default(),
            talking: false,
            server_up: true,
            blocked: false,
            silence_max: SILENCE_MAX,
            fault,
            violation: None,
            ended: false,
            recorded: Vec::new(),
            sabotage,
            pings: 0,
        };
        let servers = SERVER.iter().flat_map(|ip| STUN_PORTS.map(|port| SocketAddr::new(*ip, port)));
        let servers: Vec<SocketAddr> = servers.collect();
        for node in 0..world.nodes.len() {
            let has = |server: &&SocketAddr| {
                let host = &world.network.hosts[node];
                if server.is_ipv4() { host.v4.is_some() } else { host.v6.is_some() }
            };
            let servers = servers.iter().filter(has).copied().collect();
            let interfaces = world.network.interfaces(node);
            for (key, device) in &known {
                world.tell(node, PathInput::Peer { key: *key, device: Some(*device) });
            }
            world.tell(node, PathInput::Interfaces(interfaces));
            world.tell(node, PathInput::StunServers(servers));
            world.tell(node, PathInput::Relays(vec![RelayId::SERVER]));
        }
        world.soon(Duration::from_secs(1), Happening::Next(Phase::Start));
        world.soon(Duration::from_secs(1), Happening::Count);
        world
    }

    fn soon(&mut self, after: Duration, happening: Happening) {
        self.queue.at(self.at + after, happening);
    }

    fn tell(&mut self, node: usize, input: PathInput) {
        self.nodes[node].paths.handle(input, self.at);
        self.settle(node);
    }

    /// Does what a node wants, and asks when it wants to be woken.
    fn settle(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].paths.poll_output() {
            self.carry_out(node, output);
        }
        self.nodes[node].woken += 1;
        let woken = self.nodes[node].woken;
        if let Some(deadline) = self.nodes[node].paths.poll_timeout() {
            let at = deadline.at.max(self.at + Duration::from_micros(1));
            self.queue.at(at, Happening::Wake { node, woken });
        }
    }

    fn carry_out(&mut self, node: usize, output: PathOutput) {
        let device_index = |world: &Self, device| world.nodes.iter().position(|n| n.device == device);
        match output {
            PathOutput::Probe { to, bytes } => {
                self.nodes[node].sent += 1;
                self.trace.event(self.at, "probe", node as u64, &bytes);
                self.pings += 1;
                if self.sabotage == Some(MeshSabotage::PingsAreLost) && self.pings.is_multiple_of(2) {
                    return;
                }
                self.send(
                    node,
                    to,
                    |to, from| Happening::Datagram { to, from, bytes: bytes.clone() },
                    &bytes,
                );
            }
            PathOutput::Relay { to, bytes, .. } => {
                self.nodes[node].sent += 1;
                if let Some(to) = device_index(self, to).filter(|_| self.server_up) {
                    let delay = self.delay();
                    self.soon(delay * 2, Happening::Relayed { to, from: node, bytes });
                }
            }
            PathOutput::Hint { to, sealed } => {
                self.nodes[node].sent += 1;
                let is_lost = self.sabotage == Some(MeshSabotage::HintsAreLost);
                if let Some(to) = device_index(self, to).filter(|_| self.server_up && !is_lost) {
                    let delay = self.delay();
                    self.soon(delay * 2, Happening::Hinted { to, from: node, sealed });
                }
            }
            PathOutput::Steer { peer, way } => {
                self.trace.tell(self.at, || format!("node {node} sends to {peer} {way}"));
                if way == Way::Direct(STRANGER.parse().expect("an address")) {
                    self.fail("only-peers-are-sent-to", format!("node {node} sends to {way}"));
                }
                self.nodes[node].ways.insert(peer, way);
                *self.nodes[node].turns.entry(peer).or_default() += 1;
            }
            // Its relay knows everybody, and its servers are where it was told at the beginning.
            PathOutput::Peer { .. }
            | PathOutput::StunAt(_)
            | PathOutput::Places(_)
            | PathOutput::Pass { .. } => {}
            PathOutput::Watch { peer, on } => {
                let watched = &mut self.nodes[node].watched;
                if on {
                    watched.insert(peer);
                } else {
                    watched.remove(&peer);
                    self.nodes[node].ways.remove(&peer);
                }
            }
        }
    }

    fn delay(&mut self) -> Duration {
        self.dice.millis(5, 40)
    }

    fn send(
        &mut self,
        node: usize,
        to: SocketAddr,
        arrives: impl Fn(usize, SocketAddr) -> Happening,
        bytes: &[u8],
    ) {
        let delay = self.delay();
        match self.network.send(node, to, self.at, &mut self.dice) {
            Some(Arrival::Host(host, _)) if self.blocked && host != node => {}
            Some(Arrival::Host(host, from)) => self.soon(delay, arrives(host, from)),
            Some(Arrival::Server(server, seen)) if self.server_up => {
                self.stun(server, seen, bytes, delay * 2);
            }
            Some(Arrival::Server(..)) | None => {}
        }
    }

    /// What the server answers (RFC 8489).
    fn stun(&mut self, server: SocketAddr, seen: SocketAddr, request: &[u8], delay: Duration) {
        if !STUN_PORTS.contains(&server.port()) || request.len() != 20 {
            return;
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
        if let Some(Arrival::Host(to, from)) = self.network.answer(server, seen, self.at, &mut self.dice) {
            self.soon(delay, Happening::Datagram { to, from, bytes });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { to, from, bytes } => {
                self.trace.event(self.at, "datagram", to as u64, &bytes);
                self.record(to, to, &bytes);
                self.tell(to, PathInput::Datagram { from, bytes });
            }
            Happening::Relayed { to, from, bytes } => {
                let from = self.nodes[from].device;
                self.tell(to, PathInput::Relayed { relay: RelayId::SERVER, from, bytes });
            }
            Happening::Hinted { to, from, sealed } => {
                self.trace.event(self.at, "hint", to as u64, &sealed);
                self.record(to, from, &sealed);
                let from = self.nodes[from].device;
                self.tell(to, PathInput::Hinted { from, sealed });
            }
            Happening::Packet { to, from, by } => self.arrive(to, from, by),
            Happening::Wake { node, woken } if self.nodes[node].woken == woken => {
                self.nodes[node].paths.handle_timeout(self.at);
                self.settle(node);
            }
            Happening::Wake { .. } => {}
            Happening::Talk => self.talk(),
            Happening::Count => self.count(),
            Happening::Next(phase) => self.next(phase),
        }
    }
}
