//! Receiver indices in use (WireGuard paper, section 5.4.2): found without a lock, free again when their lease is
//! dropped. Knows not what holds one.
//!
//! The lower bits of an index are the number of a slot, the upper ones are random: an index that was given back is
//! not found under the slot's next one, so that a late message of an old session meets nobody.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

/// Lower bits of an index. Three sessions and a handshake for each of 10 000 peers are 40 000; beyond a million
/// something is wrong, and memory is to stay bounded.
const SLOT_BITS: u32 = 20;
/// Slots that there can be.
const SLOTS_MAX: u32 = 1 << SLOT_BITS;
/// Slots of the first chunk; every other has twice as many as the one before.
const FIRST_CHUNK: u32 = 64;
/// Chunks for that many slots.
const CHUNKS: usize = (SLOTS_MAX / FIRST_CHUNK).ilog2() as usize + 1;

/// What a slot holds. The index is beside the value, so that a reader sees both change at once.
struct Held<T> {
    index: u32,
    value: Arc<T>,
}

type Slot<T> = ArcSwapOption<Held<T>>;

/// Indices and what each belongs to. Readers are never in the way of each other nor of a writer.
pub(crate) struct Slab<T> {
    /// Grows by a chunk at a time, and never shrinks: slots keep their place.
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    unused: Mutex<Unused>,
}

/// Slots that nobody holds.
struct Unused {
    /// Indices that were given back, the last one first to be used again so that memory stays small.
    returned: Vec<u32>,
    /// The first slot that never was in use.
    fresh: u32,
}

impl<T> Slab<T> {
    /// An empty table, without memory for slots.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            unused: Mutex::new(Unused { returned: Vec::new(), fresh: 0 }),
        })
    }

    /// Leases an index with (mostly) the upper bits of `random`. `None` if all slots are in use.
    pub(crate) fn insert(self: &Arc<Self>, value: Arc<T>, random: u32) -> Option<Lease<T>> {
        let mut unused = self.unused();
        let index = if let Some(before) = unused.returned.pop() {
            let slot = before % SLOTS_MAX;
            let index = slot | (random & !(SLOTS_MAX - 1));
            // Never the same again at once: the next random bits would do as well.
            if index == before { index.wrapping_add(SLOTS_MAX) } else { index }
        } else {
            let slot = unused.fresh;
            if slot == SLOTS_MAX {
                return None;
            }
            unused.fresh += 1;
            slot | (random & !(SLOTS_MAX - 1))
        };
        drop(unused);
        let lease = Lease { index, slab: Arc::clone(self) };
        lease.set(value);
        Some(lease)
    }

    /// What the index belongs to now.
    pub(crate) fn get(&self, index: u32) -> Option<Found<T>> {
        let (chunk, place) = place(index);
        let slot = self.chunks[chunk].get()?.get(place)?;
        let held = slot.load();
        held.as_ref().is_some_and(|held| held.index == index).then_some(Found(held))
    }

    fn slot(&self, index: u32) -> &Slot<T> {
        let (chunk, place) = place(index);
        let slots = FIRST_CHUNK << chunk;
        &self.chunks[chunk].get_or_init(|| (0..slots).map(|_| Slot::empty()).collect())[place]
    }

    fn unused(&self) -> MutexGuard<'_, Unused> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunk and place in it of an index: chunk `n` begins at slot `FIRST_CHUNK * (2^n - 1)`.
fn place(index: u32) -> (usize, usize) {
    let slot = index % SLOTS_MAX;
    let chunk = (slot / FIRST_CHUNK + 1).ilog2();
    let place = slot - FIRST_CHUNK * ((1 << chunk) - 1);
    (widen(chunk), widen(place))
}

fn widen(number: u32) -> usize {
    usize::try_from(number).expect("Linux has at least 32 bits")
}

/// An index in use; free again when dropped.
pub(crate) struct Lease<T> {
    index: u32,
    slab: Arc<Slab<T>>,
}

impl<T> Lease<T> {
    /// What the other side puts into its messages to us.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Lets the index belong to something else, as when a handshake becomes a session.
    pub(crate) fn set(&self, value: Arc<T>) {
        self.slab.slot(self.index).store(Some(Arc::new(Held { index: self.index, value })));
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.slab.slot(self.index).store(None);
        self.slab.unused().returned.push(self.index);
    }
}

