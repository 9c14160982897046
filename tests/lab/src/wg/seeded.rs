//! Numbers that look random and are the same for the same seed (SplitMix64).

/// A row of numbers.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The row of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below a limit above zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// True so many times of a thousand.
    pub fn of_thousand(&mut self, times: u32) -> bool {
        self.below(1000) < u64::from(times)
    }

    /// Fills with the next numbers.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_row() {
        let row = |seed| {
            let mut seeded = Seeded::new(seed);
            let mut bytes = [0; 13];
            seeded.fill(&mut bytes);
            (bytes, seeded.below(7))
        };
        assert_eq!(row(3), row(3));
        assert_ne!(row(3), row(4));
        let mut seeded = Seeded::new(1);
        let hits = (0..100_000).filter(|_| seeded.of_thousand(50)).count();
        assert!((4_500..5_500).contains(&hits), "{hits}");
    }
}
