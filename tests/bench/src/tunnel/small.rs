//! How many packets of 64 bytes a second come through when hardly one is lost.

use lab::wg::{Arrived, Numbered, Pair, Shape};

use super::Scale;
use super::rows::{Row, Rows};

/// An IPv4 packet of 64 bytes without its headers.
const PAYLOAD_BYTES: usize = 36;
const LOSS_MAX: f64 = 0.01;
const FIRST_PER_SECOND: f64 = 40_000.0;
/// Beyond what any tunnel does here.
const PER_SECOND_MAX: f64 = 4e6;

pub(crate) fn measure(pair: &Pair, scale: &Scale, rows: &mut Rows) {
    let numbered = Numbered::between(&pair.a, &pair.b);
    let try_rate = |per_second: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A count of packets.
        let count = (per_second * scale.trial) as u64;
        let trial = || numbered.run(&Shape { count, per_second, bytes: PAYLOAD_BYTES..=PAYLOAD_BYTES });
        // Somebody else's moment on the machine is no verdict.
        Some(trial()).filter(passes).or_else(|| Some(trial()).filter(passes))
    };
    rows.put(Row::SmallPackets, best_rate(scale.halvings, try_rate) / 1e3);
}

fn passes(arrived: &Arrived) -> bool {
    arrived.loss() <= LOSS_MAX
}

/// Doubles the rate until it fails, then narrows down. Gives what arrived at the best rate that passed; 0 if none did.
fn best_rate(halvings: u32, mut try_rate: impl FnMut(f64) -> Option<Arrived>) -> f64 {
    let (mut best, mut rate, mut failed) = (0.0_f64, FIRST_PER_SECOND, None);
    while rate < PER_SECOND_MAX {
        let Some(arrived) = try_rate(rate) else {
            failed = Some(rate);
            break;
        };
        best = best.max(arrived.per_second());
        if arrived.per_second() < rate * 0.9 {
            // More than this cannot be offered on this machine.
            return best;
        }
        rate *= 2.0;
    }
    let (mut good, mut bad) = (failed.unwrap_or(rate) / 2.0, failed.unwrap_or(rate));
    for _ in 0..halvings {
        let middle = (good * bad).sqrt();
        match try_rate(middle) {
            Some(arrived) => {
                best = best.max(arrived.per_second());
                good = middle;
            }
            None => bad = middle,
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rate_is_found() {
        let found = best_rate(8, |rate| {
            let lost = if rate > 300_000.0 { 0.5 } else { 0.0 };
            let arrived = Arrived { sent: 1000, arrived: 1000, seconds: 1000.0 / rate, ..Arrived::default() };
            (lost <= LOSS_MAX).then_some(arrived)
        });
        assert!((290_000.0..=300_000.0).contains(&found), "{found}");
        assert!(best_rate(3, |_| None).abs() < f64::EPSILON);
    }
}
