//! What paths cost: how soon two devices talk and how soon directly, what a change of path loses, and what a relay carries, costs
//! and holds, beside a forwarder that does nothing but receive and send.

mod forwarder;
mod meeting;
mod relay;
mod switching;

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::report::Report;
use crate::series::Series;

pub use self::forwarder::run as forward;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which figures; all of them if none is named.
    figures: Vec<Figure>,
    /// Contenders and changes of path are measured so often; the table has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// A few small rounds that say only whether the bench itself works.
    #[arg(long)]
    check: bool,
    /// Folder that keeps every single measurement.
    #[arg(long)]
    results: PathBuf,
    /// Revision of the tree that was built.
    #[arg(long, default_value = "unknown")]
    revision: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Memory of a relay with a thousand sessions.
    Sessions,
    /// What a relay carries, and its processor time.
    Relay,
    /// Packets lost at a change of path.
    Switch,
    /// The first packet to a peer, and the first direct one.
    Meet,
}

const ALL: [Figure; 4] = [Figure::Sessions, Figure::Relay, Figure::Switch, Figure::Meet];

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Relay => "relay",
            Self::Switch => "switch",
            Self::Meet => "meet",
        }
    }

    fn measure(self, args: &Args) -> Vec<Series> {
        let rounds = if args.check { 1 } else { args.rounds };
        match self {
            Self::Sessions => relay::sessions(if args.check { 50 } else { 1_000 }),
            Self::Relay => relay::transfers(rounds),
            Self::Switch => switching::measure(rounds),
            Self::Meet => meeting::measure(if args.check { &meeting::CHECK } else { &meeting::FULL }),
        }
    }
}

/// Measures, shows and keeps. Whether every bound holds.
pub fn run(args: &Args) -> bool {
    let figures = if args.figures.is_empty() { ALL.to_vec() } else { args.figures.clone() };
    let mut report = Report::new(&args.results, &args.revision, args.check);
    for figure in figures {
        report.begin(figure.name());
        let series = figure.measure(args);
        report.take(figure.name(), series);
    }
    report.finish()
}
