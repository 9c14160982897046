//! A sending rate, held by short sleeps: what came due while asleep is sent at once. Knows not what is sent.

use std::thread;
use std::time::{Duration, Instant};

/// Short enough that what comes due meanwhile fits into every socket's buffer; longer costs less processor time.
const NAP: Duration = Duration::from_micros(200);

/// Says when the next ones are due.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    per_second: f64,
    let_go: u64,
}

impl Pace {
    /// So many a second, from now on.
    pub fn new(per_second: f64) -> Self {
        Self { began: Instant::now(), per_second, let_go: 0 }
    }

    /// Waits until at least one is due, and says how many of at most so many are.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A count of packets is far below 2^52.
    pub fn due(&mut self, at_most: usize) -> usize {
        loop {
            let all = (self.began.elapsed().as_secs_f64() * self.per_second) as u64;
            let due = all.saturating_sub(self.let_go).min(at_most as u64);
            if due > 0 {
                self.let_go += due;
                return due as usize;
            }
            thread::sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held() {
        let mut pace = Pace::new(10_000.0);
        let mut sent = 0;
        while sent < 1_000 {
            sent += pace.due(64);
        }
        let took = pace.began.elapsed();
        assert!(took >= Duration::from_millis(99), "{took:?}");
    }
}
