//! One shard: entries one behind the other in an arena, found by an open hash table with linear probing. Knows not which
//! part of the table it is.
//!
//! ```text
//! slots   [tag, at] [tag, at] [    ] [tag, at] …         a slot's place follows from its tag
//! arena   key length │ key │ value length │ value │ …    lengths of values in seven bits a byte
//! ```

use std::ops::Range;

/// A copy leaves this much room, which one more entry mostly needs.
const ROOM_BYTES: usize = 64;
/// Fuller than four fifths, probes get long.
const LOAD: (usize, usize) = (4, 5);
/// The least that has slots.
const SLOTS_MIN: usize = 4;

#[derive(Debug)]
pub(super) struct Shard {
    slots: Box<[Slot]>,
    count: usize,
    arena: Vec<u8>,
    /// Bytes of the arena that no slot leads to.
    dead: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    /// Where the entry begins, or [`FREE`].
    at: u32,
}

const FREE: u32 = u32::MAX;
const EMPTY: Slot = Slot { tag: 0, at: FREE };

impl Shard {
    pub(super) fn new() -> Self {
        Self { slots: Box::default(), count: 0, arena: Vec::new(), dead: 0 }
    }

    pub(super) fn get(&self, tag: u32, key: &[u8]) -> Option<&[u8]> {
        let slot = self.find(tag, key)?;
        Some(&self.arena[self.entry(self.slots[slot].at).value])
    }

    /// Reads the first slot that a tag's search looks at, and the first byte of its entry.
    pub(super) fn touch(&self, tag: u32) -> u8 {
        let slot = self.slots.get(self.home(tag));
        slot.and_then(|slot| self.arena.get(slot.at as usize)).copied().unwrap_or_default()
    }

    /// Sets the value of a key.
    pub(super) fn set(&mut self, tag: u32, key: &[u8], value: &[u8]) {
        if let Some(slot) = self.find(tag, key) {
            let entry = self.entry(self.slots[slot].at);
            if entry.value.len() == value.len() {
                self.arena[entry.value].copy_from_slice(value);
                return;
            }
            self.dead += entry.whole.len();
            self.slots[slot].at = self.append(key, value);
        } else {
            let (used, of) = LOAD;
            if (self.count + 1) * of > self.slots.len() * used {
                // Two thirds full, so that the next ones find room.
                self.resize((self.count + 1) * 3 / 2 + SLOTS_MIN);
            }
            let at = self.append(key, value);
            self.occupy(Slot { tag, at });
            self.count += 1;
        }
        self.tidy();
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, tag: u32, key: &[u8]) {
        let Some(slot) = self.find(tag, key) else { return };
        self.dead += self.entry(self.slots[slot].at).whole.len();
        self.vacate(slot);
        self.count -= 1;
        self.tidy();
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.slots.iter().filter(|slot| slot.at != FREE).map(|slot| {
            let entry = self.entry(slot.at);
            (&self.arena[entry.key], &self.arena[entry.value])
        })
    }

    fn find(&self, tag: u32, key: &[u8]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(tag);
        loop {
            let Slot { tag: there, at } = self.slots[slot];
            if at == FREE {
                return None;
            }
            if there == tag && self.arena[self.entry(at).key] == *key {
                return Some(slot);
            }
            slot = self.next(slot);
        }
    }

    /// Where a tag's search begins. There is a free slot always, so every search ends.
    fn home(&self, tag: u32) -> usize {
        usize::try_from((u64::from(tag) * self.slots.len() as u64) >> 32)
            .expect("less than the number of slots")
    }

    const fn next(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() { 0 } else { slot + 1 }
    }

    fn occupy(&mut self, entry: Slot) {
        let mut slot = self.home(entry.tag);
        while self.slots[slot].at != FREE {
            slot = self.next(slot);
        }
        self.slots[slot] = entry;
    }

