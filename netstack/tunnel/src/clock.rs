//! The device's clock: what the protocol's [`Time`] counts from.
//!
//! It goes on while the machine sleeps, as the kernel's does (`CLOCK_BOOTTIME`, clock_gettime(2)): who wakes up after
//! hours must not seal with a session that the peer has long forgotten.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use wireguard::Time;

const START: Time = Time::from_nanos(1_000_000_000);

/// Counts from a second before the device was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Duration,
    instant: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: since_boot(), instant: Instant::now() }
    }

    pub(crate) fn now(self) -> Time {
        START + since_boot().saturating_sub(self.start)
    }

    /// The same moment for those who count in instants. After a sleep it is ahead of [`Instant::now`]: to be compared
    /// with others of this clock only.
    pub(crate) fn instant(self, time: Time) -> Instant {
        self.instant + time.since(START)
    }
}

/// Linux has this clock since 2.6.39.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Wall time since 1970; nothing on a machine whose clock is before that.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_has_passed_since_the_start_by_the_clock_that_does_not_sleep() {
        let clock = Clock::start();
        let early = Clock { start: clock.start.saturating_sub(Duration::from_secs(1)), ..clock };
        let (first, second) = (clock.now(), early.now());
        assert!(first >= START && second.since(first) >= Duration::from_secs(1));
        assert_eq!(clock.instant(START + Duration::from_secs(5)), clock.instant + Duration::from_secs(5));
        let boot = since_boot();
        assert!(clock.now().since(START) <= since_boot().saturating_sub(clock.start));
        assert!(since_boot() >= boot && boot > Duration::ZERO);
    }
}
