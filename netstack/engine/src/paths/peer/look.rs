//! What others see of the paths to a peer: when they want to be looked at again, and why packets do not go directly.
//! Changes nothing.

use model::Mono;

use super::{
    COMPARE_INTERVAL, HINT_INTERVAL, HUB_AFTER, PING_INTERVAL, Peer, RELAY_PING_INTERVAL, SEEK_STEPS,
    TRAFFIC_LIFE,
};
use crate::paths::address::Mapping;
use crate::paths::route::Route;
use crate::paths::{RelayId, Way, WhyNotDirect};

impl Peer {
    /// When [`Self::advance`] is due.
    pub(in crate::paths) fn deadline(&self, relays: &[RelayId], now: Mono) -> Option<Mono> {
        let hint = self.hint_due.then(|| self.hint_sent.map_or(now, |(at, _)| at + HINT_INTERVAL));
        let step = self.search.as_ref().and_then(|s| SEEK_STEPS.get(s.step).map(|step| s.since + *step));
        let asked = self.routes.values().chain([&self.over_relay]).filter_map(Route::deadline);
        let busy = self.is_busy(now);
        let pings =
            self.routes.iter().filter(|(_, route)| busy && route.is_trusted()).map(|(address, route)| {
                let in_use = self.way == Way::Direct(*address);
                route.next(if in_use { PING_INTERVAL } else { COMPARE_INTERVAL })
            });
        let asks_relay = !relays.is_empty() && self.session.is_ready() && !matches!(self.way, Way::Direct(_));
        let relay = (busy && asks_relay).then(|| self.over_relay.next(RELAY_PING_INTERVAL));
        let lost = self.lost_since.filter(|_| self.way != Way::ViaHub).map(|since| since + HUB_AFTER);
        let cold = busy.then(|| self.traffic_at + TRAFFIC_LIFE);
        let single = [hint, step, self.search_at, relay, lost, cold];
        single.into_iter().flatten().chain(asked).chain(pings).min()
    }

    /// Why the packets do not go directly. `None`: they do.
    pub(in crate::paths) fn why_not_direct(
        &self,
        mapping: Option<Mapping>,
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
            _ if self.search.is_some() => WhyNotDirect::Searching,
            _ => WhyNotDirect::NoAnswer { addresses: self.routes.len() },
        })
    }
}
