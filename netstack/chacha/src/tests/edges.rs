//! The edges of Poly1305's arithmetic, on keys that no ChaCha20 would make in a lifetime.

use super::model;
use super::vectors::{TAGS, authenticated, bytes};
use crate::batch::BATCH_MAX;
use crate::{Cipher, Job, Key, avx2, avx512};

/// Keys for Poly1305 and texts, the tags of which carry where they can.
fn edges() -> Vec<([u8; 32], Vec<u8>)> {
    let mut keys: Vec<[u8; 32]> =
        TAGS.iter().map(|(key, ..)| bytes(key).as_slice().try_into().unwrap()).collect();
    keys.extend([[0; 32], [0xff; 32], [0x80; 32]]);
    let mut edges = Vec::new();
    for key in &keys {
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 96, 112, 128, 129, 500] {
            edges.extend([0, 1, 0x7f, 0xfe, 0xff].map(|byte| (*key, vec![byte; length])));
        }
        edges.extend(TAGS.map(|(_, message, _)| (*key, bytes(message))));
    }
    // With r = 1 the sum is three times 2^128, the text and its length: at, below and above 2^130 - 5.
    let mut one = [0; 32];
    one[0] = 1;
    let length = 32u128 << 64;
    for above in 0..=14 {
        let mut text = (u128::MAX - 13 - length + above).to_le_bytes().to_vec();
        text.extend([0; 16]);
        edges.extend([0, 0xff].map(|byte| {
            one[16..].fill(byte);
            (one, text.clone())
        }));
    }
    edges
}

#[test]
fn tags_at_the_edges_of_their_arithmetic() {
    let edges = edges();
    let nobody = Key::new(&[0; 32]);
    for batch in edges.windows(BATCH_MAX) {
        let mut sealed: Vec<Vec<u8>> =
            batch.iter().map(|(_, text)| [text.as_slice(), &[0; 16]].concat()).collect();
        let jobs: Vec<Job<'_>> =
            sealed.iter_mut().map(|bytes| Job { key: &nobody, counter: 0, bytes }).collect();
        let once: Vec<[u32; 8]> = batch
            .iter()
            .map(|(key, _)| std::array::from_fn(|word| u32::from_le_bytes(key.as_chunks().0[word])))
            .collect();
        let expected: Vec<u128> = batch
            .iter()
            .map(|(key, text)| u128::from_le_bytes(model::poly1305(key, &authenticated(text))))
            .collect();
        for (name, tags) in tags(&jobs, &once) {
            assert_eq!(tags, expected, "{name}");
        }
    }
}

/// The tags of sixteen texts by every way that this machine has.
#[allow(unsafe_code)]
fn tags(jobs: &[Job<'_>], once: &[[u32; 8]]) -> Vec<(Cipher, Vec<u128>)> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    if avx2::runs_here() {
        let halves = jobs.chunks(8).zip(once.chunks(8));
        // SAFETY: asked in the line above.
        let tags = halves.flat_map(|(jobs, once)| unsafe { avx2::tags_with(jobs, once) });
        found.push((Cipher::Avx2, tags.collect()));
    }
    #[cfg(target_arch = "x86_64")]
    if avx512::runs_here() {
        // SAFETY: asked in the line above.
        found.push((Cipher::Avx512, unsafe { avx512::tags_with(jobs, once) }.to_vec()));
    }
    found
}
