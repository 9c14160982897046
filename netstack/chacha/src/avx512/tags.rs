//! Poly1305, a packet in each 64-bit lane, on 52-bit multiplication (IFMA).
//!
//! A number is kept in limbs of 44, 44 and 42 bits.

#[allow(clippy::wildcard_imports, reason = "the names of instructions say where they come from")]
use std::arch::x86_64::*;

use super::blocks::quarters_turned;
use crate::batch::BATCH_MAX;
use crate::job::Job;
use crate::wipe::wipe;

/// Packets in one set of registers.
const LANES: usize = 8;
/// A step takes 64 bytes of each packet: four blocks of Poly1305.
const STEP_BYTES: usize = 64;
const STEP_BLOCKS: usize = 4;
const LIMB: i64 = (1 << 44) - 1;
const TOP_LIMB: i64 = (1 << 42) - 1;
/// The bit above a block, in the top limb.
const MARK: i64 = 1 << 40;

/// The tags of at most sixteen jobs. `once` is each packet's key, words across lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn of(jobs: &[Job<'_>], once: &[__m512i; 8]) -> [u128; BATCH_MAX] {
    let mut tags = [0; BATCH_MAX];
    let halves = [
        once.map(|word| _mm512_castsi512_si256(word)),
        once.map(|word| _mm512_extracti64x4_epi64::<1>(word)),
    ];
    for ((jobs, once), tags) in jobs.chunks(LANES).zip(&halves).zip(tags.as_chunks_mut::<LANES>().0) {
        let mut once: [__m512i; 4] = std::array::from_fn(|pair| {
            let low = _mm512_cvtepu32_epi64(once[2 * pair]);
            let high = _mm512_cvtepu32_epi64(once[2 * pair + 1]);
            _mm512_or_si512(low, _mm512_slli_epi64::<32>(high))
        });
        *tags = of_eight(&Texts::of(jobs), &once);
        wipe(&mut once, _mm512_setzero_si512());
    }
    tags
}

type Texts<'a> = crate::texts::Texts<'a, LANES, STEP_BLOCKS>;

/// The lower and the upper 64 bits of each block of a step.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn words(texts: &Texts<'_>, step: usize) -> [__m512i; 8] {
    let full = texts.all_began(step);
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (lane, (row, text)) in rows.iter_mut().zip(texts.texts).enumerate() {
        let start = texts.start(lane, step);
        *row = match text.get(start as usize..).and_then(<[u8]>::first_chunk) {
            Some(bytes) if full => load(bytes),
            _ => load_part(text, start),
        };
    }
    columns(&rows)
}

/// The bit above each block of a step, in the top limb; not for blocks before the text.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn marks(texts: &Texts<'_>, step: usize) -> [__m512i; STEP_BLOCKS] {
    let mark = _mm512_set1_epi64(MARK);
    if texts.all_began(step) {
        return [mark; STEP_BLOCKS];
    }
    let leads = load_words(&texts.leads.map(|lead| lead as u64));
    std::array::from_fn(|block| {
        let number = _mm512_set1_epi64((step * STEP_BLOCKS + block) as i64);
        _mm512_maskz_mov_epi64(_mm512_cmple_epi64_mask(leads, number), mark)
    })
}

