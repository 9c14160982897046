//! What did not work and is tried again after a while. Is told the time.

use std::time::{Duration, Instant};

/// How long an offload that failed is left alone. A driver or a route changes seldom, and one failed attempt a minute
/// costs nothing.
pub(crate) const RETRY: Duration = Duration::from_secs(60);

/// Whether to do without an offload for now.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Fallback(Option<Instant>);

impl Fallback {
    /// It failed: for [`RETRY`] from now on, do without.
    pub(crate) fn enter(&mut self, now: Instant) {
        self.0 = Some(now + RETRY);
    }

    /// Whether to do without. Ends by itself.
    pub(crate) fn is_on(&mut self, now: Instant) -> bool {
        if self.0.is_some_and(|until| until <= now) {
            self.0 = None;
        }
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_ends_after_its_time_and_begins_anew_with_every_failure() {
        let (mut fallback, start) = (Fallback::default(), Instant::now());
        assert!(!fallback.is_on(start));
        fallback.enter(start);
        assert!(fallback.is_on(start + RETRY / 2));
        fallback.enter(start + RETRY / 2);
        assert!(fallback.is_on(start + RETRY));
        assert!(!fallback.is_on(start + RETRY * 2));
        assert!(!fallback.is_on(start + RETRY));
    }
}
