//! All chance of one run, from its seed. Separate purposes draw from separate streams, so that one more draw for one of
//! them leaves the others as they were.

use std::time::Duration;

use model::key::Digest;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// One stream of chance.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// The stream of a seed for one purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let digest = Digest::of("warren simulator", &[&seed.to_be_bytes(), purpose.as_bytes()]);
        Self(ChaCha20Rng::from_seed(*digest.as_bytes()))
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound`; 0 where there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { usize::try_from(self.0.next_u64() % bound as u64).unwrap_or_default() }
    }

    /// Whether something of this probability, in thousandths, happens.
    pub fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A duration between the two, in milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        let span = usize::try_from(high - low).unwrap_or_default();
        Duration::from_micros((low + self.below(span + 1) as u64) * 1000 + self.below(1000) as u64)
    }
}
