//! The checksum of the Internet (RFC 1071), fast: sums and copies with sums, as wide as the processor goes.
//!
//! It knows no header. Words are summed in the order of the machine, which RFC 1071 allows: only the sum's bytes
//! are stored in the order in which they were read.

/// From so many bytes on, wide registers are worth the choice among them: measured, and both are close up to 256.
#[cfg(target_arch = "x86_64")]
const WIDE_BYTES: usize = 128;

/// A sum of 16-bit words, not folded. 2^16 packets of 64 KiB fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    /// Of bytes that start at an even place of what is summed. An odd last byte is a word with a zero.
    pub(super) fn of(bytes: &[u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= WIDE_BYTES
            && let Some(sum) = x86::sum(bytes)
        {
            return Self(sum);
        }
        Self(portable(bytes))
    }

    /// As [`Self::of`], and copies the bytes on the way. Both slices have one length.
    pub(super) fn copying(from: &[u8], to: &mut [u8]) -> Self {
        assert_eq!(from.len(), to.len(), "a copy has the length of what it copies");
        #[cfg(target_arch = "x86_64")]
        if from.len() >= WIDE_BYTES
            && let Some(sum) = x86::copy(from, to)
        {
            return Self(sum);
        }
        to.copy_from_slice(from);
        Self(portable(from))
    }

    /// Of a header of a few words: nothing is asked of the processor.
    pub(super) fn of_header(bytes: &[u8]) -> Self {
        Self(portable(bytes))
    }

    /// With one more word.
    pub(super) fn with(self, word: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(word.to_be_bytes())))
    }

    /// With two more words.
    pub(super) fn with_double(self, words: u32) -> Self {
        Self(self.0 + u64::from(u32::from_ne_bytes(words.to_be_bytes())))
    }

    /// Without a word that is in the sum.
    pub(super) fn without(self, word: u16) -> Self {
        self.with(!word)
    }

    /// Of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum as a field of a header has it.
    pub(super) fn folded(self) -> [u8; 2] {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::try_from(sum).expect("three carries fold 34 bits into 16").to_ne_bytes()
    }

    /// The checksum: the complement of the sum.
    pub(super) fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// The checksum of a transport: zero would say that there is none (RFC 768), and all ones are as good.
    pub(super) fn transport_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether this is the sum of what carries its own checksum.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

/// Eight bytes a step, carries counted.
fn portable(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut sum = 0_u64;
    for block in blocks {
        let mut carry = false;
        for word in block.as_chunks::<8>().0 {
            let (once, first) = sum.overflowing_add(u64::from_ne_bytes(*word));
            let (twice, second) = once.overflowing_add(u64::from(carry));
            (sum, carry) = (twice, first | second);
        }
        // With the carry the sum is not all ones: nothing overflows.
        sum += u64::from(carry);
    }
    halves(sum) + short(rest)
}

/// Less than 64 bytes.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum: u64 = words.iter().map(|word| halves(u64::from_ne_bytes(*word))).sum();
    let (words, rest) = match rest.split_first_chunk::<4>() {
        Some((word, rest)) => (u64::from(u32::from_ne_bytes(*word)), rest),
        None => (0, rest),
    };
    sum += words;
    match *rest {
        [] => sum,
        [one] => sum + u64::from(u16::from_ne_bytes([one, 0])),
        [one, two] => sum + u64::from(u16::from_ne_bytes([one, two])),
        [one, two, three, ..] => sum + u64::from(u32::from_ne_bytes([one, two, three, 0])),
    }
}

/// The 32-bit words of eight bytes, summed where nothing overflows.
#[inline]
fn halves(bytes: u64) -> u64 {
    (bytes & 0xffff_ffff) + (bytes >> 32)
}

