//! How packets reach each peer: directly, over a relay, or through the hub. Sans-IO, and apart from snapshots, which hold
//! nothing of it: what is found here is forgotten when the program ends.
//!
//! ```text
//!   traffic, hints, datagrams, relays, addresses ──▶ Paths ──▶ datagrams, hints, "steer this peer there"
//!                                                     ├─ local: where we may be reached, by STUN and by what is told
//!                                                     ├─ life: how long NATs remember us
//!                                                     └─ peer, one for each that is talked to
//!                                                         ├─ session: hints and probes, sealed
//!                                                         ├─ route: one for each address
//!                                                         └─ over: which relay reaches it; a route for each
//! ```
//!
//! A peer that nobody talks to costs nothing here: its packets go to the relay, and the first of them begins the search.
//! Only a ping that was answered makes a path, and only answers keep it: what a server, a relay or a peer says about an
//! address makes it a candidate and no more.

mod address;
mod birthday;
mod budget;
mod detour;
mod guess;
mod life;
mod local;
mod needs;
mod over;
mod pace;
mod packet;
mod peer;
mod route;
mod seal;
mod session;
mod side;
mod talk;
mod width;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use model::time::Deadline;
use model::{DeviceId, Mono, PrivateKey, PublicKey};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub use address::{CandidateKind, Mapping, is_beyond, is_private};
use birthday::Birthdays;
use detour::Detour;
use life::{Life, Trial};
use local::Local;
use needs::Needs;
use pace::{Load, Rate};
use packet::{HintBody, Packet, Tag};
use peer::{Around, Peer, Wish};
use session::{Session, Worth};
pub use side::{SideId, place, real, side};
pub use talk::{
    CLOSE_COUNT_INTERVAL, Candidate, ConnectedRelay, PROBES_PER_SECOND_MAX, PathInput, PathOutput,
    PathStatus, RelayId, Way, WhyNotDirect,
};

/// The least time between two looks at one peer that nothing happened to.
const MOMENT: Duration = Duration::from_millis(1);

/// The relay over which the packets of a peer go that is not steered, of those that are connected, the nearest first.
pub fn first_relay(connected: &[RelayId]) -> RelayId {
    over::common(connected).unwrap_or(RelayId::SERVER)
}

/// UDP that came so long ago still says that it comes through: a peer that is talked to is asked at least that often.
const UDP_LATELY: Duration = Duration::from_secs(60);

/// Whether a datagram at WireGuard's socket may be for [`Paths`]: what is not costs no more than this look.
pub fn concerns(datagram: &[u8]) -> bool {
    matches!(packet::parse(datagram), Some(Packet::Probe(_))) || stun::response(datagram).is_some()
}

/// The paths of one device.
#[derive(Debug)]
pub struct Paths {
    private: PrivateKey,
    own: PublicKey,
    rng: ChaCha20Rng,
    known: BTreeMap<PublicKey, DeviceId>,
    keys: BTreeMap<DeviceId, PublicKey>,
    /// Those that are talked to.
    peers: BTreeMap<PublicKey, Peer>,
    tags: BTreeMap<Tag, PublicKey>,
    local: Local,
    life: Life,
    detour: Detour,
    relays: Vec<RelayId>,
    /// When a probe came from beyond this network last.
    udp_came_at: Option<Mono>,
    /// How far those are that were measured.
    relay_round_trips: BTreeMap<RelayId, Duration>,
    /// The shell can tell the bytes of a peer often.
    counts_closely: bool,
    birthdays: Birthdays,
    needs: Needs,
    out: VecDeque<PathOutput>,
    /// When each peer is due, and the same by time.
    due: BTreeMap<PublicKey, Mono>,
    queue: BTreeSet<(Mono, PublicKey)>,
    /// What every peer was last told of: candidates and relays.
    told: (u64, Vec<RelayId>),
    /// What direct paths bring in.
    load: Load,
}

impl Paths {
    /// `seed` is 32 random bytes.
    pub fn new(private: PrivateKey, seed: [u8; 32]) -> Self {
        Self {
            own: private.public(),
            private,
            rng: ChaCha20Rng::from_seed(seed),
            known: BTreeMap::new(),
            keys: BTreeMap::new(),
            peers: BTreeMap::new(),
            tags: BTreeMap::new(),
            local: Local::default(),
            life: Life::default(),
            detour: Detour::default(),
            relays: Vec::new(),
            udp_came_at: None,
            relay_round_trips: BTreeMap::new(),
            counts_closely: true,
            birthdays: Birthdays::default(),
            needs: Needs::default(),
            out: VecDeque::new(),
            due: BTreeMap::new(),
            queue: BTreeSet::new(),
            told: (0, Vec::new()),
            load: Load::default(),
        }
    }

