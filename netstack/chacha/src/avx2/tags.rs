//! Poly1305, a packet in each 64-bit lane, on 32-bit multiplication.
//!
//! A number is kept in five limbs of 26 bits.

#[allow(clippy::wildcard_imports, reason = "the names of instructions say where they come from")]
use std::arch::x86_64::*;

use crate::job::Job;
use crate::wipe::wipe;

/// Packets in one set of registers: half of those whose blocks are made at once.
const LANES: usize = 4;
/// A step takes 32 bytes of each packet: two blocks of Poly1305.
const STEP_BYTES: usize = 32;
const STEP_BLOCKS: usize = 2;
const LIMB: i64 = (1 << 26) - 1;
/// The bit above a block, in the top limb.
const MARK: i64 = 1 << 24;

type Texts<'a> = crate::texts::Texts<'a, LANES, STEP_BLOCKS>;
type Number = [__m256i; 5];

/// The tags of at most eight jobs. `once` is each packet's key, words across lanes.
#[target_feature(enable = "avx2")]
pub(super) fn of(jobs: &[Job<'_>], once: &[__m256i; 8]) -> [u128; super::LANES] {
    let mut tags = [0; super::LANES];
    let halves =
        [once.map(|word| _mm256_castsi256_si128(word)), once.map(|word| _mm256_extracti128_si256::<1>(word))];
    for ((jobs, once), tags) in jobs.chunks(LANES).zip(&halves).zip(tags.as_chunks_mut::<LANES>().0) {
        let mut once: [__m256i; 4] = std::array::from_fn(|pair| {
            let low = _mm256_cvtepu32_epi64(once[2 * pair]);
            let high = _mm256_cvtepu32_epi64(once[2 * pair + 1]);
            _mm256_or_si256(low, _mm256_slli_epi64::<32>(high))
        });
        *tags = of_four(&Texts::of(jobs), &once);
        wipe(&mut once, _mm256_setzero_si256());
    }
    tags
}

#[target_feature(enable = "avx2")]
fn of_four(texts: &Texts<'_>, once: &[__m256i; 4]) -> [u128; LANES] {
    let mut powers = Power::two(once[0], once[1]);
    let mut sum = [_mm256_setzero_si256(); 5];
    if texts.steps > 0 {
        // What is before every text is left out.
        sum = step(texts, 0, texts.lead_min, sum, &powers);
    }
    for number in 1..texts.steps {
        sum = step(texts, number, 0, sum, &powers);
    }
    let mut last = limbs(_mm256_setzero_si256(), load_words(&texts.lengths()));
    last[4] = _mm256_or_si256(last[4], _mm256_set1_epi64x(MARK));
    let last = std::array::from_fn(|limb| _mm256_add_epi64(last[limb], sum[limb]));
    let mut products = [_mm256_setzero_si256(); 5];
    add_product(&mut products, &last, &powers[0]);
    let zero = _mm256_setzero_si256();
    wipe(&mut powers, Power { limbs: [zero; 5], wrapped: [zero; 4] });
    tags(carried(products), once[2], once[3])
}

/// The sum after a step, of which blocks from `first` on count.
#[target_feature(enable = "avx2")]
#[inline]
fn step(texts: &Texts<'_>, step: usize, first: usize, sum: Number, powers: &[Power; 2]) -> Number {
    let words = words(texts, step);
    let marks = marks(texts, step);
    let mut products = [_mm256_setzero_si256(); 5];
    for block in (first..STEP_BLOCKS).rev() {
        let mut limbs = limbs(words[2 * block], words[2 * block + 1]);
        limbs[4] = _mm256_or_si256(limbs[4], marks[block]);
        if block == 0 {
            limbs = std::array::from_fn(|limb| _mm256_add_epi64(limbs[limb], sum[limb]));
        }
        add_product(&mut products, &limbs, &powers[STEP_BLOCKS - 1 - block]);
    }
    carried(products)
}

/// The lower and the upper 64 bits of each block of a step.
#[target_feature(enable = "avx2")]
#[inline]
fn words(texts: &Texts<'_>, step: usize) -> [__m256i; 4] {
    let full = texts.all_began(step);
    let mut rows = [_mm256_setzero_si256(); LANES];
    for (lane, (row, text)) in rows.iter_mut().zip(texts.texts).enumerate() {
        let start = texts.start(lane, step);
        *row = match text.get(start as usize..).and_then(<[u8]>::first_chunk) {
            Some(bytes) if full => load(bytes),
            _ => load(&part(text, start)),
        };
    }
    let [a, b, c, d] = rows;
    let (even_ab, even_cd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d));
    let (odd_ab, odd_cd) = (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(even_ab, even_cd),
        _mm256_permute2x128_si256::<0x20>(odd_ab, odd_cd),
        _mm256_permute2x128_si256::<0x31>(even_ab, even_cd),
        _mm256_permute2x128_si256::<0x31>(odd_ab, odd_cd),
    ]
}

/// The bit above each block of a step, in the top limb; not for blocks before the text.
#[target_feature(enable = "avx2")]
#[inline]
fn marks(texts: &Texts<'_>, step: usize) -> [__m256i; STEP_BLOCKS] {
    let mark = _mm256_set1_epi64x(MARK);
    if texts.all_began(step) {
        return [mark; STEP_BLOCKS];
    }
    let leads = load_words(&texts.leads.map(|lead| lead as u64));
    std::array::from_fn(|block| {
        let number = _mm256_set1_epi64x((step * STEP_BLOCKS + block) as i64);
        _mm256_andnot_si256(_mm256_cmpgt_epi64(leads, number), mark)
    })
}

