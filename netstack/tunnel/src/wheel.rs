//! When which peer wants to be looked at. A peer without a deadline is not in here. Knows no protocol.
//!
//! Who arms has set a deadline of the peer before, and who takes looks at all of them afterwards. Between the two steps
//! of each is a fence: either the one sees that the peer is out of the wheel, or the other sees the deadline.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wireguard::Time;

use crate::peer::Peer;

const NONE: u64 = u64::MAX;

/// Deadlines in order, one a peer at most.
#[derive(Default)]
pub(crate) struct Wheel(Mutex<BTreeMap<(u64, u64), Arc<Peer>>>);

impl Wheel {
    /// Makes sure that the peer is looked at then or before. Says whether it is the first of all now: whoever waits
    /// for the wheel must be woken. Costs a comparison if the peer is looked at before anyway.
    pub(crate) fn arm(&self, peer: &Arc<Peer>, at: Time) -> bool {
        let at = at.nanos();
        fence(SeqCst);
        if peer.due.load(Relaxed) <= at {
            return false;
        }
        let mut queue = self.lock();
        let due = peer.due.load(Relaxed);
        if due <= at {
            return false;
        }
        queue.remove(&(due, peer.number));
        peer.due.store(at, Relaxed);
        queue.insert((at, peer.number), Arc::clone(peer));
        queue.first_key_value().is_some_and(|(first, _)| *first == (at, peer.number))
    }

    /// Nobody looks at the peer any more.
    pub(crate) fn disarm(&self, peer: &Peer) {
        let mut queue = self.lock();
        let due = peer.due.swap(NONE, Relaxed);
        queue.remove(&(due, peer.number));
    }

    /// A peer whose time has come; it is not in the wheel any more.
    pub(crate) fn take(&self, now: Time) -> Option<Arc<Peer>> {
        let mut queue = self.lock();
        let first = queue.first_entry().filter(|first| first.key().0 <= now.nanos())?;
        let peer = first.remove();
        peer.due.store(NONE, Relaxed);
        fence(SeqCst);
        Some(peer)
    }

    /// When the next is due.
    pub(crate) fn first(&self) -> Option<Time> {
        self.lock().first_key_value().map(|((at, _), _)| Time::from_nanos(*at))
    }

    /// Lets go of all peers.
    pub(crate) fn clear(&self) {
        let mut queue = self.lock();
        for peer in std::mem::take(&mut *queue).into_values() {
            peer.due.store(NONE, Relaxed);
        }
    }

    /// The queue is whole between any two statements that hold the lock, so a panic elsewhere does not harm it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<Peer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u64) -> Arc<Peer> {
        Peer::new(model::PublicKey::from_bytes([1; 32]), number, number)
    }

    #[test]
    fn peers_come_in_order_and_disarmed_ones_do_not_come() {
        let wheel = Wheel::default();
        let (a, b, c) = (peer(1), peer(2), peer(3));
        let at = Time::from_nanos;
        assert!(wheel.arm(&a, at(30)));
        assert!(wheel.arm(&b, at(10)));
        assert!(!wheel.arm(&c, at(20)));
        wheel.disarm(&c);
        assert_eq!(wheel.first(), Some(at(10)));
        assert!(wheel.take(at(9)).is_none());
        let order: Vec<_> = std::iter::from_fn(|| wheel.take(at(40))).map(|peer| peer.number).collect();
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_not_the_other_way() {
        let wheel = Wheel::default();
        let a = peer(1);
        let at = Time::from_nanos;
        assert!(wheel.arm(&a, at(30)) && wheel.arm(&a, at(20)));
        assert!(!wheel.arm(&a, at(25)));
        assert!(wheel.take(at(20)).is_some() && wheel.take(at(100)).is_none());
        assert!(wheel.arm(&a, at(30)), "once taken it may be armed again");
    }
}
