//! When which peer wants to be looked at. A peer without a deadline is not in here. Knows no protocol.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Deadlines in order; each entry is found by its deadline and its owner's number.
pub(crate) struct Timers<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    entries: BTreeMap<(Instant, u64), T>,
    stopped: bool,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        let queue = Queue { entries: BTreeMap::new(), stopped: false };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Adds a deadline. The owner remembers `at`, which is the handle to cancel it.
    pub(crate) fn add(&self, at: Instant, owner: u64, value: T) {
        let mut queue = self.lock();
        queue.entries.insert((at, owner), value);
        let is_first = queue.entries.keys().next() == Some(&(at, owner));
        drop(queue);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Takes a deadline back; one that has passed already is passed over.
    pub(crate) fn cancel(&self, at: Instant, owner: u64) {
        self.lock().entries.remove(&(at, owner));
    }

    /// Waits for the next deadline and takes it out; `None` after [`Self::stop`].
    pub(crate) fn next(&self) -> Option<T> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            let now = Instant::now();
            let first = queue.entries.keys().next().map(|(at, _)| *at);
            queue = match first {
                Some(at) if at <= now => return queue.entries.pop_first().map(|(_, value)| value),
                Some(at) => {
                    let waited = self.changed.wait_timeout(queue, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends every [`Self::next`], now and later, and drops what waits.
    pub(crate) fn stop(&self) {
        let mut queue = self.lock();
        queue.stopped = true;
        queue.entries.clear();
        drop(queue);
        self.changed.notify_all();
    }

    /// The queue is whole between any two statements that hold the lock, so a panic elsewhere does not harm it.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadlines_come_in_order_and_cancelled_ones_do_not_come() {
        let timers = Timers::new();
        let now = Instant::now();
        let at = |ms| now - Duration::from_millis(ms);
        timers.add(at(1), 1, "last");
        timers.add(at(3), 2, "first");
        timers.add(at(2), 3, "cancelled");
        timers.cancel(at(2), 3);
        assert_eq!((timers.next(), timers.next()), (Some("first"), Some("last")));
        timers.stop();
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_earlier_deadline_wakes_who_waits_for_a_later_one() {
        let timers = Timers::new();
        timers.add(Instant::now() + Duration::from_secs(3600), 1, "later");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| timers.next());
            timers.add(Instant::now(), 2, "now");
            assert_eq!(waiting.join().expect("no panic"), Some("now"));
        });
    }
}