    /// Takes what the shell says. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, input: PathInput, now: Mono) {
        match input {
            PathInput::Peer { key, device } => self.set_peer(&key, device),
            PathInput::Interfaces(addresses) => self.local.set_interfaces(addresses),
            PathInput::Mapped(address) => self.local.set_mapped(address),
            PathInput::StunServers(servers) => {
                self.life.set_servers(&servers, now);
                self.local.set_servers(servers);
                self.detour.anew();
            }
            PathInput::Tried { from, bytes } => {
                let local = &self.local;
                self.life.heard(from, &bytes, |address| local.is_of_interface(address), now);
            }
            PathInput::Moved => self.moved(now),
            PathInput::Relays(relays) => {
                self.relays = relays.iter().map(|relay| relay.id).collect();
                let measured = relays.into_iter().filter_map(|r| r.round_trip.map(|time| (r.id, time)));
                self.relay_round_trips = measured.collect();
            }
            PathInput::SidesFailed(key) => {
                let birthdays = &mut self.birthdays;
                self.peers.get_mut(&key).into_iter().for_each(|peer| peer.sides_failed(birthdays, now));
                self.touch(key);
            }
            PathInput::Birthdays { on } => {
                self.birthdays.set(on);
                self.touch_all(|_| {});
            }
            PathInput::Datagram { from, bytes } => self.take_datagram(from, &bytes, now),
            PathInput::Sided { side, from, bytes } => {
                if let (Some(Packet::Probe(packet)), SocketAddr::V4(from)) = (packet::parse(&bytes), from) {
                    self.take_probe(&packet, Some(place(side, from)), RelayId::SERVER, now);
                }
            }
            PathInput::Relayed { relay, from, bytes } => match packet::parse(&bytes) {
                Some(Packet::Probe(packet)) => self.take_probe(&packet, None, relay, now),
                Some(Packet::Hint(packet)) => self.take_hint(from, &packet, true, now),
                None => {}
            },
            PathInput::Hinted { from, sealed } => {
                if let Some(Packet::Hint(packet)) = packet::parse(&sealed) {
                    self.take_hint(from, &packet, false, now);
                }
            }
            PathInput::Wanted(key) => {
                if let Some(peer) = self.peer(&key, now) {
                    peer.wanted(now);
                    self.local.refresh(now);
                    self.touch(key);
                }
            }
            PathInput::Counts { closely } => {
                self.counts_closely = closely;
                self.touch_all(|_| {});
            }
            PathInput::Counted { peer, sent, received } => {
                let is_news =
                    self.peers.get_mut(&peer).is_some_and(|counted| counted.counted(sent, received, now));
                if is_news {
                    self.touch(peer);
                }
            }
        }
        self.advance(now);
    }

    /// The machine is on another network: nothing that was learnt in the former holds.
    fn moved(&mut self, now: Mono) {
        self.life.moved(now);
        self.local.moved();
        self.detour.anew();
        self.udp_came_at = None;
        self.touch_all(|peer| peer.moved(now));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.advance(now);
    }

    /// The next thing to do. Call until it is `None`.
    pub fn poll_output(&mut self) -> Option<PathOutput> {
        self.out.pop_front()
    }

    /// When [`Self::handle_timeout`] is due. Ask again after each call of another method.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let local = self.local.deadline().map(|at| Deadline { at, why: "ask where we are" });
        let peers = self.queue.first().map(|(at, _)| Deadline { at: *at, why: "look for a path" });
        let life = self.life.deadline().map(|at| Deadline { at, why: "learn what NATs remember" });
        let detour = self.detour.deadline().map(|at| Deadline { at, why: "ask whether UDP comes through" });
        local.into_iter().chain(peers).chain(life).chain(detour).min()
    }

    /// How packets go to a peer. `None`: nobody talks to it, or it is none.
    pub fn status(&self, peer: &PublicKey, now: Mono) -> Option<PathStatus> {
        let peer = self.peers.get(peer)?;
        Some(PathStatus {
            way: match peer.way() {
                Way::Direct(address) => Way::Direct(real(address)),
                other => other,
            },
            age: now.since(peer.way_since()),
            round_trip: peer.round_trip(),
            why_not_direct: peer.why_not_direct(self.mapping(now), self.local.is_unanswered(), now),
        })
    }

    /// Where this device may be reached, as a hint says it.
    pub fn candidates(&self) -> Vec<Candidate> {
        let adverts = self.local.candidates();
        adverts.into_iter().map(|a| Candidate { address: a.address, kind: a.kind }).collect()
    }

    /// Seconds between keepalives that keep a way in open here, as far as that was learnt; 0: none are needed.
    pub fn keepalive(&self) -> Option<u16> {
        self.life.keepalive()
    }

    /// Learns anew where this device may be reached, unless that is fresh.
    pub fn refresh(&mut self, now: Mono) {
        self.local.refresh(now);
        self.advance(now);
    }

    fn set_peer(&mut self, key: &PublicKey, device: Option<DeviceId>) {
        let device = device.filter(|_| *key != self.own);
        let before = match device {
            Some(device) => self.known.insert(*key, device),
            None => self.known.remove(key),
        };
        if before == device {
            return;
        }
        if let Some(before) = before {
            // The device may have another key by now.
            if self.keys.get(&before) == Some(key) {
                self.keys.remove(&before);
                self.birthdays.forget(before);
            }
            self.drop_peer(key);
        }
        if let Some(device) = device {
            self.keys.insert(device, *key);
        }
        self.out.push_back(PathOutput::Peer { key: *key, device });
    }

    fn drop_peer(&mut self, key: &PublicKey) {
        if let Some(peer) = self.peers.remove(key) {
            self.tags.remove(&peer.tag());
            self.load.change(peer.load(), Rate::default());
            self.needs.set(*key, [None; 2]);
            self.birthdays.end_search(peer.device);
            self.birthdays.end_guess(peer.device);
            if peer.has_sides() {
                self.out.push_back(PathOutput::CloseSides { peer: *key, but: None });
            }
            if peer.way() == Way::ViaHub {
                // The next packet begins as with any peer that nobody talked to.
                self.out.push_back(PathOutput::Steer { peer: *key, way: self.first_way() });
            }
            self.schedule(*key, None);
            self.out.push_back(PathOutput::Watch { peer: *key, on: false });
        }
    }

    /// How the packets of a peer go that nobody talked to.
    fn first_way(&self) -> Way {
        Way::Relayed(first_relay(&self.relays))
    }

    /// A peer that is talked to from now on, if it is a peer.
    fn peer(&mut self, key: &PublicKey, now: Mono) -> Option<&mut Peer> {
        if !self.peers.contains_key(key) {
            let device = *self.known.get(key)?;
            let (mut tag, mut epoch) = (Tag::default(), [0; 16]);
            self.rng.fill_bytes(&mut tag);
            self.rng.fill_bytes(&mut epoch);
            let session = Session::new(&self.private, self.own, *key, tag, epoch)?;
            let way = self.first_way();
            self.tags.insert(tag, *key);
            self.peers.insert(*key, Peer::new(device, session, way, now));
            self.out.push_back(PathOutput::Watch { peer: *key, on: true });
        }
        self.peers.get_mut(key)
    }

    fn take_hint(&mut self, from: DeviceId, packet: &packet::HintPacket<'_>, by_relay: bool, now: Mono) {
        let Some(key) = self.keys.get(&from).copied() else { return };
        let is_new = !self.peers.contains_key(&key);
        let Some(peer) = self.peer(&key, now) else { return };
        match peer.take_hint(packet, by_relay, now) {
            // It looks for us, perhaps because we are not any more where it was told.
            Some(Worth::News) => self.local.doubt(now),
            // What may be old asks for nothing more than an answer.
            Some(Worth::Unproven) => self.local.refresh(now),
            Some(Worth::Nothing) => return,
            None if is_new => return self.drop_peer(&key),
            None => return,
        }
        self.touch(key);
    }

    fn take_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Mono) {
        if stun::is_stun(bytes) {
            self.local.answered(from, bytes, now);
        } else if let Some(Packet::Probe(packet)) = packet::parse(bytes)
            // Nobody comes from an address that stands for a socket of ours.
            && side(from).is_none()
        {
            self.take_probe(&packet, Some(address::canonical(from)), RelayId::SERVER, now);
        }
    }

    fn take_probe(
        &mut self,
        packet: &packet::ProbePacket<'_>,
        from: Option<SocketAddr>,
        by: RelayId,
        now: Mono,
    ) {
        let Some(key) = self.tags.get(&packet.tag).copied() else { return };
        let mut is_its = false;
        self.with_peer(&key, now, |peer, around, wishes| {
            // What is not the peer's is as if it had not come.
            is_its = peer.take_probe(packet, from, by, around, wishes).is_some();
        });
        if is_its && from.is_some_and(|from| is_beyond(real(from))) {
            self.udp_came_at = Some(now);
        }
        self.touch(key);
    }

    /// Lets the peer be looked at in this turn.
    fn touch(&mut self, key: PublicKey) {
        self.schedule(key, Some(Mono::default()));
    }

    fn touch_all(&mut self, act: impl Fn(&mut Peer)) {
        self.peers.values_mut().for_each(act);
        let keys: Vec<PublicKey> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.touch(key));
    }

    fn schedule(&mut self, key: PublicKey, at: Option<Mono>) {
        let before = match at {
            Some(at) => self.due.insert(key, at),
            None => self.due.remove(&key),
        };
        if let Some(before) = before {
            self.queue.remove(&(before, key));
        }
        self.queue.extend(at.map(|at| (at, key)));
    }

    /// Lets those do what is due that are due.
    fn advance(&mut self, now: Mono) {
        self.doubt_udp(now);
        let requests = self.local.advance(now, &mut self.rng);
        self.out.extend(requests.into_iter().map(|(to, bytes)| PathOutput::Probe { to, bytes }));
        let trial = self.life.advance(now, &mut self.rng);
        self.out.extend(trial.map(|Trial { quiet, to, bytes }| PathOutput::Try { quiet, to, bytes }));
        self.advance_peers(now);
        self.weigh_udp(now);
        self.out.extend(self.needs.news().map(PathOutput::Need));
    }

    fn advance_peers(&mut self, now: Mono) {
        loop {
            let news = (self.local.version(), &self.relays);
            if (self.told.0, &self.told.1) != news {
                self.told = (news.0, news.1.clone());
                self.touch_all(|_| {});
            }
            let Some((at, key)) = self.queue.first().copied().filter(|(at, _)| *at <= now) else { return };
            self.with_peer(&key, now, |peer, around, wishes| peer.advance(around, wishes));
            match self.peers.get(&key) {
                Some(peer) if !peer.is_cold(now) => {
                    // What is due at once was just done: a peer never spins.
                    let next = peer.deadline(&self.relays, now).map(|next| next.max(now + MOMENT));
                    self.schedule(key, next);
                }
                Some(_) => self.drop_peer(&key),
                None => self.schedule(key, None),
            }
            debug_assert!(self.queue.first() != Some(&(at, key)), "each is looked at once");
        }
    }

    fn with_peer(
        &mut self,
        key: &PublicKey,
        now: Mono,
        act: impl FnOnce(&mut Peer, &mut Around<'_>, &mut Vec<Wish>),
    ) {
        let hint = HintBody {
            tag: Tag::default(),
            epoch: [0; 16],
            echo: None,
            number: 0,
            candidates: self.local.candidates(),
            relay: self.relays.first().map(|relay| relay.0),
            mapping: self.mapping(now),
            probe_bytes_max: Some(packet::OWN_PROBE_BYTES_MAX),
            guesses_max: self.birthdays.guesses_max(),
            sides: None,
        };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let mut wishes = Vec::new();
        let mut around = Around {
            now,
            rng: &mut self.rng,
            hint: &hint,
            hint_version: self.local.version(),
            relays: &self.relays,
            relay_round_trips: &self.relay_round_trips,
            counts_closely: self.counts_closely,
            stretch: self.load.stretch(),
            birthdays: &mut self.birthdays,
        };
        act(peer, &mut around, &mut wishes);
        let (before, after) = peer.count_load(&around);
        self.load.change(before, after);
        self.needs.set(*key, peer.needs(now));
        let to = peer.device;
        for wish in wishes {
            self.out.push_back(match wish {
                Wish::Probe(to, bytes) => PathOutput::Probe { to, bytes },
                Wish::Relay(relay, bytes) => PathOutput::Relay { relay, to, bytes },
                Wish::Hint { sealed, over_relays } => PathOutput::Hint { to, sealed, over_relays },
                Wish::Steer(way) => PathOutput::Steer { peer: *key, way },
                Wish::OpenSides { first, count } => PathOutput::OpenSides { peer: *key, first, count },
                Wish::CloseSides { but } => PathOutput::CloseSides { peer: *key, but },
                Wish::Race(on) => PathOutput::Race { peer: *key, on },
                Wish::Double(over) => PathOutput::Double { peer: *key, over },
                Wish::Closely(on) => PathOutput::Closely { peer: *key, on },
                Wish::Seen(address) => {
                    self.local.seen(address);
                    continue;
                }
                Wish::Doubt => {
                    self.local.doubt(now);
                    continue;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
