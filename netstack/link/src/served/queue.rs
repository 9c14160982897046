//! Connections with something to do, each once, and how many packets wait with them. Knows not what for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Served;
use super::limits::WAITING_MAX;

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
    packets: AtomicUsize,
    /// There is room for packets again.
    eased: Notify,
}

#[derive(Default)]
struct Waiting {
    served: VecDeque<Arc<Served>>,
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, served: Arc<Served>) {
        let mut waiting = self.lock();
        if !waiting.is_closed {
            waiting.served.push_back(served);
            drop(waiting);
            self.news.notify_one();
        }
    }

    /// The one that waited longest; `None` once the queue is closed. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Arc<Served>> {
        loop {
            let news = self.news.notified();
            {
                let mut waiting = self.lock();
                if waiting.is_closed {
                    // Another may wait for the same word.
                    self.news.notify_one();
                    return None;
                }
                if let Some(served) = waiting.served.pop_front() {
                    if waiting.served.is_empty() {
                        waiting.served.shrink_to(KEPT);
                    }
                    return Some(served);
                }
            }
            news.await;
        }
    }

    /// Packets came for somebody.
    pub(super) fn packets_wait(&self, count: usize) {
        self.packets.fetch_add(count, Ordering::Relaxed);
    }

    /// Packets wait no more.
    pub(super) fn packets_taken(&self, count: usize) {
        let before = self.packets.fetch_sub(count, Ordering::Relaxed);
        if before >= WAITING_MAX && before - count < WAITING_MAX {
            self.eased.notify_one();
        }
    }

    /// Waits until no more than [`WAITING_MAX`] packets wait. One caller at a time.
    pub(super) async fn room(&self) {
        loop {
            let eased = self.eased.notified();
            if self.packets.load(Ordering::Relaxed) < WAITING_MAX {
                return;
            }
            eased.await;
        }
    }

    /// Takes nothing more, and drops what waits.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let served = std::mem::take(&mut waiting.served);
        drop(waiting);
        drop(served);
        self.news.notify_one();
    }
}

/// Places that are kept while nobody waits: a rush of ten thousand leaves nothing behind.
const KEPT: usize = 64;
