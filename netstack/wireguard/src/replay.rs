//! Which packets of a session have come already (section 5.4.6; RFC 6479). Does not know whether one is genuine.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// How far a packet may come behind the newest and still be taken: as many as one session has in flight at most, and the
/// size of the kernel's bitmap.
pub const WINDOW_PACKETS: u64 = 8192;
/// No packet has this number or a higher one (section 6.1): a window past the end of the counter would begin again.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - WINDOW_PACKETS;

const WORD_BITS: u64 = u64::BITS as u64;
/// One word more than the window fills: it is seldom aligned.
const WORDS: u64 = WINDOW_PACKETS / WORD_BITS + 1;

/// The newest number, and the last 8 192 as bits in a ring. About one kilobyte.
///
/// One thread at a time may call [`Self::accept`]; atomics only let the thread change. With two at once nothing breaks,
/// but one number may be taken twice.
pub struct Window {
    /// One more than the newest number taken.
    next: AtomicU64,
    taken: [AtomicU64; WORDS as usize],
}

impl Window {
    /// One that has taken nothing.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), taken: [const { AtomicU64::new(0) }; WORDS as usize] }
    }

    /// Takes the number of a packet that was opened. False if it was taken before, or is too old to tell.
    pub fn accept(&self, counter: u64) -> bool {
        let next = self.next.load(Relaxed);
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        if counter >= next {
            self.advance(next, counter);
        } else if next - counter > WINDOW_PACKETS {
            return false;
        }
        let word = self.word(counter / WORD_BITS);
        let bit = 1 << (counter % WORD_BITS);
        let before = word.load(Relaxed);
        word.store(before | bit, Relaxed);
        before & bit == 0
    }

    /// Makes `newest` the newest: words that the ring comes to anew forget.
    fn advance(&self, next: u64, newest: u64) {
        let after = next.div_ceil(WORD_BITS);
        for number in after..=(newest / WORD_BITS).min(after + WORDS - 1) {
            self.word(number).store(0, Relaxed);
        }
        self.next.store(newest + 1, Relaxed);
    }

    fn word(&self, number: u64) -> &AtomicU64 {
        &self.taken[usize::try_from(number % WORDS).expect("the ring is small")]
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same by keeping every number.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn accept(&mut self, counter: u64) -> bool {
            let old = self.0.last().is_some_and(|newest| counter.saturating_add(WINDOW_PACKETS) <= *newest);
            counter < REJECT_AFTER_MESSAGES && !old && self.0.insert(counter)
        }
    }

    /// How far the next packet is from the newest: near, at the edges of words and of the window, far.
    fn step() -> impl Strategy<Value = i64> {
        let window = i64::try_from(WINDOW_PACKETS).expect("small");
        prop_oneof![
            4 => -200..200_i64,
            4 => -window - 100..100,
            2 => prop::sample::select(vec![-window - 1, -window, 1 - window, -64, -1, 0, 1, 63, 64, 65]),
            1 => window - 100..window + 200,
            1 => 0..1_i64 << 40,
        ]
    }

    proptest! {
        #[test]
        fn a_window_is_what_keeping_every_number_is(
            start in prop_oneof![Just(0), 0..100_000_u64, REJECT_AFTER_MESSAGES - 10_000..=u64::MAX],
            steps in prop::collection::vec(step(), 1..600),
        ) {
            let (window, mut model) = (Window::new(), Model::default());
            let mut newest = start;
            prop_assert_eq!(window.accept(start), model.accept(start));
            for step in steps {
                let counter = newest.saturating_add_signed(step);
                prop_assert_eq!(window.accept(counter), model.accept(counter), "{} after {}", counter, newest);
                newest = model.0.last().copied().unwrap_or(newest);
            }
        }
    }

    #[test]
    fn the_window_has_exact_edges() {
        let window = Window::new();
        let newest = 3 * WINDOW_PACKETS + 17;
        assert!(window.accept(newest) && !window.accept(newest));
        assert!(!window.accept(newest - WINDOW_PACKETS), "just too old");
        assert!((1..WINDOW_PACKETS).all(|back| window.accept(newest - back)));
        assert!((0..WINDOW_PACKETS).all(|back| !window.accept(newest - back)));
    }

    #[test]
    fn the_last_numbers_are_refused() {
        let window = Window::new();
        assert!(!window.accept(u64::MAX) && !window.accept(REJECT_AFTER_MESSAGES));
        assert!(window.accept(REJECT_AFTER_MESSAGES - 1) && !window.accept(REJECT_AFTER_MESSAGES - 1));
        assert!(!window.accept(REJECT_AFTER_MESSAGES));
    }

    #[test]
    fn a_window_is_small() {
        assert!(size_of::<Window>() <= 1100);
    }
}
