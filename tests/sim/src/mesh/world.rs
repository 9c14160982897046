//! The world of one run: devices that talk in pairs, a server that relays and answers STUN, faults, and the judgement.
//!
//! ```text
//! calm ─▶ one fault ─▶ mended ─▶ silence ─▶ a first packet
//! ```
//! Judged all the time: between two that talk, nothing is silent for longer than the present phase allows.

mod carry;
mod hard;
mod judge;
mod kernel;
mod phases;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{PathInput, Paths, RelayId, SideId, Way, side};
use model::key::Digest;
use model::{DeviceId, Mono, PrivateKey, PublicKey};

use super::network::{Network, SERVER};
use super::topology;
use crate::dice::Dice;
use crate::judge::Violation;
use crate::queue::Queue;
use crate::trace::{Trace, Verbosity};
use kernel::Kernel;
use traffic::Message;

const STUN_PORTS: [u16; 2] = [3478, 3479];
pub use hard::met_after;
pub use kernel::lost_by_kernel;

/// Silence that a path which dies may cause.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// A path that loses long packets is left, from the first that is lost: the next question of that length, and three silences.
const SILENCE_FULL_MAX: Duration = Duration::from_secs(15);
/// Runs in which one node is mute.
const MUTE_PER_MILLE: usize = 200;

/// Nodes with the kernel's WireGuard, which is not asked often what it sent.
const KERNEL_PER_MILLE: usize = 300;

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
    /// It is in the directory and takes packets from the hub, and knows no paths.
    is_mute: bool,
    /// The relays that it believes to be connected to.
    relays: Vec<RelayId>,
    /// To whom it sends over all of them.
    racing: BTreeSet<PublicKey>,
    /// Its WireGuard is the kernel's.
    kernel: Option<Kernel>,
    /// Over which one the last packet of each came.
    came_over: BTreeMap<PublicKey, RelayId>,
    /// WireGuard's with each peer.
    sessions: BTreeMap<PublicKey, traffic::Session>,
    device: DeviceId,
    key: PublicKey,
    ways: BTreeMap<PublicKey, Way>,
    watched: BTreeSet<PublicKey>,
    /// Those whose bytes are told often.
    close: BTreeSet<PublicKey>,
    /// Over which relay the packets of each go that go directly as well.
    doubled: BTreeMap<PublicKey, RelayId>,
    /// Side sockets that are open, by their ports.
    sides: BTreeMap<u16, (SideId, PublicKey)>,
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
    /// The same of packets of full size.
    heard_full: [Mono; 2],
    was_direct: bool,
}

impl Node {
    fn new(dice: &mut Dice) -> Self {
        let secret = PrivateKey::from_bytes(dice.bytes());
        Self {
            key: secret.public(),
            device: DeviceId::from_bytes(dice.bytes()),
            paths: Paths::new(secret, dice.bytes()),
            is_mute: false,
            relays: Vec::new(),
            racing: BTreeSet::new(),
            kernel: None,
            came_over: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ways: BTreeMap::new(),
            watched: BTreeSet::new(),
            close: BTreeSet::new(),
            doubled: BTreeMap::new(),
            sides: BTreeMap::new(),
            counted: BTreeMap::new(),
            woken: 0,
            sent: 0,
            turns: BTreeMap::new(),
        }
    }
}

impl Pair {
    fn new(nodes: [usize; 2]) -> Self {
        let never = [Mono::default(); 2];
        Self { nodes, heard: never, heard_full: never, was_direct: false }
    }
}

