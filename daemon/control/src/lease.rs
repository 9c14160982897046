//! The lease, as replicas tell of it: who holds it is the hub, sweeps, and works the queue of commands. Asks nobody.

use model::{Mono, Now};

/// Counts the holders of the lease. What a former one still does is refused by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Term(pub u64);

/// What a replica knows of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseWord {
    /// The latest term that was heard of.
    pub term: Term,
    /// Until when this replica holds it, counted from before it asked.
    pub held_until: Option<Mono>,
}

impl LeaseWord {
    /// The term, while this replica holds the lease.
    pub fn held(&self, now: Now) -> Option<Term> {
        self.held_until.is_some_and(|until| until > now.mono).then_some(self.term)
    }
}
