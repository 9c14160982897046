//! Birthday probing, as far as the peers of a device share it: who may open side sockets or guess ports now, and how often in an hour.
//! Sends nothing.
//!
//! Against a NAT that gives ports by chance one socket has no hope, and many have: of 64 512 ports 256 are ours, and a peer that tries
//! 1 024 of them misses all in 1.7 of a hundred searches, as two of a few dozen people have one birthday. What it costs is bounded here,
//! whatever peers say.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{DeviceId, Mono};

use super::side::SideId;

/// Side sockets of one search: as many mappings in our router's table for half a minute, of which small ones have a few thousand.
pub(super) const SIDES: u16 = 256;
/// Ports of a peer's NAT that one search tries: with [`SIDES`] sockets behind them one is met in 98.3 of a hundred searches.
pub(super) const GUESSES: u16 = 1024;
/// Searches of a device at once, and the same of guesses for peers.
const SAVED_MAX: u32 = 8;
/// One more may begin after so long: sixteen in any hour at most, which are 1.1 MB of guesses.
const EARNED_EVERY: Duration = Duration::from_secs(3600 / SAVED_MAX as u64);
/// So many are left to peers that had none in the last hour: one that wants all gets no more than the others leave.
const KEPT_FOR_OTHERS: u32 = SAVED_MAX / 2;
const HOUR: Duration = Duration::from_secs(3600);
/// A peer that asks sooner than it may is not guessed for: less than the minute after which it may search again, since hints take their
/// time, and clocks differ. Each search that won nothing doubles it, as it doubles the peer's own wait...
const GUESS_AGAIN: Duration = Duration::from_secs(50);
/// ... up to 53 minutes.
const GUESS_AGAIN_DOUBLED_MAX: u32 = 6;

/// After a search, before the next of the same peer; each that found nothing doubles it...
const AGAIN: Duration = Duration::from_secs(60);
/// ... up to an hour.
const AGAIN_DOUBLED_MAX: u32 = 6;
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Birthdays {
    is_on: bool,
    sides_given: u32,
    searches: Turn,
    guesses: Turn,
    /// Searches of each peer in a row that won no path which lived on. Kept while nobody talks to it: else it had only to be silent for a
    /// while.
    in_vain: BTreeMap<DeviceId, u32>,
    /// Our own searches, kept as long: who pauses for two minutes would search each time, and be refused.
    sought: BTreeMap<DeviceId, Sought>,
}

/// Our searches for one peer.
#[derive(Debug, Default)]
struct Sought {
    /// So many in a row found nothing.
    missed: u32,
    not_before: Mono,
}

/// One at a time, and so many in an hour.
#[derive(Debug)]
struct Turn {
    of: Option<DeviceId>,
    left: u32,
    earned_at: Mono,
    /// Who had one in the last hour, and when its last began.
    had: BTreeMap<DeviceId, Mono>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { of: None, left: SAVED_MAX, earned_at: Mono::default(), had: BTreeMap::new() }
    }
}

impl Turn {
    fn take(&mut self, device: DeviceId, now: Mono) -> bool {
        while self.left < SAVED_MAX && self.earned_at + EARNED_EVERY <= now {
            (self.left, self.earned_at) = (self.left + 1, self.earned_at + EARNED_EVERY);
        }
        self.had.retain(|_, at| now.since(*at) < HOUR);
        let kept = if self.had.contains_key(&device) { KEPT_FOR_OTHERS } else { 0 };
        if self.of.is_some() || self.left <= kept {
            return false;
        }
        self.had.insert(device, now);
        if self.left == SAVED_MAX {
            self.earned_at = now;
        }
        (self.of, self.left) = (Some(device), self.left - 1);
        true
    }

    fn end(&mut self, device: DeviceId) {
        self.of = self.of.filter(|of| *of != device);
    }
}

