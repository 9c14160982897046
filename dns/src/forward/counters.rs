//! What the forwarder did, for metrics. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start; they only grow. What the cache gave is in its own report.
#[derive(Debug, Default)]
pub struct ForwardCounters {
    /// Questions that servers were asked, with those of our own wish.
    pub asked: Count,
    /// Questions that waited for the answer to an equal one.
    pub shared: Count,
    /// Questions asked before an answer ended, because it is wanted.
    pub refreshed: Count,
    /// Questions that no server answered.
    pub failed: Count,
    /// Questions answered here, as nobody may be asked.
    pub local: Count,
    /// Questions refused: of the mesh, or not ours to forward.
    pub refused: Count,
    /// Answers that led to an address that their name may not lead to.
    pub blocked: Count,
    /// Questions of ours that came back to us.
    pub looped: Count,
    /// Questions turned away because too many were under way.
    pub crowded: Count,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
