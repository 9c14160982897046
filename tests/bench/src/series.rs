//! Measurements of one thing and the bound that it must keep. Knows not what was measured.

use std::fmt;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds on the wall or of a processor.
    Milliseconds,
    /// Binary megabytes (1024 × 1024 bytes).
    Megabytes,
    /// 10⁶ bits in a second.
    MegabitsPerSecond,
    /// Bytes.
    Bytes,
    /// A plain count.
    Count,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::MegabitsPerSecond => "Mbit/s",
            Self::Bytes => "B",
            Self::Count => "",
        })
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// 99 of 100 measurements are below.
    P99Below(f64),
    /// Every measurement is below.
    AllBelow(f64),
    /// Every measurement is this or above.
    AllAtLeast(f64),
    /// Every measurement is this.
    AllAre(f64),
}

/// Measurements of one thing, in the order in which they were made. There is at least one.
#[derive(Debug, Clone)]
pub struct Series {
    /// What was measured.
    pub what: String,
    /// What the numbers count.
    pub unit: Unit,
    /// What must hold, if something must.
    pub bound: Option<Bound>,
    /// The measurements.
    pub values: Vec<f64>,
}

impl Series {
    /// An empty series without a bound.
    pub fn new(what: impl Into<String>, unit: Unit) -> Self {
        Self { what: what.into(), unit, bound: None, values: Vec::new() }
    }

    /// A single measurement.
    pub fn one(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { values: vec![value], ..Self::new(what, unit) }
    }

    /// The same with a bound.
    pub fn must(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// One more measurement.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The smallest measurement that so many of a hundred do not exceed (nearest rank).
    ///
    /// # Panics
    /// If nothing was measured.
    pub fn percentile(&self, percent: u32) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent as usize).div_ceil(100);
        sorted[rank.max(1) - 1]
    }

    /// Whether the bound holds; `None` without one.
    pub fn holds(&self) -> Option<bool> {
        self.bound.map(|bound| match bound {
            Bound::P99Below(limit) => self.percentile(99) < limit,
            Bound::AllBelow(limit) => self.values.iter().all(|value| *value < limit),
            Bound::AllAtLeast(limit) => self.values.iter().all(|value| *value >= limit),
            Bound::AllAre(exactly) => self.values.iter().all(|value| (value - exactly).abs() < f64::EPSILON),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series { values: values.to_vec(), ..Series::new("x", Unit::Count) }
    }

    #[test]
    fn percentiles_are_measurements() {
        let hundred = series(&(1..=100).rev().map(f64::from).collect::<Vec<_>>());
        assert_eq!([50, 99, 100].map(|p| hundred.percentile(p)), [50.0, 99.0, 100.0]);
        assert_eq!([0, 50, 99].map(|p| series(&[7.0]).percentile(p)), [7.0; 3]);
        assert_eq!(series(&[1.0, 2.0, 3.0]).percentile(99), 3.0);
    }

    #[test]
    fn bounds_judge_what_they_name() {
        let check =
            |values: &[f64], bound, expect| assert_eq!(series(values).must(bound).holds(), Some(expect));
        let mut mostly = vec![1.0; 199];
        mostly.push(9.0);
        check(&mostly, Bound::P99Below(5.0), true);
        check(&mostly, Bound::AllBelow(5.0), false);
        check(&[2.0, 3.0], Bound::AllAtLeast(2.0), true);
        check(&[2.0, 1.9], Bound::AllAtLeast(2.0), false);
        check(&[1.0, 1.0], Bound::AllAre(1.0), true);
        check(&[1.0, 2.0], Bound::AllAre(1.0), false);
        assert_eq!(series(&[1.0]).holds(), None);
    }
}