impl Birthdays {
    /// The shell opens side sockets, and lets ports be guessed.
    pub(super) const fn set(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// Ports that we guess for a peer whose sockets wait behind them.
    pub(super) fn guesses_max(&self) -> Option<u16> {
        self.is_on.then_some(GUESSES)
    }

    /// Opens a search for this device: the first of [`SIDES`] numbers. `None`: not now.
    pub(super) fn search(&mut self, device: DeviceId, now: Mono) -> Option<SideId> {
        if !self.is_on || !self.searches.take(device, now) {
            return None;
        }
        let first = self.sides_given;
        self.sides_given = first.wrapping_add(SIDES.into());
        Some(SideId(first))
    }

    /// Whether ports of this device's NAT may be guessed from now on.
    pub(super) fn guess(&mut self, device: DeviceId, now: Mono) -> bool {
        let in_vain = self.in_vain(device);
        let wait = GUESS_AGAIN * (1 << in_vain.saturating_sub(1).min(GUESS_AGAIN_DOUBLED_MAX));
        let is_early = self.guesses.had.get(&device).is_some_and(|at| now.since(*at) < wait);
        let may = self.is_on && !is_early && self.guesses.take(device, now);
        if may {
            self.in_vain.insert(device, in_vain.saturating_add(1));
        }
        may
    }

    /// A path that guessing won has lived: that search was not in vain.
    pub(super) fn won(&mut self, device: DeviceId) {
        self.in_vain.remove(&device);
    }

    /// The device is no peer any more.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.in_vain.remove(&device);
        self.sought.remove(&device);
    }

    /// A search for this device found nothing.
    pub(super) fn missed(&mut self, device: DeviceId, now: Mono) {
        let sought = self.sought.entry(device).or_default();
        let wait = (AGAIN * (1 << sought.missed.min(AGAIN_DOUBLED_MAX))).min(AGAIN_MAX);
        *sought = Sought { missed: sought.missed.saturating_add(1), not_before: now + wait };
    }

    /// A search for this device found a path, or that one has ended.
    pub(super) fn met(&mut self, device: DeviceId, now: Mono) {
        self.sought.insert(device, Sought { missed: 0, not_before: now + AGAIN });
    }

    /// No search for this device begins before.
    pub(super) fn rest(&mut self, device: DeviceId, not_before: Mono, now: Mono) {
        self.sought.retain(|_, sought| sought.missed > 0 || sought.not_before > now);
        self.sought.entry(device).or_default().not_before = not_before;
    }

    /// As that says. `None`: one may begin now.
    pub(super) fn not_before(&self, device: DeviceId, now: Mono) -> Option<Mono> {
        self.sought.get(&device).map(|sought| sought.not_before).filter(|at| *at > now)
    }

    /// Searches of this device in a row that won nothing which lived on.
    pub(super) fn in_vain(&self, device: DeviceId) -> u32 {
        self.in_vain.get(&device).copied().unwrap_or(0)
    }

    /// The search for this device is over.
    pub(super) fn end_search(&mut self, device: DeviceId) {
        self.searches.end(device);
    }

