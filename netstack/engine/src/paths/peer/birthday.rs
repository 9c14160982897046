//! Birthday probing towards one peer: on the side whose NAT gives ports by chance, sockets that wait; on the other, guesses of their ports.
//! Chooses no path.
//!
//! ```text
//! none ── nothing answers ──▶ speaking: a ping from each ──▶ told: the peer guesses ── a ping comes ──▶ met ── it answers ──▶ kept
//!   ▲                                                             └── ten seconds ──┐                                          │
//!   └───────────────────────────────────────────────────────────────────────────────┴──────── not in use, or silent ───────────┘
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use model::Mono;
use rand_core::Rng as _;

use super::{Around, Peer, Wish};
use crate::paths::Way;
use crate::paths::address::{CandidateKind, Mapping, is_public};
use crate::paths::birthday::{Birthdays, GUESSES, SIDES};
use crate::paths::guess::is_chance;
use crate::paths::packet::{HintBody, Probe};
use crate::paths::route::Route;
use crate::paths::side::{SideId, place, side};

/// A NAT that evidently gives ports by chance is not waited for longer than the steps of a search before, when whoever answers has
/// answered: the others make use of the whole search.
const CHANCE_STEP: usize = 5;
/// Pings go in steps, so that they are no burst that a router drops: 400 a second from side sockets...
const PACE: Duration = Duration::from_millis(20);
const SPEAK_AT_ONCE: u16 = 8;
/// ... and 250 guesses, which take four seconds: 132 kbit/s, and a twentieth of the probes that a host takes in.
const GUESS_AT_ONCE: usize = 5;
/// The peer is told once more: a hint may be lost.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// After which the peer has guessed, with the hint's way and four seconds of guesses, or will not.
const WAIT: Duration = Duration::from_secs(10);
/// One that was met and does not answer is believed in for so long, before another may be.
const MEET_PATIENCE: Duration = Duration::from_secs(1);
/// A path that guessing won was worth it once it has lived so long: a little less than one is kept by its last packet
/// ([`TRAFFIC_LIFE`]), which may have gone while it was sought.
const WORTH_IT: Duration = Duration::from_secs(100);
/// Another peer's search has the turn, or all of this hour are used up.
const TURN_AGAIN: Duration = Duration::from_secs(15);
/// A path over a side socket that fell silent is asked for so long: as long as NATs remember it.
const SILENT_LIFE: Duration = Duration::from_secs(30);
/// The lowest port that a NAT gives (RFC 4787, section 4.2.2), of 64 512.
const PORT_MIN: u16 = 1024;

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Birthday {
    stage: Stage,
    /// The next search waits for that, and for nothing else.
    wake_at: Option<Mono>,
    /// The peer guesses ports.
    peer_guesses: bool,
    /// Its search that it told of last, and where its sockets are.
    asked: Option<(u32, Ipv4Addr)>,
    /// The one that was answered last.
    taken: Option<(u32, Ipv4Addr)>,
    guessing: Option<Guessing>,
}

/// Of our side sockets.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    None,
    Open(Open),
    Kept {
        place: SocketAddr,
        silent_since: Option<Mono>,
    },
}

#[derive(Debug)]
struct Open {
    first: SideId,
    /// By which the peer tells searches apart.
    round: u32,
    to: SocketAddrV4,
    spoken: u16,
    next: Mono,
    /// The peer was told so often.
    told: u8,
    until: Mono,
    met: Option<(SocketAddr, Mono)>,
}

#[derive(Debug)]
struct Guessing {
    ip: Ipv4Addr,
    tried: BTreeSet<u16>,
    next: Mono,
}

impl Birthday {
    /// What a hint says of the search that is open, once all sockets spoke.
    pub(super) const fn round(&self) -> Option<u32> {
        match &self.stage {
            Stage::Open(open) if open.told > 0 => Some(open.round),
            _ => None,
        }
    }

    /// What a hint of the peer says.
    pub(super) fn hinted(&mut self, body: &HintBody, reflexive: &[SocketAddr]) {
        self.peer_guesses = body.guesses_max.is_some_and(|max| max > 0);
        let public = reflexive.iter().find_map(|address| v4(*address)).map(|address| *address.ip());
        self.asked = body.sides.zip(public);
    }

    /// Whether there are side sockets.
    pub(in crate::paths) const fn has_sides(&self) -> bool {
        !matches!(self.stage, Stage::None)
    }

    /// Whether something is under way that may find a path.
    pub(super) const fn is_searching(&self) -> bool {
        matches!(self.stage, Stage::Open(_)) || self.guessing.is_some()
    }

    /// Whether the path over this side socket is to be asked on, though the peer does not tell of it.
    pub(super) fn keeps(&self, address: SocketAddr) -> bool {
        matches!(self.stage, Stage::Kept { place, .. } if place == address)
    }

