//! What SSH certificates cost: signing them, taking them back, getting one, and ssh with one beside ssh alone.

mod login;
mod signer;

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::report::Report;
use crate::series::Series;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which figures; all of them if none is named.
    figures: Vec<Figure>,
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
    /// Certificates on one core, beside `ssh-keygen -s`.
    Sign,
    /// A list of a hundred thousand serials, beside `ssh-keygen -k`.
    Revoke,
    /// `warren ssh login`, and `warren ssh` beside ssh.
    Login,
}

const ALL: [Figure; 3] = [Figure::Sign, Figure::Revoke, Figure::Login];

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Revoke => "revoke",
            Self::Login => "login",
        }
    }

    fn measure(self, check: bool) -> Vec<Series> {
        match self {
            Self::Sign => signer::signatures(if check { 1 } else { 10 }),
            Self::Revoke => signer::lists(if check { 1 } else { 5 }),
            Self::Login => login::measure(if check { &login::CHECK } else { &login::FULL }),
        }
    }
}

/// Measures, shows and keeps. Whether every bound holds.
pub fn run(args: &Args) -> bool {
    let figures = if args.figures.is_empty() { ALL.to_vec() } else { args.figures.clone() };
    let mut report = Report::new(&args.results, &args.revision, args.check);
    for figure in figures {
        report.begin(figure.name());
        let series = figure.measure(args.check);
        report.take(figure.name(), series);
    }
    report.finish()
}
