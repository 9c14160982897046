//! What one tenant's devices may see: the zone compiled for look-ups. Immutable once published; knows no message.

use std::net::IpAddr;

use model::patch::ZonePatch;
use model::{Block, Generation, Name, RecordSet, Zone};

use crate::authority::Authority;
use crate::hash::Seed;
use crate::node::{Compiled, Held, Node, Records, kind};
use crate::table::Table;
use crate::wire::{self, Origin, Sought};

/// A clone shares everything until it is changed.
#[derive(Debug, Clone)]
pub(crate) struct View {
    origin: Origin,
    block: Block,
    authority: Authority,
    seed: Seed,
    /// [`Node`]s by their name below the origin, in wire form. The origin itself is always there.
    names: Table,
    /// Which names an address is given for, by its octets: names below the origin, one behind the other, sorted by
    /// their text, each with its length in front. Only addresses of the block.
    addresses: Table,
}

/// What there is of a name within the zone (RFC 4592, section 3.3.1). Labels are counted from the left.
#[derive(Debug)]
pub(crate) enum Found<'v> {
    /// The name itself, though perhaps without records.
    Exact(Node<'v>),
    /// The wildcard below the closest encloser, which is the name without its first so many labels.
    Wildcard(Node<'v>, usize),
    /// Nothing below the closest encloser.
    Missing(usize),
}

impl View {
    pub(crate) fn new(zone: &Zone, generation: Generation, seed: Seed) -> Self {
        let mut view = Self::empty(Origin::new(zone.origin.clone()), zone.block, generation, seed);
        for (name, set) in zone.names.iter() {
            view.change_name(name, Some(set));
        }
        view
    }

    fn empty(origin: Origin, block: Block, generation: Generation, seed: Seed) -> Self {
        let authority = Authority::new(&origin, serial(generation));
        let (names, addresses) = (Table::new(), Table::new());
        let mut view = Self { origin, block, authority, seed, names, addresses };
        view.store(&[], Node::default());
        view
    }

    /// The view after a patch. Costs the names in it, unless the origin or the block changed.
    #[must_use]
    pub(crate) fn patched(&self, patch: &ZonePatch, generation: Generation) -> Self {
        let mut view = match &patch.head {
            Some((origin, block)) => self.moved(Origin::new(origin.clone()), *block, generation),
            None => self.clone(),
        };
        view.authority.set_serial(serial(generation));
        for name in &patch.gone {
            view.change_name(name, None);
        }
        for (name, set) in &patch.set {
            view.change_name(name, Some(set));
        }
        view
    }

    /// The same names under another head: all is made anew.
    fn moved(&self, origin: Origin, block: Block, generation: Generation) -> Self {
        let mut view = Self::empty(origin, block, generation, self.seed);
        for (below, value) in self.names.entries() {
            let whole = [below, &*self.origin.wire].concat();
            if let (Some(below), Some(held)) = (view.origin.relative(&whole), Node::read(value).held) {
                view.change(below, Some(held));
            }
        }
        view
    }

    /// Sets or removes what one name holds. A name that is not within the origin is none of this zone.
    fn change_name(&mut self, name: &Name, set: Option<&RecordSet>) {
        let whole = wire::of_name(name);
        if let Some(below) = self.origin.relative(&whole) {
            let compiled = set.map(Compiled::new);
            self.change(below, compiled.as_ref().map(Compiled::held));
        }
    }

    /// Sets or removes what one name holds, with all that follows from it: its ancestors and its addresses.
    fn change(&mut self, name: &[u8], held: Option<Held<'_>>) {
        let before = self.load(name);
        let before = Node::read(&before);
        for address in before.held.iter().flat_map(|held| reverse_addresses(name, held)) {
            self.change_address(address, name, false);
        }
        for address in held.iter().flat_map(|held| reverse_addresses(name, held)) {
            self.change_address(address, name, true);
        }
        let after = Node { held, ..before };
        self.store(name, after);
        if before.exists() != after.exists() {
            self.tell_parent(name, after.exists());
        }
    }

    /// Tells the parent of a name that came or went, and its parent if that came or went by it.
    fn tell_parent(&mut self, name: &[u8], came: bool) {
        let Some(parent) = wire::parent(name) else { return };
        let wildcard = wire::is_wildcard(name);
        if parent.is_empty() && !wildcard {
            // The origin exists whatever is below it.
            return;
        }
        let before = self.load(parent);
        let before = Node::read(&before);
        let below = if came { before.below + 1 } else { before.below - 1 };
        let after = Node { below, wildcard: if wildcard { came } else { before.wildcard }, ..before };
        self.store(parent, after);
        if before.exists() != after.exists() {
            self.tell_parent(parent, came);
        }
    }

    fn change_address(&mut self, address: IpAddr, name: &[u8], given: bool) {
        if !self.block.contains(address) {
            return;
        }
        let (octets, length) = octets(address);
        let octets = &octets[..length];
        let hash = self.seed.below(self.seed.start(), octets);
        let mut names: Vec<&[u8]> = names_in(self.addresses.get(hash, octets).unwrap_or_default()).collect();
        let origin = &*self.origin.wire;
        let order = |other: &&[u8]| wire::text_order(&[other, origin].concat(), &[name, origin].concat());
        match (names.binary_search_by(order), given) {
            (Err(at), true) => names.insert(at, name),
            (Ok(at), false) => drop(names.remove(at)),
            (Ok(_), true) | (Err(_), false) => return,
        }
        let mut value = Vec::new();
        for name in names {
            value.push(u8::try_from(name.len()).expect("a name has 254 bytes at most"));
            value.extend_from_slice(name);
        }
        self.addresses.set(hash, octets, (!value.is_empty()).then_some(&value));
    }

    /// What the table holds for a name; for one that does not exist, an empty node.
    fn load(&self, name: &[u8]) -> Vec<u8> {
        let value = self.names.get(self.seed.of(name), name);
        value.map_or_else(|| Node::default().write(), <[u8]>::to_vec)
    }

    fn store(&mut self, name: &[u8], node: Node<'_>) {
        let kept = (node.exists() || name.is_empty()).then(|| node.write());
        self.names.set(self.seed.of(name), name, kept.as_deref());
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) const fn block(&self) -> &Block {
        &self.block
    }

    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Looks for a name within the origin.
    pub(crate) fn find(&self, name: &Sought) -> Found<'_> {
        let depth = name.labels() - self.origin.labels;
        let below = &name.as_bytes()[..name.start(depth)];
        match self.names.get(self.hash_below(name, depth), below) {
            Some(value) => Found::Exact(Node::read(value)),
            None => self.covering(name, depth),
        }
    }

    fn hash_below(&self, name: &Sought, depth: usize) -> u64 {
        (0..depth).rev().fold(self.seed.start(), |above, at| self.seed.below(above, name.label(at)))
    }

    /// By what a name is found. `None` if it is not within the origin.
    pub(crate) fn hash(&self, name: &Sought) -> Option<u64> {
        name.is_within(&self.origin).then(|| self.hash_below(name, name.labels() - self.origin.labels))
    }

    /// Reads something of where a name with this hash would be.
    pub(crate) fn touch(&self, hash: u64) -> u8 {
        self.names.touch(hash)
    }

    /// What answers for a name that does not exist. Looks from the origin down, so that a name of many labels costs
    /// no more than those that exist.
    fn covering(&self, name: &Sought, depth: usize) -> Found<'_> {
        let below = &name.as_bytes()[..name.start(depth)];
        let mut hash = self.seed.start();
        let mut encloser = self.names.get(hash, &[]);
        let mut at = depth;
        while at > 1 {
            let next = self.seed.below(hash, name.label(at - 1));
            let Some(value) = self.names.get(next, &below[name.start(at - 1)..]) else { break };
            (encloser, hash, at) = (Some(value), next, at - 1);
        }
        if !encloser.is_some_and(|value| Node::read(value).wildcard) {
            return Found::Missing(at);
        }
        let mut key = [0; wire::NAME_BYTES_MAX + 2];
        let encloser = &below[name.start(at)..];
        key[..2].copy_from_slice(b"\x01*");
        key[2..][..encloser.len()].copy_from_slice(encloser);
        match self.names.get(self.seed.below(hash, b"*"), &key[..2 + encloser.len()]) {
            Some(value) => Found::Wildcard(Node::read(value), at),
            None => Found::Missing(at),
        }
    }

    /// The names below the origin that an address of the block is given for, in order.
    pub(crate) fn names_of(&self, address: IpAddr) -> impl Iterator<Item = &[u8]> + Clone {
        let (octets, length) = octets(address);
        let octets = &octets[..length];
        let value = self.addresses.get(self.seed.below(self.seed.start(), octets), octets);
        names_in(value.unwrap_or_default())
    }
}

/// SOA serials have 32 bits and compare in a circle (RFC 1982), so the low half of the generation will do.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is meant")]
const fn serial(generation: Generation) -> u32 {
    generation.0 as u32
}

/// A wildcard is the name of no address.
fn reverse_addresses<'h>(name: &[u8], held: &Held<'h>) -> impl Iterator<Item = IpAddr> + use<'h> {
    let named = held.reverse && !wire::is_wildcard(name);
    let records = Records::of(if named { held.bytes } else { &[] });
    records.filter_map(|record| match record.kind() {
        kind::A => <[u8; 4]>::try_from(record.data()).ok().map(IpAddr::from),
        kind::AAAA => <[u8; 16]>::try_from(record.data()).ok().map(IpAddr::from),
        _ => None,
    })
}

fn names_in(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (length, others) = rest.split_first()?;
        let (name, others) = others.split_at((*length).into());
        rest = others;
        Some(name)
    })
}

fn octets(address: IpAddr) -> ([u8; 16], usize) {
    match address {
        IpAddr::V6(address) => (address.octets(), 16),
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            (octets, 4)
        }
    }
}
