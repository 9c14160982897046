//! Whether the machine was suspended meanwhile: one clock goes on then, the other does not (`clock_gettime(2)`).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A suspension that is shorter ends no mapping of a NAT.
const SUSPENSION_MIN: Duration = Duration::from_secs(2);

/// See the top of the file.
pub(super) struct Suspension {
    /// How long the machine was suspended since it started, by whom that is known.
    clock: Box<dyn Fn() -> Duration + Send>,
    /// The same, when that was looked at last.
    asleep: Duration,
}

impl Suspension {
    pub(super) fn new() -> Self {
        Self::by(asleep)
    }

    /// By another clock than the machine's.
    pub(super) fn by(clock: impl Fn() -> Duration + Send + 'static) -> Self {
        Self { asleep: clock(), clock: Box::new(clock) }
    }

    /// Whether it was, since the last question.
    pub(super) fn was(&mut self) -> bool {
        let now = (self.clock)();
        self.is_longer(now)
    }

    fn is_longer(&mut self, now: Duration) -> bool {
        let before = std::mem::replace(&mut self.asleep, now);
        now.saturating_sub(before) >= SUSPENSION_MIN
    }
}

fn asleep() -> Duration {
    let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_is_noticed_once_and_a_clock_that_is_read_late_is_none() {
        let mut suspension = Suspension::new();
        assert!(!suspension.was(), "this machine is awake");
        let mut after = |seconds, millis| {
            let slept = Duration::from_secs(seconds) + Duration::from_millis(millis);
            let before = suspension.asleep;
            suspension.is_longer(before + slept)
        };
        assert!(!after(0, 3), "between the two readings");
        assert!(after(3600, 0));
        assert!(!after(0, 0), "it is told once");
        assert!(!after(1, 999) && after(2, 0));
    }
}
