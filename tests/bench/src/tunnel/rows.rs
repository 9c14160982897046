//! What was measured: a value of a row for a contender in a round, kept on disk at once. Judges nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Tcp1,
    Tcp1Reverse,
    Tcp4,
    Tcp4Reverse,
    CpuPerGib,
    SmallPackets,
    IdleTrip50,
    IdleTrip99,
    LoadedTrip50,
    LoadedTrip99,
    MemoryIdle,
    MemoryAfterTraffic,
    MemoryManyPeers,
    SetConf,
    Set,
    IdleCpuManyPeers,
    HandshakesPerCore,
    HandshakesAnswered,
    FloodElsewhere,
    FloodWithMac,
    FloodWithoutMac,
}

impl Row {
    pub(crate) const ALL: [Self; 21] = [
        Self::Tcp1,
        Self::Tcp1Reverse,
        Self::Tcp4,
        Self::Tcp4Reverse,
        Self::CpuPerGib,
        Self::SmallPackets,
        Self::IdleTrip50,
        Self::IdleTrip99,
        Self::LoadedTrip50,
        Self::LoadedTrip99,
        Self::MemoryIdle,
        Self::MemoryAfterTraffic,
        Self::MemoryManyPeers,
        Self::SetConf,
        Self::Set,
        Self::IdleCpuManyPeers,
        Self::HandshakesPerCore,
        Self::HandshakesAnswered,
        Self::FloodElsewhere,
        Self::FloodWithMac,
        Self::FloodWithoutMac,
    ];

    /// What it is, and its unit.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tcp1 => ("TCP, 1 stream", "Gbit/s"),
            Self::Tcp1Reverse => ("TCP, 1 stream, other way", "Gbit/s"),
            Self::Tcp4 => ("TCP, 4 streams", "Gbit/s"),
            Self::Tcp4Reverse => ("TCP, 4 streams, other way", "Gbit/s"),
            Self::CpuPerGib => ("processor time of both ends", "s/GiB"),
            Self::SmallPackets => ("64-byte packets, at most 1 % lost", "k/s"),
            Self::IdleTrip50 => ("idle round trip, p50", "µs"),
            Self::IdleTrip99 => ("idle round trip, p99", "µs"),
            Self::LoadedTrip50 => ("round trip beside TCP, p50", "ms"),
            Self::LoadedTrip99 => ("round trip beside TCP, p99", "ms"),
            Self::MemoryIdle => ("memory, 1 peer", "MB"),
            Self::MemoryAfterTraffic => ("memory, after traffic", "MB"),
            Self::MemoryManyPeers => ("memory, 10 000 peers", "MB"),
            Self::SetConf => ("wg setconf, 10 000 peers", "s"),
            Self::Set => ("wg set, one peer more", "ms"),
            Self::IdleCpuManyPeers => ("idle CPU, 10 000 peers", "%"),
            Self::HandshakesPerCore => ("handshakes, second of a core", "1/s"),
            Self::HandshakesAnswered => ("handshakes answered", "%"),
            Self::FloodElsewhere => ("TCP beside a flood of others", "% of its speed"),
            Self::FloodWithMac => ("… of initiations with a MAC", "% of that"),
            Self::FloodWithoutMac => ("… of noise", "% of that"),
        }
    }

    /// Whether more is better.
    pub(crate) const fn more_is_better(self) -> bool {
        match self {
            Self::Tcp1 | Self::Tcp1Reverse | Self::Tcp4 | Self::Tcp4Reverse | Self::SmallPackets => true,
            Self::HandshakesPerCore | Self::HandshakesAnswered => true,
            Self::FloodElsewhere | Self::FloodWithMac | Self::FloodWithoutMac => true,
            Self::CpuPerGib | Self::IdleTrip50 | Self::IdleTrip99 => false,
            Self::LoadedTrip50 | Self::LoadedTrip99 => false,
            Self::MemoryIdle | Self::MemoryAfterTraffic | Self::MemoryManyPeers => false,
            Self::SetConf | Self::Set | Self::IdleCpuManyPeers => false,
        }
    }
}

#[derive(Debug)]
struct Value {
    contender: String,
    row: Row,
    value: f64,
}

/// All values of a run, in the order in which they were measured.
#[derive(Debug)]
pub(crate) struct Rows {
    file: File,
    round: u32,
    contender: String,
    values: Vec<Value>,
}

impl Rows {
    /// None yet; each is written into the file when it comes.
    pub(crate) fn kept_in(path: &Path) -> Self {
        let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        writeln!(file, "round,contender,what,value,unit").expect("the file can be written");
        Self { file, round: 0, contender: String::new(), values: Vec::new() }
    }

    /// What comes now is of this contender in this round.
    pub(crate) fn begin(&mut self, round: u32, contender: &str) {
        self.round = round;
        self.contender = contender.to_owned();
    }

    /// One more value.
    pub(crate) fn put(&mut self, row: Row, value: f64) {
        let (what, unit) = row.words();
        let (round, contender) = (self.round, self.contender.clone());
        writeln!(self.file, "{round},{contender},\"{what}\",{value:.6},{unit}")
            .expect("the file can be written");
        self.values.push(Value { contender, row, value });
    }

    /// The median of a contender's values, the lower one of two; `None` if there is none.
    pub(crate) fn median(&self, contender: &str, row: Row) -> Option<f64> {
        let of_both = |value: &&Value| value.row == row && value.contender == contender;
        let mut values: Vec<f64> = self.values.iter().filter(of_both).map(|value| value.value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rows with these values, one of each in a round.
    pub(crate) fn rows(values: &[(&str, Row, f64)]) -> Rows {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = Rows::kept_in(&folder.path().join("rows.csv"));
        for (contender, row, value) in values {
            rows.begin(1, contender);
            rows.put(*row, *value);
        }
        rows
    }

    #[test]
    fn a_median_is_one_of_the_values_of_its_contender() {
        let rows = rows(&[
            ("x", Row::Tcp1, 3.0),
            ("x", Row::Tcp1, 1.0),
            ("y", Row::Tcp1, 9.0),
            ("x", Row::Tcp1, 2.0),
            ("x", Row::Set, 7.0),
        ]);
        assert_eq!(rows.median("x", Row::Tcp1), Some(2.0));
        assert_eq!(rows.median("y", Row::Tcp1), Some(9.0));
        assert_eq!(rows.median("y", Row::Set), None);
    }
}
