//! The clock of the forwarder: monotonic, with the time that the machine was suspended, so that answers age in sleep.

use std::time::Duration;

use model::Mono;
use nix::time::{ClockId, clock_gettime};

/// Monotonic time (`CLOCK_BOOTTIME`, `clock_gettime(2)`). Copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock;

impl Clock {
    pub(super) fn now(self) -> Mono {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        let now = now.expect("Linux has CLOCK_BOOTTIME since 2.6.39");
        Mono::from_micros(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
    }
}
