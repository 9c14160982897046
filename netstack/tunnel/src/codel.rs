//! When a queue that stands is to be told to its senders: CoDel (RFC 8289). Is told the time, and knows no packet.
//!
//! The queue is that of datagrams which wait for us, and it stands when one core opens packets more slowly than they
//! come. A burst is held, however long it is; a queue that was never short for a while is cut, because it gives speed
//! to nobody and delay to everybody. A smaller buffer would do the same by losing whole bursts.

use std::time::Duration;

use wireguard::Time;

/// A wait that burdens nobody: what opening the batches before takes.
const TARGET: Duration = Duration::from_micros(200);
/// How long a queue may stand before somebody is told.
const INTERVAL: Duration = Duration::from_millis(20);
/// After so long a queue that stands again has nothing to do with the one before (RFC 8289, section 5.5).
const MEMORY: Duration = INTERVAL.saturating_mul(16);
/// Told at most so often that a millisecond lies between.
const COUNT_MAX: u32 = 400;

/// The state of one queue.
#[derive(Default)]
pub(crate) struct Codel {
    /// Since when no wait was below [`TARGET`].
    stands_since: Option<Time>,
    /// When the queue is told next, if it was told and still stands.
    next: Option<Time>,
    /// When it was told last.
    told: Option<Time>,
    /// How often it was told; halved when it was short again.
    count: u32,
}

impl Codel {
    /// What came out of the queue last had waited so long, `None` if that was no queue. True: one packet is to be
    /// marked, or dropped.
    pub(crate) fn tells(&mut self, waited: Option<Duration>, now: Time) -> bool {
        if waited.is_none_or(|waited| waited < TARGET) {
            self.stands_since = None;
            if self.next.take().is_some() {
                // One that comes back is told sooner (RFC 8289, section 5.4, "count").
                self.count /= 2;
            }
            return false;
        }
        let since = *self.stands_since.get_or_insert(now);
        if now < self.next.unwrap_or(since + INTERVAL) {
            return false;
        }
        if self.told.is_some_and(|told| now.since(told) > MEMORY) {
            self.count = 0;
        }
        self.told = Some(now);
        self.count = (self.count + 1).min(COUNT_MAX);
        self.next = Some(now + INTERVAL.div_f64(f64::from(self.count).sqrt()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(100);

    struct Scene {
        codel: Codel,
        now: Time,
    }

    impl Scene {
        fn new() -> Self {
            Self { codel: Codel::default(), now: Time::from_nanos(1) }
        }

        /// How often it is told in this time, if everything waits so long.
        fn tells(&mut self, waited: Option<Duration>, during: Duration) -> usize {
            let until = self.now + during;
            let mut count = 0;
            while self.now < until {
                count += usize::from(self.codel.tells(waited, self.now));
                self.now += STEP;
            }
            count
        }
    }

    #[test]
    fn bursts_short_waits_and_single_datagrams_are_nobodys_fault() {
        let mut scene = Scene::new();
        for _ in 0..100 {
            assert_eq!(scene.tells(Some(Duration::from_millis(50)), INTERVAL - STEP), 0, "a burst");
            assert_eq!(scene.tells(Some(TARGET - STEP), STEP), 0);
        }
        assert_eq!(scene.tells(Some(TARGET - STEP), Duration::from_secs(10)), 0, "short");
        assert_eq!(scene.tells(None, Duration::from_secs(10)), 0, "no queue");
    }

    #[test]
    fn a_queue_that_stands_is_told_ever_more_often_and_no_more_when_it_is_gone() {
        let mut scene = Scene::new();
        let standing = Some(TARGET * 3);
        assert_eq!(scene.tells(standing, INTERVAL + STEP), 1);
        let tenths: Vec<usize> = (0..4).map(|_| scene.tells(standing, Duration::from_millis(100))).collect();
        assert!(tenths.is_sorted() && tenths[0] < tenths[3], "{tenths:?}");
        assert!(tenths[3] < 100, "never more often than it can be answered: {tenths:?}");
        assert_eq!(scene.tells(Some(Duration::ZERO), INTERVAL), 0);
        assert_eq!(scene.tells(standing, INTERVAL - STEP), 0, "a burst again");
    }

    #[test]
    fn a_queue_that_nothing_shortened_is_forgotten_when_it_is_gone_for_a_while() {
        let mut scene = Scene::new();
        let standing = Some(Duration::from_millis(50));
        let fresh = scene.tells(standing, Duration::from_millis(100));
        let long = scene.tells(standing, Duration::from_secs(60));
        assert!(long <= 60_000, "a millisecond lies between: {long}");
        scene.tells(Some(Duration::ZERO), MEMORY);
        assert_eq!(scene.tells(standing, Duration::from_millis(100)), fresh);
    }

    /// One sender as RFC 8312 has it in the small: a window that grows by a packet a round trip and shrinks by three
    /// tenths when it is told. A packet takes ten microseconds here, the path a tenth of a millisecond.
    #[test]
    fn a_sender_that_listens_keeps_the_queue_short_and_the_core_busy() {
        let (service, path) = (Duration::from_micros(10), Duration::from_micros(100));
        let mut scene = Scene::new();
        let mut window = 1000.0_f64;
        let (mut waits, mut rounds, mut idle) = (Duration::ZERO, 0_u32, 0_u32);
        for round in 0..50_000 {
            let queue = window - path.div_duration_f64(service);
            let waited = service.mul_f64(queue.max(0.0));
            let took = path + waited;
            if round >= 5_000 {
                (waits, rounds) = (waits + waited, rounds + 1);
                idle += u32::from(queue < 0.0);
            }
            scene.now += took;
            window += 0.5;
            if scene.codel.tells(Some(waited), scene.now) {
                window *= 0.7;
            }
        }
        let mean = waits / rounds;
        assert!(mean < TARGET * 3, "{mean:?}");
        assert!(idle < rounds / 20, "{idle} of {rounds} rounds left the core idle");
    }
}
