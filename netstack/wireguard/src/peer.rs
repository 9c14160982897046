//! One peer as the protocol sees it: sessions, handshakes, timers. Knows no socket, no address and no other peer; it
//! is told the time.
//!
//! Two threads seal and open with [`Peer::current`] and with the pair of a receiver index, and note what they did:
//! without a lock. Whatever else happens takes the lock: once a handshake or once in seconds.
//!
//! ```text
//!              initiate ─▶ pending ── finish ─▶ current ◀── confirm ── next ◀── respond ◀── accept
//!                                                  │
//!                                                  └──▶ previous: opens what is still on its way
//! ```

mod control;
mod traffic;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};

use control::Control;
pub use control::{Accepted, Finished, Tick};
use traffic::Traffic;

use crate::pair::KeyPair;
use crate::time::Time;

/// A receiver index in use; free again when dropped.
pub trait Lease {
    /// The index.
    fn index(&self) -> u32;
    /// What comes in under the index is opened with this pair from now on.
    fn publish(&self, pair: &Arc<KeyPair>);
}

/// What a thread must do after it sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Wants {
    /// Begin a handshake: [`Locked::wants_initiation`], then [`Locked::initiate`].
    pub handshake: bool,
    /// Look at the peer at this time, if nobody looks earlier; see [`Locked::tick`].
    pub look_at: Option<Time>,
}

/// A peer. `L` is how the caller keeps receiver indices.
pub struct Peer<L> {
    current: ArcSwapOption<KeyPair>,
    traffic: Traffic,
    control: Mutex<Control<L>>,
}

impl<L: Lease> Peer<L> {
    /// A peer without a session. The seed spreads its timers.
    pub fn new(seed: u64) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            traffic: Traffic::new(),
            control: Mutex::new(Control::new(seed)),
        }
    }

    /// The session to seal with. It may be too old; [`KeyPair::claim`] says so. None while packets wait, so that none
    /// overtakes them: see [`Locked::wait`].
    pub fn current(&self) -> Guard<Option<Arc<KeyPair>>> {
        self.current.load()
    }

    /// Packets were sealed and sent. `data` is false for keepalives alone.
    pub fn sent(&self, pair: &KeyPair, data: bool, now: Time) -> Wants {
        self.traffic.sent(data, now);
        let handshake = pair.wants_successor(now) && self.traffic.may_initiate(now);
        Wants { handshake, look_at: self.traffic.deadline() }
    }

    /// Authentic packets were opened, and were new. `data` is false for keepalives alone.
    pub fn received(&self, pair: &KeyPair, data: bool, now: Time) -> Wants {
        self.traffic.received(data, now);
        let handshake =
            pair.ends_soon(now) && self.traffic.takes_last_minute() && self.traffic.may_initiate(now);
        Wants { handshake, look_at: self.traffic.deadline() }
    }

    /// The next time at which [`Locked::tick`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        self.traffic.deadline()
    }

    /// For everything that is not a packet. A panic under the lock leaves nothing worse than an expired session, so
    /// poison is passed over.
    pub fn lock(&self) -> Locked<'_, L> {
        Locked { peer: self, control: self.control.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A peer whose handshakes and settings one thread holds.
pub struct Locked<'a, L> {
    peer: &'a Peer<L>,
    control: MutexGuard<'a, Control<L>>,
}

impl<L: Lease> Locked<'_, L> {
    /// Wall time of the last handshake that both sides completed, since 1970.
    pub fn last_handshake(&self) -> Option<Duration> {
        self.control.last_handshake
    }

    /// Seconds between keepalives; 0 is none.
    pub fn keepalive_seconds(&self) -> u16 {
        self.peer.traffic.keepalive_seconds()
    }
}

#[cfg(test)]
mod tests;
