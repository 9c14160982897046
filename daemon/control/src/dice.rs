//! All randomness of the server's decisions, from one seed. Knows no other source.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A random source that the shell seeds once from the operating system.
#[derive(Clone)]
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// A source; one seed is one sequence.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A duration between half of `whole` and `whole`.
    pub fn jittered(&mut self, whole: Duration) -> Duration {
        self.between(whole / 2, whole)
    }

    /// A duration from `least` to `most`.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let micros = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.0.next_u64() % micros.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_stays_between_its_bounds() {
        let mut dice = Dice::new([7; 32]);
        let whole = Duration::from_millis(10);
        for _ in 0..1000 {
            let at = dice.jittered(whole);
            assert!(at >= whole / 2 && at <= whole, "{at:?}");
            let at = dice.between(whole, whole * 3);
            assert!(at >= whole && at <= whole * 3, "{at:?}");
        }
        assert_eq!(dice.jittered(Duration::ZERO), Duration::ZERO);
        assert_eq!(dice.between(whole, Duration::ZERO), whole);
    }
}
