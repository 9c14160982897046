//! What was answered, for metrics. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rcode::Rcode;

/// Counts since the start. They only grow.
#[derive(Debug, Default)]
pub struct Counters {
    answered: [AtomicU64; Rcode::ALL.len()],
    dropped: AtomicU64,
    unsent: AtomicU64,
    turned_away: AtomicU64,
}

impl Counters {
    /// Answers with this code.
    pub fn answered(&self, code: Rcode) -> u64 {
        self.answered[code as usize].load(Ordering::Relaxed)
    }

    /// Messages that got no answer, because they were none or were themselves responses.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Answers that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// TCP connections closed at once because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(super) fn count_answer(&self, code: Rcode) {
        self.answered[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unsent(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}
