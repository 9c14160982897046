//! An ordered map in 256 buckets whose digest is kept by bucket: one changed entry costs one bucket, not all.

use std::collections::BTreeMap;

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::key::{Digest, Hasher};

const BUCKETS: usize = 256;

/// A map that knows the digest of its contents. Iterates by bucket, then by key: a fixed order for fixed contents.
#[derive(Clone)]
pub struct Buckets<K, V> {
    buckets: Vec<Bucket<K, V>>,
    len: usize,
}

#[derive(Clone)]
struct Bucket<K, V> {
    entries: BTreeMap<K, V>,
    /// `None` when an entry changed since it was computed.
    digest: Option<Digest>,
}

impl<K, V> Buckets<K, V> {
    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in the fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|b| &b.entries)
    }

    /// All keys in the fixed order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the fixed order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Encode<()> + Ord, V: Encode<()>> Buckets<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        let empty = || Bucket { entries: BTreeMap::new(), digest: None };
        Self { buckets: (0..BUCKETS).map(|_| empty()).collect(), len: 0 }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.buckets[bucket_of(key)].entries.get(key)
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets a value and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bucket = &mut self.buckets[bucket_of(&key)];
        bucket.digest = None;
        let before = bucket.entries.insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a value and returns it.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let bucket = &mut self.buckets[bucket_of(key)];
        let before = bucket.entries.remove(key)?;
        bucket.digest = None;
        self.len -= 1;
        Some(before)
    }

    /// Makes the entry what is wanted, or absent. Whether that changed anything.
    pub fn make(&mut self, key: K, wanted: Option<V>) -> bool
    where
        V: PartialEq,
    {
        if self.get(&key) == wanted.as_ref() {
            return false;
        }
        match wanted {
            Some(value) => self.insert(key, value),
            None => self.remove(&key),
        };
        true
    }

    /// The digest of the contents: over the digests of the buckets, each over its entries' CBOR.
    pub fn digest(&mut self) -> Digest {
        let mut whole = Hasher::new("warren buckets 1");
        for bucket in &mut self.buckets {
            let digest = *bucket.digest.get_or_insert_with(|| digest_of(&bucket.entries));
            whole.update(digest.as_bytes());
        }
        whole.finish()
    }
}

fn bucket_of<K: Encode<()>>(key: &K) -> usize {
    let encoded = minicbor::to_vec(key).expect("writing to memory cannot fail");
    Digest::of("warren bucket 1", &[&encoded]).as_bytes()[0].into()
}

fn digest_of<K: Encode<()>, V: Encode<()>>(entries: &BTreeMap<K, V>) -> Digest {
    let mut hasher = Hasher::new("warren bucket entries 1");
    for entry in entries {
        hasher.update(&minicbor::to_vec(entry).expect("writing to memory cannot fail"));
    }
    hasher.finish()
}

impl<K: Encode<()> + Ord, V: Encode<()>> Default for Buckets<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Buckets<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.buckets.iter().zip(&other.buckets).all(|(a, b)| a.entries == b.entries)
    }
}

impl<K: Eq, V: Eq> Eq for Buckets<K, V> {}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Buckets<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.buckets.iter().flat_map(|b| &b.entries)).finish()
    }
}

impl<K: Encode<()> + Ord, V: Encode<()>> FromIterator<(K, V)> for Buckets<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

/// An array of pairs in the fixed order.
impl<C, K: Encode<C>, V: Encode<C>> Encode<C> for Buckets<K, V> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        c: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.len as u64)?;
        self.iter().try_for_each(|entry| entry.encode(e, c))
    }
}

/// Entries in any order; a key that comes twice is refused.
impl<'b, C, K: Decode<'b, C> + Encode<()> + Ord, V: Decode<'b, C> + Encode<()>> Decode<'b, C>
    for Buckets<K, V>
{
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, minicbor::decode::Error> {
        let mut map = Self::new();
        let count = d.array()?.ok_or_else(|| minicbor::decode::Error::message("indefinite array"))?;
        for _ in 0..count {
            let (key, value) = <(K, V)>::decode(d, c)?;
            if map.insert(key, value).is_some() {
                return Err(minicbor::decode::Error::message("a key comes twice").at(d.position()));
            }
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_the_contents_alone() {
        let mut forward: Buckets<u32, u32> = (0..1000).map(|n| (n, n * n)).collect();
        let mut backward: Buckets<u32, u32> = (0..1000).rev().map(|n| (n, n * n)).collect();
        assert_eq!(forward.digest(), backward.digest());
        forward.insert(7, 0);
        assert_ne!(forward.digest(), backward.digest());
        forward.insert(7, 49);
        assert_eq!(forward.digest(), backward.digest());
        forward.remove(&8);
        backward.remove(&8);
        assert_eq!((forward.digest(), forward.len()), (backward.digest(), 999));
    }

    #[test]
    fn making_an_entry_what_it_is_changes_nothing() {
        let mut map: Buckets<u8, u8> = [(1, 1)].into_iter().collect();
        let digest = map.digest();
        assert!(!map.make(1, Some(1)) && !map.make(2, None));
        assert!(map.make(1, Some(2)) && map.make(2, Some(2)) && map.make(2, None));
        assert_ne!(map.digest(), digest);
        assert!(map.make(1, Some(1)));
        assert_eq!(map.digest(), digest);
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let twice = minicbor::to_vec([(1u8, 2u8), (1, 3)]).expect("encodes");
        assert!(minicbor::decode::<Buckets<u8, u8>>(&twice).is_err());
        let once = minicbor::to_vec([(1u8, 2u8), (2, 3)]).expect("encodes");
        assert_eq!(minicbor::decode::<Buckets<u8, u8>>(&once).map(|m| m.len()).ok(), Some(2));
    }
}