enum Happening {
    Datagram {
        to: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// At the socket that is tried.
    Tried {
        to: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Relayed {
        to: usize,
        from: usize,
        by: RelayId,
        bytes: Vec<u8>,
    },
    Hinted {
        to: usize,
        from: usize,
        sealed: Vec<u8>,
    },
    Packet {
        to: usize,
        from: usize,
        by: Way,
        message: Message,
        /// Of all packets; a copy has the same.
        number: u64,
    },
    Wake {
        node: usize,
        woken: u64,
    },
    Talk,
    Count,
    CountClosely,
    /// The shells of kernels point those again who are held.
    Hold,
    /// A node hears which relays are connected.
    Connected {
        node: usize,
        relays: Vec<RelayId>,
    },
    /// A node has reached the relays that it had no link to.
    Dialled {
        node: usize,
    },
    Next(Phase),
    /// A part of the fault.
    Break(Break),
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
    /// The link is gone, and the relay that is the server.
    ServerGone,
    /// The same before any path was found.
    ServerGoneEarly,
    /// The server is gone; then no packet goes directly for a while.
    ServerGoneAndBlocked,
    /// The nearest relay is gone, and each node hears it when it notices.
    RelayGone,
    /// Nothing goes directly, and what one relay has for one node is lost.
    OneSided,
    /// Long datagrams of one host are lost.
    HostNarrows,
    /// Every NAT forgets what it knew.
    NatsReboot,
    /// What one host sends directly is lost, and nothing else.
    OursLost,
    /// A host is on another network.
    HostMoves,
    /// All goes well.
    Nothing,
}

/// One thing that breaks, or is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Server,
    Blocked(bool),
    /// Nothing goes directly any more, and all relays are there.
    BlockedAlone,
    /// What this node sends directly is lost.
    Ours(usize),
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
    hub_up: bool,
    blocked: bool,
    /// What this node sends directly is lost.
    blocked_from: Option<usize>,
    /// Since when nothing goes directly, though relays carry all.
    blocked_alone: Option<Mono>,
    /// From then to the last packet that was lost by it.
    lost_for: Duration,
    /// Somebody's bytes are told often.
    counts_closely: bool,
    /// Some kernel's peer is held.
    holds: bool,
    /// Packets so far.
    packets: u64,
    /// Nothing comes to this node over this relay.
    deaf: Option<(usize, RelayId)>,
    silence_max: Duration,
    /// The same of packets of full size.
    silence_full_max: Duration,
    /// Relays on other machines that are there.
    relays: Vec<RelayId>,
    ticks: u64,
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
    /// Only the relay that was chosen is given packets, and only the link hints, though nobody knows what reaches a peer.
    NobodyRaces,
    /// Packets go one way only, though nobody knows whether it lives.
    NobodyDoubles,
    /// Kernels follow their peers' packets to where only our own are lost.
    NobodyHolds,
    /// Packets are lost on the way to a relay, which says that it is there.
    RelayEatsPackets,
    /// Every second ping is lost.
    PingsAreLost,
    /// What is sent is told to go on for ever.
    TrafficNeverEnds,
    /// Long pings pass where long packets do not.
    LongPingsPass,
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
    let must = |pair: &&Pair| world.must_be_direct(pair.nodes[0], pair.nodes[1]);
    let pairs = [
        world.pairs.len(),
        world.pairs.iter().filter(must).count(),
        world.pairs.iter().filter(|pair| pair.was_direct).count(),
    ];
    let is_hard = |pair: &&Pair| world.is_hard(pair.nodes[0], pair.nodes[1]);
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
        let faults = [
            Fault::DirectBlocked,
            Fault::ServerGone,
            Fault::ServerGoneEarly,
            Fault::ServerGoneAndBlocked,
            Fault::RelayGone,
            Fault::OneSided,
            Fault::HostNarrows,
            Fault::NatsReboot,
            Fault::OursLost,
            Fault::HostMoves,
        ];
        let fault = faults[dice.below(faults.len())];
        let mut world = Self::over(network, fault, dice, Trace::new(verbosity));
        world.sabotage = sabotage;
        if world.dice.chance(MUTE_PER_MILLE) {
            let mute = world.dice.below(hosts);
            world.nodes[mute].is_mute = true;
        }
        world.relays = (1..=u32::try_from(world.dice.below(3)).expect("a few")).map(RelayId).collect();
        world.begin();
        world
    }

