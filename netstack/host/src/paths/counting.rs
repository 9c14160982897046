//! Whose bytes the engine is told when: of all peers that are watched each second, and of those whose direct path carries packets so often
//! that its silence is noticed. Reads no count.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::paths::CLOSE_COUNT_INTERVAL;
use model::PublicKey;
use tokio::time::Instant;

/// Peers that are talked to are counted so often.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Counting {
    watched: Round,
    close: Round,
}

/// Peers that are counted together.
#[derive(Debug)]
struct Round {
    peers: BTreeSet<PublicKey>,
    interval: Duration,
    /// `None` while there are no peers.
    at: Option<Instant>,
}

impl Counting {
    pub(super) fn new() -> Self {
        let round = |interval| Round { peers: BTreeSet::new(), interval, at: None };
        Self { watched: round(COUNT_INTERVAL), close: round(CLOSE_COUNT_INTERVAL) }
    }

    /// Whether nobody is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.watched.peers.is_empty()
    }

    /// This peer is counted from now on, or no longer.
    pub(super) fn watch(&mut self, peer: PublicKey, on: bool) {
        self.watched.set(peer, on);
        if !on {
            self.close.set(peer, false);
        }
    }

    /// A peer that is watched is counted closely, too, or no longer.
    pub(super) fn closely(&mut self, peer: PublicKey, on: bool) {
        self.close.set(peer, on && self.watched.peers.contains(&peer));
    }

    /// Those that are due. Cancel-safe.
    pub(super) async fn due(&mut self) -> Vec<PublicKey> {
        super::due(self.at()).await;
        self.take(Instant::now())
    }

    fn at(&self) -> Option<Instant> {
        self.watched.at.into_iter().chain(self.close.at).min()
    }

    fn take(&mut self, now: Instant) -> Vec<PublicKey> {
        let mut due = self.close.take(now);
        // Who is in both is counted once.
        due.extend(self.watched.take(now));
        due.into_iter().collect()
    }
}

impl Round {
    fn set(&mut self, peer: PublicKey, on: bool) {
        if on {
            self.peers.insert(peer);
            self.at.get_or_insert_with(|| Instant::now() + self.interval);
        } else if self.peers.remove(&peer) && self.peers.is_empty() {
            self.at = None;
        }
    }

    fn take(&mut self, now: Instant) -> BTreeSet<PublicKey> {
        if self.at.is_none_or(|at| at > now) {
            return BTreeSet::new();
        }
        self.at = Some(now + self.interval);
        self.peers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_close_is_counted_often_and_everybody_each_second() {
        let [near, other] = [1, 2].map(|number| PublicKey::from_bytes([number; 32]));
        let mut counting = Counting::new();
        counting.closely(near, true);
        counting.watch(near, true);
        counting.watch(other, true);
        let next = |counting: &mut Counting| {
            let at = counting.at().expect("somebody is counted");
            (at, counting.take(at))
        };
        let (begun, both) = next(&mut counting);
        assert_eq!(both, [near, other], "nobody is close who is not watched");
        counting.closely(near, true);
        let mut counted = [0, 0];
        while counted[1] == 0 {
            let (at, due) = next(&mut counting);
            let is_near = due.contains(&near);
            assert!(is_near || due == [other], "{due:?}");
            counted = [counted[0] + usize::from(is_near && at > begun), usize::from(due.contains(&other))];
        }
        assert!((19..=22).contains(&counted[0]), "{counted:?} in a second");
        counting.watch(near, false);
        assert_eq!(next(&mut counting).1, [other]);
        counting.watch(other, false);
        assert!(counting.is_empty() && counting.at().is_none());
    }
}
