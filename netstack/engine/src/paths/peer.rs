//! The paths to one peer: which addresses were tried, which answer, which one carries its packets. Knows no other peer.
//!
//! ```text
//!          traffic, or a hint                a ping was answered
//!  cold ──────────────────────▶ seeking ──────────────────────────▶ direct
//!   ▲                            │   ▲                                 │
//!   └──────── no traffic ────────┘   └───── two pings not answered ────┘
//! ```
//! In every state but direct the packets are relayed, or go through the hub where no relay carries them.

mod ask;
mod look;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{DeviceId, Mono};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::address::{CandidateKind, Mapping, canonical, may_be_reached};
use super::budget::Budget;
use super::guess::guesses;
use super::over::Over;
use super::packet::{HintBody, HintPacket, OWN_PROBE_BYTES_MAX, Probe, ProbePacket, Tag};
use super::route::{Route, better};
use super::seal::HINT_NONCE_BYTES;
use super::session::{Session, Worth};
use super::{RelayId, Way};
use ask::ping;

/// Pings of one search, from its beginning: NATs open with the first, and answers come with the second.
const SEEK_STEPS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
    Duration::from_millis(5000),
];
/// Guesses wait for this many steps.
const GUESS_STEP: usize = 2;
/// Between the ends of searches that found nothing, while there is traffic; the last is repeated.
const SEEK_AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60)];
/// A direct path that carries packets is asked so often whether it lives: with two answers that are waited for in vain, a path
/// that ends loses less than a second of packets.
const PING_INTERVAL: Duration = Duration::from_millis(400);
/// And so often where a few seconds passed without packets.
const PING_QUIET_INTERVAL: Duration = Duration::from_secs(1);
const LIVELY: Duration = Duration::from_secs(3);
/// One that could be better is measured so often.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);
/// A relay that carries packets is asked so often whether the peer is there, and every [`PING_QUIET_INTERVAL`] while it has not answered
/// or nothing comes back.
const RELAY_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Where no relay has answered for so long after a packet was sent, all are raced: hints and a ping take less than three trips to
/// the server, and one that is dead would lose packets until its link is given up.
const RACE_AFTER: Duration = Duration::from_millis(300);
/// Without packets for so long, nothing is probed and nothing is kept open.
pub(super) const TRAFFIC_LIFE: Duration = Duration::from_secs(120);
/// Between two hints to one peer at least.
const HINT_INTERVAL: Duration = Duration::from_millis(200);
/// Candidates of one peer: its hint's, and as many that were seen or guessed.
const ROUTES_MAX: usize = 32;
/// A peer that neither a direct path nor a relay reaches is left to the hub after so long: twice to the server and back, or to a
/// relay that is raced, takes less, and each packet until then is lost.
const HUB_AFTER: Duration = Duration::from_secs(1);
/// And where no relay is connected, so soon: a link that broke is back by then, or will be away for longer.
const HUB_AFTER_NO_RELAY: Duration = Duration::from_millis(500);
/// A peer that was left to the hub is asked at least so often whether it is there again.
const LEFT_ASK_INTERVAL_MAX: Duration = Duration::from_secs(600);
/// And for so long: afterwards the first packets are lost again to find out.
const LEFT_LIFE: Duration = Duration::from_secs(3600);

/// What a peer wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Send this to an address.
    Probe(SocketAddr, Vec<u8>),
    /// Send this over a relay.
    Relay(RelayId, Vec<u8>),
    /// Tell the peer where we are.
    Hint { sealed: Vec<u8>, over_relays: bool },
    /// Its packets go another way.
    Steer(Way),
    /// Its packets go over every relay, or no longer.
    Race(bool),
    /// A peer saw us there.
    Seen(SocketAddr),
    /// What was a path is none: we may be somewhere else than we were told.
    Doubt,
}

/// What the peers share, for one turn.
pub(super) struct Around<'a> {
    pub(super) now: Mono,
    pub(super) rng: &'a mut ChaCha20Rng,
    /// What a hint says of us.
    pub(super) hint: &'a HintBody,
    /// Grows when that changes.
    pub(super) hint_version: u64,
    /// The relays that are connected, the nearest first.
    pub(super) relays: &'a [RelayId],
}

