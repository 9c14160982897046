//! What the devices of a run send each other, what is counted of it, and what somebody hostile plays again of it. Chooses
//! no way, and judges nothing.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{CLOSE_COUNT_INTERVAL, PathInput, RelayId, Way, first_relay};
use model::{Mono, PublicKey};

use super::super::network::FULL_BYTES;
use super::{Happening, MeshSabotage, STRANGER, World};

/// Between two packets of one that talks.
const PACKET_INTERVAL: Duration = Duration::from_millis(100);
/// One packet in so many is of full size.
const FULL_EVERY: u64 = 3;
const SHORT_BYTES: usize = 100;
/// What is sealed is understood so long after the last message (Reject-After-Time in section 6.1 of WireGuard's paper).
const SESSION_LIFE: Duration = Duration::from_secs(180);
/// And a handshake is begun anew after so long (Rekey-Timeout).
const INITIATION_LIFE: Duration = Duration::from_secs(5);
/// What somebody hostile remembers.
const RECORDED_MAX: usize = 64;

/// What WireGuard sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Initiation,
    Response,
    /// A packet of so many bytes.
    Data(usize),
}

impl Message {
    const fn length(self) -> usize {
        match self {
            Self::Initiation | Self::Response => SHORT_BYTES,
            Self::Data(length) => length,
        }
    }
}

/// One side's of WireGuard with a peer: without one a packet waits for a handshake.
#[derive(Debug, Default)]
pub(super) struct Session {
    used: Option<Mono>,
    initiated: Option<Mono>,
}

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

    /// A packet for another node. Without a session it waits for one.
    pub(super) fn packet(&mut self, from: usize, to: usize, length: usize) {
        if self.way(from, to) == Way::ViaHub {
            // With whom everybody has a session.
            return self.give(from, to, Message::Data(length));
        }
        let (now, key) = (self.at, self.nodes[to].key);
        let session = self.nodes[from].sessions.entry(key).or_default();
        let is_fresh = |at: Option<Mono>, life| at.is_some_and(|at| now.since(at) < life);
        if is_fresh(session.used, SESSION_LIFE) {
            self.give(from, to, Message::Data(length));
        } else if !is_fresh(session.initiated, INITIATION_LIFE) {
            session.initiated = Some(now);
            self.give(from, to, Message::Initiation);
        }
    }

    /// The last handshake once more, over these relays: what else is lost is not sent again.
    pub(super) fn begin_again(&mut self, from: usize, peer: PublicKey, relays: &[RelayId]) {
        let initiated = self.nodes[from].sessions.get(&peer).and_then(|session| session.initiated);
        let Some(to) = self.nodes.iter().position(|node| node.key == peer) else { return };
        if initiated.is_some_and(|at| self.at.since(at) < INITIATION_LIFE) {
            self.packets += 1;
            self.give_over(from, to, relays, Message::Initiation, self.packets);
        }
    }

    fn give(&mut self, from: usize, to: usize, message: Message) {
        let way = self.way(from, to);
        let key = self.nodes[to].key;
        if way != Way::ViaHub {
            self.nodes[from].counted.entry(key).or_default().0 += 100;
        }
        self.packets += 1;
        let number = self.packets;
        if way == Way::ViaHub {
            if self.hub_up {
                let delay = self.delay();
                self.soon(delay * 2, Happening::Packet { to, from, by: way, message, number });
            }
            return;
        }
        let (at, over) = self.goes(from, to);
        // What is left to the hub is not told from its other packets.
        if !over.is_empty() && !self.nodes[from].doubled.contains_key(&key) {
            self.tell(from, PathInput::Wanted(key));
        }
        if let Some(address) = at {
            let arrives = |to, seen| {
                let by = Way::Direct(seen);
                Happening::Packet { to, from, by, message, number }
            };
            self.send(from, address, arrives, &[], message.length());
            if over.is_empty() {
                self.judge_loss(from, to);
            }
        }
        self.give_over(from, to, &over, message, number);
    }

    fn give_over(&mut self, from: usize, to: usize, relays: &[RelayId], message: Message, number: u64) {
        if self.sabotage == Some(MeshSabotage::RelayEatsPackets) {
            return;
        }
        for relay in relays {
            if self.relays_to(from, to, *relay) {
                let (delay, by) = (self.delay(), Way::Relayed(*relay));
                self.soon(delay * 2, Happening::Packet { to, from, by, message, number });
            }
        }
    }

    /// A message arrives: whoever left a peer to the hub takes its packets from the hub only, and the other way round.
    pub(super) fn arrive(&mut self, to: usize, from: usize, by: Way, message: Message, number: u64) {
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
            self.follow(to, key, number, by);
        }
        let now = self.at;
        let begins = |world: &mut Self| world.nodes[to].sessions.entry(key).or_default().used = Some(now);
        match message {
            Message::Initiation => self.give(to, from, Message::Response),
            Message::Response => {
                begins(self);
                // What waited.
                self.give(to, from, Message::Data(SHORT_BYTES));
            }
            Message::Data(length) => {
                if by != Way::ViaHub {
                    begins(self);
                }
                self.hear(to, from, length);
            }
        }
    }

    fn hear(&mut self, to: usize, from: usize, length: usize) {
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
            self.point_all(node);
            let watched: Vec<PublicKey> = self.nodes[node].watched.iter().copied().collect();
            for peer in watched {
                if self.sabotage == Some(MeshSabotage::TrafficNeverEnds) {
                    let key = peer;
                    self.nodes[node].counted.entry(key).or_default().0 += 1;
                }
                self.count_peer(node, peer);
            }
        }
        self.soon(Duration::from_secs(1), Happening::Count);
    }

    /// The same of those whose direct paths carry packets, for as long as there are any.
    pub(super) fn count_closely(&mut self) {
        for node in 0..self.nodes.len() {
            for peer in self.nodes[node].close.clone() {
                self.count_peer(node, peer);
            }
        }
        self.counts_closely = self.nodes.iter().any(|node| !node.close.is_empty());
        if self.counts_closely {
            self.soon(CLOSE_COUNT_INTERVAL, Happening::CountClosely);
        }
    }

    fn count_peer(&mut self, node: usize, peer: PublicKey) {
        let (sent, received) = self.nodes[node].counted.get(&peer).copied().unwrap_or_default();
        self.tell(node, PathInput::Counted { peer, sent, received });
    }
}