/// 32 or 64 bytes a step. The standard library asks the processor once and remembers.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_loadu_si256,
        _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_srli_epi64, _mm256_storeu_si256, _mm512_add_epi64,
        _mm512_and_si512, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
        _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
        _mm512_storeu_si512,
    };

    const LOW_HALVES: i64 = 0xffff_ffff;

    /// The sum, if the processor has a way.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn sum(bytes: &[u8]) -> Option<u64> {
        if has_avx512() {
            // SAFETY: the processor has what the function asks for.
            Some(unsafe { sum_avx512(bytes) })
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function asks for.
            Some(unsafe { sum_avx2(bytes) })
        } else {
            None
        }
    }

    /// Copies and sums, if the processor has a way. The slices have one length.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn copy(from: &[u8], to: &mut [u8]) -> Option<u64> {
        if has_avx512() {
            // SAFETY: the processor has what the function asks for.
            Some(unsafe { copy_avx512(from, to) })
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function asks for.
            Some(unsafe { copy_avx2(from, to) })
        } else {
            None
        }
    }

    fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[allow(unsafe_code)]
    pub(super) fn sum_avx512(bytes: &[u8]) -> u64 {
        let mask = _mm512_set1_epi64(LOW_HALVES);
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        let (blocks, rest) = bytes.as_chunks::<64>();
        for block in blocks {
            // SAFETY: reads the 64 bytes of the block.
            let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            low = _mm512_add_epi64(low, _mm512_and_si512(words, mask));
            high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(words));
        }
        if !rest.is_empty() {
            // SAFETY: reads the bytes of the mask, which are those of the rest: 1 to 63.
            let words =
                unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (64 - rest.len()), rest.as_ptr().cast()) };
            low = _mm512_add_epi64(low, _mm512_and_si512(words, mask));
            high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(words));
        }
        _mm512_reduce_add_epi64(_mm512_add_epi64(low, high)).cast_unsigned()
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[allow(unsafe_code)]
    pub(super) fn copy_avx512(from: &[u8], to: &mut [u8]) -> u64 {
        let mask = _mm512_set1_epi64(LOW_HALVES);
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        let (blocks, rest) = from.as_chunks::<64>();
        let (copies, rest_copy) = to.as_chunks_mut::<64>();
        for (block, copy) in blocks.iter().zip(copies) {
            // SAFETY: reads the 64 bytes of the block.
            let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            // SAFETY: writes the 64 bytes of the copy.
            unsafe { _mm512_storeu_si512(copy.as_mut_ptr().cast(), words) };
            low = _mm512_add_epi64(low, _mm512_and_si512(words, mask));
            high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(words));
        }
        let length = rest.len().min(rest_copy.len());
        if length > 0 {
            let bytes = u64::MAX >> (64 - length);
            // SAFETY: reads the bytes of the mask, which are those of the rest: 1 to 63.
            let words = unsafe { _mm512_maskz_loadu_epi8(bytes, rest.as_ptr().cast()) };
            // SAFETY: writes as many, and the copy's rest is no shorter.
            unsafe { _mm512_mask_storeu_epi8(rest_copy.as_mut_ptr().cast(), bytes, words) };
            low = _mm512_add_epi64(low, _mm512_and_si512(words, mask));
            high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(words));
        }
        _mm512_reduce_add_epi64(_mm512_add_epi64(low, high)).cast_unsigned()
    }

    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    pub(super) fn sum_avx2(bytes: &[u8]) -> u64 {
        let mask = _mm256_set1_epi64x(LOW_HALVES);
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            // SAFETY: reads the 32 bytes of the block.
            let words = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
            low = _mm256_add_epi64(low, _mm256_and_si256(words, mask));
            high = _mm256_add_epi64(high, _mm256_srli_epi64::<32>(words));
        }
        across(_mm256_add_epi64(low, high)) + super::short(rest)
    }

    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    pub(super) fn copy_avx2(from: &[u8], to: &mut [u8]) -> u64 {
        let mask = _mm256_set1_epi64x(LOW_HALVES);
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        let (blocks, rest) = from.as_chunks::<32>();
        let (copies, rest_copy) = to.as_chunks_mut::<32>();
        for (block, copy) in blocks.iter().zip(copies) {
            // SAFETY: reads the 32 bytes of the block.
            let words = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
            // SAFETY: writes the 32 bytes of the copy.
            unsafe { _mm256_storeu_si256(copy.as_mut_ptr().cast(), words) };
            low = _mm256_add_epi64(low, _mm256_and_si256(words, mask));
            high = _mm256_add_epi64(high, _mm256_srli_epi64::<32>(words));
        }
        rest_copy.copy_from_slice(rest);
        across(_mm256_add_epi64(low, high)) + super::short(rest)
    }

    #[target_feature(enable = "avx2")]
    fn across(lanes: __m256i) -> u64 {
        let sum = _mm256_extract_epi64::<0>(lanes)
            + _mm256_extract_epi64::<1>(lanes)
            + _mm256_extract_epi64::<2>(lanes)
            + _mm256_extract_epi64::<3>(lanes);
        sum.cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::super::packets::naive_sum;
    use super::Sum;

    /// Each way that this processor has, with its sum and, where it copies, its copy.
    #[allow(unsafe_code)]
    fn ways(bytes: &[u8]) -> Vec<(&'static str, u64, Vec<u8>)> {
        let mut ways = vec![("portable", super::portable(bytes), bytes.to_vec())];
        if bytes.len() < 64 {
            ways.push(("short", super::short(bytes), bytes.to_vec()));
        }
        #[cfg(target_arch = "x86_64")]
        {
            let mut copy = vec![0; bytes.len()];
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was asked.
                ways.push(("sum, avx2", unsafe { super::x86::sum_avx2(bytes) }, bytes.to_vec()));
                // SAFETY: the processor was asked.
                ways.push(("copy, avx2", unsafe { super::x86::copy_avx2(bytes, &mut copy) }, copy.clone()));
                copy.fill(0);
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
            {
                // SAFETY: the processor was asked.
                ways.push(("sum, avx512", unsafe { super::x86::sum_avx512(bytes) }, bytes.to_vec()));
                // SAFETY: the processor was asked.
                ways.push(("copy, avx512", unsafe { super::x86::copy_avx512(bytes, &mut copy) }, copy));
            }
        }
        ways
    }

    fn check(bytes: &[u8]) {
        for (way, sum, copy) in ways(bytes) {
            let length = bytes.len();
            assert_eq!(u16::from_be_bytes(Sum(sum).folded()), naive_sum(bytes), "{way}, {length} bytes");
            assert_eq!(copy, bytes, "{way}, {length} bytes");
        }
    }

    #[test]
    fn every_way_agrees_at_every_length() {
        let bytes: Vec<u8> = (0..4096_u32).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
        for length in 0..=1600 {
            check(&bytes[length % 7..][..length]);
        }
    }

    #[test]
    fn carries_are_not_lost() {
        for length in [1, 2, 8, 63, 64, 65, 1400, 65_535] {
            check(&vec![0xff; length]);
        }
    }

    #[test]
    fn a_transport_never_sends_zero() {
        let all_ones = Sum::of(&[0xff, 0xff]);
        assert_eq!(all_ones.checksum(), [0, 0]);
        assert_eq!(all_ones.transport_checksum(), [0xff, 0xff]);
        assert_eq!(Sum::of(&[0x12, 0x34]).transport_checksum(), [0xed, 0xcb]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn every_way_agrees_on_random_bytes(bytes: Vec<u8>) {
            check(&bytes);
        }

        #[test]
        fn parts_sum_to_the_whole(start in any::<[u8; 32]>(), word: u16, words: u32, rest: Vec<u8>) {
            let whole = [&start[..], &word.to_be_bytes(), &words.to_be_bytes(), &rest].concat();
            let mut copy = vec![0; rest.len()];
            let sum = Sum::of_header(&start).and(Sum::copying(&rest, &mut copy)).with(word).with_double(words);
            assert_eq!(u16::from_be_bytes(sum.folded()), naive_sum(&whole));
            assert_eq!(copy, rest);
            assert_eq!(u16::from_be_bytes(sum.with(word).without(word).checksum()), !naive_sum(&whole));
        }
    }
}