/// The sum after a step, of which blocks from `first` on count.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn step(
    texts: &Texts<'_>,
    step: usize,
    first: usize,
    sum: [__m512i; 3],
    powers: &[Power; STEP_BLOCKS],
) -> [__m512i; 3] {
    let words = words(texts, step);
    let marks = marks(texts, step);
    let mut products = Products::none();
    for block in (first..STEP_BLOCKS).rev() {
        let mut limbs = limbs(words[2 * block], words[2 * block + 1]);
        limbs[2] = _mm512_or_si512(limbs[2], marks[block]);
        if block == 0 {
            limbs = std::array::from_fn(|limb| _mm512_add_epi64(limbs[limb], sum[limb]));
        }
        products.add(&limbs, &powers[STEP_BLOCKS - 1 - block]);
    }
    products.carried()
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn of_eight(texts: &Texts<'_>, once: &[__m512i; 4]) -> [u128; LANES] {
    let mut powers = Power::four(once[0], once[1]);
    let mut sum = [_mm512_setzero_si512(); 3];
    if texts.steps > 0 {
        // What is before every text is left out.
        sum = step(texts, 0, texts.lead_min, sum, &powers);
    }
    for number in 1..texts.steps {
        sum = step(texts, number, 0, sum, &powers);
    }
    let mut last = limbs(_mm512_setzero_si512(), load_words(&texts.lengths()));
    last[2] = _mm512_or_si512(last[2], _mm512_set1_epi64(MARK));
    let mut products = Products::none();
    products.add(&std::array::from_fn(|limb| _mm512_add_epi64(last[limb], sum[limb])), &powers[0]);
    let zero = _mm512_setzero_si512();
    wipe(&mut powers, Power { limbs: [zero; 3], wrapped: [zero; 2] });
    tags(products.carried(), once[2], once[3])
}

/// The sums, reduced, plus the second half of each key.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn tags(sum: [__m512i; 3], key_low: __m512i, key_high: __m512i) -> [u128; LANES] {
    let sum = carried_once(carried_once(sum));
    // The sum is at least 2^130 - 5 if five more give a bit above its limbs.
    let mut more = sum;
    more[0] = _mm512_add_epi64(sum[0], _mm512_set1_epi64(5));
    more[1] = _mm512_add_epi64(sum[1], _mm512_srli_epi64::<44>(more[0]));
    more[2] = _mm512_add_epi64(sum[2], _mm512_srli_epi64::<44>(more[1]));
    let above = _mm512_cmpgt_epi64_mask(more[2], _mm512_set1_epi64(TOP_LIMB));
    let masks = [LIMB, LIMB, TOP_LIMB];
    let sum: [__m512i; 3] = std::array::from_fn(|limb| {
        let more = _mm512_and_si512(more[limb], _mm512_set1_epi64(masks[limb]));
        _mm512_mask_mov_epi64(sum[limb], above, more)
    });
    let low = _mm512_or_si512(sum[0], _mm512_slli_epi64::<44>(sum[1]));
    let high = _mm512_or_si512(_mm512_srli_epi64::<20>(sum[1]), _mm512_slli_epi64::<24>(sum[2]));
    let low = _mm512_add_epi64(low, key_low);
    let high = _mm512_add_epi64(high, key_high);
    let carry = _mm512_cmplt_epu64_mask(low, key_low);
    let high = _mm512_mask_add_epi64(high, carry, high, _mm512_set1_epi64(1));
    let (low, high) = (store(low), store(high));
    std::array::from_fn(|lane| u128::from(low[lane]) | u128::from(high[lane]) << 64)
}

/// Every limb's surplus goes to the next one; the top one's comes round, times five, as 2^130 is 5.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn carried_once(mut sum: [__m512i; 3]) -> [__m512i; 3] {
    sum[1] = _mm512_add_epi64(sum[1], _mm512_srli_epi64::<44>(sum[0]));
    sum[0] = _mm512_and_si512(sum[0], _mm512_set1_epi64(LIMB));
    sum[2] = _mm512_add_epi64(sum[2], _mm512_srli_epi64::<44>(sum[1]));
    sum[1] = _mm512_and_si512(sum[1], _mm512_set1_epi64(LIMB));
    let above = _mm512_srli_epi64::<42>(sum[2]);
    sum[2] = _mm512_and_si512(sum[2], _mm512_set1_epi64(TOP_LIMB));
    sum[0] = _mm512_add_epi64(sum[0], times_five(above));
    sum
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn times_five(number: __m512i) -> __m512i {
    _mm512_add_epi64(number, _mm512_slli_epi64::<2>(number))
}

/// 128 bits as limbs.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn limbs(low: __m512i, high: __m512i) -> [__m512i; 3] {
    let limb = _mm512_set1_epi64(LIMB);
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [_mm512_and_si512(low, limb), _mm512_and_si512(middle, limb), _mm512_srli_epi64::<24>(high)]
}

/// A power of the first half of each key, ready to be multiplied by.
#[derive(Clone, Copy)]
struct Power {
    limbs: [__m512i; 3],
    /// The middle and the top limb times 20: what they count for 2^132 higher.
    wrapped: [__m512i; 2],
}

