//! What packets mean for the timers: atomics, so that no packet waits for a lock. Two threads may write at once; what
//! they lose then is a few microseconds of a deadline of seconds.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::limits::{KEEPALIVE_TIMEOUT, REKEY_TIMEOUT};
use crate::time::Time;

/// A time that may be none.
#[derive(Default)]
pub(super) struct Deadline(AtomicU64);

const NONE: u64 = 0;

impl Deadline {
    pub(super) fn get(&self) -> Option<Time> {
        match self.0.load(Relaxed) {
            NONE => None,
            nanos => Some(Time::from_nanos(nanos)),
        }
    }

    pub(super) fn set(&self, at: Time) {
        self.0.store(at.nanos().max(1), Relaxed);
    }

    pub(super) fn clear(&self) {
        if self.0.load(Relaxed) != NONE {
            self.0.store(NONE, Relaxed);
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed) != NONE
    }

    /// Whether it has come; then it is none.
    pub(super) fn take(&self, now: Time) -> bool {
        let is_due = self.get().is_some_and(|at| at <= now);
        if is_due {
            self.clear();
        }
        is_due
    }
}

/// The timers of one peer (`timers.c` of the kernel's implementation; WireGuard paper, section 6).
#[derive(Default)]
pub(super) struct Traffic {
    /// Data went out and nothing came back: the peer may have lost the session.
    pub(super) silence: Deadline,
    /// Data came in and nothing went out.
    pub(super) keepalive: Deadline,
    pub(super) persistent: Deadline,
    /// An initiation was not answered.
    pub(super) retry: Deadline,
    /// Keys are wiped.
    pub(super) wipe: Deadline,
    /// The owner asked for a handshake.
    pub(super) begin: Deadline,
    /// More data came in while a keepalive was due: another follows it.
    another_keepalive: AtomicBool,
    keepalive_seconds: AtomicU16,
    /// When we sent the last message of a handshake.
    pub(super) spoke: Deadline,
    /// One session asks once for its successor because of its age.
    pub(super) asked_last_minute: AtomicBool,
    /// Added to [`Self::silence`], in nanoseconds; changes with each handshake.
    pub(super) jitter: AtomicU64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn sent(&self, data: bool, now: Time) {
        self.went(now);
        if !data && self.another_keepalive.load(Relaxed) {
            self.another_keepalive.store(false, Relaxed);
            self.keepalive.set(now + KEEPALIVE_TIMEOUT);
        }
        if data && !self.silence.is_set() {
            let jitter = Duration::from_nanos(self.jitter.load(Relaxed));
            self.silence.set(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
        }
    }

    /// The peer hears of us, be it by a handshake.
    pub(super) fn went(&self, now: Time) {
        self.keepalive.clear();
        self.traversed(now);
    }

    pub(super) fn received(&self, data: bool, now: Time) {
        self.silence.clear();
        if data {
            if !self.keepalive.is_set() {
                self.keepalive.set(now + KEEPALIVE_TIMEOUT);
            } else if !self.another_keepalive.load(Relaxed) {
                self.another_keepalive.store(true, Relaxed);
            }
        }
        self.traversed(now);
    }

    fn traversed(&self, now: Time) {
        let seconds = self.keepalive_seconds();
        if seconds > 0 {
            self.persistent.set(now + Duration::from_secs(seconds.into()));
        }
    }

    pub(super) fn keepalive_seconds(&self) -> u16 {
        self.keepalive_seconds.load(Relaxed)
    }

    /// The first keepalive goes at once when they are switched on.
    pub(super) fn set_keepalive_seconds(&self, seconds: u16, now: Time) {
        let before = self.keepalive_seconds.swap(seconds, Relaxed);
        if seconds == 0 {
            self.persistent.clear();
        } else if before == 0 {
            self.persistent.set(now);
        } else if before != seconds {
            self.persistent.set(now + Duration::from_secs(seconds.into()));
        }
    }

    /// Whether our last message of a handshake is long enough ago.
    pub(super) fn may_initiate(&self, now: Time) -> bool {
        self.spoke.get().is_none_or(|at| now.since(at) >= REKEY_TIMEOUT)
    }

    /// True once a session.
    pub(super) fn takes_last_minute(&self) -> bool {
        !self.asked_last_minute.load(Relaxed) && !self.asked_last_minute.swap(true, Relaxed)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers().into_iter().filter_map(Deadline::get).min()
    }

    /// Nothing is due any more.
    pub(super) fn clear(&self) {
        self.timers().into_iter().for_each(Deadline::clear);
    }

    fn timers(&self) -> [&Deadline; 6] {
        [&self.silence, &self.keepalive, &self.persistent, &self.retry, &self.wipe, &self.begin]
    }
}
