//! Every cipher writes the bytes that the reference writes, and refuses what it refuses.

use chacha::{Cipher, Job, Key, TAG_BYTES};
use proptest::prelude::*;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next() as u8);
    }
}

/// Packets with their keys and counters.
struct Packets {
    keys: Vec<Key>,
    counters: Vec<u64>,
    bytes: Vec<Vec<u8>>,
}

impl Packets {
    /// Texts of these lengths; `same_key` for a batch of one peer.
    fn new(lengths: &[usize], same_key: bool, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let mut key = [0; 32];
        let keys = lengths.iter().enumerate().map(|(number, _)| {
            if number == 0 || !same_key {
                numbers.fill(&mut key);
            }
            Key::new(&key)
        });
        let keys = keys.collect();
        let counters = lengths.iter().map(|_| numbers.next()).collect();
        let bytes = lengths.iter().map(|length| {
            let mut bytes = vec![0; length + TAG_BYTES];
            numbers.fill(&mut bytes);
            bytes
        });
        let bytes = bytes.collect();
        Self { keys, counters, bytes }
    }

    fn jobs(&mut self) -> impl Iterator<Item = Job<'_>> {
        let keyed = self.keys.iter().zip(&self.counters);
        keyed.zip(&mut self.bytes).map(|((key, counter), bytes)| Job { key, counter: *counter, bytes })
    }
}

fn told(cipher: Cipher, packets: &mut Packets) -> Vec<bool> {
    let mut told = Vec::new();
    cipher.open(packets.jobs(), |number, right| {
        assert_eq!(number, told.len());
        told.push(right);
    });
    told
}

/// Sealed by all alike, opened by all alike.
fn agree(lengths: &[usize], same_key: bool, seed: u64) {
    let texts = Packets::new(lengths, same_key, seed).bytes;
    let mut sealed = Packets::new(lengths, same_key, seed);
    Cipher::Reference.seal(sealed.jobs());
    for cipher in Cipher::available() {
        let mut packets = Packets::new(lengths, same_key, seed);
        cipher.seal(packets.jobs());
        for (number, (bytes, sealed)) in packets.bytes.iter().zip(&sealed.bytes).enumerate() {
            assert!(bytes == sealed, "{cipher} seals packet {number} of {lengths:?} differently");
        }
        assert_eq!(told(cipher, &mut packets), vec![true; lengths.len()], "{cipher} opens {lengths:?}");
        for (opened, text) in packets.bytes.iter().zip(&texts) {
            let end = text.len() - TAG_BYTES;
            assert!(opened[..end] == text[..end], "{cipher} opens {lengths:?} to another text");
        }
    }
}

#[test]
fn every_length_alone_and_sixteen_times() {
    for length in 0..=2048 {
        agree(&[length], true, length as u64);
        agree(&[length; 16], length % 2 == 0, length as u64);
    }
}

#[test]
fn every_length_beside_others() {
    for length in 0..=2048 {
        let lengths: Vec<usize> = (0..16).map(|place| length * place / 15).collect();
        agree(&lengths, length % 2 == 1, length as u64);
    }
}

#[test]
fn every_count_of_packets() {
    for count in 0..=33 {
        for length in [0, 1, 15, 16, 17, 64, 256, 1420, 1452] {
            agree(&vec![length; count], count % 2 == 0, (count * length) as u64);
        }
    }
}

#[test]
fn the_longest_texts_beside_the_shortest() {
    agree(&[65519], true, 1);
    agree(&[65519, 0, 0, 1, 65519, 16, 1420, 64, 65518], false, 2);
    agree(&[65519; 17], false, 3);
}

proptest! {
    #[test]
    fn any_batch(lengths in prop::collection::vec(0..3000usize, 0..40), same_key: bool, seed: u64) {
        agree(&lengths, same_key, seed);
    }

    #[test]
    fn short_batches(lengths in prop::collection::vec(0..200usize, 0..40), same_key: bool, seed: u64) {
        agree(&lengths, same_key, seed);
    }
}