    /// A world with this network, in which nothing happens yet.
    fn over(network: Network, fault: Fault, mut dice: Dice, trace: Trace) -> Self {
        let hosts = network.hosts.len();
        let nodes = (0..hosts).map(|_| Node::new(&mut dice)).collect();
        let all = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| [a, b]));
        let pairs = all.map(Pair::new).collect();
        Self {
            dice,
            network,
            nodes,
            pairs,
            queue: Queue::default(),
            trace,
            at: Mono::default(),
            began: Mono::default(),
            talking: false,
            server_up: true,
            hub_up: true,
            blocked: false,
            blocked_from: None,
            blocked_alone: None,
            lost_for: Duration::ZERO,
            counts_closely: false,
            holds: false,
            packets: 0,
            deaf: None,
            silence_max: SILENCE_MAX,
            silence_full_max: SILENCE_MAX,
            relays: Vec::new(),
            ticks: 0,
            fault,
            violation: None,
            ended: false,
            recorded: Vec::new(),
            sabotage: None,
            pings: 0,
        }
    }

    fn begin(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.introduce(node));
        self.soon(Duration::from_secs(1), Happening::Next(Phase::Start));
        self.soon(Duration::from_secs(1), Happening::Count);
    }

    /// A node begins: it is told of its peers, itself and the servers.
    fn introduce(&mut self, node: usize) {
        let servers = SERVER.iter().flat_map(|ip| STUN_PORTS.map(|port| SocketAddr::new(*ip, port)));
        let host = &self.network.hosts[node];
        let has = |server: &SocketAddr| if server.is_ipv4() { host.v4.is_some() } else { host.v6.is_some() };
        let servers = servers.filter(has).collect();
        let known: Vec<_> = self.nodes.iter().map(|node| (node.key, node.device)).collect();
        for (key, device) in known {
            self.tell(node, PathInput::Peer { key, device: Some(device) });
        }
        let interfaces = self.network.interfaces(node);
        self.tell(node, PathInput::Interfaces(interfaces));
        self.tell(node, PathInput::StunServers(servers));
        let closely = !self.dice.chance(KERNEL_PER_MILLE);
        self.nodes[node].kernel = (!closely).then(Kernel::default);
        self.tell(node, PathInput::Counts { closely });
        self.tell(node, PathInput::Birthdays { on: true });
        self.connect(node);
    }

    fn soon(&mut self, after: Duration, happening: Happening) {
        self.queue.at(self.at + after, happening);
    }

    fn tell(&mut self, node: usize, input: PathInput) {
        if self.nodes[node].is_mute {
            return;
        }
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

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { to, from, bytes } => {
                self.trace.event(self.at, "datagram", to as u64, &bytes);
                self.record(to, to, &bytes);
                let input = match side(from) {
                    Some((side, from)) => PathInput::Sided { side, from, bytes },
                    None => PathInput::Datagram { from, bytes },
                };
                self.tell(to, input);
            }
            Happening::Tried { to, from, bytes } => self.tell(to, PathInput::Tried { from, bytes }),
            Happening::Relayed { to, from, by, bytes } => {
                let from = self.nodes[from].device;
                self.tell(to, PathInput::Relayed { relay: by, from, bytes });
            }
            Happening::Hinted { to, from, sealed } => {
                self.trace.event(self.at, "hint", to as u64, &sealed);
                self.record(to, from, &sealed);
                let from = self.nodes[from].device;
                self.tell(to, PathInput::Hinted { from, sealed });
            }
            Happening::Packet { to, from, by, message, number } => self.arrive(to, from, by, message, number),
            Happening::Wake { node, woken } if self.nodes[node].woken == woken => {
                self.nodes[node].paths.handle_timeout(self.at);
                self.settle(node);
            }
            Happening::Wake { .. } => {}
            Happening::Talk => self.talk(),
            Happening::Count => self.count(),
            Happening::CountClosely => self.count_closely(),
            Happening::Hold => self.hold(),
            Happening::Connected { node, relays } => self.connected_to(node, relays),
            Happening::Dialled { node } => self.dialled(node),
            Happening::Next(phase) => self.next(phase),
            Happening::Break(what) => self.break_down(what),
        }
    }
}
