//! How fast signatures are given: a bucket that fills by the second, for all and for each. Told the time.

use std::collections::BTreeMap;

use model::Mono;

/// Micro-signatures: a millionth of one a microsecond is one a second, in whole numbers.
const ONE: u64 = 1_000_000;

/// A bucket that holds `burst` and gains `per_second`.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    per_second: u64,
    full: u64,
    left: u64,
    at: Mono,
}

impl Pace {
    pub(crate) const fn new(per_second: u32, burst: u32) -> Self {
        let full = burst as u64 * ONE;
        Self { per_second: per_second as u64, full, left: full, at: Mono::from_micros(0) }
    }

    fn is_full(&self, now: Mono) -> bool {
        let mut then = self.clone();
        then.fill(now);
        then.left == then.full
    }

    fn fill(&mut self, now: Mono) {
        let gained = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(gained.saturating_mul(self.per_second)).min(self.full);
        self.at = self.at.max(now);
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Mono) -> bool {
        self.fill(now);
        match self.left.checked_sub(ONE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// One bucket for each of many, so that one who asks without end leaves the others theirs.
#[derive(Debug, Clone)]
pub struct Paces<K> {
    fresh: Pace,
    kept_max: usize,
    each: BTreeMap<K, Pace>,
}

impl<K: Ord> Paces<K> {
    /// Each may have `burst` at once and `per_second` in the long run. So many are remembered before those are forgotten
    /// whose bucket is full again, which changes nothing for them.
    pub const fn new(per_second: u32, burst: u32, kept_max: usize) -> Self {
        Self { fresh: Pace::new(per_second, burst), kept_max, each: BTreeMap::new() }
    }

    /// Takes one of somebody's, if there is one.
    pub fn take(&mut self, who: K, now: Mono) -> bool {
        if self.each.len() >= self.kept_max && !self.each.contains_key(&who) {
            self.each.retain(|_, pace| !pace.is_full(now));
            if self.each.len() >= self.kept_max {
                return false;
            }
        }
        self.each.entry(who).or_insert_with(|| self.fresh.clone()).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_second() {
        let mut pace = Pace::new(2, 3);
        let mut taken = |millis: u64| (0..10).filter(|_| pace.take(Mono::from_micros(millis * 1000))).count();
        assert_eq!(taken(1), 3);
        assert_eq!(taken(400), 0);
        assert_eq!(taken(501), 1);
        assert_eq!(taken(1501), 2);
        assert_eq!(taken(900_000), 3);
        assert_eq!(taken(1), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn one_who_asks_without_end_leaves_the_others_theirs() {
        let mut paces = Paces::new(1, 2, 3);
        let mut taken = |who: &'static str, seconds: u64| {
            (0..10).filter(|_| paces.take(who, Mono::from_micros(seconds * 1_000_000))).count()
        };
        assert_eq!(taken("ada", 1), 2);
        assert_eq!(taken("bob", 1), 2);
        assert_eq!(taken("ada", 2), 1);
        assert_eq!(taken("eve", 2), 2);
        assert_eq!(taken("dan", 2), 0, "nobody is forgotten who has asked just now");
        assert_eq!(taken("dan", 9), 2, "those whose bucket is full again are");
        assert_eq!(taken("ada", 9), 2);
    }
}
