//! Whether UDP comes through here, and so whether the hub is to be reached over the link to the server. Knows no peer.

use std::time::Duration;

use model::Mono;

use super::{Mapping, PathStatus, Paths, RelayId, UDP_LATELY, Way, WhyNotDirect};

/// UDP may come through again, or may not any more: it is asked after so long, then after twice as long each time.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// And no more rarely. An idle device is woken for it.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(120);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Detour {
    /// Since when it is.
    since: Option<Mono>,
    /// When to ask next, and how long it was waited before. `None`: the server is reached over UDP, or not at all.
    look: Option<(Mono, Duration)>,
}

impl Detour {
    /// What was known of UDP here is no more.
    pub(super) const fn anew(&mut self) {
        self.look = None;
    }

    /// Says whether to ask whether UDP comes through. `suspects`: the server is reached, and not over UDP.
    pub(super) fn is_due(&mut self, suspects: bool, now: Mono) -> bool {
        let (at, waited) = self.look.unwrap_or((now, Duration::ZERO));
        if !suspects {
            self.look = None;
        } else if at <= now {
            let wait = (2 * waited).clamp(LOOK_INTERVAL, LOOK_INTERVAL_MAX);
            self.look = Some((now + wait, wait));
            return true;
        }
        false
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.look.map(|(at, _)| at)
    }
}

impl Paths {
    /// How the NAT in front of this device maps. `None`: nobody asked yet, or nobody ever answered.
    pub fn mapping(&self, now: Mono) -> Option<Mapping> {
        if self.local.is_unanswered() && self.is_reached_without_udp(now) {
            return Some(Mapping::Blocked);
        }
        self.local.mapping()
    }

    /// Takes what is known of UDP now.
    pub(super) fn weigh_udp(&mut self, now: Mono) {
        let is_blocked = self.mapping(now) == Some(Mapping::Blocked);
        let is_on = is_blocked && self.relays.contains(&RelayId::SERVER);
        if is_on != self.detour.since.is_some() {
            self.detour.since = is_on.then_some(now);
            // It is asked often again, if at all.
            self.detour.look = self.detour.look.map(|_| (now + LOOK_INTERVAL, LOOK_INTERVAL));
        }
    }

    /// Whether no relay is connected over UDP, which alone is measured, but some are, and no peer came over UDP from beyond this
    /// network.
    fn is_reached_without_udp(&self, now: Mono) -> bool {
        let came = self.udp_came_at.is_some_and(|at| now.since(at) < UDP_LATELY);
        !came && !self.relays.is_empty() && self.relay_round_trips.is_empty()
    }

    /// How packets go to the hub, if they go over the link to the server: UDP is blocked here.
    pub fn hub_over_link(&self, now: Mono) -> Option<PathStatus> {
        self.detour.since.map(|since| PathStatus {
            way: Way::Relayed(RelayId::SERVER),
            age: now.since(since),
            round_trip: None,
            why_not_direct: Some(WhyNotDirect::NoUdpHere),
        })
    }

    /// Asks whether UDP comes through, as long as the server is reached without it.
    pub(super) fn doubt_udp(&mut self, now: Mono) {
        let is_suspect = self.relays.contains(&RelayId::SERVER) && self.relay_round_trips.is_empty();
        if self.detour.is_due(is_suspect, now) {
            self.local.doubt(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_at_once_and_then_ever_more_rarely_while_it_is_suspected() {
        let mut detour = Detour::default();
        let at = |seconds: u64| Mono::from_micros(seconds * 1_000_000);
        let mut asked = Vec::new();
        for second in 0..1500 {
            if detour.is_due(second != 1400, at(second)) {
                asked.push(second);
            }
            assert_eq!(detour.deadline().is_some(), second != 1400);
        }
        assert_eq!(asked[..7], [0, 30, 90, 210, 330, 450, 570]);
        assert_eq!(asked[asked.len() - 4..], [1290, 1401, 1431, 1491]);
        detour.anew();
        assert!(detour.is_due(true, at(1500)), "on another network");
    }
}
