//! Which relays on other machines are to be connected, because peers are reached over them or are to be. Connects none.

use std::collections::{BTreeMap, BTreeSet};

use model::PublicKey;

use super::RelayId;

/// The relays of one peer: the one that carries its packets, and the one that it named.
pub(super) type Pair = [Option<RelayId>; 2];

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Needs {
    of: BTreeMap<PublicKey, Pair>,
    /// By how many peers each is needed.
    counts: BTreeMap<RelayId, usize>,
    told: BTreeSet<RelayId>,
}

impl Needs {
    /// The peer needs these from now on.
    pub(super) fn set(&mut self, key: PublicKey, pair: Pair) {
        let before = match pair {
            [None, None] => self.of.remove(&key),
            _ => self.of.insert(key, pair),
        };
        for relay in pair.into_iter().flatten() {
            *self.counts.entry(relay).or_default() += 1;
        }
        for relay in before.into_iter().flatten().flatten() {
            if let Some(count) = self.counts.get_mut(&relay) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&relay);
                }
            }
        }
    }

    /// All that are needed, if they are others than were told.
    pub(super) fn news(&mut self) -> Option<Vec<RelayId>> {
        if self.told.iter().eq(self.counts.keys()) {
            return None;
        }
        self.told = self.counts.keys().copied().collect();
        Some(self.told.iter().copied().collect())
    }
}
