//! How many probes a peer may make us send. Knows not where to.

use model::Mono;

/// Probes of a peer at once: a search over every candidate with its guesses. What a peer says makes us send no more.
const BUDGET_MAX: u32 = 256;
/// And afterwards, a second.
const BUDGET_PER_SECOND: u32 = 16;

/// How many probes may go to addresses of which only the peer says that they are its own.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    at: Mono,
}

impl Budget {
    pub(super) const fn new(now: Mono) -> Self {
        Self { left: BUDGET_MAX, at: now }
    }

    /// Whether one more may be sent; then it counts.
    pub(super) fn spend(&mut self, now: Mono) -> bool {
        let seconds = u32::try_from(now.since(self.at).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds.saturating_mul(BUDGET_PER_SECOND)).min(BUDGET_MAX);
            self.at = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}
