//! The clocks of one machine: a monotonic one that began when the machine's program did, and a wall clock that is wrong.

use std::time::Duration;

use model::{Mono, Now, Timestamp};

/// When runs begin: 2026-11-21 12:00 UTC.
const BEGINNING_MICROS: i64 = 1_795_262_400_000_000;
/// Wall clocks are wrong by so much at most.
const SKEW_MAX_MICROS: i64 = 600 * 1_000_000;

/// A machine's idea of time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Mono,
    skew_micros: i64,
}

impl Clock {
    /// A clock whose wall time is off by a share of the largest skew, from -1000 to 1000 thousandths.
    pub const fn new(skew_per_mille: i64) -> Self {
        Self { origin: Mono::from_micros(0), skew_micros: SKEW_MAX_MICROS / 1000 * skew_per_mille }
    }

    /// The program starts: its monotonic time begins, as each process has its own origin.
    pub const fn restart(&mut self, at: Mono) {
        self.origin = at;
    }

    /// What the machine reads at that time, when all walls were set ahead by `jumped`.
    pub fn now(&self, at: Mono, jumped: Duration) -> Now {
        let passed = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
        let wall = Timestamp::from_unix_micros(BEGINNING_MICROS + passed + self.skew_micros) + jumped;
        Now { mono: Mono::from_micros(at.as_micros().saturating_sub(self.origin.as_micros())), wall }
    }

    /// When the machine's monotonic clock reads this.
    pub fn when(&self, mono: Mono) -> Mono {
        self.origin + Duration::from_micros(mono.as_micros())
    }
}
