//! How often direct paths are asked where there are many. Sends nothing.
//!
//! Of each that carries packets come the answers to our pings and the peer's own pings, and the shell takes in so many datagrams a
//! second and no more ([`PROBES_PER_SECOND_MAX`]): answers beyond would be lost, and paths that live be given up. So whatever is asked
//! of direct paths is asked more rarely, all by one factor, and as much longer is an answer waited for. Each probe says how often its
//! sender would ask, and its factor: who has a thousand peers is asked by each of them as if it had one, unless it says so.

use std::time::Duration;

use super::PROBES_PER_SECOND_MAX;

/// What direct paths that are in use may bring in of that; the others are searches, STUN and what is asked once more.
const TAKEN_MAX: u64 = PROBES_PER_SECOND_MAX as u64 / 5 * 4;
/// In tenths of a second.
const TENTHS: u64 = 10;
/// A peer that says more is not believed: with so many paths each would be asked every 25 s.
const STRETCH_MAX: u16 = 6_400;
/// Nor is one that says that it asks more often: a ping each 90 ms, and some of other addresses. All paths go by the sum, and one peer
/// must not slow the others down.
const TOLD_MAX: u16 = 150;

/// Times that something is asked in ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Rate(u16);

impl Rate {
    /// What is asked each ten seconds.
    pub(super) const SELDOM: Self = Self(1);

    pub(super) fn every(interval: Duration) -> Self {
        let times = 10_000 / interval.as_millis().max(1);
        Self(u16::try_from(times).unwrap_or(u16::MAX))
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// By what intervals are multiplied, in hundredths; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch(u16);

impl Default for Stretch {
    fn default() -> Self {
        Self::NONE
    }
}

impl Stretch {
    pub(super) const NONE: Self = Self(100);

    pub(super) fn of(self, interval: Duration) -> Duration {
        interval * u32::from(self.0) / 100
    }
}

/// What a probe says of its sender. Who says nothing is of a version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// How often it would ask.
    rate: Rate,
    stretch: Stretch,
}

impl Told {
    pub(super) const fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.rate.0.to_be_bytes(), self.stretch.0.to_be_bytes());
        [a, b, c, d]
    }

    pub(super) fn from_bytes([a, b, c, d]: [u8; 4]) -> Self {
        let stretch = u16::from_be_bytes([c, d]).clamp(100, STRETCH_MAX);
        Self { rate: Rate(u16::from_be_bytes([a, b]).min(TOLD_MAX)), stretch: Stretch(stretch) }
    }
}

/// What all direct paths bring in, if nothing is stretched.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// In ten seconds.
    taken: u64,
}

impl Load {
    /// A peer brings in this now, in place of that.
    pub(super) fn change(&mut self, before: Rate, after: Rate) {
        self.taken = (self.taken + u64::from(after.0)).saturating_sub(before.0.into());
    }

    pub(super) fn stretch(&self) -> Stretch {
        let hundredths = (self.taken * 100).div_ceil(TAKEN_MAX * TENTHS);
        Stretch(u16::try_from(hundredths).unwrap_or(u16::MAX).clamp(100, STRETCH_MAX))
    }
}

/// Of one peer.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// As it was counted last.
    load: Rate,
    stretch: Stretch,
}

impl Pace {
    pub(super) const fn stretch(&self) -> Stretch {
        self.stretch
    }

    pub(super) const fn load(&self) -> Rate {
        self.load
    }

    /// Both sides ask as rarely as the one that has more to ask.
    pub(super) fn follow(&mut self, own: Stretch, peer: Told) {
        self.stretch = own.max(peer.stretch);
    }

    /// We would ask so often. Says what was counted before, and what is from now on.
    pub(super) fn count(&mut self, own: Rate, peer: Told) -> (Rate, Rate) {
        // Who does not say how often it asks does so as we do.
        let theirs = if peer.rate == Rate::default() { own } else { peer.rate };
        let load = if own == Rate::default() { own } else { own.and(theirs) };
        (std::mem::replace(&mut self.load, load), load)
    }
}

/// What we say of ourselves.
pub(super) const fn told(rate: Rate, stretch: Stretch) -> Told {
    Told { rate, stretch }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Duration = Duration::from_millis(400);

    #[test]
    fn paths_are_asked_more_rarely_once_there_are_too_many() {
        let check = |paths: u64, expect: u64| {
            let mut load = Load::default();
            let rate = Rate::every(PING);
            (0..paths).for_each(|_| load.change(Rate::default(), rate.and(rate)));
            assert_eq!(load.stretch().of(PING), Duration::from_millis(expect), "{paths}");
            (0..paths).for_each(|_| load.change(rate.and(rate), Rate::default()));
            assert_eq!(load.stretch(), Stretch::default());
        };
        check(1, 400);
        check(800, 400);
        check(1_000, 500);
        check(10_000, 5_000);
        check(1_000_000, 25_600);
    }

    #[test]
    fn one_peer_slows_no_path_of_others_whatever_it_says() {
        let (mut pace, mut load) = (Pace::default(), Load::default());
        let (before, after) = pace.count(Rate::every(PING), Told::from_bytes([0xff; 4]));
        load.change(before, after);
        assert_eq!(load.stretch(), Stretch::NONE);
        (0..100).for_each(|_| load.change(before, after));
        assert_eq!(load.stretch(), Stretch::NONE, "nor do a hundred");
    }

    #[test]
    fn both_sides_go_by_who_has_more_and_who_says_nothing_is_taken_to_ask_as_often() {
        let mut pace = Pace::default();
        let (own, often) = (Rate::every(PING), Rate::every(Duration::from_millis(90)));
        let busy = told(often, Stretch(300));
        assert_eq!(Told::from_bytes(busy.to_bytes()), busy);
        pace.follow(Stretch(200), busy);
        assert_eq!(pace.stretch(), Stretch(300));
        pace.follow(Stretch(400), busy);
        assert_eq!(pace.stretch(), Stretch(400));
        assert_eq!(pace.count(own, busy), (Rate::default(), own.and(often)));
        assert_eq!(pace.count(own, Told::from_bytes([0; 4])), (own.and(often), own.and(own)));
        assert_eq!(pace.count(Rate::default(), busy).1, Rate::default(), "it is not direct");
    }
}