/// The paths to one peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) device: DeviceId,
    session: Session,
    routes: BTreeMap<SocketAddr, Route>,
    over: Over,
    /// Since when it is not known which relay reaches the peer, though packets go over one.
    unproven_since: Option<Mono>,
    /// Its packets and hints go over every relay.
    races: bool,
    way: Way,
    /// The shell was told of it. Before, packets may also go over the relay by which the peer's came.
    is_steered: bool,
    way_since: Mono,
    traffic_at: Mono,
    /// When a packet of its came, to the second.
    heard_at: Option<Mono>,
    /// In the last second packets went and none came.
    is_silent: bool,
    search: Option<Search>,
    searches: usize,
    search_at: Option<Mono>,
    hint_due: bool,
    hint_sent: Option<(Mono, u64)>,
    hint_taken: bool,
    /// Its last hint came over a relay: its link may be dead, or ours.
    hint_by_relay: bool,
    relay: Option<RelayId>,
    mapping: Option<Mapping>,
    /// Whether it answers long probes.
    answers_long: bool,
    /// Where its NAT may let it come from, to be tried in this search.
    guesses: Vec<SocketAddr>,
    budget: Budget,
    /// Since when neither a direct path nor a relay carries the packets.
    lost_since: Option<Mono>,
    counted: (u64, u64),
}

#[derive(Debug)]
struct Search {
    since: Mono,
    step: usize,
}

impl Peer {
    pub(super) fn new(device: DeviceId, session: Session, way: Way, now: Mono) -> Self {
        Self {
            device,
            session,
            routes: BTreeMap::new(),
            over: Over::default(),
            unproven_since: None,
            races: false,
            way,
            is_steered: false,
            way_since: now,
            traffic_at: now,
            heard_at: None,
            is_silent: false,
            search: None,
            searches: 0,
            search_at: None,
            hint_due: false,
            hint_sent: None,
            hint_taken: false,
            hint_by_relay: false,
            relay: None,
            mapping: None,
            answers_long: false,
            guesses: Vec::new(),
            budget: Budget::new(now),
            lost_since: None,
            counted: (0, 0),
        }
    }

    pub(super) const fn tag(&self) -> Tag {
        self.session.tag()
    }

    pub(super) const fn way(&self) -> Way {
        self.way
    }

    pub(super) const fn way_since(&self) -> Mono {
        self.way_since
    }

