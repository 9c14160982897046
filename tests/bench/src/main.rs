//! `bench`: measures what a mesh promises to cost, beside the bounds that were promised. Decides nothing about a change:
//! a figure belongs to one machine and one hour, so no test runs this. Started by `scripts/bench`.

mod certificates;
mod control;
mod dns;
mod mesh;
mod paths;
mod report;
mod series;
mod server;
mod tunnel;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What a walking mesh must hold: enrolment, edits, peers, memory.
    Mesh(mesh::Args),
    /// What WireGuard engines do beside each other, and whether ours is as fast as it must be.
    Tunnel(tunnel::Args),
    /// What SSH certificates cost: to sign, to take back, to get, to use.
    Ca(certificates::Args),
    /// What one server carries: ten thousand devices, their edits, its restart, a flood of logins.
    Control(control::Args),
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

fn main() -> ExitCode {
    let holds = match Args::parse().what {
        What::Mesh(args) => mesh::run(&args),
        What::Tunnel(args) => tunnel::run(&args),
        What::Ca(args) => certificates::run(&args),
        What::Control(args) => control::run(&args),
        What::Dns(args) => dns::run(&args),
        What::Paths(args) => paths::run(&args),
        What::PathsForwarder { listen } => paths::forward(listen).is_ok(),
        What::DnsProcess(process) => {
            process.run();
            true
        }
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
