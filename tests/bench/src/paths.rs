//! What paths cost: how soon two devices talk and how soon directly, what a change of path loses, and what a relay carries, costs
//! and holds, beside a forwarder that does nothing but receive and send.

mod forwarder;
mod meeting;
mod member;
mod quiet;
mod relay;
mod switching;

use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum};
use lab::{SOON, wait_for};

use crate::report::Figures;
use crate::series::Series;

pub use self::forwarder::run as forward;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    figures: Figures<Figure>,
    /// Contenders, changes of path and first meetings are measured so often; the table has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Memory of a relay with a thousand sessions.
    Sessions,
    /// What a relay carries, and its processor time.
    Relay,
    /// Packets lost at a change of path.
    Switch,
    /// The first packet to a peer, and the first direct one.
    Meet,
    /// Bytes of a day of an agent that nobody uses: 25 minutes.
    Quiet,
}

impl Figure {
    fn measure(self, args: &Args) -> Vec<Series> {
        let rounds = if args.figures.run.check { 1 } else { args.rounds };
        match self {
            Self::Sessions => relay::sessions(if args.figures.run.check { 50 } else { 1_000 }),
            Self::Relay => relay::transfers(rounds),
            Self::Switch => switching::measure(rounds),
            Self::Meet => {
                let scale = if args.figures.run.check { &meeting::CHECK } else { &meeting::FULL };
                meeting::measure(scale, rounds)
            }
            Self::Quiet => quiet::measure(if args.figures.run.check { &quiet::CHECK } else { &quiet::FULL }),
        }
    }
}

/// Measures, shows and keeps. Whether every bound holds.
pub fn run(args: &Args) -> bool {
    args.figures.report(|figure| figure.measure(args))
}

/// Lets time pass.
fn pass(time: Duration) {
    let since = Instant::now();
    wait_for("time passes", time + SOON, || since.elapsed() >= time);
}
