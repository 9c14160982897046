//! Every cipher writes the bytes that the reference writes, and refuses what it refuses.

#[cfg(target_arch = "x86_64")]
mod edges;
mod model;
mod vectors;

use crate::batch::{BATCH_MAX, Batch};
use crate::{Cipher, Job, Key, TAG_BYTES};
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

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
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

/// How a cipher gets its work.
#[derive(Debug, Clone, Copy)]
enum Share {
    /// As everybody calls it: what the reference does sooner is left to it.
    Chosen,
    /// All of it.
    Everything,
}

fn seal(cipher: Cipher, share: Share, packets: &mut Packets) {
    match share {
        Share::Chosen => cipher.seal(packets.jobs()),
        Share::Everything => {
            let mut jobs = packets.jobs();
            let mut batch = Batch::new();
            while batch.gather(&mut jobs) {
                cipher.seal_together(batch.jobs());
            }
        }
    }
}

fn open(cipher: Cipher, share: Share, packets: &mut Packets) -> Vec<bool> {
    match share {
        Share::Chosen => told(cipher, packets),
        Share::Everything => {
            let mut jobs = packets.jobs();
            let mut verdicts = Vec::new();
            let mut batch = Batch::new();
            while batch.gather(&mut jobs) {
                let mut right = [false; BATCH_MAX];
                cipher.open_together(batch.jobs(), &mut right);
                verdicts.extend(batch.in_order(&right));
            }
            verdicts
        }
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

/// Every cipher that runs here, with every way to get its work.
fn ways() -> impl Iterator<Item = (Cipher, Share)> {
    Cipher::available().into_iter().flat_map(|cipher| [(cipher, Share::Chosen), (cipher, Share::Everything)])
}

/// Sealed by all alike, opened by all alike; one of them is tampered with, and only that one is refused.
fn agree(lengths: &[usize], same_key: bool, seed: u64) {
    let texts = Packets::new(lengths, same_key, seed).bytes;
    let mut sealed = Packets::new(lengths, same_key, seed);
    Cipher::Reference.seal(sealed.jobs());
    let mut numbers = Numbers(seed);
    let forged = numbers.below(lengths.len());
    let at = lengths.get(forged).map(|length| numbers.below(length + TAG_BYTES));
    for (cipher, share) in ways() {
        let mut packets = Packets::new(lengths, same_key, seed);
        seal(cipher, share, &mut packets);
        for (number, (bytes, sealed)) in packets.bytes.iter().zip(&sealed.bytes).enumerate() {
            assert!(bytes == sealed, "{cipher} {share:?} seals packet {number} of {lengths:?} differently");
        }
        if let Some(at) = at {
            packets.bytes[forged][at] ^= 1 << (seed % 8);
        }
        let right: Vec<bool> = (0..lengths.len()).map(|number| number != forged).collect();
        assert_eq!(open(cipher, share, &mut packets), right, "{cipher} {share:?} opens {lengths:?}");
        for (number, (opened, text)) in packets.bytes.iter().zip(&texts).enumerate() {
            let end = text.len() - TAG_BYTES;
            let as_expected = if number == forged {
                opened.iter().all(|byte| *byte == 0)
            } else {
                opened[..end] == text[..end]
            };
            assert!(as_expected, "{cipher} {share:?} opens packet {number} of {lengths:?} to another text");
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

#[test]
fn each_byte_counts() {
    let lengths = [100, 0, 63, 64, 65, 17, 256, 100, 1];
    for (cipher, share) in ways() {
        for forged in 0..lengths.len() {
            for at in 0..lengths[forged] + TAG_BYTES {
                let mut packets = Packets::new(&lengths, false, 1);
                Cipher::Reference.seal(packets.jobs());
                packets.bytes[forged][at] ^= 0x80;
                let right: Vec<bool> = (0..lengths.len()).map(|number| number != forged).collect();
                assert_eq!(
                    open(cipher, share, &mut packets),
                    right,
                    "{cipher} {share:?} byte {at} of {forged}"
                );
                assert!(packets.bytes[forged].iter().all(|byte| *byte == 0));
            }
        }
    }
}

#[test]
fn another_counter_or_key_opens_nothing() {
    for (cipher, share) in ways() {
        let mut packets = Packets::new(&[64; 9], false, 2);
        Cipher::Reference.seal(packets.jobs());
        packets.counters[3] ^= 1;
        packets.counters[5] ^= 1 << 63;
        packets.keys.swap(6, 7);
        let right = [true, true, true, false, true, false, false, false, true];
        assert_eq!(open(cipher, share, &mut packets), right, "{cipher} {share:?}");
    }
}

#[test]
fn what_is_shorter_than_a_tag_is_refused_and_its_neighbours_pass() {
    for (cipher, share) in ways() {
        let mut packets = Packets::new(&[64; 9], false, 3);
        Cipher::Reference.seal(packets.jobs());
        packets.bytes[0].truncate(15);
        packets.bytes[4].clear();
        let right = [false, true, true, true, false, true, true, true, true];
        assert_eq!(open(cipher, share, &mut packets), right, "{cipher} {share:?}");
        assert_eq!(packets.bytes[0], [0; 15]);
    }
}

#[test]
#[should_panic(expected = "room for its tag")]
fn sealing_without_room_for_a_tag_is_a_mistake() {
    Cipher::fastest().seal([Job { key: &Key::new(&[0; 32]), counter: 0, bytes: &mut [0; 15] }]);
}
