//! What waits to be written on one link, in order. Takes no memory while nothing waits, which is nearly always; how much may
//! wait, the permits of its items say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// One thing to do, with the room that it takes.
pub(crate) enum Item {
    Frame(Bytes, OwnedSemaphorePermit),
    End,
}

/// The two ends of a queue.
pub(crate) fn outgoing() -> (Tail, Head) {
    let queue = Arc::new(Queue::default());
    (Tail(Arc::new(LastOut(Arc::clone(&queue)))), Head(queue))
}

/// Where items are put in. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Tail(Arc<LastOut>);

/// Says that nothing more will come, when the last tail is dropped.
struct LastOut(Arc<Queue>);

/// Where items are taken out. Dropped, it drops what waits.
pub(crate) struct Head(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// No tail is left.
    is_ended: bool,
    /// Nobody takes anything any more.
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// The last in line. `false`: nobody takes anything any more.
    pub(crate) fn push(&self, item: Item) -> bool {
        let queue = &self.0.0;
        let mut waiting = queue.lock();
        if waiting.is_closed {
            return false;
        }
        waiting.items.push_back(item);
        drop(waiting);
        queue.news.notify_one();
        true
    }

    /// Whether nobody takes anything any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.0.lock().is_closed
    }
}

impl Drop for LastOut {
    fn drop(&mut self) {
        self.0.lock().is_ended = true;
        self.0.news.notify_one();
    }
}

impl Head {
    /// The first in line; `None` once there is none and no tail either. Cancel-safe.
    pub(crate) async fn pop(&mut self) -> Option<Item> {
        loop {
            let news = self.0.news.notified();
            {
                let mut waiting = self.0.lock();
                if let Some(item) = waiting.items.pop_front() {
                    if waiting.items.is_empty() {
                        waiting.items = VecDeque::new();
                    }
                    return Some(item);
                }
                if waiting.is_ended {
                    return None;
                }
            }
            news.await;
        }
    }

    /// Takes nothing more in.
    pub(crate) fn close(&mut self) {
        self.0.lock().is_closed = true;
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_closed = true;
        // Dropped after the lock: room that comes back wakes others.
        let items = std::mem::take(&mut waiting.items);
        drop(waiting);
        drop(items);
    }
}
