//! The relays to one peer: which of those that are connected is asked, and which carries its packets. Sends nothing.
//!
//! Meant is the relay that the peer named, if we are connected to it, else the server, to which everybody is connected while
//! it is there. The others are asked only when that one does not answer, all at once; the first to answer carries the packets
//! until it is silent.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Mono;

use super::RelayId;
use super::address::CandidateKind;
use super::pace::Stretch;
use super::route::Route;

/// The relay that reaches a peer of which nothing is known, if any does.
pub(super) fn common(connected: &[RelayId]) -> Option<RelayId> {
    let server = connected.iter().find(|relay| **relay == RelayId::SERVER);
    server.or_else(|| connected.first()).copied()
}

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Over {
    /// Of those that are connected.
    routes: BTreeMap<RelayId, Route>,
    /// The nearest first.
    connected: Vec<RelayId>,
    meant: Option<RelayId>,
    /// It is another than before, and is to be turned to once it answers.
    is_news: bool,
    current: Option<RelayId>,
}

impl Over {
    /// These are connected, and the peer named one. Says whether that changed which are connected.
    pub(super) fn follow(&mut self, connected: &[RelayId], home: Option<RelayId>) -> bool {
        let is_changed = self.connected != connected;
        if is_changed {
            self.connected = connected.to_vec();
            self.routes.retain(|relay, _| connected.contains(relay));
            for relay in connected {
                self.routes.entry(*relay).or_insert_with(|| Route::new(CandidateKind::Seen));
            }
        }
        let meant = home.filter(|home| connected.contains(home)).or_else(|| common(connected));
        self.is_news |= meant != self.meant;
        self.meant = meant;
        self.current = self.current.filter(|relay| connected.contains(relay)).or(meant);
        is_changed
    }

    /// Counts what was not answered in time, and turns to what answers. `heard_at`: the peer's last packet.
    pub(super) fn turn(&mut self, heard_at: Option<Mono>, now: Mono) {
        self.routes.values_mut().for_each(|route| route.expire(Stretch::NONE, now));
        let holds = |relay: &RelayId| self.routes.get(relay).is_some_and(|route| route.holds(heard_at));
        let meant = self.meant.filter(holds);
        if (self.is_news && meant.is_some()) || !self.current.as_ref().is_some_and(holds) {
            let other = || self.connected.iter().copied().find(holds);
            self.current = meant.or_else(other).or(self.current);
        }
        let is_given_up = self.route(self.meant).is_none_or(|route| route.is_lost(heard_at));
        self.is_news &= self.current != self.meant && !is_given_up;
    }

    fn route(&self, relay: Option<RelayId>) -> Option<&Route> {
        self.routes.get(&relay?)
    }

    /// What carries the packets, or would.
    pub(super) const fn current(&self) -> Option<RelayId> {
        self.current
    }

    /// Whether no other of those that are connected reaches the peer, as far as is known.
    pub(super) fn is_alone(&self, heard_at: Option<Mono>) -> bool {
        let mut others = self.routes.iter().filter(|(relay, _)| self.current != Some(**relay));
        others.all(|(_, route)| !route.holds(heard_at))
    }

    /// Whether it answered what it was asked last.
    pub(super) fn is_proven(&self) -> bool {
        self.route(self.current).is_some_and(Route::is_sure)
    }

    /// Whether it may carry packets: nothing speaks against it.
    pub(super) fn is_usable(&self, heard_at: Option<Mono>) -> bool {
        self.route(self.current).is_some_and(|route| !route.is_lost(heard_at))
    }

    /// When each relay is to be asked: the one in use and the one that is meant after `interval`, and the others, while `all` are
    /// raced, after as long.
    pub(super) fn schedule(
        &self,
        interval: Duration,
        all: bool,
        now: Mono,
    ) -> impl Iterator<Item = (RelayId, Mono)> {
        self.routes.iter().filter_map(move |(relay, route)| {
            let relay = *relay;
            let asks = all || self.current == Some(relay) || (self.is_news && self.meant == Some(relay));
            let again = self.current == Some(relay) && route.wants_second();
            asks.then(|| (relay, if again { now } else { route.next(interval) }))
        })
    }

    /// What is known of one that is connected.
    pub(super) fn of(&mut self, relay: RelayId) -> Option<&mut Route> {
        self.routes.get_mut(&relay)
    }

