//! What SSH certificates cost: signing them, taking them back, getting one, and ssh with one beside ssh alone.

mod login;
mod signer;

use clap::ValueEnum;

use crate::report::Figures;
use crate::series::Series;

pub type Args = Figures<Figure>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Certificates on one core, beside `ssh-keygen -s`.
    Sign,
    /// A list of a hundred thousand serials, beside `ssh-keygen -k`.
    Revoke,
    /// `warren ssh login`, and `warren ssh` beside ssh.
    Login,
}

impl Figure {
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
    args.report(|figure| figure.measure(args.run.check))
}
