//! Which host numbers of a block are held, rest, or are free. Knows no address.

use std::collections::{BTreeMap, BTreeSet};

use model::limits::ADDRESS_REST;
use model::{DeviceId, Timestamp};

/// The first number that a device may have: 1 is the hub's.
const FIRST: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Held(DeviceId),
    RestsUntil(Timestamp),
}

/// The numbers of one block. Numbers never used come first; then those that rested longest.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    last: u32,
    /// The lowest number that nobody ever had.
    fresh: u32,
    uses: BTreeMap<u32, Use>,
    resting: BTreeSet<(Timestamp, u32)>,
}

impl Numbers {
    /// All numbers from 2 to `last` are free.
    pub(super) const fn new(last: u32) -> Self {
        Self { last, fresh: FIRST, uses: BTreeMap::new(), resting: BTreeSet::new() }
    }

    /// A device has the number. Wins over any rest, in whatever order the rows come.
    pub(super) fn hold(&mut self, number: u32, device: DeviceId) {
        self.set(number, Use::Held(device));
    }

    /// The device was revoked at that time.
    pub(super) fn rest(&mut self, number: u32, device: DeviceId, revoked_at: Timestamp) {
        let until = revoked_at + ADDRESS_REST;
        match self.uses.get(&number) {
            Some(Use::Held(other)) if *other != device => {}
            Some(Use::RestsUntil(later)) if *later >= until => {}
            _ => self.set(number, Use::RestsUntil(until)),
        }
    }

    /// The number for a new device, if there is one.
    pub(super) fn free(&self, now: Timestamp) -> Option<u32> {
        if self.fresh <= self.last {
            return Some(self.fresh);
        }
        self.resting.first().filter(|(until, _)| *until <= now).map(|(_, number)| *number)
    }

    fn set(&mut self, number: u32, new: Use) {
        if let Some(Use::RestsUntil(until)) = self.uses.insert(number, new) {
            self.resting.remove(&(until, number));
        }
        if let Use::RestsUntil(until) = new {
            self.resting.insert((until, number));
        }
        self.fresh = self.fresh.max(number.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DeviceId = DeviceId::from_bytes([1; 16]);
    const B: DeviceId = DeviceId::from_bytes([2; 16]);

    fn day(n: i64) -> Timestamp {
        Timestamp::from_unix_micros(n * 24 * 3600 * 1_000_000)
    }

    #[test]
    fn numbers_rest_for_a_day_and_fresh_ones_come_first() {
        let mut numbers = Numbers::new(3);
        assert_eq!(numbers.free(day(0)), Some(2));
        numbers.hold(2, A);
        numbers.rest(2, A, day(1));
        assert_eq!(numbers.free(day(9)), Some(3), "fresh before rested");
        numbers.hold(3, B);
        assert_eq!(numbers.free(day(1)), None, "it rests");
        assert_eq!(numbers.free(day(2)), Some(2));
        numbers.hold(2, B);
        assert_eq!(numbers.free(day(9)), None);
    }

    #[test]
    fn a_holder_wins_over_a_rest_in_any_order() {
        let mut forward = Numbers::new(2);
        forward.rest(2, A, day(1));
        forward.hold(2, B);
        let mut backward = Numbers::new(2);
        backward.hold(2, B);
        backward.rest(2, A, day(1));
        assert_eq!((forward.free(day(9)), backward.free(day(9))), (None, None));
        backward.rest(2, B, day(3));
        backward.rest(2, A, day(1));
        assert_eq!((backward.free(day(3)), backward.free(day(4))), (None, Some(2)), "the later rest counts");
    }
}