/// What an index belonged to when it was looked up. Cheap, but not to be kept: see [`arc_swap::Guard`].
pub(crate) struct Found<T>(Guard<Option<Arc<Held<T>>>>);

impl<T> Deref for Found<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0.as_ref().expect("made only of a slot that holds something").value
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_slot_has_its_own_place() {
        let mut expected = (0, 0);
        for slot in 0..SLOTS_MAX {
            assert_eq!(place(slot | 0xabc0_0000), expected, "{slot}");
            expected.1 += 1;
            if expected.1 == 64 << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(expected.0 < CHUNKS || expected == (CHUNKS, 0));
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map(
            edits in prop::collection::vec((0u8..4, any::<u32>(), any::<prop::sample::Index>()), 0..300),
        ) {
            let slab = Slab::new();
            let (mut leases, mut model, mut gone) = (Vec::new(), BTreeMap::new(), Vec::new());
            for (number, (edit, random, which)) in edits.into_iter().enumerate() {
                if edit == 0 && !leases.is_empty() {
                    let lease: Lease<usize> = leases.swap_remove(which.index(leases.len()));
                    model.remove(&lease.index());
                    gone.push(lease.index());
                } else if edit == 1 && !leases.is_empty() {
                    let lease = &leases[which.index(leases.len())];
                    lease.set(Arc::new(number));
                    model.insert(lease.index(), number);
                } else {
                    let lease = slab.insert(Arc::new(number), random).expect("there is room");
                    prop_assert_eq!(model.insert(lease.index(), number), None, "leased twice");
                    prop_assert!(gone.last() != Some(&lease.index()), "given back and leased again at once");
                    leases.push(lease);
                }
                for (index, value) in &model {
                    prop_assert_eq!(slab.get(*index).map(|found| **found), Some(*value));
                    prop_assert!(slab.get(*index ^ (1 << SLOT_BITS)).is_none(), "other random bits");
                }
                for index in gone.iter().filter(|index| !model.contains_key(index)) {
                    prop_assert!(slab.get(*index).is_none(), "given back");
                }
                prop_assert!(slab.get(random).map(|found| **found) == model.get(&random).copied());
            }
        }
    }

    #[test]
    fn a_full_table_refuses_and_has_room_again_when_a_lease_is_dropped() {
        let (slab, value) = (Slab::new(), Arc::new(()));
        let mut leases: Vec<_> =
            (0..SLOTS_MAX).map(|_| slab.insert(Arc::clone(&value), 0).expect("there is room")).collect();
        assert!(slab.insert(Arc::clone(&value), 0).is_none());
        let index = leases.pop().map(|lease| lease.index());
        let again = slab.insert(value, 0).expect("there is room");
        assert_eq!(Some(again.index() % SLOTS_MAX), index.map(|index| index % SLOTS_MAX));
    }

    #[test]
    fn readers_under_a_writer_find_what_belongs_to_the_index_or_nothing() {
        const ROUNDS: u32 = 20_000;
        let slab: Arc<Slab<u32>> = Slab::new();
        let (last, hits, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let kept = slab.insert(Arc::new(7), 0).expect("there is room");
        let read = || {
            while !done.load(Ordering::Acquire) {
                let index = last.load(Ordering::Acquire);
                if let Some(found) = slab.get(index)
                    && index != kept.index()
                {
                    assert!(**found == 0 || **found == !index, "{index:x} has {found:x}", found = **found);
                    hits.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(slab.get(kept.index()).map(|found| **found), Some(7));
            }
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
            let mut round = 0;
            while round < ROUNDS || (round < 1000 * ROUNDS && hits.load(Ordering::Relaxed) == 0) {
                let lease = slab.insert(Arc::new(0), round << SLOT_BITS).expect("there is room");
                lease.set(Arc::new(!lease.index()));
                last.store(lease.index(), Ordering::Release);
                round += 1;
            }
            done.store(true, Ordering::Release);
            for reader in readers {
                reader.join().expect("a reader found what belongs to the index");
            }
        });
        assert!(hits.into_inner() > 0, "no reader found anything");
    }
}
