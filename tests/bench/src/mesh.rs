//! What a walking mesh must hold: how soon a device is in it and an edit in force, what one peer more costs, how small programs are.

mod agent;
mod echo;
mod edit;
mod enrolment;
mod hub;
mod idle;
mod peer;

use clap::ValueEnum;

use crate::report::Figures;
use crate::series::Series;

pub type Args = Figures<Figure>;

/// What loads the machine comes last: the load before each figure is that of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Memory of idle programs.
    Idle,
    /// From `warren up --token` to the first ping.
    Enrolment,
    /// One peer more at a hub that has ten thousand.
    Peer,
    /// From an edit to the last of a hundred agents.
    Edit,
}

impl Figure {
    fn measure(self, check: bool) -> Vec<Series> {
        match self {
            Self::Enrolment => enrolment::measure(if check { &enrolment::CHECK } else { &enrolment::FULL }),
            Self::Edit => edit::measure(if check { &edit::CHECK } else { &edit::FULL }),
            Self::Peer => peer::measure(if check { &peer::CHECK } else { &peer::FULL }),
            Self::Idle => idle::measure(if check { &idle::CHECK } else { &idle::FULL }),
        }
    }
}

/// Measures, shows and keeps. Whether every bound holds.
pub fn run(args: &Args) -> bool {
    args.report(|figure| figure.measure(args.run.check))
}