    /// When a missing answer counts.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.routes.values().filter_map(Route::deadline).min()
    }

    /// As if nothing had been asked.
    pub(super) fn forget(&mut self) {
        self.routes.values_mut().for_each(Route::forget);
    }

    /// Over the one in use, if it was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.route(self.current)?.round_trip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: RelayId = RelayId::SERVER;
    const NEAR: RelayId = RelayId(1);
    const FAR: RelayId = RelayId(2);
    const PACE: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    fn asked(over: &Over, all: bool, now: Mono) -> Vec<RelayId> {
        over.schedule(PACE, all, now).filter(|(_, at)| *at <= now).map(|(relay, _)| relay).collect()
    }

    /// Asks a relay, which answers 20 ms later or never does.
    fn ask(over: &mut Over, relay: RelayId, now: Mono, answers: bool) {
        let route = over.of(relay).expect("it is connected");
        route.asked(now.as_micros(), now);
        if answers {
            route.answered(now.as_micros(), now + Duration::from_millis(20));
        }
    }

    #[test]
    fn only_the_one_that_is_meant_is_asked_until_it_is_silent() {
        let mut over = Over::default();
        assert!(over.follow(&[NEAR, SERVER], None));
        over.turn(None, at(0));
        assert_eq!((over.current(), asked(&over, false, at(0))), (Some(SERVER), vec![SERVER]));
        assert!(over.is_usable(None) && !over.is_proven());
        ask(&mut over, SERVER, at(0), false);
        assert_eq!(asked(&over, true, at(300)), [NEAR], "it is raced");
        ask(&mut over, NEAR, at(300), true);
        over.turn(None, at(320));
        assert_eq!(over.current(), Some(NEAR));
        assert!(over.is_proven());
        assert!(!over.follow(&[NEAR, SERVER], None));
        ask(&mut over, SERVER, at(1000), true);
        over.turn(None, at(1020));
        assert_eq!(over.current(), Some(NEAR), "nothing is changed for nothing");
    }

    #[test]
    fn the_peers_own_relay_is_turned_to_once_it_answers() {
        let mut over = Over::default();
        over.follow(&[NEAR, SERVER], None);
        ask(&mut over, SERVER, at(0), true);
        over.turn(None, at(20));
        over.follow(&[NEAR, SERVER], Some(NEAR));
        over.turn(None, at(30));
        assert_eq!((over.current(), asked(&over, false, at(30))), (Some(SERVER), vec![NEAR]));
        ask(&mut over, NEAR, at(30), true);
        over.turn(None, at(50));
        assert_eq!(over.current(), Some(NEAR));
        over.follow(&[NEAR, SERVER], Some(FAR));
        over.turn(None, at(60));
        assert_eq!(over.current(), Some(SERVER), "we are not connected to that one, and the server answered");
    }

    #[test]
    fn the_only_one_that_reaches_the_peer_is_known() {
        let mut over = Over::default();
        over.follow(&[NEAR, SERVER], Some(NEAR));
        assert!(over.is_alone(None), "nobody was asked");
        ask(&mut over, NEAR, at(0), true);
        over.turn(None, at(20));
        assert_eq!((over.current(), over.is_alone(None)), (Some(NEAR), true));
        ask(&mut over, SERVER, at(30), true);
        assert!(!over.is_alone(None), "the server does, too");
        for second in 1..=2 {
            ask(&mut over, SERVER, at(second * 1000), false);
            over.turn(None, at(second * 1000 + 999));
        }
        assert!(over.is_alone(None), "it did");
    }

    #[test]
    fn packets_that_come_keep_the_trust_for_a_while_and_their_silence_ends_it() {
        let lost_after = |heard_at: Option<Mono>| {
            let mut over = Over::default();
            over.follow(&[SERVER], None);
            ask(&mut over, SERVER, at(0), true);
            (1..10).find(|second| {
                ask(&mut over, SERVER, at(second * 1000), false);
                over.turn(heard_at, at(second * 1000 + 999));
                !over.is_usable(heard_at)
            })
        };
        assert_eq!(lost_after(None), Some(2));
        assert_eq!(lost_after(Some(at(900))), Some(2), "before the first question");
        assert_eq!(lost_after(Some(at(1100))), Some(4), "nobody answers, and packets come");
    }

    #[test]
    fn one_that_is_gone_is_left_and_another_is_usable_until_it_is_asked() {
        let mut over = Over::default();
        over.follow(&[NEAR, FAR], None);
        over.turn(None, at(0));
        assert_eq!(over.current(), Some(NEAR));
        assert!(over.follow(&[FAR], None));
        assert_eq!(over.current(), Some(FAR));
        assert!(over.is_usable(None));
        over.follow(&[], None);
        assert_eq!((over.current(), over.is_usable(None)), (None, false));
    }
}
