//! What one server carries: ten thousand devices that speak the real protocol with real keys and have nothing behind it, on the
//! processors that the server has.

mod device;
mod edits;
mod enrolment;
mod fleet;
mod flood;
mod link;
mod restart;
mod snapshots;
mod work;

use clap::ValueEnum;

use crate::report::Figures;
use crate::series::Series;

pub type Args = Figures<Figure>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Two thousand devices enrol.
    Enrolment,
    /// Edits that affect one pair among a thousand devices and among ten thousand; memory of the server.
    Edits,
    /// The server is restarted, and killed, while ten thousand devices hold links.
    Restart,
    /// A thousand wrong logins a second beside other requests.
    Flood,
}

impl Figure {
    fn measure(self, check: bool) -> Vec<Series> {
        match self {
            Self::Enrolment => enrolment::measure(if check { &enrolment::CHECK } else { &enrolment::FULL }),
            Self::Edits => edits::measure(if check { &edits::CHECK } else { &edits::FULL }),
            Self::Restart => restart::measure(if check { &restart::CHECK } else { &restart::FULL }),
            Self::Flood => flood::measure(if check { &flood::CHECK } else { &flood::FULL }),
        }
    }
}

/// Measures, shows and keeps. Whether every bound holds.
pub fn run(args: &Args) -> bool {
    args.report(|figure| figure.measure(args.run.check))
}
