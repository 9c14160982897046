//! ChaCha20, sixteen blocks at once: register `w` holds word `w` of each block.

#[allow(clippy::wildcard_imports, reason = "the names of instructions say where they come from")]
use std::arch::x86_64::*;

use crate::batch::BATCH_MAX;
use crate::job::Job;
use crate::places::{BLOCK_BYTES, Pass, Places};
use crate::wipe::wipe;

/// "expand 32-byte k".
const CONSTANTS: [i32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The keys and nonces of a batch: register `w` holds word `w` of each packet's.
pub(super) struct Keys {
    key: [__m512i; 8],
    nonce: [__m512i; 2],
}

impl Keys {
    /// Those of at most sixteen jobs; places without a job get a key of zeros.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn of(jobs: &[Job<'_>]) -> Self {
        let key = |place| load_key(jobs.get(place).map_or(&[0; 8], |job: &Job<'_>| job.key.words()));
        // Rows of packets 0 to 7 in the lower half, of packets 8 to 15 in the upper.
        let mut rows: [__m512i; 8] = std::array::from_fn(|row| {
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(key(row)), key(row + 8))
        });
        let mut nonce = [[0; BATCH_MAX]; 2];
        for (place, job) in jobs.iter().enumerate() {
            nonce[0][place] = job.counter as u32;
            nonce[1][place] = (job.counter >> 32) as u32;
        }
        let keys = Self { key: columns(&rows), nonce: [load(&nonce[0]), load(&nonce[1])] };
        wipe(&mut rows, _mm512_setzero_si512());
        keys
    }

    /// The first eight words of every packet's block 0: its key for Poly1305.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn once(&self) -> [__m512i; 8] {
        let packets = std::array::from_fn(|lane| lane as u32);
        let block = self.blocks(&Pass { packets, blocks: [0; BATCH_MAX], count: BATCH_MAX });
        *block.first_chunk().expect("a block has sixteen words")
    }

    /// The key stream of one pass, words across lanes.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn blocks(&self, pass: &Pass<BATCH_MAX>) -> [__m512i; 16] {
        let packets = load(&pass.packets);
        let mut start = [_mm512_setzero_si512(); 16];
        for (word, constant) in start[..4].iter_mut().zip(CONSTANTS) {
            *word = _mm512_set1_epi32(constant);
        }
        for (word, key) in start[4..12].iter_mut().zip(&self.key) {
            *word = _mm512_permutexvar_epi32(packets, *key);
        }
        start[12] = load(&pass.blocks);
        start[14] = _mm512_permutexvar_epi32(packets, self.nonce[0]);
        start[15] = _mm512_permutexvar_epi32(packets, self.nonce[1]);
        let mut words = start;
        for _ in 0..10 {
            quarters::<0>(&mut words);
            quarters::<1>(&mut words);
        }
        for (word, start) in words.iter_mut().zip(start) {
            *word = _mm512_add_epi32(*word, start);
        }
        words
    }

    /// To be called when the batch is done.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn wipe(&mut self) {
        wipe(&mut self.key, _mm512_setzero_si512());
    }
}

/// Four quarter rounds side by side: on the columns (`SHIFT` 0) or on the diagonals (`SHIFT` 1).
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn quarters<const SHIFT: usize>(v: &mut [__m512i; 16]) {
    macro_rules! step {
        ($a:literal, $b:literal, $d:literal, $turn:literal) => {
            for i in 0..4 {
                let a = $a + (i + $a / 4 * SHIFT) % 4;
                let b = $b + (i + $b / 4 * SHIFT) % 4;
                let d = $d + (i + $d / 4 * SHIFT) % 4;
                v[a] = _mm512_add_epi32(v[a], v[b]);
                v[d] = _mm512_rol_epi32::<$turn>(_mm512_xor_si512(v[d], v[a]));
            }
        };
    }
    step!(0, 4, 12, 16);
    step!(8, 12, 4, 12);
    step!(0, 4, 12, 8);
    step!(8, 12, 4, 7);
}

/// Adds the key stream to the texts of the jobs that are `wanted`.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn cover(keys: &Keys, jobs: &mut [Job<'_>], wanted: &[bool]) {
    let mut places = Places::<BATCH_MAX>::new();
    let mut stream = [_mm512_setzero_si512(); BATCH_MAX];
    while let Some(pass) = places.next(jobs, wanted) {
        stream = blocks_of(&keys.blocks(&pass));
        for (lane, stream) in stream[..pass.count].iter().enumerate() {
            add(pass.text(lane, jobs), *stream);
        }
    }
    wipe(&mut stream, _mm512_setzero_si512());
}

/// Words across lanes, turned into a register for each block.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn blocks_of(words: &[__m512i; 16]) -> [__m512i; 16] {
    let mut quads = [_mm512_setzero_si512(); 16];
    for (quads, words) in quads.as_chunks_mut::<4>().0.iter_mut().zip(words.as_chunks::<4>().0) {
        let [a, b, c, d] = *words;
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        quads[0] = _mm512_unpacklo_epi64(ab, cd);
        quads[1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        quads[2] = _mm512_unpacklo_epi64(ab, cd);
        quads[3] = _mm512_unpackhi_epi64(ab, cd);
    }
    let mut blocks = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let turned = quarters_turned(quads[i], quads[4 + i], quads[8 + i], quads[12 + i]);
        for (j, turned) in turned.into_iter().enumerate() {
            blocks[4 * j + i] = turned;
        }
    }
    blocks
}

/// The four 128-bit quarters of four registers, as the columns of a square become its rows.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
pub(super) fn quarters_turned(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let (even_ab, even_cd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
    let (odd_ab, odd_cd) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd),
        _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd),
        _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd),
        _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd),
    ]
}

/// Eight rows of twice eight words, turned into eight columns of sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn columns(rows: &[__m512i; 8]) -> [__m512i; 8] {
    let mut quads = [_mm512_setzero_si512(); 8];
    for (quads, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        quads[0] = _mm512_unpacklo_epi64(ab, cd);
        quads[1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        quads[2] = _mm512_unpacklo_epi64(ab, cd);
        quads[3] = _mm512_unpackhi_epi64(ab, cd);
    }
    let lower = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    let upper = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    std::array::from_fn(|word| {
        let (a, b) = (quads[word % 4], quads[4 + word % 4]);
        _mm512_permutex2var_epi64(a, if word < 4 { lower } else { upper }, b)
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
pub(super) fn load(words: &[u32; 16]) -> __m512i {
    // SAFETY: the array is 64 bytes long, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
fn load_key(words: &[u32; 8]) -> __m256i {
    // SAFETY: the array is 32 bytes long, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Adds the key stream to at most 64 bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
fn add(text: &mut [u8], stream: __m512i) {
    let at = text.as_mut_ptr();
    if text.len() >= BLOCK_BYTES {
        // SAFETY: the slice has 64 bytes; neither access asks for alignment.
        unsafe { _mm512_storeu_si512(at.cast(), _mm512_xor_si512(_mm512_loadu_si512(at.cast()), stream)) };
    } else {
        let mask = (1u64 << text.len()) - 1;
        // SAFETY: the mask has a bit for each byte of the slice; bytes without one are neither read nor written.
        unsafe {
            let covered = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, at.cast()), stream);
            _mm512_mask_storeu_epi8(at.cast(), mask, covered);
        }
    }
}
