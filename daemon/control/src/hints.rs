//! How many hints a link may send. Reads none.

use std::time::Duration;

use crate::limits::HINTS_PER_SECOND;

/// How many hints a link may still send: as many as a second allows at once, then as they come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HintBudget {
    left: u32,
    since: model::Mono,
}

impl HintBudget {
    pub(crate) const fn new(now: model::Mono) -> Self {
        Self { left: HINTS_PER_SECOND, since: now }
    }

    /// Whether one more may be sent; then it counts.
    pub(crate) fn take(&mut self, now: model::Mono) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.left.checked_sub(1).inspect(|left| self.left = *left).is_some()
    }
}