    /// Frees a slot, and moves into it what stands behind only because it was taken.
    fn vacate(&mut self, mut hole: usize) {
        let mut slot = self.next(hole);
        while self.slots[slot].at != FREE {
            let home = self.home(self.slots[slot].tag);
            let stays = if hole <= slot { hole < home && home <= slot } else { hole < home || home <= slot };
            if !stays {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
            slot = self.next(slot);
        }
        self.slots[hole] = EMPTY;
    }

    fn resize(&mut self, slots: usize) {
        let before = std::mem::replace(&mut self.slots, vec![EMPTY; slots].into());
        before.iter().filter(|slot| slot.at != FREE).for_each(|slot| self.occupy(*slot));
    }

    fn append(&mut self, key: &[u8], value: &[u8]) -> u32 {
        let at = u32::try_from(self.arena.len()).expect("the names of a zone take less than 4 GiB");
        let needed = key.len() + value.len() + 6;
        if self.arena.capacity() - self.arena.len() < needed {
            // An eighth more than there is, not the double: what is reserved is held by every shard.
            self.arena.reserve_exact(needed.max(self.arena.len() / 8));
        }
        self.arena.push(u8::try_from(key.len()).expect("keys have 255 bytes at most"));
        self.arena.extend_from_slice(key);
        write_number(&mut self.arena, u32::try_from(value.len()).expect("a value takes less than 4 GiB"));
        self.arena.extend_from_slice(value);
        at
    }

    /// Makes everything anew once half of the arena is of no use.
    fn tidy(&mut self) {
        if self.dead * 2 <= self.arena.len() {
            return;
        }
        let (slots, arena) = (std::mem::take(&mut self.slots), std::mem::take(&mut self.arena));
        let live = arena.len() - self.dead;
        let kept = Self { slots, arena, ..Self::new() };
        self.arena.reserve_exact(live + ROOM_BYTES);
        self.dead = 0;
        if self.count == 0 {
            return;
        }
        self.resize(self.count * 3 / 2 + SLOTS_MIN);
        for slot in kept.slots.iter().filter(|slot| slot.at != FREE) {
            let at = u32::try_from(self.arena.len()).expect("less than there was");
            self.arena.extend_from_slice(&kept.arena[kept.entry(slot.at).whole]);
            self.occupy(Slot { tag: slot.tag, at });
        }
    }

    fn entry(&self, at: u32) -> Entry {
        let begin = at as usize;
        let key = begin + 1..begin + 1 + usize::from(self.arena[begin]);
        let (length, value) = read_number(&self.arena, key.end);
        let value = value..value + length as usize;
        Entry { whole: begin..value.end, key, value }
    }
}

impl Clone for Shard {
    fn clone(&self) -> Self {
        let mut arena = Vec::with_capacity(self.arena.len() + ROOM_BYTES);
        arena.extend_from_slice(&self.arena);
        Self { slots: self.slots.clone(), count: self.count, arena, dead: self.dead }
    }
}

/// Where the parts of an entry are.
struct Entry {
    whole: Range<usize>,
    key: Range<usize>,
    value: Range<usize>,
}

/// Writes a number in seven bits a byte, the lowest first.
pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// The number that begins there, and where what follows it begins.
pub(crate) fn read_number(bytes: &[u8], mut at: usize) -> (u32, usize) {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[at];
        at += 1;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    (number, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u32::MAX, 5)] {
            let mut out = vec![0xff];
            write_number(&mut out, number);
            assert_eq!((out.len(), read_number(&out, 1)), (1 + bytes, (number, 1 + bytes)));
        }
    }

    #[test]
    fn what_is_replaced_is_thrown_away_in_time() {
        let mut shard = Shard::new();
        for n in 0..1000_usize {
            shard.set(1, b"key", &vec![0; n % 50]);
            shard.set(1, b"other", b"stays");
            assert!(shard.arena.len() < 200 && shard.arena.capacity() < 400, "{shard:?}");
        }
        shard.remove(1, b"key");
        shard.remove(1, b"other");
        assert_eq!((shard.count, shard.arena.len(), shard.slots.len()), (0, 0, 0));
    }
}