impl Power {
    /// The first to the fourth.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn four(low: __m512i, high: __m512i) -> [Self; STEP_BLOCKS] {
        let low = _mm512_and_si512(low, _mm512_set1_epi64(0x0fff_fffc_0fff_ffff));
        let high = _mm512_and_si512(high, _mm512_set1_epi64(0x0fff_fffc_0fff_fffc));
        let first = Self::of(limbs(low, high));
        let second = first.times(&first);
        [first, second, second.times(&first), second.times(&second)]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn times(&self, other: &Self) -> Self {
        let mut products = Products::none();
        products.add(&self.limbs, other);
        Self::of(products.carried())
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn of(limbs: [__m512i; 3]) -> Self {
        let wrapped = [limbs[1], limbs[2]].map(|limb| _mm512_slli_epi64::<2>(times_five(limb)));
        Self { limbs, wrapped }
    }
}

/// Sums of products by their place, the lower 52 bits of each apart from the upper.
struct Products {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

impl Products {
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn none() -> Self {
        Self { low: [_mm512_setzero_si512(); 3], high: [_mm512_setzero_si512(); 3] }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn add(&mut self, number: &[__m512i; 3], power: &Power) {
        let ([r0, r1, r2], [s1, s2]) = (power.limbs, power.wrapped);
        for (factor, row) in number.iter().zip([[r0, r1, r2], [s2, r0, r1], [s1, s2, r0]]) {
            for (place, other) in row.into_iter().enumerate() {
                self.low[place] = _mm512_madd52lo_epu64(self.low[place], *factor, other);
                self.high[place] = _mm512_madd52hi_epu64(self.high[place], *factor, other);
            }
        }
    }

    /// As limbs: the lowest and the top one exact, the middle one with a few bits more.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    #[inline]
    fn carried(&self) -> [__m512i; 3] {
        let limb = _mm512_set1_epi64(LIMB);
        let carry = |low, high| _mm512_add_epi64(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<8>(high));
        let middle = _mm512_add_epi64(self.low[1], carry(self.low[0], self.high[0]));
        let top = _mm512_add_epi64(self.low[2], carry(middle, self.high[1]));
        let above = _mm512_add_epi64(_mm512_srli_epi64::<42>(top), _mm512_slli_epi64::<10>(self.high[2]));
        let lowest = _mm512_add_epi64(_mm512_and_si512(self.low[0], limb), times_five(above));
        let middle = _mm512_add_epi64(_mm512_and_si512(middle, limb), _mm512_srli_epi64::<44>(lowest));
        [_mm512_and_si512(lowest, limb), middle, _mm512_and_si512(top, _mm512_set1_epi64(TOP_LIMB))]
    }
}

/// Eight rows of eight 64-bit words, turned into columns.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn columns(rows: &[__m512i; LANES]) -> [__m512i; 8] {
    let [a, b, c, d, e, f, g, h] = *rows;
    let even = quarters_turned(
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    );
    let odd = quarters_turned(
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    );
    std::array::from_fn(|word| if word % 2 == 0 { even[word / 2] } else { odd[word / 2] })
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
fn load_words(words: &[u64; LANES]) -> __m512i {
    // SAFETY: the array is 64 bytes long, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[allow(unsafe_code)]
fn store(register: __m512i) -> [u64; LANES] {
    let mut numbers = [0; LANES];
    // SAFETY: the array is 64 bytes long, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), register) };
    numbers
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
fn load(bytes: &[u8; STEP_BYTES]) -> __m512i {
    // SAFETY: the array is 64 bytes long, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 64 bytes from `start`, which may lie before the text; what is outside of it is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
#[allow(unsafe_code)]
fn load_part(text: &[u8], start: isize) -> __m512i {
    let ones = |count: isize| u64::MAX.checked_shr(64 - count.clamp(0, 64) as u32).unwrap_or(0);
    let mask = ones(text.len() as isize - start) & !ones(-start);
    // SAFETY: the mask has a bit for no byte outside of the slice; bytes without one are not read.
    unsafe { _mm512_maskz_loadu_epi8(mask, text.as_ptr().wrapping_offset(start).cast()) }
}
