//! What the devices of a run send each other, what is counted of it, and what somebody hostile plays again of it. Chooses
//! no way, and judges nothing.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{PathInput, Way, first_relay};
use model::PublicKey;

use super::super::network::FULL_BYTES;
use super::{Happening, MeshSabotage, STRANGER, World};

/// Between two packets of one that talks.
const PACKET_INTERVAL: Duration = Duration::from_millis(100);
/// One packet in so many is of full size.
const FULL_EVERY: u64 = 3;
const SHORT_BYTES: usize = 100;
/// What somebody hostile remembers.
const RECORDED_MAX: usize = 64;

impl World {
    pub(super) fn record(&mut self, to: usize, from: usize, bytes: &[u8]) {
        if self.recorded.len() < RECORDED_MAX {
            self.recorded.push((to, from, bytes.to_vec()));
        } else {
            let at = self.dice.below(RECORDED_MAX);
            self.recorded[at] = (to, from, bytes.to_vec());
        }
    }

    /// What was heard is played again, from elsewhere, to whom it was for and to others, bent or as it was.
    pub(super) fn attack(&mut self) {
        let from: SocketAddr = STRANGER.parse().expect("an address");
        let Some((to, by, mut bytes)) = self.dice.pick(&self.recorded).cloned() else { return };
        let to = if self.dice.chance(700) { to } else { self.dice.below(self.nodes.len()) };
        if self.dice.chance(300) {
            let at = self.dice.below(bytes.len());
            bytes[at] ^= 1;
        }
        let input = match bytes.first() {
            Some(0xD8) => PathInput::Hinted { from: self.nodes[by].device, sealed: bytes },
            _ => PathInput::Datagram { from, bytes },
        };
        self.tell(to, input);
    }

    /// Each of a pair sends the other a packet.
    pub(super) fn talk(&mut self) {
        if !self.talking {
            return;
        }
        for pair in 0..self.pairs.len() {
            let [a, b] = self.pairs[pair].nodes;
            let length = if self.ticks.is_multiple_of(FULL_EVERY) { FULL_BYTES } else { SHORT_BYTES };
            self.packet(a, b, length);
            self.packet(b, a, length);
        }
        self.ticks += 1;
        self.judge_silence();
        if self.dice.chance(200) {
            self.attack();
        }
        self.soon(PACKET_INTERVAL, Happening::Talk);
    }

    pub(super) fn way(&self, from: usize, to: usize) -> Way {
        if self.nodes[from].is_mute {
            return Way::ViaHub;
        }
        let way = self.nodes[from].ways.get(&self.nodes[to].key);
        let came_over = || self.nodes[from].came_over.get(&self.nodes[to].key).copied();
        let first = || Way::Relayed(came_over().unwrap_or_else(|| first_relay(&self.nodes[from].relays)));
        way.copied().unwrap_or_else(first)
    }

    pub(super) fn packet(&mut self, from: usize, to: usize, length: usize) {
        let way = self.way(from, to);
        let key = self.nodes[to].key;
        if way != Way::ViaHub {
            self.nodes[from].counted.entry(key).or_default().0 += 100;
        }
        // What is left to the hub is not told from its other packets.
        if matches!(way, Way::Relayed(_)) {
            self.tell(from, PathInput::Wanted(key));
        }
        match way {
            Way::Direct(address) => {
                let arrives = |host, _| Happening::Packet { to: host, from, by: way, length };
                self.send(from, address, arrives, &[], length);
            }
            Way::Relayed(_) if self.sabotage == Some(MeshSabotage::RelayEatsPackets) => {}
            Way::Relayed(relay) => {
                let node = &self.nodes[from];
                let over = if node.racing.contains(&key) { node.relays.clone() } else { vec![relay] };
                for relay in
                    over.into_iter().filter(|relay| self.relays_to(from, to, *relay)).collect::<Vec<_>>()
                {
                    let delay = self.delay();
                    let by = Way::Relayed(relay);
                    self.soon(delay * 2, Happening::Packet { to, from, by, length });
                }
            }
            Way::ViaHub if !self.hub_up => {}
            Way::ViaHub => {
                let delay = self.delay();
                self.soon(delay * 2, Happening::Packet { to, from, by: way, length });
            }
        }
    }

    /// A packet arrives: whoever left a peer to the hub takes its packets from the hub only, and the other way round.
    pub(super) fn arrive(&mut self, to: usize, from: usize, by: Way, length: usize) {
        let via_hub = self.way(to, from) == Way::ViaHub;
        if via_hub != (by == Way::ViaHub) {
            return;
        }
        let key = self.nodes[from].key;
        if let Way::Relayed(relay) = by {
            self.nodes[to].came_over.insert(key, relay);
        }
        if by != Way::ViaHub {
            self.nodes[to].counted.entry(key).or_default().1 += 100;
        }
        for pair in &mut self.pairs {
            let Some(side) = pair.nodes.iter().position(|node| *node == to) else { continue };
            if pair.nodes[1 - side] == from {
                pair.heard[side] = self.at;
                if length == FULL_BYTES {
                    pair.heard_full[side] = self.at;
                }
            }
        }
    }

    pub(super) fn count(&mut self) {
        for node in 0..self.nodes.len() {
            let watched: Vec<PublicKey> = self.nodes[node].watched.iter().copied().collect();
            for peer in watched {
                if self.sabotage == Some(MeshSabotage::TrafficNeverEnds) {
                    let key = peer;
                    self.nodes[node].counted.entry(key).or_default().0 += 1;
                }
                let (sent, received) = self.nodes[node].counted.get(&peer).copied().unwrap_or_default();
                self.tell(node, PathInput::Counted { peer, sent, received });
            }
        }
        self.soon(Duration::from_secs(1), Happening::Count);
    }
}
