//! The paths to one peer: which addresses were tried, which answer, which one carries its packets. Knows no other peer.
//!
//! ```text
//!          traffic, or a hint                a ping was answered              one was not
//!  cold ──────────────────────▶ seeking ──────────────────────────▶ direct ◀────────────────▶ in doubt
//!   ▲                            │   ▲                                           the next was     │
//!   └──────── no traffic ────────┘   └──────────────────── nor was the next ──────────────────────┘
//! ```
//! While seeking the packets are relayed, or go through the hub where no relay carries them; in doubt they go both ways.

mod ask;
mod birthday;
mod doubt;
mod hint;
mod look;
mod often;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{DeviceId, Mono};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::address::{CandidateKind, Mapping, may_be_reached};
use super::birthday::Birthdays;
use super::budget::Budget;
use super::over::Over;
use super::pace::{Pace, Stretch};
use super::packet::{HintBody, Probe, ProbePacket, Tag};
use super::route::{Route, better};
use super::session::Session;
use super::side::{SideId, real, side};
use super::{RelayId, Way};
use ask::ping;
use birthday::Birthday;
use doubt::Doubt;
use often::{LIVELY, PING_QUIET_INTERVAL};

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
/// One that could be better is measured so often.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);
/// A relay that carries packets is asked so often whether the peer is there, and every [`PING_QUIET_INTERVAL`] while it has not answered
/// or nothing comes back.
const RELAY_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Where no relay has answered for so long after a packet was sent, all are raced: one that is dead would lose packets until its
/// link is given up.
const RACE_AFTER: Duration = Duration::from_millis(300);
/// And after so many round trips to the relay, where that is longer: three hints, a ping, the one that answers it and its answer go
/// all the way to a peer that may be as far from the relay as we are.
const RACE_AFTER_ROUND_TRIPS: u32 = 6;
/// But no later: a relay that is raced must answer before the peer is left to the hub.
const RACE_AFTER_MAX: Duration = Duration::from_millis(700);
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
    /// Side sockets are needed, by these numbers.
    OpenSides { first: SideId, count: u16 },
    /// They are not needed any more, but one.
    CloseSides { but: Option<SideId> },
    /// Its packets go another way.
    Steer(Way),
    /// Its packets go over every relay, or no longer.
    Race(bool),
    /// Its packets go over this relay as well, or no longer.
    Double(Option<RelayId>),
    /// Its bytes are told often, or no longer.
    Closely(bool),
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
    /// How far those are that were measured.
    pub(super) relay_round_trips: &'a BTreeMap<RelayId, Duration>,
    /// The bytes of a peer can be told often.
    pub(super) counts_closely: bool,
    /// Direct paths are asked as much more rarely.
    pub(super) stretch: Stretch,
    pub(super) birthdays: &'a mut Birthdays,
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
    /// How long a relay may take to answer.
    race_after: Duration,
    way: Way,
    /// The shell was told of it. Before, packets may also go over the relay by which the peer's came.
    is_steered: bool,
    way_since: Mono,
    doubt: Doubt,
    traffic_at: Mono,
    /// When a packet for it last went by no direct path.
    wanted_at: Option<Mono>,
    /// When a packet of its came, to the second.
    heard_at: Option<Mono>,
    /// Since the last count packets went and none came.
    is_silent: bool,
    search: Option<Search>,
    searches: usize,
    search_at: Option<Mono>,
    hint_due: bool,
    hint_sent: Option<(Mono, u64)>,
    /// The last hint did not wait for [`HINT_INTERVAL`]. The next one does.
    hint_hurried: bool,
    hint_taken: bool,
    /// Its last hint came over a relay: its link may be dead, or ours.
    hint_by_relay: bool,
    relay: Option<RelayId>,
    mapping: Option<Mapping>,
    /// Whether it answers long probes.
    answers_long: bool,
    /// Where its NAT may let it come from, to be tried in this search.
    guesses: Vec<SocketAddr>,
    birthday: Birthday,
    budget: Budget,
    /// Since when neither a direct path nor a relay carries the packets.
    lost_since: Option<Mono>,
    counted: (u64, u64),
    pace: Pace,
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
            race_after: RACE_AFTER,
            way,
            is_steered: false,
            way_since: now,
            doubt: Doubt::default(),
            traffic_at: now,
            wanted_at: None,
            heard_at: None,
            is_silent: false,
            search: None,
            searches: 0,
            search_at: None,
            hint_due: false,
            hint_sent: None,
            hint_hurried: false,
            hint_taken: false,
            hint_by_relay: false,
            relay: None,
            mapping: None,
            answers_long: false,
            guesses: Vec::new(),
            birthday: Birthday::default(),
            budget: Budget::new(now),
            lost_since: None,
            counted: (0, 0),
            pace: Pace::default(),
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

    /// Whether packets go to it that a direct path would be good for. One that only its hints tell of is looked for, and no more.
    fn is_talked_to(&self, now: Mono) -> bool {
        self.wanted_at.is_some_and(|at| now.since(at) < TRAFFIC_LIFE)
    }

    /// A packet for the peer did not go by a direct path.
    pub(super) fn wanted(&mut self, now: Mono) {
        let was_busy = self.is_busy(now);
        (self.traffic_at, self.wanted_at) = (now, Some(now));
        let is_idle = self.search.is_none() && self.search_at.is_none();
        if !matches!(self.way, Way::Direct(_)) && (is_idle || !was_busy) {
            self.seek(now);
        }
    }

    /// Bytes sent and received over WireGuard so far. Says whether the peer wants to be looked at for it.
    pub(super) fn counted(&mut self, sent: u64, received: u64, now: Mono) -> bool {
        let (went, came) = (sent != self.counted.0, received != self.counted.1);
        if went || came {
            self.traffic_at = now;
        }
        if came {
            self.heard_at = Some(now);
        }
        self.is_silent = went && !came;
        self.counted = (sent, received);
        self.doubt.counted(went, came, now)
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
        let probe = self.session.open(packet)?;
        if from.is_some_and(|from| !self.birthday.admits(from, now)) {
            return None;
        }
        match probe {
            Probe::Ping { number } => {
                let pong = self.session.seal(Probe::Pong { number, seen: from.map(real) })?;
                let Some(from) = from else {
                    wishes.push(Wish::Relay(by, pong));
                    if matches!(self.way, Way::Direct(_)) {
                        self.doubt.warned(now);
                    }
                    // It tries the relay: what comes by the hub is nothing to it then. And it understands us from now on, though it
                    // may not have understood what it was asked before.
                    let asks = self.way == Way::ViaHub || !self.over.is_proven();
                    if let Some(route) = self.over.of(by).filter(|route| asks && route.may_be_asked_back(now))
                    {
                        let number = around.rng.next_u64();
                        ping(route, None, by, &mut self.session, now, number, wishes);
                    }
                    return Some(());
                };
                wishes.push(Wish::Probe(from, pong));
                let is_new = !self.routes.contains_key(&from);
                if is_new && may_be_reached(real(from)) && self.routes.len() < ROUTES_MAX {
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
                    let asked_at = self.routes.get_mut(&from)?.answered(number, now);
                    if let Some(asked_at) = asked_at.filter(|_| self.way == Way::Direct(from)) {
                        self.doubt.answered(asked_at);
                    }
                    // What a side socket is seen at is not where the others are reached.
                    wishes.extend(seen.filter(|_| side(from).is_none()).map(Wish::Seen));
                }
                None => {
                    self.over.of(by)?.answered(number, now);
                }
            },
        }
        Some(())
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        self.pace.follow(around.stretch, self.session.told());
        self.expire(around.now);
        self.follow_relays(around);
        self.choose(around, wishes);
        self.doubt(around, wishes);
        self.race(around.now, wishes);
        self.search_on(around, wishes);
        self.birthday(around, wishes);
        // Before the pings that it makes the peer understand.
        self.send_hint(around, wishes);
        self.keep_asking(around, wishes);
    }

    fn expire(&mut self, now: Mono) {
        let stretch = self.pace.stretch();
        self.routes.values_mut().for_each(|route| route.expire(stretch, now));
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
        let far = self.over.current().and_then(|relay| around.relay_round_trips.get(&relay));
        let far = far.map_or(RACE_AFTER, |time| *time * RACE_AFTER_ROUND_TRIPS);
        self.race_after = far.clamp(RACE_AFTER, RACE_AFTER_MAX);
    }

    /// Sends over every relay while none answers, and over one again when it did.
    fn race(&mut self, now: Mono, wishes: &mut Vec<Wish>) {
        let is_unproven = self.is_busy(now) && matches!(self.way, Way::Relayed(_)) && !self.over.is_proven();
        self.unproven_since = is_unproven.then(|| self.unproven_since.unwrap_or(now));
        let races = self.unproven_since.is_some_and(|since| since + self.race_after <= now);
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
            if was_direct && current.is_none() {
                // What ended one may have ended the other, which was asked a while ago.
                self.doubt.warned(now);
            }
        }
        self.is_steered = true;
        wishes.push(Wish::Steer(way));
    }

    /// How long packets may be lost before the hub carries them.
    const fn patience(relays: &[RelayId]) -> Duration {
        if relays.is_empty() { HUB_AFTER_NO_RELAY } else { HUB_AFTER }
    }
}