    /// A probe of the peer came from there. Says whether it is listened to: of the side sockets, to the first that was met only, so that the
    /// peer hears from that alone.
    pub(super) fn admits(&mut self, from: SocketAddr, now: Mono) -> bool {
        let Some((id, _)) = side(from) else { return true };
        match &mut self.stage {
            Stage::None => false,
            Stage::Kept { place, .. } => *place == from,
            Stage::Open(open) => {
                let is_ours = id.0.wrapping_sub(open.first.0) < u32::from(SIDES);
                let is_believed = open
                    .met
                    .filter(|(_, at)| now.since(*at) < MEET_PATIENCE)
                    .is_none_or(|(met, _)| met == from);
                if is_ours && is_believed && open.met.is_none_or(|(met, _)| met != from) {
                    open.met = Some((from, now));
                }
                is_ours && is_believed
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let stage = match &self.stage {
            Stage::None => self.wake_at,
            Stage::Open(open) => Some(open.next.min(open.until)),
            Stage::Kept { silent_since, .. } => silent_since.map(|since| since + SILENT_LIFE),
        };
        stage.into_iter().chain(self.guessing.as_ref().map(|guessing| guessing.next)).min()
    }
}

impl Peer {
    /// The side sockets that were wished for could not be opened.
    pub(in crate::paths) fn sides_failed(&mut self, birthdays: &mut Birthdays, now: Mono) {
        if matches!(self.birthday.stage, Stage::Open(_)) {
            self.birthday.stage = Stage::None;
            birthdays.missed(self.device, now);
        }
    }

    /// Whether there are side sockets of this peer.
    pub(in crate::paths) const fn has_sides(&self) -> bool {
        self.birthday.has_sides()
    }

    /// Does what is due of it.
    pub(super) fn birthday(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        self.follow_sides(around, wishes);
        self.open_sides(around, wishes);
        self.speak(around, wishes);
        self.begin_to_guess(around);
        self.guess(around, wishes);
        self.follow_won(around);
    }

    fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct(_)) || self.routes.values().any(Route::is_alive)
    }

    /// Closes those that are of no use any more.
    fn follow_sides(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let way = self.way;
        match &mut self.birthday.stage {
            Stage::None => around.birthdays.end_search(self.device),
            Stage::Open(open) => {
                let met = open.met.map(|(place, _)| place);
                let answers = |place: &SocketAddr| self.routes.get(place).is_some_and(Route::is_alive);
                if let Some(place) = met.filter(answers) {
                    self.birthday.stage = Stage::Kept { place, silent_since: None };
                    around.birthdays.met(self.device, now);
                    wishes.push(Wish::CloseSides { but: side(place).map(|(id, _)| id) });
                    around.birthdays.end_search(self.device);
                } else if open.until <= now || self.is_direct() || !self.is_busy(now) {
                    self.birthday.stage = Stage::None;
                    around.birthdays.missed(self.device, now);
                    self.close_sides(around, wishes);
                }
            }
            Stage::Kept { place, silent_since } => {
                let place = *place;
                let lives = self.routes.get(&place).is_some_and(Route::is_alive);
                *silent_since = if lives { None } else { Some(silent_since.unwrap_or(now)) };
                let is_silent = silent_since.is_some_and(|since| since + SILENT_LIFE <= now);
                let is_left = matches!(way, Way::Direct(address) if address != place);
                if is_silent || is_left || !self.is_busy(now) {
                    self.birthday.stage = Stage::None;
                    around.birthdays.met(self.device, now);
                    self.close_sides(around, wishes);
                }
            }
        }
    }

    fn close_sides(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        around.birthdays.end_search(self.device);
        self.routes.retain(|address, _| side(*address).is_none());
        wishes.push(Wish::CloseSides { but: None });
    }

    /// Opens side sockets where they may win and nothing else did.
    fn open_sides(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        self.birthday.wake_at = None;
        if !matches!(self.birthday.stage, Stage::None) || !self.wants_sides(around) {
            return;
        }
        self.birthday.wake_at = around.birthdays.not_before(self.device, now);
        let reflexive = |(address, route): (&SocketAddr, &Route)| {
            v4(*address).filter(|_| route.kind() == CandidateKind::Reflexive)
        };
        let Some(to) = self.routes.iter().find_map(reflexive) else { return };
        if self.birthday.wake_at.is_some() {
            return;
        }
        let Some(first) = around.birthdays.search(self.device, now) else {
            around.birthdays.rest(self.device, now + TURN_AGAIN, now);
            self.birthday.wake_at = Some(now + TURN_AGAIN);
            return;
        };
        let round = around.rng.next_u32();
        let open = Open { first, round, to, spoken: 0, next: now, told: 0, until: now + WAIT, met: None };
        self.birthday.stage = Stage::Open(open);
        wishes.push(Wish::OpenSides { first, count: SIDES });
    }