    /// Round trip of the way in use, if it was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.way {
            Way::Direct(address) => self.routes.get(&address)?.round_trip(),
            Way::Relayed(_) => self.over.round_trip(),
            Way::ViaHub => None,
        }
    }

    /// Whether there is nothing to keep: no traffic, and nothing that was believed in.
    pub(super) fn is_cold(&self, now: Mono) -> bool {
        let is_kept = match self.way {
            Way::Direct(_) => true,
            Way::Relayed(_) => false,
            Way::ViaHub => now.since(self.way_since) < LEFT_LIFE,
        };
        !self.is_busy(now) && self.search.is_none() && !is_kept
    }

    fn is_busy(&self, now: Mono) -> bool {
        now.since(self.traffic_at) < TRAFFIC_LIFE
    }

    /// How often the direct path in use is asked whether it lives.
    fn ping_interval(&self, now: Mono) -> Duration {
        if now.since(self.traffic_at) < LIVELY { PING_INTERVAL } else { PING_QUIET_INTERVAL }
    }

    /// A packet for the peer did not go by a direct path.
    pub(super) fn wanted(&mut self, now: Mono) {
        let was_busy = self.is_busy(now);
        self.traffic_at = now;
        let is_idle = self.search.is_none() && self.search_at.is_none();
        if !matches!(self.way, Way::Direct(_)) && (is_idle || !was_busy) {
            self.seek(now);
        }
    }

    /// Bytes sent and received over WireGuard so far.
    pub(super) fn counted(&mut self, sent: u64, received: u64, now: Mono) {
        let (went, came) = (sent != self.counted.0, received != self.counted.1);
        if went || came {
            self.traffic_at = now;
        }
        if came {
            self.heard_at = Some(now);
        }
        self.is_silent = went && !came;
        self.counted = (sent, received);
    }

    /// Begins a search, or begins the present one anew.
    pub(super) fn seek(&mut self, now: Mono) {
        self.search = Some(Search { since: now, step: 0 });
        self.search_at = None;
        self.hint_due = true;
    }

    /// The machine is on another network: no path is believed in.
    pub(super) fn moved(&mut self, now: Mono) {
        self.routes.values_mut().for_each(Route::forget);
        self.over.forget();
        self.searches = 0;
        if self.is_busy(now) || matches!(self.way, Way::Direct(_)) {
            self.seek(now);
        }
    }

    /// Takes a hint. `false`: it is not the peer's.
    pub(super) fn take_hint(&mut self, packet: &HintPacket<'_>, by_relay: bool, now: Mono) -> bool {
        let Some((worth, body)) = self.session.open_hint(packet) else { return false };
        self.hint_by_relay = by_relay;
        match worth {
            Worth::Nothing => {}
            Worth::Unproven => self.hint_due = true,
            Worth::News => {
                self.hint_taken = true;
                self.hint_due |= self.session.owes_hint();
                self.relay = body.relay.map(RelayId);
                self.mapping = body.mapping;
                self.answers_long = body.probe_bytes_max.is_some_and(|max| max >= OWN_PROBE_BYTES_MAX);
                self.take_candidates(&body);
                if self.way == Way::ViaHub {
                    // It may be talked to: what the hub carries is not counted.
                    self.traffic_at = now;
                }
                let seen = body.candidates.iter().filter(|c| c.kind == CandidateKind::Reflexive);
                let seen: Vec<SocketAddr> = seen.map(|c| canonical(c.address)).collect();
                let counts = self.mapping == Some(Mapping::PortDependent);
                self.guesses = if counts { guesses(&seen) } else { Vec::new() };
                if self.search.is_none() && !matches!(self.way, Way::Direct(_)) {
                    // It looks for us: our packets must open our NAT for its.
                    self.search = Some(Search { since: now, step: 0 });
                } else if let Some(search) = &mut self.search {
                    (search.since, search.step) = (now, 0);
                }
            }
        }
        true
    }

    fn take_candidates(&mut self, body: &HintBody) {
        let listed = |address: &SocketAddr| body.candidates.iter().any(|c| canonical(c.address) == *address);
        self.routes.retain(|address, route| listed(address) || route.is_trusted());
        for advert in &body.candidates {
            let address = canonical(advert.address);
            if may_be_reached(address) && self.routes.len() < ROUTES_MAX {
                self.routes.entry(address).or_insert_with(|| Route::new(advert.kind));
            }
        }
        self.routes.values_mut().for_each(|route| route.set_answers_long(self.answers_long));
    }

    /// Takes a probe that came from an address. `None`: it is not the peer's, or it came before.
    pub(super) fn take_probe(
        &mut self,
        packet: &ProbePacket<'_>,
        from: Option<SocketAddr>,
        by: RelayId,
        around: &mut Around<'_>,
        wishes: &mut Vec<Wish>,
    ) -> Option<()> {
        let now = around.now;
        match self.session.open(packet)? {
            Probe::Ping { number } => {
                let pong = self.session.seal(Probe::Pong { number, seen: from })?;
                let Some(from) = from else {
                    wishes.push(Wish::Relay(by, pong));
                    if self.way == Way::ViaHub
                        && let Some(route) = self.over.of(by).filter(|route| !route.is_asked(now))
                    {
                        // It tries the relay, and what comes by the hub is nothing to it then.
                        let number = around.rng.next_u64();
                        ping(route, None, by, &mut self.session, now, number, wishes);
                    }
                    return Some(());
                };
                wishes.push(Wish::Probe(from, pong));
                let is_new = !self.routes.contains_key(&from);
                if is_new && may_be_reached(from) && self.routes.len() < ROUTES_MAX {
                    let mut route = Route::new(CandidateKind::Seen);
                    route.set_answers_long(self.answers_long);
                    self.routes.insert(from, route);
                }
                // Its packets come through: ours are likely to, now.
                let in_use = matches!(self.way, Way::Direct(_));
                if !in_use
                    && let Some(route) = self.routes.get_mut(&from)
                    && !route.is_asked(now)
                {
                    let number = around.rng.next_u64();
                    ping(route, Some(from), by, &mut self.session, now, number, wishes);
                }
            }
            Probe::Pong { number, seen } => match from {
                Some(from) => {
                    self.routes.get_mut(&from)?.answered(number, now);
                    wishes.extend(seen.map(Wish::Seen));
                }
                None => self.over.of(by)?.answered(number, now),
            },
        }
        Some(())
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        self.expire(around.now);
        self.follow_relays(around);
        self.choose(around, wishes);
        self.race(around.now, wishes);
        self.search_on(around, wishes);
        self.keep_asking(around, wishes);
        self.send_hint(around, wishes);
    }

    fn expire(&mut self, now: Mono) {
        self.routes.values_mut().for_each(|route| route.expire(now));
        // A search that found something is over; one that did not is repeated while somebody waits.
        let direct = matches!(self.way, Way::Direct(_));
        if direct {
            (self.searches, self.search_at) = (0, None);
        } else if self.search.is_none() && self.search_at.is_none() && self.is_busy(now) {
            let wait = SEEK_AGAIN[self.searches.min(SEEK_AGAIN.len() - 1)];
            self.searches += 1;
            self.search_at = Some(now + wait);
        }
        if self.search_at.is_some_and(|at| at <= now) {
            self.search_at = None;
            if self.is_busy(now) {
                self.seek(now);
            }
        }
    }

    /// Others may carry hints and packets that those before have lost.
    fn follow_relays(&mut self, around: &Around<'_>) {
        if self.over.follow(around.relays, self.relay) {
            self.hint_due |= self.is_busy(around.now) || self.way == Way::ViaHub;
        }
        self.over.turn(self.heard_at, around.now);
    }

    /// Sends over every relay while none answers, and over one again when it did.
    fn race(&mut self, now: Mono, wishes: &mut Vec<Wish>) {
        let is_unproven = self.is_busy(now) && matches!(self.way, Way::Relayed(_)) && !self.over.is_proven();
        self.unproven_since = is_unproven.then(|| self.unproven_since.unwrap_or(now));
        let races = self.unproven_since.is_some_and(|since| since + RACE_AFTER <= now);
        if races != self.races {
            self.races = races;
            self.hint_due |= races;
            wishes.push(Wish::Race(races));
        }
    }

    /// Whether a relay reaches the peer, as far as is known. A peer that says nothing of itself may be one that knows no
    /// relays.
    fn is_relayed(&self) -> bool {
        self.session.is_ready() && self.over.is_usable(self.heard_at)
    }

    fn choose(&mut self, around: &Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let current = match self.way {
            Way::Direct(address) => {
                Some(address).filter(|a| self.routes.get(a).is_some_and(Route::is_trusted))
            }
            Way::Relayed(_) | Way::ViaHub => None,
        };
        let was_direct = matches!(self.way, Way::Direct(_));
        if was_direct && (current.is_none() || !self.is_busy(now)) {
            // What was a path a while ago may be none when the next packet comes: that one is relayed.
            if self.is_busy(now) {
                wishes.push(Wish::Doubt);
                self.seek(now);
            } else {
                self.routes.values_mut().for_each(Route::forget);
            }
        }
        let direct = if self.is_busy(now) { better(&mut self.routes, current) } else { None };
        let way = match (direct, self.over.current()) {
            (Some(address), _) => Way::Direct(address),
            (None, Some(relay)) if self.is_relayed() => Way::Relayed(relay),
            // Until it answers: each look elsewhere would cost it packets.
            (None, _) if self.way == Way::ViaHub => Way::ViaHub,
            (None, relay) => {
                let since = *self.lost_since.get_or_insert(now);
                let may_wait = now.since(since) < Self::patience(around.relays) || !self.is_busy(now);
                match relay {
                    Some(relay) if may_wait => Way::Relayed(relay),
                    None if may_wait => self.way,
                    Some(_) | None => Way::ViaHub,
                }
            }
        };
        if direct.is_some() || self.is_relayed() || !self.is_busy(now) {
            self.lost_since = None;
        }
        let is_settled = self.is_steered || !self.over.is_proven();
        if way == self.way && is_settled {
            return;
        }
        if way != self.way {
            (self.way, self.way_since) = (way, now);
        }
        if matches!(way, Way::Direct(_)) {
            self.search = None;
        }
        self.is_steered = true;
        wishes.push(Wish::Steer(way));
    }

    /// How long packets may be lost before the hub carries them.
    const fn patience(relays: &[RelayId]) -> Duration {
        if relays.is_empty() { HUB_AFTER_NO_RELAY } else { HUB_AFTER }
    }

    fn send_hint(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let is_searching = self.search.is_some();
        let is_old = self.hint_sent.is_some_and(|(_, version)| version != around.hint_version);
        let asks_again = self.left_ask_interval(now).filter(|_| !is_searching);
        let is_due = |interval| self.hint_sent.is_none_or(|(at, _)| now.since(at) >= interval);
        self.hint_due |= (is_searching && is_old) || asks_again.is_some_and(is_due);
        let may = self.hint_sent.is_none_or(|(at, _)| now.since(at) >= HINT_INTERVAL);
        if self.hint_due && may {
            self.hint_due = false;
            self.hint_sent = Some((now, around.hint_version));
            let mut nonce = [0; HINT_NONCE_BYTES];
            around.rng.fill_bytes(&mut nonce);
            let over_relays = self.races || self.hint_by_relay || self.way == Way::ViaHub;
            let sealed = self.session.seal_hint(around.hint.clone(), nonce);
            wishes.push(Wish::Hint { sealed, over_relays });
        }
    }
}
