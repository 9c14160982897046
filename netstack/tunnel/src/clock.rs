//! The device's clock: what the protocol's [`Time`] counts from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wireguard::Time;

const START: Time = Time::from_nanos(1_000_000_000);

/// Counts from a second before the device was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        START + self.0.elapsed()
    }

    /// The same moment as the system has it.
    pub(crate) fn instant(self, time: Time) -> Instant {
        self.0 + time.since(START)
    }
}

/// Wall time since 1970; nothing on a machine whose clock is before that.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
