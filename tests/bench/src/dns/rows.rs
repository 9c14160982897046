//! What was measured: a value of a figure for a server, kept on disk at once. Judges nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Right answers a second, as many as there are.
    Rate,
    /// The same by those of the echo in the same round.
    OfEcho,
    /// Processor time by answer at that rate.
    BusyCpu,
    /// Processor time by answer at a steady rate.
    SteadyCpu,
    Trip50,
    Trip99,
    /// Of what was asked at a steady rate.
    Answered,
    /// Of a processor, while there is as much to do as it can.
    Utilised,
    Resident,
    Change50,
    Change99,
    TcpRate,
    CachedRate,
    CachedCpu,
}

impl Figure {
    pub(crate) const ALL: [Self; 14] = [
        Self::OfEcho,
        Self::Rate,
        Self::Utilised,
        Self::BusyCpu,
        Self::SteadyCpu,
        Self::Trip50,
        Self::Trip99,
        Self::Answered,
        Self::Resident,
        Self::Change50,
        Self::Change99,
        Self::TcpRate,
        Self::CachedRate,
        Self::CachedCpu,
    ];

    /// What it is, and its unit.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Rate => ("answers", "k/s"),
            Self::OfEcho => ("answers by the echo's", ""),
            Self::BusyCpu => ("processor time by answer", "µs"),
            Self::SteadyCpu => ("processor time by answer at 20 k/s", "µs"),
            Self::Trip50 => ("round trip at 20 k/s, p50", "µs"),
            Self::Trip99 => ("round trip at 20 k/s, p99", "µs"),
            Self::Answered => ("answered at 20 k/s", "%"),
            Self::Resident => ("memory", "MB"),
            Self::Utilised => ("processor in use", "%"),
            Self::Change50 => ("change held to answer, p50", "ms"),
            Self::Change99 => ("change held to answer, p99", "ms"),
            Self::TcpRate => ("answers over TCP", "k/s"),
            Self::CachedRate => ("forwarder's kept answers", "k/s"),
            Self::CachedCpu => ("processor time by kept answer", "µs"),
        }
    }
}

/// What a value belongs to, beside its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) figure: Figure,
    pub(crate) records: u32,
    pub(crate) mix: &'static str,
}

#[derive(Debug)]
struct Value {
    round: u32,
    server: &'static str,
    of: Of,
    value: f64,
}

/// All values of a run, in the order in which they were measured.
#[derive(Debug)]
pub(crate) struct Rows {
    file: File,
    pub(crate) round: u32,
    values: Vec<Value>,
}

impl Rows {
    /// None yet; each is written into the file when it comes.
    pub(crate) fn kept_in(path: &Path) -> Self {
        let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        writeln!(file, "round,server,records,mix,what,value,unit").expect("the file can be written");
        Self { file, round: 0, values: Vec::new() }
    }

    /// One more value.
    pub(crate) fn put(&mut self, server: &'static str, of: Of, value: f64) {
        let ((what, unit), round) = (of.figure.words(), self.round);
        writeln!(self.file, "{round},{server},{},{},\"{what}\",{value:.6},{unit}", of.records, of.mix)
            .expect("the file can be written");
        self.values.push(Value { round, server, of, value });
    }

    /// Puts every rate beside the echo's of its round.
    pub(crate) fn put_ratios(&mut self) {
        let rates: Vec<_> = self.values.iter().filter(|value| value.of.figure == Figure::Rate).collect();
        let ratios: Vec<(u32, &'static str, Of, f64)> = rates
            .iter()
            .filter_map(|rate| {
                let echo = rates.iter().find(|other| {
                    other.server == "echo" && other.round == rate.round && other.of == rate.of
                })?;
                let of = Of { figure: Figure::OfEcho, ..rate.of };
                Some((rate.round, rate.server, of, rate.value / echo.value))
            })
            .collect();
        for (round, server, of, value) in ratios {
            self.round = round;
            self.put(server, of, value);
        }
    }

    /// The median of a server's values, the lower one of two; `None` if there is none.
    pub(crate) fn median(&self, server: &str, of: Of) -> Option<f64> {
        let of_both = |value: &&Value| value.of == of && value.server == server;
        let mut values: Vec<f64> = self.values.iter().filter(of_both).map(|value| value.value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len().saturating_sub(1) / 2).copied()
    }

    /// The median over the rounds of what one server has by what another has there in the same round.
    pub(crate) fn ratio(&self, server: &str, other: &str, of: Of, there: Of) -> Option<f64> {
        let at = |name: &str, of: Of| -> Vec<(u32, f64)> {
            let mine = self.values.iter().filter(|value| value.of == of && value.server == name);
            mine.map(|value| (value.round, value.value)).collect()
        };
        let others = at(other, there);
        let mut ratios: Vec<f64> = at(server, of)
            .into_iter()
            .filter_map(|(round, value)| {
                let (_, beside) = others.iter().find(|(theirs, _)| *theirs == round)?;
                Some(value / beside)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len().saturating_sub(1) / 2).copied()
    }

    /// Every pair of records and mix that a figure has values of, in their order.
    pub(crate) fn places(&self, figure: Figure) -> Vec<Of> {
        let mut places: Vec<Of> = Vec::new();
        for value in self.values.iter().filter(|value| value.of.figure == figure) {
            if !places.contains(&value.of) {
                places.push(value.of);
            }
        }
        places.sort_by_key(|of| of.records);
        places
    }
}
