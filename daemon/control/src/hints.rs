//! Hints on their way: how many may be sent, and what goes to another replica. Reads none.

use std::time::Duration;

use model::{DeviceId, Mono, TenantId};

/// A hint for a device that is attached at another replica, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedHint {
    /// Whose devices both are.
    pub tenant: TenantId,
    /// Who says it.
    pub from: DeviceId,
    /// To whom.
    pub to: DeviceId,
    /// What they alone can read: at most [`model::limits::HINT_BYTES_MAX`] bytes.
    pub sealed: Vec<u8>,
}

/// How many hints may still be sent: as many as a second allows at once, then as they come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HintBudget {
    each_second: u32,
    left: u32,
    since: Mono,
}

impl HintBudget {
    pub(crate) const fn new(each_second: u32, now: Mono) -> Self {
        Self { each_second, left: each_second, since: now }
    }

    /// Whether one more may be sent; then it counts.
    pub(crate) fn take(&mut self, now: Mono) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(self.each_second, now);
        }
        self.left.checked_sub(1).inspect(|left| self.left = *left).is_some()
    }
}
