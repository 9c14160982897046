//! A seeded hash of names, label by label from the root: the hash of a parent is on the way to that of its child.
//! Keeps no table.

use crate::wire::Starts;

/// Secret constants, so that nobody can choose names that fall together. Not for signatures: who sees hashes may find
/// the seed, and nobody is shown one.
#[derive(Clone, Copy)]
pub(crate) struct Seed {
    start: u64,
    words: u64,
    end: u64,
}

impl Seed {
    /// Any 32 bytes that others do not know.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let word = |at: usize| word_of(&seed[at..at + 8]);
        // Random digits, so that a seed without any spreads names too. Odd factors keep all bits of what they multiply.
        Self {
            start: word(0) ^ word(24),
            words: word(8) ^ 0xa076_1d64_78bd_642e | 1,
            end: word(16) ^ 0xe703_7ed1_a0b4_28da | 1,
        }
    }

    /// The hash of no label at all: of the name below which names are told apart.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The hash of a name from the hash of its parent and its first label. Bytes that are no label will do too.
    pub(crate) fn below(&self, parent: u64, label: &[u8]) -> u64 {
        let (words, rest) = label.as_chunks::<8>();
        let mut hash =
            words.iter().fold(parent, |hash, word| fold(hash ^ u64::from_le_bytes(*word), self.words));
        if !rest.is_empty() {
            hash = fold(hash ^ word_of(rest), self.words);
        }
        fold(hash ^ label.len() as u64, self.end)
    }

    /// The hash of a whole name in wire form without the root.
    pub(crate) fn of(&self, name: &[u8]) -> u64 {
        let starts = Starts::of(name);
        (0..starts.len()).rev().fold(self.start, |above, at| self.below(above, starts.label(name, at)))
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Up to eight bytes as a number.
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Both halves of the product in one: each bit of a factor reaches all bits.
#[expect(clippy::cast_possible_truncation, reason = "the halves are meant")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn seed(first: u8) -> Seed {
        Seed::new(&std::array::from_fn(|n| (n as u8).wrapping_mul(167).wrapping_add(first)))
    }

    #[test]
    fn a_name_is_hashed_from_its_parent() {
        let seed = seed(1);
        let name = b"\x01a\x08longname\x0dsomewhatlonge";
        let parent = seed.below(seed.below(seed.start(), b"somewhatlonge"), b"longname");
        assert_eq!(seed.of(name), seed.below(parent, b"a"));
        assert_eq!(seed.of(&name[2..]), parent);
        assert_eq!(seed.of(b""), seed.start());
    }

    #[test]
    fn hashes_differ_by_name_by_labels_and_by_seed() {
        let names: [&[u8]; 8] = [
            b"",
            b"\x01a",
            b"\x02ab",
            b"\x01a\x01b",
            b"\x01b\x01a",
            b"\x08abcdefgh",
            b"\x09abcdefgh\0",
            b"\x01\0",
        ];
        let all: BTreeSet<u64> = [1, 2].map(seed).iter().flat_map(|s| names.map(|name| s.of(name))).collect();
        assert_eq!(all.len(), 2 * names.len());
    }

    #[test]
    fn every_part_of_a_hash_is_spread() {
        let seed = Seed::new(&[0; 32]);
        let hashes: Vec<u64> =
            (0..65_536).map(|n| seed.below(seed.start(), format!("host{n}").as_bytes())).collect();
        for shift in [0, 26, 52, 58] {
            let mut counts = [0_u32; 64];
            hashes.iter().for_each(|hash| counts[(hash >> shift) as usize % 64] += 1);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(least > Some(&850) && most < Some(&1200), "1024 expected from bit {shift}: {counts:?}");
        }
    }
}
