//! A map from bytes to bytes in 4096 shards that copies share: a change copies one shard, never the table. Knows no
//! name and no record; the hash of a key comes with it.

mod shard;

use std::sync::Arc;

use shard::Shard;
pub(crate) use shard::{read_number, write_number};

/// Shards of one group, and groups of a table. With a million names a shard has 244, and a copy of it about 10 KB; the
/// two steps keep a change from touching the counters of all 4096.
const FAN: usize = 64;
const FAN_BITS: u32 = FAN.ilog2();

/// Its clone costs 64 counters. Keys have 255 bytes at most.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    groups: Box<[Arc<Group>; FAN]>,
}

type Group = [Arc<Shard>; FAN];

impl Table {
    /// Empty shards are one and the same: a small table is small.
    pub(crate) fn new() -> Self {
        let shard = Arc::new(Shard::new());
        let group = Arc::new(std::array::from_fn(|_| Arc::clone(&shard)));
        Self { groups: Box::new(std::array::from_fn(|_| Arc::clone(&group))) }
    }

    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        let (group, shard, tag) = place(hash);
        self.groups[group][shard].get(tag, key)
    }

    /// Reads something of where a key with this hash would be.
    pub(crate) fn touch(&self, hash: u64) -> u8 {
        let (group, shard, tag) = place(hash);
        self.groups[group][shard].touch(tag)
    }

    /// Sets the value of a key, or removes it.
    pub(crate) fn set(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>) {
        let (group, shard, tag) = place(hash);
        if value.is_none() && self.groups[group][shard].get(tag, key).is_none() {
            return;
        }
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.groups[group])[shard]);
        match value {
            Some(value) => shard.set(tag, key, value),
            None => shard.remove(tag, key),
        }
    }

    /// Keys and values, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.groups.iter().flat_map(|group| group.iter()).flat_map(|shard| shard.entries())
    }
}

/// Which group, which shard of it, and what is left of the hash for the shard.
#[expect(clippy::cast_possible_truncation, reason = "the parts are meant")]
const fn place(hash: u64) -> (usize, usize, u32) {
    let group = (hash >> (64 - FAN_BITS)) as usize;
    let shard = (hash >> (64 - 2 * FAN_BITS)) as usize % FAN;
    (group, shard, hash as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::Seed;

    fn seed() -> Seed {
        Seed::new(&[7; 32])
    }

    fn set(table: &mut Table, n: u32, value: Option<&[u8]>) {
        let key = n.to_be_bytes();
        table.set(seed().below(0, &key), &key, value);
    }

    fn get(table: &Table, n: u32) -> Option<&[u8]> {
        let key = n.to_be_bytes();
        table.get(seed().below(0, &key), &key)
    }

    fn shared(a: &Table, b: &Table) -> (usize, usize) {
        let groups = a.groups.iter().zip(b.groups.iter());
        let shards = groups.clone().flat_map(|(a, b)| a.iter().zip(b.iter()));
        (groups.filter(|(a, b)| Arc::ptr_eq(a, b)).count(), shards.filter(|(a, b)| Arc::ptr_eq(a, b)).count())
    }

    #[test]
    fn a_change_copies_one_shard() {
        let mut table = Table::new();
        for n in 0..100_000 {
            set(&mut table, n, Some(&n.to_le_bytes()));
        }
        let before = table.clone();
        set(&mut table, 7, Some(b"another value"));
        assert_eq!(shared(&before, &table), (FAN - 1, FAN * FAN - 1));
        set(&mut table, 8, None);
        set(&mut table, 100_000, None);
        let (_, shards) = shared(&before, &table);
        assert!(shards >= FAN * FAN - 2, "{shards} shards are shared");
        assert_eq!((get(&table, 7), get(&table, 8)), (Some(&b"another value"[..]), None));
        assert_eq!((get(&before, 7), get(&before, 8)), (Some(&[7, 0, 0, 0][..]), Some(&[8, 0, 0, 0][..])));
        assert_eq!((before.entries().count(), table.entries().count()), (100_000, 99_999));
        let mut largest =
            before.groups.iter().flat_map(|group| group.iter()).map(|shard| shard.entries().count());
        assert!(largest.all(|count| count < 60), "24 on average");
    }

    #[test]
    fn empty_shards_cost_nothing() {
        let (mut small, empty) = (Table::new(), Table::new());
        set(&mut small, 1, Some(b"x"));
        let mut kept: Vec<*const Shard> =
            small.groups.iter().flat_map(|group| group.iter()).map(Arc::as_ptr).collect();
        kept.sort_unstable();
        kept.dedup();
        assert_eq!((kept.len(), empty.entries().count()), (2, 0));
    }

    proptest! {
        #[test]
        fn a_table_is_a_map(
            steps in prop::collection::vec((0..40_u8, prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..200),
            clash in any::<bool>(),
        ) {
            let (mut table, mut model) = (Table::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for (n, value) in &steps {
                let key = vec![*n; usize::from(*n)];
                // All in one shard, with few different hashes; or spread.
                let hash = |key: &[u8]| if clash { key.len() as u64 % 3 } else { seed().below(0, key) };
                table.set(hash(&key), &key, value.as_deref());
                match value {
                    Some(value) => drop(model.insert(key, value.clone())),
                    None => drop(model.remove(&key)),
                }
                for (key, value) in &model {
                    prop_assert_eq!(table.get(hash(key), key), Some(value.as_slice()));
                }
                copies.push((table.clone(), model.clone()));
            }
            for (copy, model) in &copies {
                let entries: BTreeMap<Vec<u8>, Vec<u8>> =
                    copy.entries().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(&entries, model);
            }
        }
    }
}
