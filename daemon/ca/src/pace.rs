//! How fast signatures are given: a bucket that fills by the second. Told the time.

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

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Mono) -> bool {
        let gained = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(gained.saturating_mul(self.per_second)).min(self.full);
        self.at = self.at.max(now);
        match self.left.checked_sub(ONE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
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
}
