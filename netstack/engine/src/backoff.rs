//! How long to wait before the next try: doubling between two bounds, with jitter so that a thousand nodes do not act
//! as one. Counts tries; holds no timer.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

/// The bounds of a backoff, and how much of it is chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The first wait at most.
    pub(crate) first: Duration,
    /// Any wait at most.
    pub(crate) max: Duration,
    /// Chance decides on all of the wait, down to none; otherwise on half of it.
    pub(crate) full_jitter: bool,
}

/// Tries that failed in a row, on a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    schedule: Schedule,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(schedule: Schedule) -> Self {
        Self { schedule, failures: 0 }
    }

    /// Counts a failure and says how long to wait.
    pub(crate) fn fail(&mut self, rng: &mut ChaCha20Rng) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = self.schedule.first.saturating_mul(factor).min(self.schedule.max);
        let floor = if self.schedule.full_jitter { Duration::ZERO } else { wait / 2 };
        floor + fraction(wait - floor, rng)
    }

    pub(crate) const fn succeed(&mut self) {
        self.failures = 0;
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

/// A random part of a duration, from nothing to all of it.
pub(crate) fn fraction(of: Duration, rng: &mut ChaCha20Rng) -> Duration {
    of.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng as _;

    #[test]
    fn waits_double_between_the_bounds() {
        let schedule =
            Schedule { first: Duration::from_secs(1), max: Duration::from_secs(60), full_jitter: false };
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut backoff = Backoff::new(schedule);
        for n in 0..100u32 {
            let most = Duration::from_secs(1 << n.min(10)).min(schedule.max);
            let wait = backoff.fail(&mut rng);
            assert!(most / 2 <= wait && wait <= most, "try {n}: {wait:?}");
        }
        backoff.succeed();
        assert!(backoff.fail(&mut rng) <= schedule.first);
    }
}
