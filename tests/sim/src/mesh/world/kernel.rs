//! The kernel's WireGuard of a node: it sends to where a peer's last packet came from, and its shell points it elsewhere. Chooses no
//! way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{PathInput, RelayId, Way, first_relay, side};
use model::{Mono, PublicKey};

use super::super::network::{CARRIES_ALL, Host, INTERNET, Network};
use super::{Break, Fault, Happening, MeshSabotage, World};
use crate::dice::Dice;
use crate::trace::{Trace, Verbosity};

/// A shell points a peer again so often, if its address is in doubt or was left; every other with each count.
const HOLD_INTERVAL: Duration = Duration::from_millis(20);
/// For so long after it was left.
const HELD_AFTER: Duration = Duration::from_secs(3);

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Where the packets of each peer go; `None` onto its ferry, or to the side socket that took its place.
    endpoints: BTreeMap<PublicKey, Option<SocketAddr>>,
    left_at: BTreeMap<PublicKey, Mono>,
    /// The last packet of each: a copy of it is dropped.
    newest: BTreeMap<PublicKey, u64>,
}

/// A node with the kernel's WireGuard talks to another; what it sends directly begins to be lost, and nothing else. From then to the last
/// packet that went no other way, if its shell holds its peers, or does not.
pub fn lost_by_kernel(seed: u64, holds: bool) -> Duration {
    const SETTLED: Duration = Duration::from_secs(6);
    const UNTIL: Duration = Duration::from_secs(12);
    let mut network = Network::default();
    for number in [1, 2] {
        network.hosts.push(Host {
            segment: INTERNET,
            v4: Some(std::net::Ipv4Addr::new(198, 51, 100, number).into()),
            v6: None,
            firewall: None,
            blocked: false,
            carries: CARRIES_ALL,
        });
    }
    let mut world =
        World::over(network, Fault::Nothing, Dice::new(seed, "kernel"), Trace::new(Verbosity::Silent));
    world.begin();
    for (node, kernel) in [Some(Kernel::default()), None].into_iter().enumerate() {
        let closely = kernel.is_none();
        world.nodes[node].kernel = kernel;
        world.tell(node, PathInput::Counts { closely });
    }
    world.sabotage = (!holds).then_some(MeshSabotage::NobodyHolds);
    let after = SETTLED + world.dice.millis(0, 1000);
    world.soon(after, Happening::Break(Break::Ours(0)));
    while let Some((at, happening)) = world.queue.pop().filter(|(at, _)| at.since(Mono::default()) < UNTIL) {
        world.at = at;
        world.happen(happening);
    }
    assert!(!matches!(world.way(0, 1), Way::Direct(_)), "it was direct, and is not any more");
    world.lost_for
}

/// An address that the kernel knows.
fn outside(address: SocketAddr) -> Option<SocketAddr> {
    Some(address).filter(|address| side(*address).is_none())
}

impl World {
    /// A node sends a peer's packets another way than this from now on, or over a relay as well, or no longer.
    pub(super) fn turned(&mut self, node: usize, peer: PublicKey, before: Option<Way>) {
        let now = self.at;
        let way = self.nodes[node].ways.get(&peer).copied();
        let Some(kernel) = &mut self.nodes[node].kernel else { return };
        if matches!(before, Some(Way::Direct(_))) && before != way {
            kernel.left_at.insert(peer, now);
        }
        self.point(node, peer);
        if !std::mem::replace(&mut self.holds, true) {
            self.soon(HOLD_INTERVAL, Happening::Hold);
        }
    }

    fn point(&mut self, node: usize, peer: PublicKey) {
        let node = &mut self.nodes[node];
        let to = match node.ways.get(&peer) {
            Some(Way::Direct(address)) if !node.doubled.contains_key(&peer) => outside(*address),
            _ => None,
        };
        if let Some(kernel) = &mut node.kernel {
            kernel.endpoints.insert(peer, to);
        }
    }

    /// Points everybody where they should be.
    pub(super) fn point_all(&mut self, node: usize) {
        let kernel = self.nodes[node].kernel.as_ref();
        let peers: Vec<_> = kernel.into_iter().flat_map(|kernel| kernel.endpoints.keys().copied()).collect();
        peers.into_iter().for_each(|peer| self.point(node, peer));
    }

    /// Points those who are held, for as long as there are any.
    pub(super) fn hold(&mut self) {
        let mut held = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(kernel) = &node.kernel else { continue };
            let left = kernel.left_at.iter().filter(|(_, left_at)| self.at.since(**left_at) < HELD_AFTER);
            held.extend(left.map(|(peer, _)| peer).chain(node.doubled.keys()).map(|peer| (at, *peer)));
        }
        self.holds = !held.is_empty();
        if self.sabotage != Some(MeshSabotage::NobodyHolds) {
            held.into_iter().for_each(|(node, peer)| self.point(node, peer));
        }
        if self.holds {
            self.soon(HOLD_INTERVAL, Happening::Hold);
        }
    }

    /// A packet of a peer came from there, or by its ferry.
    pub(super) fn follow(&mut self, node: usize, peer: PublicKey, number: u64, by: Way) {
        let Some(kernel) = &mut self.nodes[node].kernel else { return };
        let newest = kernel.newest.entry(peer).or_default();
        if *newest < number {
            *newest = number;
            let from = if let Way::Direct(from) = by { outside(from) } else { None };
            kernel.endpoints.insert(peer, from);
        }
    }

    /// To which address a packet goes, and over which relays.
    pub(super) fn goes(&self, from: usize, to: usize) -> (Option<SocketAddr>, Vec<RelayId>) {
        let (node, key) = (&self.nodes[from], self.nodes[to].key);
        let (at, over) = match self.way(from, to) {
            Way::Direct(address) => (Some(address), node.doubled.get(&key).copied().into_iter().collect()),
            Way::Relayed(_) if node.racing.contains(&key) => (None, node.relays.clone()),
            Way::Relayed(relay) => (None, vec![relay]),
            Way::ViaHub => (None, Vec::new()),
        };
        match node.kernel.as_ref().and_then(|kernel| kernel.endpoints.get(&key)) {
            Some(Some(address)) => (Some(*address), Vec::new()),
            Some(None) if over.is_empty() && at.is_none_or(|at| side(at).is_none()) => {
                let came_over = node.came_over.get(&key).copied();
                (None, vec![came_over.unwrap_or_else(|| first_relay(&node.relays))])
            }
            Some(None) | None => (at, over),
        }
    }
}
