//! Waiting for a condition with a deadline: the only place that lets time pass.

use std::time::{Duration, Instant};

/// Between two looks: short beside every deadline in use, long beside the cost of starting `wg` or `dig`.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// For what must happen at once but on a machine that does other things too.
pub const SOON: Duration = Duration::from_secs(10);

/// Looks again and again until there is an answer, and gives it with the time that it took. `None` after the deadline.
pub fn until<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some((found, start.elapsed()));
        }
        if start.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Waits until the condition holds and gives the time that it took.
///
/// # Panics
/// If it does not hold before the deadline.
pub fn wait_for(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    match until(deadline, || holds().then_some(())) {
        Some(((), took)) => took,
        None => panic!("waited {deadline:?} in vain for: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;
        let found = until(SOON, || {
            looks += 1;
            (looks == 3).then_some("there")
        });
        assert_eq!(found.map(|(word, _)| word), Some("there"));
        assert_eq!(until(Duration::ZERO, || None::<()>), None);
    }
}
