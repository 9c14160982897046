//! Those with something to do, and how many packets wait with them. Knows not who they are.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::limits::WAITING_MAX;

pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    news: Notify,
    packets: AtomicUsize,
    /// There is room for packets again.
    eased: Notify,
}

struct Waiting<T> {
    members: VecDeque<Arc<T>>,
    is_closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting { members: VecDeque::new(), is_closed: false }),
            news: Notify::new(),
            packets: AtomicUsize::new(0),
            eased: Notify::new(),
        }
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, member: Arc<T>) {
        let mut waiting = self.lock();
        if !waiting.is_closed {
            waiting.members.push_back(member);
            drop(waiting);
            self.news.notify_one();
        }
    }

    /// The one that waited longest; `None` once the queue is closed. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Arc<T>> {
        loop {
            let news = self.news.notified();
            {
                let mut waiting = self.lock();
                if waiting.is_closed {
                    // Another may wait for the same word.
                    self.news.notify_one();
                    return None;
                }
                if let Some(member) = waiting.members.pop_front() {
                    if waiting.members.is_empty() {
                        waiting.members.shrink_to(KEPT);
                    } else {
                        // Two that came at once left one word for two who were about to wait.
                        self.news.notify_one();
                    }
                    return Some(member);
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
        let members = std::mem::take(&mut waiting.members);
        drop(waiting);
        drop(members);
        self.news.notify_one();
    }
}

/// Places that are kept while nobody waits: a rush of ten thousand leaves nothing behind.
const KEPT: usize = 64;
