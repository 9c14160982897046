//! What our name server must hold against others and by itself, and whether it does.

use super::rows::{Figure, Of, Rows};
use crate::report::{markdown, short};

const OURS: &str = "warren";
/// Two equal servers measured in turn differ by so much.
const NOISE: f64 = 0.05;

/// One bound, at each count of records and for each mix that it names.
#[derive(Debug, Clone, Copy)]
struct Rule {
    figure: Figure,
    /// Of these questions; of all if none is named.
    mixes: &'static [&'static str],
    than: Than,
}

#[derive(Debug, Clone, Copy)]
enum Than {
    /// At least so many times what the other has in the same round.
    AtLeast(f64, &'static str),
    /// At most so many times what the other has in the same round.
    AtMost(f64, &'static str),
    /// As much as for names that are there, but for the noise.
    AsHits,
    /// Below a number, at this count of records or at each.
    Below(f64, Option<u32>),
}

const HITS: &str = "95 % hits";
const RULES: [Rule; 10] = [
    Rule { figure: Figure::Rate, mixes: &[HITS, "NODATA"], than: Than::AtLeast(0.92, "echo") },
    Rule { figure: Figure::Rate, mixes: &[HITS, "NODATA"], than: Than::AtLeast(1.25, "nsd") },
    Rule { figure: Figure::Rate, mixes: &["NODATA", "NXDOMAIN"], than: Than::AsHits },
    Rule { figure: Figure::Trip99, mixes: &[], than: Than::AtMost(1.0, "nsd") },
    Rule { figure: Figure::SteadyCpu, mixes: &[], than: Than::AtMost(1.0, "nsd") },
    Rule { figure: Figure::BusyCpu, mixes: &[], than: Than::AtMost(1.0, "nsd") },
    Rule { figure: Figure::Resident, mixes: &[], than: Than::Below(100.0, Some(1_000_000)) },
    Rule { figure: Figure::Change99, mixes: &[], than: Than::Below(1.0, None) },
    Rule { figure: Figure::TcpRate, mixes: &[], than: Than::AtLeast(1.0, "knot") },
    Rule { figure: Figure::CachedRate, mixes: &[], than: Than::AtLeast(1.0, "unbound") },
];

/// A bound at one place, and what was measured there.
#[derive(Debug)]
pub(crate) struct Verdict {
    of: Of,
    bound: String,
    measured: Option<f64>,
    /// `None` where a figure is missing.
    pub(crate) holds: Option<bool>,
}

impl Rule {
    fn judge(self, rows: &Rows, of: Of) -> Option<Verdict> {
        let (bound, measured, limit, more) = match self.than {
            Than::AtLeast(factor, other) => {
                (format!("≥ {factor} × {other}"), rows.ratio(OURS, other, of, of), factor, true)
            }
            Than::AtMost(factor, other) => {
                (format!("≤ {factor} × {other}"), rows.ratio(OURS, other, of, of), factor, false)
            }
            Than::AsHits => {
                let hits = Of { mix: HITS, ..of };
                (format!("≥ {} × its hits", 1.0 - NOISE), rows.ratio(OURS, OURS, of, hits), 1.0 - NOISE, true)
            }
            Than::Below(_, Some(at)) if at != of.records => return None,
            Than::Below(limit, _) => {
                (format!("< {limit} {}", of.figure.words().1), rows.median(OURS, of), limit, false)
            }
        };
        let strict = matches!(self.than, Than::Below(..));
        let holds = measured.map(|value| match (more, strict) {
            (true, _) => value >= limit,
            (false, false) => value <= limit,
            (false, true) => value < limit,
        });
        Some(Verdict { of, bound, measured, holds })
    }
}

/// Every bound at every place where somebody was measured.
pub(crate) fn judge(rows: &Rows) -> Vec<Verdict> {
    let at = |rule: Rule| {
        let places = rows.places(rule.figure).into_iter();
        let named = places.filter(move |of| rule.mixes.is_empty() || rule.mixes.contains(&of.mix));
        named.filter_map(move |of| rule.judge(rows, of))
    };
    RULES.into_iter().flat_map(at).collect()
}

/// The verdicts as a table.
pub(crate) fn text(verdicts: &[Verdict], judges: bool) -> String {
    let mut lines = vec![["warren", "records", "mix", "measured", "bound", ""].map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let word = match verdict.holds {
            _ if !judges => "not judged",
            None => "no figure to compare",
            Some(true) => "PASS",
            Some(false) => "MISS",
        };
        let of = verdict.of;
        lines.push(vec![
            of.figure.words().0.into(),
            of.records.to_string(),
            of.mix.into(),
            verdict.measured.map(short).unwrap_or_default(),
            verdict.bound.clone(),
            word.into(),
        ]);
    }
    markdown(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[(u32, &'static str, Figure, &'static str, f64)]) -> Rows {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = Rows::kept_in(&folder.path().join("rows.csv"));
        for &(round, server, figure, mix, value) in values {
            rows.round = round;
            rows.put(server, Of { figure, records: 1_000_000, mix }, value);
        }
        rows
    }

    fn verdicts(values: &[(u32, &'static str, Figure, &'static str, f64)]) -> Vec<(String, Option<bool>)> {
        judge(&rows(values)).into_iter().map(|verdict| (verdict.bound, verdict.holds)).collect()
    }

    #[test]
    fn rates_are_held_against_those_of_the_same_round() {
        let rate = |round, server, value| (round, server, Figure::Rate, HITS, value);
        // The machine was half as fast in the second round.
        let echo = [rate(1, "echo", 200.0), rate(2, "echo", 100.0), rate(3, "echo", 200.0)];
        let ours = |last| [rate(1, OURS, 190.0), rate(2, OURS, 93.0), rate(3, OURS, last)];
        let check = |last, expect| {
            let found = verdicts(&[echo, ours(last)].concat());
            assert_eq!(found[0], ("≥ 0.92 × echo".into(), Some(expect)), "{last}");
            assert_eq!(found[1], ("≥ 1.25 × nsd".into(), None));
        };
        check(185.0, true);
        check(100.0, true);
        let found = verdicts(&[rate(1, "echo", 100.0), rate(1, OURS, 91.0)]);
        assert_eq!(found[0].1, Some(false));
    }

    #[test]
    fn less_is_better_where_it_is() {
        let found = verdicts(&[
            (1, OURS, Figure::Trip99, HITS, 90.0),
            (1, "nsd", Figure::Trip99, HITS, 89.0),
            (1, OURS, Figure::Resident, "hits", 100.0),
            (1, OURS, Figure::Change99, "hits", 0.9),
        ]);
        assert_eq!(
            found.iter().map(|(_, holds)| *holds).collect::<Vec<_>>(),
            [Some(false), Some(false), Some(true)]
        );
    }

    #[test]
    fn what_is_missing_is_held_against_what_is_there() {
        let found =
            verdicts(&[(1, OURS, Figure::Rate, HITS, 100.0), (1, OURS, Figure::Rate, "NXDOMAIN", 94.0)]);
        assert!(found.contains(&("≥ 0.95 × its hits".into(), Some(false))), "{found:?}");
    }
}
