//! What others see of the paths to a peer: when they want to be looked at again, and why packets do not go directly.
//! Changes nothing.

use std::time::Duration;

use model::Mono;

use super::{COMPARE_INTERVAL, LEFT_LIFE, LIVELY, Peer, SEEK_STEPS, TRAFFIC_LIFE};
use crate::paths::address::Mapping;
use crate::paths::needs::Pair;
use crate::paths::route::Route;
use crate::paths::{RelayId, Way, WhyNotDirect};

/// A relay that carried packets is kept for so long after they go directly: some are under way, and the peer's come over it until it
/// has found the path, too.
const CARRIED_LIFE: Duration = Duration::from_secs(30);

impl Peer {
    /// When [`Self::advance`] is due.
    pub(in crate::paths) fn deadline(&self, relays: &[RelayId], now: Mono) -> Option<Mono> {
        let hint = self.hint_due.then(|| self.hint_at(now));
        let step = self.search.as_ref().and_then(|s| SEEK_STEPS.get(s.step).map(|step| s.since + *step));
        let asked = self.routes.values().filter_map(Route::deadline).chain(self.over.deadline());
        let (busy, stretch) = (self.is_busy(now), self.pace.stretch());
        let pings =
            self.routes.iter().filter(|(_, route)| busy && route.is_alive()).flat_map(|(address, route)| {
                let in_use = self.way == Way::Direct(*address);
                let short =
                    route.next(if in_use { self.ping_interval(now) } else { stretch.of(COMPARE_INTERVAL) });
                [Some(short), route.next_long(in_use)]
            });
        let left = self.left_ask_interval(now);
        let left_hint = left.map(|interval| self.hint_sent.map_or(now, |(at, _)| at + interval));
        let left_end = left.map(|_| self.way_since + LEFT_LIFE);
        let relays_at = self.relays_to_ask(now).into_iter().map(|(_, at)| Some(at));
        let race = self.unproven_since.filter(|_| !self.races).map(|since| since + self.race_after);
        let lost = self.lost_since.filter(|_| self.way != Way::ViaHub);
        let lost = lost.map(|since| since + Self::patience(relays));
        let cold = busy.then(|| self.traffic_at + TRAFFIC_LIFE);
        let still = self.doubt.is_close().then(|| self.traffic_at + LIVELY);
        let single = [hint, step, self.search_at, race, lost, cold, still, left_hint, left_end];
        single
            .into_iter()
            .chain([self.birthday.deadline()])
            .chain(pings)
            .chain(relays_at)
            .flatten()
            .chain(asked)
            .min()
    }

    /// The relays on other machines that are to be connected for the peer: the one that carries its packets, and, while none that is
    /// connected reaches it, the one that it named. Beside a direct path the one by which packets would go if that ended, unless
    /// another reaches the peer.
    pub(in crate::paths) fn needs(&self, now: Mono) -> Pair {
        if !self.is_busy(now) {
            return [None; 2];
        }
        let carries = match self.way {
            Way::Direct(_) => self
                .over
                .current()
                .filter(|_| self.over.is_alone(self.heard_at) || now.since(self.way_since) < CARRIED_LIFE),
            Way::Relayed(_) | Way::ViaHub => self.over.current(),
        };
        let named = self.relay.filter(|_| self.races);
        [carries, named].map(|relay| relay.filter(|relay| *relay != RelayId::SERVER))
    }

    /// Why the packets do not go directly. `None`: they do.
    pub(in crate::paths) fn why_not_direct(
        &self,
        mapping: Option<Mapping>,
        is_stun_silent: bool,
        now: Mono,
    ) -> Option<WhyNotDirect> {
        if matches!(self.way, Way::Direct(_)) {
            return None;
        }
        Some(match (mapping, self.mapping) {
            _ if !self.is_busy(now) => WhyNotDirect::NoTraffic,
            (Some(Mapping::Blocked), _) => WhyNotDirect::NoUdpHere,
            _ if !self.hint_taken => WhyNotDirect::NoHint,
            (_, Some(Mapping::Blocked)) => WhyNotDirect::NoUdpThere,
            (Some(Mapping::PortDependent), Some(Mapping::PortDependent)) => WhyNotDirect::BothSymmetric,
            _ if self.routes.values().any(Route::is_narrow) => WhyNotDirect::Narrow,
            _ if self.search.is_some() || self.birthday.is_searching() => WhyNotDirect::Searching,
            _ if is_stun_silent => WhyNotDirect::NoStun,
            (Some(Mapping::PortDependent), Some(_)) | (Some(_), Some(Mapping::PortDependent)) => {
                WhyNotDirect::OneSymmetric
            }
            _ => WhyNotDirect::NoAnswer { addresses: self.routes.len() },
        })
    }
}
