//! How many answers one source gets in a second. Is told the time; knows no message.
//!
//! A token bucket for each source, kept as the time when it will be full again (the generic cell rate algorithm): a
//! full bucket is no entry, so that only those who ask much take room, and forgetting the others forgets nothing.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::limits::{LIMIT_PER_SECOND_DEFAULT, LIMITED_SOURCES};

/// Slots that one source may be in.
const WAYS: usize = 4;
const SETS: usize = LIMITED_SOURCES / WAYS;

/// Answers to one source over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once, after a second or more of silence.
    pub burst: NonZeroU32,
}

impl Limit {
    /// So many a second, and as many at once.
    pub const fn per_second(per_second: NonZeroU32) -> Self {
        Self { per_second, burst: per_second }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::per_second(NonZeroU32::new(LIMIT_PER_SECOND_DEFAULT).expect("it is not 0"))
    }
}

/// What a query gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its answer.
    Answer,
    /// An empty answer with TC: whoever is no forgery comes back by TCP.
    Slip,
    /// Nothing.
    Silence,
}

/// The sources that are in debt.
#[derive(Debug)]
pub(super) struct Limiter {
    /// What an answer costs, in nanoseconds.
    cost: u64,
    /// How far ahead of now a source may be.
    credit: u64,
    seed: u64,
    slots: Vec<[Slot; WAYS]>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    source: u128,
    /// When the bucket is full again, in nanoseconds. Nobody's before now.
    full_at: u64,
    /// Every second query over the limit slips.
    slips: bool,
}

impl Limiter {
    /// `seed` keeps sources from choosing whom they share a slot with.
    pub(super) fn new(limit: Limit, seed: u64) -> Self {
        let cost = 1_000_000_000 / u64::from(limit.per_second.get());
        let empty = Slot { source: 0, full_at: 0, slips: false };
        Self { cost, credit: cost * u64::from(limit.burst.get()), seed, slots: vec![[empty; WAYS]; SETS] }
    }

    /// Judges a query that came at `now`, from any fixed time on, which never goes back.
    pub(super) fn judge(&mut self, source: IpAddr, now: Duration) -> Verdict {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let source = match source {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let (cost, credit) = (self.cost, self.credit);
        let slot = self.slot(source);
        let after = slot.full_at.max(now).saturating_add(cost);
        if after - now <= credit {
            slot.full_at = after;
            return Verdict::Answer;
        }
        slot.slips = !slot.slips;
        if slot.slips { Verdict::Slip } else { Verdict::Silence }
    }

    /// The source's slot; if it has none, that of whoever is out of debt first.
    fn slot(&mut self, source: u128) -> &mut Slot {
        let set = self.set(source);
        let ways = &mut self.slots[set];
        let known = ways.iter().position(|slot| slot.source == source);
        let way = known.unwrap_or_else(|| {
            let first = ways.iter().enumerate().min_by_key(|(_, slot)| slot.full_at);
            let way = first.map_or(0, |(way, _)| way);
            ways[way] = Slot { source, full_at: 0, slips: false };
            way
        });
        &mut ways[way]
    }

    /// Multiplies and folds: a few nanoseconds, and not to be foreseen without the seed.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are meant")]
    const fn set(&self, source: u128) -> usize {
        let mixed = (source as u64 ^ self.seed) as u128 * ((source >> 64) as u64 ^ !self.seed | 1) as u128;
        let folded = (mixed as u64 ^ (mixed >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (folded >> 40) as usize % SETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        Limiter::new(Limit { per_second: number(per_second), burst: number(burst) }, 7)
    }

    fn source(n: u32) -> IpAddr {
        IpAddr::from((0x6440_0000 + n).to_be_bytes())
    }

    fn answered(limiter: &mut Limiter, source: IpAddr, queries: usize, now: Duration) -> usize {
        (0..queries).filter(|_| limiter.judge(source, now) == Verdict::Answer).count()
    }

    #[test]
    fn a_burst_is_answered_and_then_so_many_a_second() {
        let mut limiter = limiter(100, 20);
        let at = |millis: u64| Duration::from_millis(3_000_000 + millis);
        assert_eq!(answered(&mut limiter, source(1), 50, at(0)), 20);
        assert_eq!(answered(&mut limiter, source(2), 50, at(0)), 20, "others are others");
        assert_eq!(answered(&mut limiter, source(1), 50, at(5)), 0);
        assert_eq!(answered(&mut limiter, source(1), 50, at(10)), 1);
        assert_eq!(answered(&mut limiter, source(1), 50, at(60)), 5);
        assert_eq!(answered(&mut limiter, source(1), 50, at(10_000)), 20, "no more than a burst is saved");
        // A source at its rate is never limited.
        let paced: usize = (0..500).map(|n| answered(&mut limiter, source(3), 1, at(n * 10))).sum();
        assert_eq!(paced, 500);
    }

    #[test]
    fn every_second_query_over_the_limit_slips() {
        let mut limiter = limiter(1, 1);
        let verdicts = [(); 5].map(|()| limiter.judge(source(1), Duration::from_secs(9)));
        use Verdict::{Answer, Silence, Slip};
        assert_eq!(verdicts, [Answer, Slip, Silence, Slip, Silence]);
    }

    #[test]
    fn those_in_debt_are_remembered_among_many_who_are_not() {
        let mut limiter = limiter(1000, 10);
        assert_eq!(answered(&mut limiter, source(0), 20, Duration::from_secs(1)), 10);
        // Each of a large mesh asks once in the same millisecond.
        for n in 1..60_000 {
            assert_eq!(limiter.judge(source(n), Duration::from_secs(1)), Verdict::Answer);
        }
        assert_eq!(answered(&mut limiter, source(0), 20, Duration::from_secs(1)), 0);
        let v6 = "fd00::1".parse().expect("an address");
        assert_eq!(answered(&mut limiter, v6, 20, Duration::from_secs(1)), 10);
    }

    #[test]
    fn sources_spread_over_the_slots() {
        let limiter = limiter(1, 1);
        let mut load = vec![0; SETS];
        for n in 0..u32::try_from(SETS * 16).expect("few") {
            load[limiter.set(u128::from(n) | 0xffff_6440_0000)] += 1;
        }
        assert!(load.iter().all(|load| (1..60).contains(load)), "{load:?}");
    }
}