    fn wants_sides(&self, around: &Around<'_>) -> bool {
        let is_for_us = around.hint.guesses_max.is_some()
            && around.hint.mapping == Some(Mapping::PortDependent)
            && matches!(self.mapping, Some(Mapping::EndpointIndependent | Mapping::None))
            && self.birthday.peer_guesses;
        let seen = around.hint.candidates.iter().filter(|c| c.kind == CandidateKind::Reflexive);
        let seen: Vec<SocketAddr> = seen.map(|c| c.address).collect();
        // Whatever could answer has been asked.
        let is_late = self.search.as_ref().is_none_or(|s| s.step >= CHANCE_STEP && is_chance(&seen));
        is_for_us && is_late && self.is_talked_to(around.now) && !self.is_direct() && self.over.is_proven()
    }

    /// One ping from each opens our NAT; then the peer is told.
    fn speak(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let Stage::Open(open) = &mut self.birthday.stage else { return };
        if open.next > now {
            return;
        }
        let rest = SIDES - open.spoken;
        for _ in 0..rest.min(SPEAK_AT_ONCE) {
            let id = SideId(open.first.0.wrapping_add(open.spoken.into()));
            open.spoken += 1;
            let sealed = self.session.seal(Probe::Ping { number: around.rng.next_u64() });
            wishes.extend(sealed.map(|datagram| Wish::Probe(place(id, open.to), datagram)));
        }
        open.next = now + PACE;
        if open.spoken == SIDES {
            self.hint_due |= open.told < 2;
            open.next = if open.told == 0 { now + TELL_AGAIN } else { open.until };
            open.told += 1;
        }
    }

    /// The peer's sockets wait behind its NAT.
    fn begin_to_guess(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let Some((round, ip)) = self.birthday.asked.take() else { return };
        if self.birthday.taken.is_some_and(|(known, _)| known == round) {
            return;
        }
        let fits = matches!(around.hint.mapping, Some(Mapping::EndpointIndependent | Mapping::None))
            && self.mapping == Some(Mapping::PortDependent);
        // Hints alone bring about nothing: whoever sends them is talked to, and a relay showed that it is there.
        let is_talk = self.is_talked_to(now) && self.over.is_proven();
        if !fits || !is_talk || self.is_direct() || self.birthday.guessing.is_some() {
            return;
        }
        // One that is refused here may be taken when the peer tells of it once more.
        if around.birthdays.guess(self.device, now) {
            self.birthday.taken = Some((round, ip));
            self.birthday.guessing = Some(Guessing { ip, tried: BTreeSet::new(), next: now });
        }
    }

    /// What a path that guessing won is worth to the searches after it. The peer told of no such address, so it was found there.
    fn follow_won(&mut self, around: &mut Around<'_>) {
        let (Some((_, ip)), Way::Direct(address)) = (self.birthday.taken, self.way) else { return };
        let is_found = self.routes.get(&address).is_some_and(|route| route.kind() == CandidateKind::Seen);
        if is_found && address.ip() == ip && around.now.since(self.way_since) >= WORTH_IT {
            around.birthdays.won(self.device);
        }
    }

    fn guess(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let is_over = self.is_direct() || around.hint.guesses_max.is_none();
        let Some(guessing) = self.birthday.guessing.as_mut().filter(|_| !is_over) else {
            if self.birthday.guessing.take().is_some() {
                around.birthdays.end_guess(self.device);
            }
            return;
        };
        if guessing.next > now {
            return;
        }
        guessing.next = now + PACE;
        let until = (guessing.tried.len() + GUESS_AT_ONCE).min(GUESSES.into());
        while guessing.tried.len() < until {
            let given = around.rng.next_u64() % u64::from(u16::MAX - PORT_MIN + 1);
            let port = PORT_MIN + u16::try_from(given).expect("below 64 512");
            if guessing.tried.insert(port) {
                let sealed = self.session.seal(Probe::Ping { number: around.rng.next_u64() });
                let to = SocketAddr::new(guessing.ip.into(), port);
                wishes.extend(sealed.map(|datagram| Wish::Probe(to, datagram)));
            }
        }
        if until == usize::from(GUESSES) {
            self.birthday.guessing = None;
            around.birthdays.end_guess(self.device);
        }
    }
}

/// An address that a peer named, if many packets may go there.
fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match (address.ip(), address) {
        (IpAddr::V4(ip), SocketAddr::V4(address)) if is_public(ip) => Some(address),
        _ => None,
    }
}
