//! The relay at which peers find this device: the nearest of those that are connected, the server among them, as the engine was told
//! them last. Connects none.

use engine::paths::{ConnectedRelay, PathInput, RelayId};
use model::relay::RelayPlace;

use super::Shell;
use super::places::{Places, is_gain};
use super::report::RelayReport;

impl Shell {
    /// These are connected, the nearest first. What the engine is told of it.
    pub(super) fn connected(&mut self, relays: Vec<ConnectedRelay>) -> PathInput {
        self.home = relays.first().map(|relay| relay.id);
        self.road.connected(&relays);
        PathInput::Relays(relays)
    }

    /// One was measured. What the engine is told, if peers are to find this device elsewhere: none came or went.
    pub(super) fn measured(&mut self) -> Option<PathInput> {
        let relays = self.road.relays()?.by_distance();
        is_overtaken(self.home?, &relays).then(|| self.connected(relays))
    }

    /// The relays, for people.
    pub(super) fn relays(&self) -> Vec<RelayReport> {
        let relay = |(place, round_trip): (&RelayPlace, _)| RelayReport {
            name: place.name.clone(),
            round_trip,
            is_home: self.home == Some(RelayId(place.id)),
        };
        let server = self.road.relays().and_then(|relays| relays.round_trip(RelayId::SERVER));
        let is_home = self.home == Some(RelayId::SERVER);
        let server = server.map(|round_trip| RelayReport::of_server(round_trip, is_home));
        server.into_iter().chain(self.places.iter().flat_map(Places::measured).map(relay)).collect()
    }
}

/// Whether the nearest is clearly nearer than the one that was: two that are as far as each other do not take turns.
fn is_overtaken(home: RelayId, relays: &[ConnectedRelay]) -> bool {
    let far = |relay: &ConnectedRelay| relay.round_trip.unwrap_or_default();
    let home = relays.iter().find(|relay| relay.id == home);
    // One that ended is told of by itself.
    relays.first().zip(home).is_some_and(|(nearest, home)| is_gain(far(nearest), far(home)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_relay_that_slows_is_overtaken_and_not_for_nothing() {
        let check = |home, relays: &[(u32, Option<u64>)], expect| {
            let relay = |(id, millis): &(u32, Option<u64>)| ConnectedRelay {
                id: RelayId(*id),
                round_trip: millis.map(Duration::from_millis),
            };
            let told: Vec<_> = relays.iter().map(relay).collect();
            assert_eq!(is_overtaken(RelayId(home), &told), expect, "{home} {relays:?}");
        };
        check(1, &[(0, Some(40)), (1, Some(300))], true);
        check(1, &[(1, Some(10)), (0, Some(40))], false);
        check(1, &[(0, Some(40)), (1, Some(49))], false);
        check(1, &[(0, Some(1)), (1, Some(3))], false);
        check(1, &[(0, None), (1, Some(300))], true);
        check(2, &[(0, Some(40)), (1, Some(300))], false);
        check(2, &[], false);
    }
}
