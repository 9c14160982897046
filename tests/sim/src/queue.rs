//! Everything that is going to happen, in the order of virtual time; what is due at one instant, in the order of asking.

use std::collections::BTreeMap;

use model::Mono;

/// What is going to happen.
pub struct Queue<T> {
    events: BTreeMap<(Mono, u64), T>,
    asked: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), asked: 0 }
    }
}

impl<T> Queue<T> {
    /// Lets something happen at that time.
    pub fn at(&mut self, at: Mono, event: T) {
        self.asked += 1;
        self.events.insert((at, self.asked), event);
    }

    /// What happens next, and when.
    pub fn pop(&mut self) -> Option<(Mono, T)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    /// How much is going to happen.
    pub fn len(&self) -> usize {
        self.events.len()
    }
}