    /// No more ports of this device's NAT are guessed.
    pub(super) fn end_guess(&mut self, device: DeviceId) {
        self.guesses.end(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_searches_at_a_time_and_no_more_than_sixteen_in_any_hour() {
        let [one, other] = [1, 2].map(|number| DeviceId::from_bytes([number; 16]));
        let mut birthdays = Birthdays::default();
        assert_eq!(birthdays.search(one, Mono::default()), None, "it is off");
        assert_eq!((birthdays.guesses_max(), birthdays.guess(one, Mono::default())), (None, false));
        birthdays.set(true);
        let begun = Mono::from_micros(5_000_000_000);
        assert_eq!(birthdays.search(one, begun), Some(SideId(0)));
        assert_eq!(birthdays.search(other, begun), None, "one at a time");
        birthdays.end_search(other);
        assert_eq!(birthdays.search(other, begun), None, "it is not the other's to end");
        assert!(birthdays.guess(other, begun), "another may be guessed for meanwhile");
        birthdays.end_search(one);
        assert_eq!(birthdays.search(other, begun), Some(SideId(SIDES.into())));
        birthdays.end_search(other);
        let mut searches = 2;
        for second in 0..3600 {
            let now = begun + Duration::from_secs(second);
            for device in (0..=u8::MAX).map(|number| DeviceId::from_bytes([number; 16])) {
                searches += usize::from(birthdays.search(device, now).is_some());
                birthdays.end_search(device);
            }
        }
        assert_eq!(searches, 15, "eight, and one each seven and a half minutes");
    }

    #[test]
    fn one_that_wants_all_leaves_half_to_those_that_had_none() {
        let peer = |number: u8| DeviceId::from_bytes([number; 16]);
        let mut birthdays = Birthdays::default();
        birthdays.set(true);
        let begun = Mono::from_micros(5_000_000_000);
        let of = |birthdays: &mut Birthdays, number, now| {
            let had = birthdays.search(peer(number), now).is_some();
            birthdays.end_search(peer(number));
            usize::from(had)
        };
        let greedy: usize = (0..100).map(|_| of(&mut birthdays, 1, begun)).sum();
        assert_eq!(greedy, 4);
        let others: usize = (2..100).map(|number| of(&mut birthdays, number, begun)).sum();
        assert_eq!(others, 4);
        // What is earned meanwhile is for those, too, until there is more than they may need.
        let after = |minutes: u64| begun + Duration::from_secs(minutes * 60);
        assert_eq!(of(&mut birthdays, 1, after(30)), 0);
        assert_eq!(of(&mut birthdays, 1, after(40)), 1);
        assert_eq!(of(&mut birthdays, 1, after(41)), 0);
        assert_eq!(of(&mut birthdays, 100, after(41)), 1);
    }

    /// The seconds at which a peer is guessed for that asks for it each second of three hours.
    fn guessed(birthdays: &mut Birthdays, begun: u64) -> Vec<u64> {
        let peer = DeviceId::from_bytes([1; 16]);
        let seconds = (0..3 * 3600).filter(|second| {
            let may = birthdays.guess(peer, Mono::from_micros((begun + second) * 1_000_000));
            birthdays.end_guess(peer);
            may
        });
        seconds.collect()
    }

    #[test]
    fn a_peer_is_guessed_for_ever_more_rarely_until_a_path_won_so_has_lived() {
        let mut birthdays = Birthdays::default();
        birthdays.set(true);
        assert_eq!(guessed(&mut birthdays, 10_000), [0, 50, 150, 350, 750, 1550, 3150, 6350, 9550]);
        let peer = DeviceId::from_bytes([1; 16]);
        assert_eq!(guessed(&mut birthdays, 21_000), [1750, 4950, 8150], "it is remembered");
        birthdays.won(peer);
        assert_eq!(guessed(&mut birthdays, 40_000)[..3], [0, 50, 150]);
        birthdays.forget(peer);
        assert_eq!(birthdays.in_vain, BTreeMap::new());
    }

    #[test]
    fn a_peer_is_searched_for_ever_more_rarely_until_one_is_met_and_nothing_is_kept_for_long() {
        let [one, other] = [1, 2].map(|number| DeviceId::from_bytes([number; 16]));
        let (mut birthdays, mut now) = (Birthdays::default(), Mono::from_micros(1));
        let mut wait = |birthdays: &mut Birthdays, device| {
            let until = birthdays.not_before(device, now).unwrap_or(now);
            now = until.max(now);
            (until, now)
        };
        assert_eq!(birthdays.not_before(one, Mono::from_micros(1)), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let (_, began) = wait(&mut birthdays, one);
            birthdays.missed(one, began);
            waits.push(wait(&mut birthdays, one).0.since(began).as_secs() / 60);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60], "minutes");
        let (_, now) = wait(&mut birthdays, one);
        birthdays.rest(other, now + AGAIN, now);
        assert_eq!(birthdays.not_before(one, now), None, "it is another's");
        birthdays.met(one, now);
        assert_eq!(birthdays.not_before(one, now), Some(now + AGAIN));
        birthdays.rest(other, now + AGAIN * 3, now + AGAIN);
        assert_eq!(birthdays.sought.keys().collect::<Vec<_>>(), [&other]);
        birthdays.forget(other);
        assert!(birthdays.sought.is_empty());
    }
}
