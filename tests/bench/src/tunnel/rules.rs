//! What our engine must hold against others and by itself, and whether it does.

use std::fmt::Write as _;

use super::OTHERS;
use super::rows::{Row, Rows};
use crate::report::short;

const OURS: &str = "warren";
const REFERENCE: &str = "warren reference";
const GO: &str = "wireguard-go";
const GO_WITH_OFFLOAD: &str = "wireguard-go-gso";
const TCP: [Row; 4] = [Row::Tcp1, Row::Tcp1Reverse, Row::Tcp4, Row::Tcp4Reverse];

/// One bound. Where more is better the figure is at least this, else at most.
#[derive(Debug, Clone, Copy)]
struct Rule {
    who: &'static str,
    row: Row,
    than: Than,
}

#[derive(Debug, Clone, Copy)]
enum Than {
    /// So many times the figure of another one.
    Times(f64, &'static str),
    /// wireguard-go with segmentation offload, and with the second factor without it where the first is not at hand.
    TimesGo(f64, f64),
    /// So many times the best of all others.
    TimesBest(f64),
    /// A number.
    Number(f64),
}

/// A rule and what was measured.
#[derive(Debug)]
pub(crate) struct Verdict {
    rule: Rule,
    bound: String,
    measured: Option<f64>,
    /// `None` where a figure is missing.
    pub(crate) holds: Option<bool>,
}

fn all() -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |who, row, than| rules.push(Rule { who, row, than });
    for row in TCP {
        add(OURS, row, Than::TimesGo(2.5, 5.0));
        // Without offload there, in the same proportion.
        add(REFERENCE, row, Than::TimesGo(1.7, 3.4));
        for other in ["boringtun-cli", "gotatun"] {
            add(OURS, row, Than::Times(5.0, other));
            add(REFERENCE, row, Than::Times(3.5, other));
        }
    }
    add(OURS, Row::CpuPerGib, Than::TimesGo(0.4, 0.4));
    add(REFERENCE, Row::CpuPerGib, Than::TimesGo(0.55, 0.55));
    add(OURS, Row::SmallPackets, Than::TimesBest(2.0));
    add(OURS, Row::IdleTrip50, Than::TimesBest(1.0));
    add(OURS, Row::LoadedTrip50, Than::TimesGo(1.0 / 3.0, 1.0 / 3.0));
    add(OURS, Row::LoadedTrip99, Than::TimesGo(1.0 / 3.0, 1.0 / 3.0));
    add(OURS, Row::MemoryIdle, Than::Number(8.0));
    add(OURS, Row::MemoryManyPeers, Than::Number(40.0));
    add(OURS, Row::SetConf, Than::Number(0.3));
    add(OURS, Row::Set, Than::Number(5.0));
    // One tick of the kernel's accounts in five seconds.
    add(OURS, Row::IdleCpuManyPeers, Than::Number(0.2));
    add(OURS, Row::HandshakesPerCore, Than::Number(2_000.0));
    add(OURS, Row::FloodWithMac, Than::Number(80.0));
    add(OURS, Row::FloodWithoutMac, Than::Number(80.0));
    rules
}

impl Rule {
    /// The number that the figure must reach, and in words what it is.
    fn bound(&self, rows: &Rows) -> (Option<f64>, String) {
        let of = |name: &str| rows.median(name, self.row);
        match self.than {
            Than::Number(number) => (Some(number), number.to_string()),
            Than::Times(factor, other) => (of(other).map(|value| value * factor), words(factor, other)),
            Than::TimesGo(factor, without) => {
                let offload =
                    of(GO_WITH_OFFLOAD).map(|value| (value * factor, words(factor, GO_WITH_OFFLOAD)));
                let plain = || of(GO).map(|value| (value * without, words(without, GO)));
                offload.or_else(plain).map_or((None, words(factor, GO)), |(value, text)| (Some(value), text))
            }
            Than::TimesBest(factor) => {
                let better = |a: f64, b: f64| if self.row.more_is_better() { a.max(b) } else { a.min(b) };
                let best = OTHERS.iter().filter_map(|name| of(name)).reduce(better);
                (best.map(|value| value * factor), words(factor, "the best other"))
            }
        }
    }

    fn judge(self, rows: &Rows) -> Verdict {
        let (limit, text) = self.bound(rows);
        let measured = rows.median(self.who, self.row);
        let sign = if self.row.more_is_better() { "≥" } else { "≤" };
        let number = limit.map(|limit| format!(" = {}", short(limit))).unwrap_or_default();
        let bound = match self.than {
            Than::Number(_) => format!("{sign} {text}"),
            _ => format!("{sign} {text}{number}"),
        };
        let holds = measured.zip(limit).map(|(value, limit)| match self.row.more_is_better() {
            true => value >= limit,
            false => value <= limit,
        });
        Verdict { rule: self, bound, measured, holds }
    }
}

fn words(factor: f64, other: &str) -> String {
    format!("{} × {other}", short(factor))
}

/// Every rule for which our engine or its reference has a figure.
pub(crate) fn judge(rows: &Rows) -> Vec<Verdict> {
    all().into_iter().map(|rule| rule.judge(rows)).filter(|verdict| verdict.measured.is_some()).collect()
}

/// The verdicts as a table.
pub(crate) fn text(verdicts: &[Verdict], judges: bool) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let (what, unit) = verdict.rule.row.words();
        let word = match verdict.holds {
            _ if !judges => "not judged",
            None => "no figure to compare",
            Some(true) => "holds",
            Some(false) => "MISSED",
        };
        let measured = verdict.measured.map(short).unwrap_or_default();
        let _ = writeln!(
            text,
            "{:<17} {what:<34} {measured:>7} {unit:<14} {:<40} {word}",
            verdict.rule.who, verdict.bound
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::rows;
    use super::*;

    fn holds(values: &[(&str, Row, f64)], row: Row) -> Vec<Option<bool>> {
        let verdicts = judge(&rows(values));
        verdicts.iter().filter(|verdict| verdict.rule.row == row).map(|verdict| verdict.holds).collect()
    }

    #[test]
    fn tcp_is_held_against_the_faster_wireguard_go_where_there_is_one() {
        let ours = (OURS, Row::Tcp1, 5.0);
        let go = (GO, Row::Tcp1, 1.0);
        assert_eq!(holds(&[ours, go], Row::Tcp1), [Some(true), None, None]);
        let with_offload = [ours, go, (GO_WITH_OFFLOAD, Row::Tcp1, 2.1), ("gotatun", Row::Tcp1, 1.0)];
        assert_eq!(holds(&with_offload, Row::Tcp1), [Some(false), None, Some(true)]);
    }

    #[test]
    fn less_is_better_where_it_is() {
        let others = [("gotatun", Row::IdleTrip50, 300.0), (GO, Row::IdleTrip50, 200.0)];
        let with = |ours| [&others[..], &[(OURS, Row::IdleTrip50, ours)]].concat();
        assert_eq!(holds(&with(200.0), Row::IdleTrip50), [Some(true)]);
        assert_eq!(holds(&with(201.0), Row::IdleTrip50), [Some(false)]);
        assert_eq!(holds(&[(OURS, Row::SetConf, 0.2)], Row::SetConf), [Some(true)]);
        assert!(judge(&rows(&others)).is_empty());
    }
}
