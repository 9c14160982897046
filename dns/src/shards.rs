//! A map from bytes to values in 256 shards that copies share: a change copies the shards it touches, not the map.

use std::sync::Arc;

/// Of 100 000 names a shard has about 400: a change copies 400 pointers and 256 for the table.
const SHARDS: usize = 256;

/// A map whose clone costs its table of shards. Values live behind a pointer of their own.
#[derive(Debug)]
pub(crate) struct Shards<V> {
    shards: Box<[Shard<V>]>,
}

/// Sorted by key.
type Shard<V> = Arc<Vec<Arc<Entry<V>>>>;

#[derive(Debug)]
struct Entry<V> {
    key: Box<[u8]>,
    value: V,
}

impl<V> Shards<V> {
    pub(crate) fn new() -> Self {
        let empty = Arc::default();
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let shard = &self.shards[shard_of(key)];
        let found = shard.binary_search_by(|entry| (*entry.key).cmp(key)).ok()?;
        Some(&shard[found].value)
    }

    /// Sets the value of a key, or removes it.
    pub(crate) fn set(&mut self, key: &[u8], value: Option<V>) {
        let shard = &mut self.shards[shard_of(key)];
        let found = shard.binary_search_by(|entry| (*entry.key).cmp(key));
        let entry = value.map(|value| Arc::new(Entry { key: key.into(), value }));
        match (found, entry) {
            (Ok(at), Some(entry)) => Arc::make_mut(shard)[at] = entry,
            (Ok(at), None) => drop(Arc::make_mut(shard).remove(at)),
            (Err(at), Some(entry)) => Arc::make_mut(shard).insert(at, entry),
            (Err(_), None) => {}
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|entry| &entry.value)
    }
}

impl<V> Clone for Shards<V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone() }
    }
}

/// FNV-1a, folded to the shards. Names that somebody chose to fall together cost a larger copy at a change and
/// nothing at a look-up, so the hash needs no secret.
fn shard_of(key: &[u8]) -> usize {
    let hash =
        key.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_shard() {
        let mut map = Shards::new();
        for n in 0..10_000_u32 {
            map.set(&n.to_be_bytes(), Some(n));
        }
        let before = map.clone();
        map.set(&7_u32.to_be_bytes(), Some(0));
        map.set(&8_u32.to_be_bytes(), None);
        let shared = before.shards.iter().zip(&map.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 2, "{shared} shards are shared");
        assert_eq!((map.get(&7_u32.to_be_bytes()), map.get(&8_u32.to_be_bytes())), (Some(&0), None));
        assert_eq!((before.get(&7_u32.to_be_bytes()), before.values().count()), (Some(&7), 10_000));
        let largest = map.shards.iter().map(|shard| shard.len()).max();
        assert!(largest < Some(120), "39 on average, and the fullest has {largest:?}");
    }
}