/// The sums, reduced, plus the second half of each key.
#[target_feature(enable = "avx2")]
fn tags(sum: Number, key_low: __m256i, key_high: __m256i) -> [u128; LANES] {
    let limb = _mm256_set1_epi64x(LIMB);
    let sum = carried(carried(sum));
    // The sum is at least 2^130 - 5 if five more give a bit above its limbs.
    let mut more = sum;
    more[0] = _mm256_add_epi64(sum[0], _mm256_set1_epi64x(5));
    for place in 1..5 {
        more[place] = _mm256_add_epi64(sum[place], _mm256_srli_epi64::<26>(more[place - 1]));
    }
    let above = _mm256_cmpgt_epi64(more[4], limb);
    let sum: Number = std::array::from_fn(|place| {
        _mm256_blendv_epi8(sum[place], _mm256_and_si256(more[place], limb), above)
    });
    let [a, b, c, d, e] = sum;
    let low = _mm256_or_si256(a, _mm256_or_si256(_mm256_slli_epi64::<26>(b), _mm256_slli_epi64::<52>(c)));
    let high = _mm256_or_si256(_mm256_slli_epi64::<14>(d), _mm256_slli_epi64::<40>(e));
    let high = _mm256_or_si256(_mm256_srli_epi64::<12>(c), high);
    let mut halves = [store(low), store(high), store(key_low), store(key_high)];
    let tags = std::array::from_fn(|lane| {
        let [low, high, key_low, key_high] = halves.map(|half| u128::from(half[lane]));
        (low | high << 64).wrapping_add(key_low | key_high << 64)
    });
    wipe(&mut halves, [0; LANES]);
    tags
}

/// 128 bits as limbs.
#[target_feature(enable = "avx2")]
#[inline]
fn limbs(low: __m256i, high: __m256i) -> Number {
    let limb = _mm256_set1_epi64x(LIMB);
    let middle = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
    [
        _mm256_and_si256(low, limb),
        _mm256_and_si256(_mm256_srli_epi64::<26>(low), limb),
        _mm256_and_si256(middle, limb),
        _mm256_and_si256(_mm256_srli_epi64::<14>(high), limb),
        _mm256_srli_epi64::<40>(high),
    ]
}

/// A power of the first half of each key, ready to be multiplied by.
#[derive(Clone, Copy)]
struct Power {
    limbs: Number,
    /// All limbs but the lowest times five: what they count for 2^130 higher.
    wrapped: [__m256i; 4],
}

impl Power {
    /// The first and the second.
    #[target_feature(enable = "avx2")]
    fn two(low: __m256i, high: __m256i) -> [Self; STEP_BLOCKS] {
        let low = _mm256_and_si256(low, _mm256_set1_epi64x(0x0fff_fffc_0fff_ffff));
        let high = _mm256_and_si256(high, _mm256_set1_epi64x(0x0fff_fffc_0fff_fffc));
        let first = Self::of(limbs(low, high));
        let mut products = [_mm256_setzero_si256(); 5];
        add_product(&mut products, &first.limbs, &first);
        [first, Self::of(carried(products))]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(limbs: Number) -> Self {
        let [_, b, c, d, e] = limbs;
        Self { limbs, wrapped: [b, c, d, e].map(|limb| times_five(limb)) }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn times_five(number: __m256i) -> __m256i {
    _mm256_add_epi64(number, _mm256_slli_epi64::<2>(number))
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_product(products: &mut Number, number: &Number, power: &Power) {
    for (i, factor) in number.iter().enumerate() {
        for (place, sum) in products.iter_mut().enumerate() {
            let other = if i <= place { power.limbs[place - i] } else { power.wrapped[place + 4 - i] };
            *sum = _mm256_add_epi64(*sum, _mm256_mul_epu32(*factor, other));
        }
    }
}

/// Sums of products as limbs, some of them with a few bits more.
#[target_feature(enable = "avx2")]
#[inline]
fn carried(mut sum: Number) -> Number {
    let limb = _mm256_set1_epi64x(LIMB);
    // Two chains, so that one need not wait for the other.
    for (from, to) in [(0, 1), (3, 4), (1, 2), (4, 0), (2, 3), (0, 1), (3, 4)] {
        let carry = _mm256_srli_epi64::<26>(sum[from]);
        sum[from] = _mm256_and_si256(sum[from], limb);
        sum[to] = _mm256_add_epi64(sum[to], if to == 0 { times_five(carry) } else { carry });
    }
    sum
}

/// 32 bytes from `start`, which may lie before the text; what is outside of it is zero.
fn part(text: &[u8], start: isize) -> [u8; STEP_BYTES] {
    let mut part = [0; STEP_BYTES];
    let from = start.max(0) as usize;
    let to = text.len().min((start + STEP_BYTES as isize).max(0) as usize);
    if from < to {
        let at = (from as isize - start) as usize;
        part[at..at + to - from].copy_from_slice(&text[from..to]);
    }
    part
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)]
fn load(bytes: &[u8; STEP_BYTES]) -> __m256i {
    // SAFETY: the array is 32 bytes long, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code)]
fn load_words(words: &[u64; LANES]) -> __m256i {
    // SAFETY: the array is 32 bytes long, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn store(register: __m256i) -> [u64; LANES] {
    let mut words = [0; LANES];
    // SAFETY: the array is 32 bytes long, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), register) };
    words
}
