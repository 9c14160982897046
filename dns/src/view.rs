//! What one tenant's devices may see: the zone compiled for look-ups. Immutable once published; knows no message.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::patch::ZonePatch;
use model::{Block, Generation, Name, Record, RecordData, RecordSet, Zone};

use crate::key::Key;
use crate::record::Authority;
use crate::shards::Shards;

/// A clone shares everything until it is changed.
#[derive(Debug, Clone)]
pub(crate) struct View {
    zone_name: Name,
    origin: Key,
    block: Block,
    authority: Authority,
    owners: Shards<Owner>,
    /// Which names an address is given for, by its octets. Only addresses of the block.
    reverse: Shards<BTreeSet<Name>>,
}

/// A name that exists: it has records, or a name below it has.
#[derive(Debug, Clone, Default)]
struct Owner {
    held: Option<(Name, RecordSet)>,
    /// Names with records below this one (RFC 4592, section 2.2.2: they make it exist).
    below: usize,
}

impl View {
    pub(crate) fn new(zone: &Zone, generation: Generation) -> Self {
        let mut view = Self::empty(zone.origin.clone(), zone.block, generation);
        for (name, set) in zone.names.iter() {
            view.change(name, Some(set.clone()));
        }
        view
    }

    fn empty(origin: Name, block: Block, generation: Generation) -> Self {
        Self {
            origin: Key::from(&origin),
            block,
            authority: Authority::new(&origin, serial(generation)),
            owners: Shards::new(),
            reverse: Shards::new(),
            zone_name: origin,
        }
    }

    /// The view after a patch. Costs the names in it, unless the origin or the block changed.
    #[must_use]
    pub(crate) fn patched(&self, patch: &ZonePatch, generation: Generation) -> Self {
        let mut view = match &patch.head {
            Some((origin, block)) => self.moved(origin, *block, generation),
            None => self.clone(),
        };
        view.authority.set_serial(serial(generation));
        for name in &patch.gone {
            view.change(name, None);
        }
        for (name, set) in &patch.set {
            view.change(name, Some(set.clone()));
        }
        view
    }

    /// The same names under another head: all is made anew.
    fn moved(&self, origin: &Name, block: Block, generation: Generation) -> Self {
        let mut view = Self::empty(origin.clone(), block, generation);
        for (name, set) in self.owners.values().filter_map(|owner| owner.held.as_ref()) {
            view.change(name, Some(set.clone()));
        }
        view
    }

    /// Sets or removes what one name holds, with all that follows from it: its ancestors and its addresses.
    fn change(&mut self, name: &Name, set: Option<RecordSet>) {
        let key = Key::from(name);
        let mut owner = self.owners.get(key.as_bytes()).cloned().unwrap_or_default();
        let before = owner.held.take();
        for address in before.iter().flat_map(|(_, set)| reverse_addresses(set)) {
            self.change_reverse(address, |names| names.remove(name));
        }
        for address in set.iter().flat_map(reverse_addresses) {
            self.change_reverse(address, |names| names.insert(name.clone()));
        }
        if before.is_some() != set.is_some() {
            self.count_below_ancestors(&key, set.is_some());
        }
        owner.held = set.map(|set| (name.clone(), set));
        self.owners.set(key.as_bytes(), owner.exists().then_some(owner));
    }

    fn change_reverse(&mut self, address: IpAddr, change: impl FnOnce(&mut BTreeSet<Name>) -> bool) {
        if !self.block.contains(address) {
            return;
        }
        let key = octets(address);
        let mut names = self.reverse.get(&key).cloned().unwrap_or_default();
        change(&mut names);
        self.reverse.set(&key, (!names.is_empty()).then_some(names));
    }

    fn count_below_ancestors(&mut self, key: &Key, more: bool) {
        for ancestor in key.between(&self.origin) {
            let mut owner = self.owners.get(ancestor).cloned().unwrap_or_default();
            owner.below = if more { owner.below + 1 } else { owner.below - 1 };
            self.owners.set(ancestor, owner.exists().then_some(owner));
        }
    }

    pub(crate) const fn origin(&self) -> &Key {
        &self.origin
    }

    /// How many labels the origin has.
    pub(crate) fn origin_labels(&self) -> usize {
        self.zone_name.labels().count()
    }

    pub(crate) const fn block(&self) -> &Block {
        &self.block
    }

    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The records of a name of the zone; empty for one that only has names below it. `None` if it does not exist.
    pub(crate) fn records(&self, key: &Key) -> Option<&[Record]> {
        match self.owners.get(key.as_bytes()) {
            Some(owner) => Some(owner.held.as_ref().map_or(&[], |(_, set)| set.records.as_slice())),
            None if *key == self.origin => Some(&[]),
            None => None,
        }
    }

    /// The names that an address of the block is given for, in order.
    pub(crate) fn names_of(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        self.reverse.get(&octets(address)).into_iter().flatten()
    }
}

impl Owner {
    const fn exists(&self) -> bool {
        self.held.is_some() || self.below > 0
    }
}

/// SOA serials have 32 bits and compare in a circle (RFC 1982), so the low half of the generation will do.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is meant")]
const fn serial(generation: Generation) -> u32 {
    generation.0 as u32
}

fn reverse_addresses(set: &RecordSet) -> impl Iterator<Item = IpAddr> {
    set.records.iter().filter(|_| set.reverse).filter_map(|record| match record.data {
        RecordData::A(address) => Some(address.into()),
        RecordData::Aaaa(address) => Some(address.into()),
        RecordData::Cname(_) | RecordData::Txt(_) => None,
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
