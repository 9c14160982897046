//! What a peer is asked and when: its addresses in a search, what carries its packets, the relay. Chooses nothing.

use std::net::SocketAddr;
use std::time::Duration;

use model::Mono;
use rand_core::Rng as _;

use super::{
    Around, COMPARE_INTERVAL, GUESS_STEP, LEFT_ASK_INTERVAL_MAX, PING_QUIET_INTERVAL, Peer,
    RELAY_PING_INTERVAL, SEEK_STEPS, Wish,
};
use crate::paths::address::may_be_reached;
use crate::paths::packet::Probe;
use crate::paths::route::Route;
use crate::paths::session::Session;
use crate::paths::{RelayId, Way};

impl Peer {
    /// Pings every address that has not answered, as the search goes on.
    pub(super) fn search_on(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let Some(search) = &mut self.search else { return };
        let mut due = false;
        while SEEK_STEPS.get(search.step).is_some_and(|step| search.since + *step <= around.now) {
            search.step += 1;
            due = true;
        }
        if due {
            // A hint that was lost, or that came too early, is told again.
            self.hint_due |= !self.session.is_ready();
            for (address, route) in &mut self.routes {
                if !route.is_alive() && self.budget.spend(around.now) {
                    let number = around.rng.next_u64();
                    let by = RelayId::SERVER;
                    ping(route, Some(*address), by, &mut self.session, around.now, number, wishes);
                }
            }
        }
        // Our packets to where it may come from let it in. Its own open its NAT first, so the second step guesses.
        if search.step >= GUESS_STEP
            && !self.guesses.is_empty()
            && self.routes.values().all(|r| !r.is_alive())
        {
            for to in std::mem::take(&mut self.guesses) {
                if !may_be_reached(to) || !self.budget.spend(around.now) {
                    continue;
                }
                let number = around.rng.next_u64();
                let sealed = self.session.seal(Probe::Ping { number });
                wishes.extend(sealed.map(|datagram| Wish::Probe(to, datagram)));
            }
        }
        if search.step == SEEK_STEPS.len() {
            self.search = None;
        }
    }

    /// Pings what is in use, and what could be better.
    pub(super) fn keep_asking(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let (way, busy) = (self.way, self.is_busy(around.now));
        let (ping_interval, stretch) = (self.ping_interval(around.now), self.pace.stretch());
        for (address, route) in self.routes.iter_mut().filter(|_| busy) {
            let in_use = way == Way::Direct(*address);
            let interval = if in_use { ping_interval } else { stretch.of(COMPARE_INTERVAL) };
            let is_due = route.is_alive() && route.next(interval) <= around.now;
            if is_due || (in_use && (route.wants_second() || self.doubt.asks(route, stretch, around.now))) {
                let number = around.rng.next_u64();
                let by = RelayId::SERVER;
                ping(route, Some(*address), by, &mut self.session, around.now, number, wishes);
            }
            if route.next_long(in_use).is_some_and(|at| at <= around.now) {
                let number = around.rng.next_u64();
                if let Some(datagram) = self.session.seal_long(Probe::Ping { number }) {
                    route.asked_long(number, around.now);
                    wishes.push(Wish::Probe(*address, datagram));
                }
            }
        }
        let due: Vec<RelayId> = {
            let due = |(relay, at): (RelayId, Mono)| (at <= around.now).then_some(relay);
            self.relays_to_ask(around.now).into_iter().filter_map(due).collect()
        };
        // They may have missed our hint, or we theirs: then nobody understands the other's pings.
        self.hint_due |= !due.is_empty() && !self.over.is_usable(self.heard_at);
        for relay in due {
            let number = around.rng.next_u64();
            if let Some(route) = self.over.of(relay) {
                ping(route, None, relay, &mut self.session, around.now, number, wishes);
            }
        }
    }

    /// When each relay is asked whether the peer is there: those that nobody needs to know of are not.
    pub(super) fn relays_to_ask(&self, now: Mono) -> Vec<(RelayId, Mono)> {
        let left = self.left_ask_interval(now);
        let is_quick = !self.over.is_proven() || self.is_silent;
        let busy =
            self.is_busy(now).then_some(if is_quick { PING_QUIET_INTERVAL } else { RELAY_PING_INTERVAL });
        let interval = left.or(busy).filter(|_| !matches!(self.way, Way::Direct(_)));
        let interval = interval.filter(|_| self.session.is_ready());
        let all = self.races || left.is_some();
        interval.into_iter().flat_map(|interval| self.over.schedule(interval, all, now)).collect()
    }

    /// How often a peer that was left to the hub is asked whether it is there again: ever more rarely. Nobody knows whether
    /// it is talked to, since its packets are not told from the hub's.
    pub(super) fn left_ask_interval(&self, now: Mono) -> Option<Duration> {
        let age = now.since(self.way_since);
        // Half of its age after the last question: each pause is twice the one before.
        (self.way == Way::ViaHub).then(|| (age / 2).clamp(RELAY_PING_INTERVAL, LEFT_ASK_INTERVAL_MAX))
    }
}

/// Asks whether a route lives.
pub(super) fn ping(
    route: &mut Route,
    to: Option<SocketAddr>,
    by: RelayId,
    session: &mut Session,
    now: Mono,
    number: u64,
    wishes: &mut Vec<Wish>,
) {
    let Some(datagram) = session.seal(Probe::Ping { number }) else { return };
    route.asked(number, now);
    wishes.push(match to {
        Some(to) => Wish::Probe(to, datagram),
        None => Wish::Relay(by, datagram),
    });
}
