//! When each connection wants to be looked at again, whatever comes.
//!
//! A time that moves away, as most do with every packet, is left where it is: the connection is looked at once for nothing, and
//! says the later one then.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn_proto::ConnectionHandle;
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Timers {
    table: Mutex<Table>,
    /// The first is earlier than it was.
    pub(super) sooner: Notify,
}

#[derive(Default)]
struct Table {
    due: BTreeSet<(Instant, usize)>,
    /// By handle, what stands in `due`.
    at: Vec<Option<Instant>>,
}

impl Table {
    fn slot(&mut self, handle: ConnectionHandle) -> &mut Option<Instant> {
        if self.at.len() <= handle.0 {
            self.at.resize(handle.0 + 1, None);
        }
        &mut self.at[handle.0]
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not later than `at`.
    pub(super) fn set(&self, handle: ConnectionHandle, at: Instant) {
        let mut table = self.lock();
        let slot = table.slot(handle);
        if slot.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(later) = slot.replace(at) {
            table.due.remove(&(later, handle.0));
        }
        table.due.insert((at, handle.0));
        let is_first = table.due.first() == Some(&(at, handle.0));
        drop(table);
        if is_first {
            self.sooner.notify_one();
        }
    }

    pub(super) fn remove(&self, handle: ConnectionHandle) {
        let mut table = self.lock();
        if let Some(at) = table.slot(handle).take() {
            table.due.remove(&(at, handle.0));
        }
    }

    /// The next time at which somebody is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lock().due.first().map(|(at, _)| *at)
    }

    /// Takes out who is due.
    pub(super) fn due(&self, now: Instant) -> Vec<ConnectionHandle> {
        let mut table = self.lock();
        let mut due = Vec::new();
        while let Some((at, handle)) = table.due.first().copied().filter(|(at, _)| *at <= now) {
            table.due.remove(&(at, handle));
            table.at[handle] = None;
            due.push(ConnectionHandle(handle));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_wish_of_each_counts_and_once() {
        let (timers, start) = (Timers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let [one, two, three] = [3, 0, 1].map(ConnectionHandle);
        timers.set(one, at(5));
        timers.set(one, at(9));
        timers.set(two, at(7));
        timers.set(two, at(4));
        timers.set(three, at(1));
        timers.remove(three);
        timers.remove(three);
        assert_eq!(timers.next(), Some(at(4)));
        assert_eq!(timers.due(at(3)), []);
        assert_eq!(timers.due(at(8)), [two, one]);
        assert_eq!((timers.due(at(20)), timers.next()), (vec![], None));
        timers.set(one, at(9));
        assert_eq!(timers.next(), Some(at(9)));
    }
}
