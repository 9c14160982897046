//! When something happens: nanoseconds on a clock that never goes back. Does not know which clock.

use std::ops::{Add, AddAssign};
use std::time::Duration;

/// Nanoseconds since an arbitrary start, the same for the life of a process; lasts 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The time so many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time so much later. `None` past the end of the clock.
    pub fn checked_add(self, later: Duration) -> Option<Self> {
        self.0.checked_add(u64::try_from(later.as_nanos()).ok()?).map(Self)
    }

    /// The time so much earlier. `None` before the start of the clock.
    pub fn checked_sub(self, earlier: Duration) -> Option<Self> {
        self.0.checked_sub(u64::try_from(earlier.as_nanos()).ok()?).map(Self)
    }
}

/// Stops at the end of the clock: a deadline there never comes.
impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        self.checked_add(later).unwrap_or(Self(u64::MAX))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, later: Duration) {
        *self = *self + later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stop_at_the_ends_of_the_clock() {
        let (start, end) = (Time::default(), Time::from_nanos(u64::MAX));
        let second = Duration::from_secs(1);
        assert_eq!(start + second, Time::from_nanos(1_000_000_000));
        assert_eq!((start + second).since(start), second);
        assert_eq!(start.since(start + second), Duration::ZERO);
        assert_eq!((start + second).checked_sub(second), Some(start));
        assert_eq!(start.checked_sub(Duration::from_nanos(1)), None);
        assert_eq!(end.checked_add(Duration::from_nanos(1)), None);
        assert_eq!((end + second, start + Duration::MAX), (end, end));
    }
}
