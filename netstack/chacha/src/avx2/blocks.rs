//! ChaCha20, eight blocks at once: register `w` holds word `w` of each block.

#[allow(clippy::wildcard_imports, reason = "the names of instructions say where they come from")]
use std::arch::x86_64::*;

use super::LANES;
use crate::job::Job;
use crate::places::{BLOCK_BYTES, Pass, Places};
use crate::wipe::wipe;

/// "expand 32-byte k".
const CONSTANTS: [i32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The keys and nonces of a batch: register `w` holds word `w` of each packet's.
pub(super) struct Keys {
    key: [__m256i; 8],
    nonce: [__m256i; 2],
}

impl Keys {
    /// Those of at most eight jobs; places without a job get a key of zeros.
    #[target_feature(enable = "avx2")]
    pub(super) fn of(jobs: &[Job<'_>]) -> Self {
        let mut rows: [__m256i; 8] =
            std::array::from_fn(|row| load(jobs.get(row).map_or(&[0; 8], |job: &Job<'_>| job.key.words())));
        let mut nonce = [[0; LANES]; 2];
        for (place, job) in jobs.iter().enumerate() {
            nonce[0][place] = job.counter as u32;
            nonce[1][place] = (job.counter >> 32) as u32;
        }
        let keys = Self { key: columns(&rows), nonce: [load(&nonce[0]), load(&nonce[1])] };
        wipe(&mut rows, _mm256_setzero_si256());
        keys
    }

    /// The first eight words of every packet's block 0: its key for Poly1305.
    #[target_feature(enable = "avx2")]
    pub(super) fn once(&self) -> [__m256i; 8] {
        let packets = std::array::from_fn(|lane| lane as u32);
        let block = self.blocks(&Pass { packets, blocks: [0; LANES], count: LANES });
        *block.first_chunk().expect("a block has sixteen words")
    }

    /// The key stream of one pass, words across lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn blocks(&self, pass: &Pass<LANES>) -> [__m256i; 16] {
        let packets = load(&pass.packets);
        let mut start = [_mm256_setzero_si256(); 16];
        for (word, constant) in start[..4].iter_mut().zip(CONSTANTS) {
            *word = _mm256_set1_epi32(constant);
        }
        for (word, key) in start[4..12].iter_mut().zip(&self.key) {
            *word = _mm256_permutevar8x32_epi32(*key, packets);
        }
        start[12] = load(&pass.blocks);
        start[14] = _mm256_permutevar8x32_epi32(self.nonce[0], packets);
        start[15] = _mm256_permutevar8x32_epi32(self.nonce[1], packets);
        let mut words = start;
        for _ in 0..10 {
            quarters::<0>(&mut words);
            quarters::<1>(&mut words);
        }
        for (word, start) in words.iter_mut().zip(start) {
            *word = _mm256_add_epi32(*word, start);
        }
        words
    }

    /// To be called when the batch is done.
    #[target_feature(enable = "avx2")]
    pub(super) fn wipe(&mut self) {
        wipe(&mut self.key, _mm256_setzero_si256());
    }
}

/// Four quarter rounds side by side: on the columns (`SHIFT` 0) or on the diagonals (`SHIFT` 1).
#[target_feature(enable = "avx2")]
#[inline]
fn quarters<const SHIFT: usize>(v: &mut [__m256i; 16]) {
    let turn_16 = _mm256_set1_epi64x(0x0504_0706_0100_0302);
    let turn_8 = _mm256_set1_epi64x(0x0605_0407_0201_0003);
    let within = _mm256_set_epi64x(0x0808_0808_0808_0808, 0, 0x0808_0808_0808_0808, 0);
    let (turn_16, turn_8) = (_mm256_add_epi8(turn_16, within), _mm256_add_epi8(turn_8, within));
    macro_rules! step {
        ($a:literal, $b:literal, $d:literal, $turn:expr) => {
            for i in 0..4 {
                let a = $a + (i + $a / 4 * SHIFT) % 4;
                let b = $b + (i + $b / 4 * SHIFT) % 4;
                let d = $d + (i + $d / 4 * SHIFT) % 4;
                v[a] = _mm256_add_epi32(v[a], v[b]);
                v[d] = $turn(_mm256_xor_si256(v[d], v[a]));
            }
        };
    }
    step!(0, 4, 12, |x| _mm256_shuffle_epi8(x, turn_16));
    step!(8, 12, 4, |x| _mm256_or_si256(_mm256_slli_epi32::<12>(x), _mm256_srli_epi32::<20>(x)));
    step!(0, 4, 12, |x| _mm256_shuffle_epi8(x, turn_8));
    step!(8, 12, 4, |x| _mm256_or_si256(_mm256_slli_epi32::<7>(x), _mm256_srli_epi32::<25>(x)));
}

/// Adds the key stream to the texts of the jobs that are `wanted`.
#[target_feature(enable = "avx2")]
pub(super) fn cover(keys: &Keys, jobs: &mut [Job<'_>], wanted: &[bool]) {
    let mut places = Places::<LANES>::new();
    let zero = _mm256_setzero_si256();
    let mut stream = [[zero; 8]; 2];
    while let Some(pass) = places.next(jobs, wanted) {
        let words = keys.blocks(&pass);
        stream = [
            columns(words.first_chunk().expect("a block has sixteen words")),
            columns(words.last_chunk().expect("a block has sixteen words")),
        ];
        for (lane, (first, second)) in stream[0].iter().zip(&stream[1]).take(pass.count).enumerate() {
            add(pass.text(lane, jobs), *first, *second);
        }
    }
    wipe(&mut stream, [zero; 8]);
}

/// Eight rows of eight words, turned into columns.
#[target_feature(enable = "avx2")]
#[inline]
fn columns(rows: &[__m256i; 8]) -> [__m256i; 8] {
    let mut quads = [_mm256_setzero_si256(); 8];
    for (quads, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        quads[0] = _mm256_unpacklo_epi64(ab, cd);
        quads[1] = _mm256_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        quads[2] = _mm256_unpacklo_epi64(ab, cd);
        quads[3] = _mm256_unpackhi_epi64(ab, cd);
    }
    let mut columns = [_mm256_setzero_si256(); 8];
    for word in 0..4 {
        columns[word] = _mm256_permute2x128_si256::<0x20>(quads[word], quads[4 + word]);
        columns[4 + word] = _mm256_permute2x128_si256::<0x31>(quads[word], quads[4 + word]);
    }
    columns
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)]
pub(super) fn load(words: &[u32; 8]) -> __m256i {
    // SAFETY: the array is 32 bytes long, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Adds the key stream to at most 64 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn add(text: &mut [u8], first: __m256i, second: __m256i) {
    if let Some(block) = text.first_chunk_mut::<BLOCK_BYTES>() {
        return add_block(block, first, second);
    }
    let mut block = [0; BLOCK_BYTES];
    block[..text.len()].copy_from_slice(text);
    add_block(&mut block, first, second);
    text.copy_from_slice(&block[..text.len()]);
    wipe(&mut block, 0);
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)]
fn add_block(block: &mut [u8; BLOCK_BYTES], first: __m256i, second: __m256i) {
    let at: *mut __m256i = block.as_mut_ptr().cast();
    // SAFETY: the block is two registers long; no access asks for alignment.
    unsafe {
        _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), first));
        _mm256_storeu_si256(at.add(1), _mm256_xor_si256(_mm256_loadu_si256(at.add(1)), second));
    }
}
