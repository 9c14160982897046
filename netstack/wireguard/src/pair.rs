//! The keys of one session, and what is counted with them: read by the threads that seal and open, without a lock.
//! Knows no peer, and not which session of a peer it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chacha::Key;

use crate::limits::REKEY_BEFORE_SILENCE;
use crate::limits::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME};
use crate::noise::Keys;
use crate::replay::Window;
use crate::time::Time;

/// A session's keys, its counter and its replay window (WireGuard paper, section 5.4.6).
pub struct KeyPair {
    send: Key,
    receive: Key,
    remote_index: u32,
    born: Time,
    is_initiator: bool,
    counter: AtomicU64,
    window: Window,
    unconfirmed: AtomicBool,
}

impl KeyPair {
    pub(crate) fn new(keys: Keys, born: Time, is_initiator: bool) -> Self {
        Self {
            send: keys.send,
            receive: keys.receive,
            remote_index: keys.remote_index,
            born,
            is_initiator,
            counter: AtomicU64::new(0),
            window: Window::new(),
            unconfirmed: AtomicBool::new(!is_initiator),
        }
    }

    /// Seals what goes to the peer.
    pub const fn sealing(&self) -> &Key {
        &self.send
    }

    /// Opens what comes from the peer.
    pub const fn opening(&self) -> &Key {
        &self.receive
    }

    /// What the peer calls the session.
    pub const fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// Takes `count` counters and returns the first; each is given out once, whichever thread asks. `None` if the
    /// session may seal no more: it is too old, or its counters are used up.
    pub fn claim(&self, count: u64, now: Time) -> Option<u64> {
        if !self.is_alive(now) {
            return None;
        }
        // Compared and exchanged, so that it never wraps, whatever is asked for.
        let next = |first: u64| first.checked_add(count).filter(|next| *next <= REJECT_AFTER_MESSAGES);
        self.counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// Whether the session may be used at all.
    pub fn is_alive(&self, now: Time) -> bool {
        now.since(self.born) < REJECT_AFTER_TIME
    }

    /// Whether a counter may be opened at all; before the packet is.
    pub fn may_open(&self, counter: u64, now: Time) -> bool {
        counter < REJECT_AFTER_MESSAGES && self.is_alive(now)
    }

    /// Whether an authentic packet is the first with its counter. To be asked by one thread, once a packet.
    pub fn is_new(&self, counter: u64) -> bool {
        self.window.accept(counter)
    }

    /// Whether the peer has not shown yet that it has the keys too.
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    pub(crate) fn confirm(&self) {
        self.unconfirmed.store(false, Ordering::Relaxed);
    }

    /// After sealing: whether it is time for another session (section 6.2).
    pub(crate) fn wants_successor(&self, now: Time) -> bool {
        self.counter.load(Ordering::Relaxed) > REKEY_AFTER_MESSAGES
            || (self.is_initiator && now.since(self.born) >= REKEY_AFTER_TIME)
    }

    /// After opening: whether the session would end before silence is noticed (section 6.2).
    pub(crate) fn ends_soon(&self, now: Time) -> bool {
        self.is_initiator && now.since(self.born) >= REKEY_BEFORE_SILENCE
    }

    #[cfg(test)]
    pub(crate) fn set_counter(&self, counter: u64) {
        self.counter.store(counter, Ordering::Relaxed);
    }
}
