//! `bench`: measures what a mesh promises to cost, beside the bounds that were promised. Decides nothing about a change:
//! a figure belongs to one machine and one hour, so no test runs this. Started by `scripts/bench`.

mod agent;
mod certificates;
mod dns;
mod echo;
mod edit;
mod enrolment;
mod hub;
mod idle;
mod paths;
mod peer;
mod report;
mod series;
mod server;
mod tunnel;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::report::Report;
use crate::series::Series;

#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What a walking mesh must hold: enrolment, edits, peers, memory.
    Mesh {
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
    },
    /// What WireGuard engines do beside each other, and whether ours is as fast as it must be.
    Tunnel(tunnel::Args),
    /// What SSH certificates cost: to sign, to take back, to get, to use.
    Ca(certificates::Args),
    /// What a name server answers, costs and holds beside those of others, and whether ours is as good as it must be.
    Dns(dns::Args),
    /// How soon devices talk and how soon directly, what a change of path loses, what a relay carries, costs and holds.
    Paths(paths::Args),
    /// A plain forwarder of datagrams, beside which a relay is measured.
    #[command(hide = true)]
    PathsForwarder {
        /// Where it listens.
        listen: std::net::SocketAddr,
    },
    /// One of the processes of the above.
    #[command(hide = true, subcommand)]
    DnsProcess(dns::Process),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// From `warren up --token` to the first ping.
    Enrolment,
    /// From an edit to the last of a hundred agents.
    Edit,
    /// One peer more at a hub that has ten thousand.
    Peer,
    /// Memory of idle programs.
    Idle,
}

/// What loads the machine comes last: the load before each figure is that of others.
const ALL: [Figure; 4] = [Figure::Idle, Figure::Enrolment, Figure::Peer, Figure::Edit];

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::Enrolment => "enrolment",
            Self::Edit => "edit",
            Self::Peer => "peer",
            Self::Idle => "idle",
        }
    }

    fn measure(self, check: bool) -> Vec<Series> {
        match self {
            Self::Enrolment => enrolment::measure(if check { &enrolment::CHECK } else { &enrolment::FULL }),
            Self::Edit => edit::measure(if check { &edit::CHECK } else { &edit::FULL }),
            Self::Peer => peer::measure(if check { &peer::CHECK } else { &peer::FULL }),
            Self::Idle => idle::measure(if check { &idle::CHECK } else { &idle::FULL }),
        }
    }
}

fn main() -> ExitCode {
    let (figures, check, results, revision) = match Args::parse().what {
        What::Mesh { figures, check, results, revision } => (figures, check, results, revision),
        What::Tunnel(args) => return if tunnel::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        What::Paths(args) => return if paths::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        What::PathsForwarder { listen } => {
            return if paths::forward(listen).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        What::Ca(args) => {
            return if certificates::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        What::Dns(args) => return if dns::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        What::DnsProcess(process) => {
            process.run();
            return ExitCode::SUCCESS;
        }
    };
    let figures = if figures.is_empty() { ALL.to_vec() } else { figures };
    let mut report = Report::new(&results, &revision, check);
    for figure in figures {
        report.begin(figure.name());
        let series = figure.measure(check);
        report.take(figure.name(), series);
    }
    match report.finish() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
