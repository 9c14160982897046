//! Birthday probing, as far as the peers of a device share it: who may open side sockets or guess ports now, and how often in an hour.
//! Sends nothing.
//!
//! Against a NAT that gives ports by chance one socket has no hope, and many have: of 64 512 ports 256 are ours, and a peer that tries
//! 1 024 of them misses all in 1.7 of a hundred searches, as two of a few dozen people have one birthday. What it costs is bounded here,
//! whatever peers say.

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

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Birthdays {
    is_on: bool,
    sides_given: u32,
    searches: Turn,
    guesses: Turn,
}

/// One at a time, and so many in an hour.
#[derive(Debug)]
struct Turn {
    of: Option<DeviceId>,
    left: u32,
    earned_at: Mono,
}

impl Default for Turn {
    fn default() -> Self {
        Self { of: None, left: SAVED_MAX, earned_at: Mono::default() }
    }
}

impl Turn {
    fn take(&mut self, device: DeviceId, now: Mono) -> bool {
        while self.left < SAVED_MAX && self.earned_at + EARNED_EVERY <= now {
            (self.left, self.earned_at) = (self.left + 1, self.earned_at + EARNED_EVERY);
        }
        if self.of.is_some() || self.left == 0 {
            return false;
        }
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
        self.is_on && self.guesses.take(device, now)
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
            searches += usize::from(birthdays.search(one, now).is_some());
            birthdays.end_search(one);
        }
        assert_eq!(searches, 15, "eight, and one each seven and a half minutes");
    }
}
