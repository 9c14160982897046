//! The only clock that a node reads: monotonic since the start, with the time that the machine was suspended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Mono, Now, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Monotonic time since it was made (`CLOCK_BOOTTIME`, `clock_gettime(2)`), and the wall's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: boot_time() }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        Now { mono: self.mono(), wall: Timestamp::from_unix_micros(wall) }
    }

    fn mono(&self) -> Mono {
        let since = boot_time().saturating_sub(self.origin);
        Mono::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// When the runtime's timer should fire for a deadline. It stands still while the machine is suspended, so it is
    /// computed anew at each turn of the loop.
    pub(crate) fn instant(&self, at: Mono) -> Instant {
        Instant::now() + at.since(self.mono())
    }
}

fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).expect("Linux has CLOCK_BOOTTIME since 2.6.39")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_passed_is_due_now() {
        let clock = Clock::new();
        assert!(clock.instant(Mono::default()) <= Instant::now());
        let later = clock.now().mono + Duration::from_secs(60);
        let wait = clock.instant(later) - Instant::now();
        assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(60), "{wait:?}");
    }
}
