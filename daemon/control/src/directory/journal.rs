//! What each of the last generations touched, so that a patch can be made for whoever missed them. Holds keys, no values.

use std::collections::{BTreeSet, VecDeque};

use model::{CaKind, DeviceId, Generation, Name, PublicKey, Revoked};

use crate::limits::{JOURNAL_ENTRIES_MAX, JOURNAL_GENERATIONS_MAX};

/// The parts of plans that an apply changed. Only what really differs is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Devices whose own part changed.
    pub devices: BTreeSet<DeviceId>,
    /// Devices that are new, or have another standing or another share: no patch leads there.
    pub shares: BTreeSet<DeviceId>,
    /// Peers of the hub.
    pub hub_peers: BTreeSet<PublicKey>,
    /// Peers of active devices that know paths.
    pub device_peers: BTreeSet<PublicKey>,
    /// The only peer of active devices that do not.
    pub only_hub: BTreeSet<PublicKey>,
    /// Names of the zone.
    pub names: BTreeSet<Name>,
    /// What is revoked of SSH certificates, and what is no longer listed.
    pub revoked: BTreeSet<(CaKind, Revoked)>,
    /// Hosts with another plain SSH key.
    pub hosts: BTreeSet<DeviceId>,
    /// The trusted keys of SSH authorities.
    pub ssh_keys: bool,
    /// The statement of the hub's keys, which is in every active device's own part.
    pub hub_keys: bool,
    /// The hub's own part.
    pub hub: bool,
}

impl Touched {
    /// Whether no plan changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many entries it names: the work of one edit.
    pub fn len(&self) -> usize {
        self.devices.len()
            + self.shares.len()
            + self.hub_peers.len()
            + self.device_peers.len()
            + self.only_hub.len()
            + self.names.len()
            + self.revoked.len()
            + self.hosts.len()
            + usize::from(self.ssh_keys)
            + usize::from(self.hub_keys)
            + usize::from(self.hub)
    }

    fn merge(&mut self, other: &Self) {
        self.devices.extend(&other.devices);
        self.shares.extend(&other.shares);
        self.hub_peers.extend(&other.hub_peers);
        self.device_peers.extend(&other.device_peers);
        self.only_hub.extend(&other.only_hub);
        self.names.extend(other.names.iter().cloned());
        self.revoked.extend(other.revoked.iter().cloned());
        self.hosts.extend(&other.hosts);
        self.ssh_keys |= other.ssh_keys;
        self.hub_keys |= other.hub_keys;
        self.hub |= other.hub;
    }
}

/// The last generations, oldest first, without a gap.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// The generation after which the journal begins.
    base: Generation,
    entries: VecDeque<Touched>,
    touched_total: usize,
}

impl Journal {
    /// Remembers nothing before `base`.
    pub(super) const fn new(base: Generation) -> Self {
        Self { base, entries: VecDeque::new(), touched_total: 0 }
    }

    /// Several generations at once, from a refresh: all of `touched` counts for the last of them.
    pub(super) fn push(&mut self, generation: Generation, touched: Touched) {
        let last = self.base.0 + self.entries.len() as u64;
        for _ in last + 1..generation.0 {
            self.entries.push_back(Touched::default());
        }
        self.touched_total += touched.len();
        self.entries.push_back(touched);
        while self.entries.len() > JOURNAL_GENERATIONS_MAX || self.touched_total > JOURNAL_ENTRIES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.touched_total -= oldest.len();
            self.base = self.base.next();
        }
    }

    /// All that was touched after `since`; `None` if the journal does not reach back so far, or not forward.
    pub(super) fn since(&self, since: Generation) -> Option<Touched> {
        let skip = usize::try_from(since.0.checked_sub(self.base.0)?).ok()?;
        if skip > self.entries.len() {
            return None;
        }
        let mut all = Touched::default();
        self.entries.iter().skip(skip).for_each(|touched| all.merge(touched));
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(n: u64) -> Touched {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Touched { devices: [DeviceId::from_bytes(bytes)].into(), ..Touched::default() }
    }

    #[test]
    fn what_was_missed_is_merged() {
        let mut journal = Journal::new(Generation(10));
        journal.push(Generation(11), touched(1));
        journal.push(Generation(14), touched(2));
        let count = |since| journal.since(Generation(since)).map(|t| t.devices.len());
        assert_eq!(count(9), None);
        assert_eq!(count(10), Some(2));
        assert_eq!(count(11), Some(1));
        assert_eq!(count(13), Some(1));
        assert_eq!(count(14), Some(0));
        assert_eq!(count(15), None);
    }

    #[test]
    fn it_forgets_the_oldest_beyond_its_bounds() {
        let mut journal = Journal::new(Generation(0));
        let most = JOURNAL_GENERATIONS_MAX as u64;
        for n in 1..=most + 5 {
            journal.push(Generation(n), touched(n));
        }
        assert_eq!(journal.since(Generation(4)), None);
        assert_eq!(journal.since(Generation(5)).map(|t| t.len() as u64), Some(most));
        let names = (0..JOURNAL_ENTRIES_MAX).map(|n| format!("n{n}").parse().expect("a name")).collect();
        journal.push(Generation(most + 6), Touched { names, ..Touched::default() });
        assert!(journal.since(Generation(most + 4)).is_none());
        assert!(journal.since(Generation(most + 5)).is_some());
    }
}
