//! What the devices of a run send each other, what is counted of it, and what somebody hostile plays again of it. Chooses
//! no way, and judges nothing.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{PathInput, RelayId, Way};
use model::PublicKey;

use super::{Happening, MeshSabotage, STRANGER, World};

/// Between two packets of one that talks.
const PACKET_INTERVAL: Duration = Duration::from_millis(100);
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
            self.packet(a, b);
            self.packet(b, a);
        }
        self.judge_silence();
        if self.dice.chance(200) {
            self.attack();
        }
        self.soon(PACKET_INTERVAL, Happening::Talk);
    }

    pub(super) fn way(&self, from: usize, to: usize) -> Way {
        let way = self.nodes[from].ways.get(&self.nodes[to].key);
        way.copied().unwrap_or(Way::Relayed(RelayId::SERVER))
    }

    pub(super) fn packet(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        let key = self.nodes[to].key;
        self.nodes[from].counted.entry(key).or_default().0 += 100;
        if !matches!(way, Way::Direct(_)) {
            self.tell(from, PathInput::Wanted(key));
        }
        match way {
            Way::Direct(address) => {
                let arrives = |host, _| Happening::Packet { to: host, from, by: way };
                self.send(from, address, arrives, &[]);
            }
            Way::Relayed(_) if !self.server_up => {}
            Way::Relayed(_) if self.sabotage == Some(MeshSabotage::RelayEatsPackets) => {}
            Way::Relayed(_) | Way::ViaHub => {
                let delay = self.delay();
                self.soon(delay * 2, Happening::Packet { to, from, by: way });
            }
        }
    }

    /// A packet arrives: whoever left a peer to the hub takes its packets from the hub only, and the other way round.
    pub(super) fn arrive(&mut self, to: usize, from: usize, by: Way) {
        let via_hub = self.way(to, from) == Way::ViaHub;
        if via_hub != (by == Way::ViaHub) {
            return;
        }
        let key = self.nodes[from].key;
        self.nodes[to].counted.entry(key).or_default().1 += 100;
        for pair in &mut self.pairs {
            if pair.nodes == [from, to] {
                pair.heard[1] = self.at;
            } else if pair.nodes == [to, from] {
                pair.heard[0] = self.at;
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
